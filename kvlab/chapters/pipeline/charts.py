"""The charts of the pipeline chapter. Each title says the finding, from the numbers drawn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kvlab.chapters.pipeline.distance import at_farthest
from kvlab.chapters.pipeline.throughput import ENOUGH
from kvlab.instruments.charts.labels import label_right, note
from kvlab.instruments.charts.ratios import in_words
from kvlab.instruments.charts.scales import from_zero, log_x, log_y, whole_numbers
from kvlab.instruments.charts.style import drawing
from kvlab.instruments.measure.comparison import ratio_over_turns
from kvlab.instruments.measure.turns import Taken
from kvlab.instruments.palette import COLOURS, FAINT, INK, OTHERS


def throughput_by_size(frame: pd.DataFrame) -> Figure:
    """Throughput by batch size; band: slowest to fastest turn; dashes: the fitted model.

    Columns of ``frame``: as ``pipeline_throughput.throughput_by_size``.
    """
    gain = in_words(frame.attrs["gain"], "{} times the throughput")
    few, many = frame.attrs["enough"]
    enough = f"{few} to {many}" if few < many else f"{few}"
    most = frame["size"].iloc[-1]
    title = f"{most} ops in a batch: {gain}; {ENOUGH:.0%} of the best with {enough}"
    with drawing(title) as (figure, axes):
        shade = COLOURS["hardened"]
        axes.fill_between(frame["size"], frame["low"], frame["high"], color=shade, alpha=0.18, lw=0)
        axes.plot(frame["size"], frame["rate"], "o-", color=shade, ms=7)
        axes.plot(frame["size"], frame["model"], color=COLOURS["theory"], lw=1.2, dashes=(5, 2))
        log_x(axes, list(frame["size"]))
        from_zero(axes, frame["high"].max() * 1.08)
        axes.set(xlabel="ops in one round trip (log scale)", ylabel="throughput (ops/s)")
        trip, op = frame.attrs["trip"] * 1e6, frame.attrs["op"] * 1e6
        remark = f"dashes: {trip:.0f} µs a trip + {op:.0f} µs an op, fitted    "
        remark += f"band: slowest to fastest turn    wrong replies: {frame['wrong'].sum()}"
        note(axes, remark)
    return figure


def time_by_distance(frame: pd.DataFrame) -> Figure:
    """Time for all values by distance, a line for each batch size; dashes: trips × distance.

    Columns of ``frame``: as ``pipeline_distance.by_distance``.
    """
    farthest = at_farthest(frame)
    few, many = min(farthest), max(farthest)
    title = (
        f"{_values(frame)} values from {frame['delay'].max() * 1e3:.0f} ms away: "
        f"{farthest[few]:,.0f} ms one by one, {farthest[many]:.0f} ms in one run"
    )
    with drawing(title) as (figure, axes):
        labels = []
        for i, (size, rows) in enumerate(frame.groupby("size", sort=True)):
            shade = _shade(i, frame["size"].nunique())
            at, y = rows["distance"] * 1e3, rows["seconds"] * 1e3
            axes.plot(at, y, "osD^"[i % 4] + "-", color=shade, ms=7)
            axes.plot(at, rows["network"] * 1e3, color=COLOURS["theory"], lw=1.2, dashes=(5, 2))
            trips = int(rows["trips"].iloc[-1])
            name = "one by one" if size == 1 else f"{size} in a run"
            labels.append((float(y.iloc[-1]), f"{name}\n{_trips(trips)}", shade))
        log_x(axes, [round(distance * 1e3, 1) for distance in frame["distance"].unique()])
        log_y(axes)
        axes.set(
            xlabel="distance: added delay + a PING without the delay (ms, log scale)",
            ylabel="time for all values (ms, log scale)",
        )
        wrong = frame["wrong"].sum()
        note(axes, f"lines: measured    dashes: trips × distance    wrong replies: {wrong}")
        label_right(axes, labels)
    return figure


def predicted_time(frame: pd.DataFrame, size: int, distance: float) -> Figure:
    """Predicted time by batch size at ``distance`` (s), beside what was measured elsewhere.

    Prediction: trips × distance + values × the least that one value cost in the runs of ``frame``.
    The axes are the same for every ``size`` and ``distance``.
    """
    values, op = _values(frame), _seconds_of_an_op(frame)
    sizes = np.unique(np.round(np.geomspace(1, values, 120)).astype(int))

    def predicted(batch: float, far: float) -> float:
        return (math.ceil(values / batch) * far + values * op) * 1e3

    here = predicted(size, distance)
    trips = _trips(math.ceil(values / size))
    title = f"{values} values, {size} a run, {distance * 1e3:g} ms away: {trips}, {here:,.0f} ms"
    with drawing(title) as (figure, axes):
        labels = []
        for far, rows in frame.groupby("distance"):
            axes.plot(sizes, [predicted(b, far) for b in sizes], color=FAINT, lw=1, dashes=(4, 2))
            axes.plot(rows["size"], rows["seconds"] * 1e3, "o", color=FAINT, ms=7)
            labels.append((predicted(values, far), f"{far * 1e3:.1f} ms", FAINT))
        axes.plot(sizes, [predicted(b, distance) for b in sizes], color=INK, lw=1.8)
        axes.plot([size], [here], "o", ms=14, color=COLOURS["hardened"], zorder=4)
        log_x(axes, [1, 2, 5, 10, 20, 50, 100] if values == 100 else [1, values])
        log_y(axes)
        axes.set_ylim(1, 10_000)
        axes.set(
            xlabel="values in one run (log scale)", ylabel=f"time for {values} values (ms, log)"
        )
        note(axes, "line: predicted here    grey points: measured at the distance on the right")
        label_right(axes, labels)
    return figure


def time_of_bursts(frame: pd.DataFrame, gets: int) -> Figure:
    """The bursts turn by turn, redis-py first; the median of each subject is drawn across.

    Columns of ``frame``: as ``pipeline_awaits.bursts``.
    """
    auto, peer = sorted(frame["subject"].unique())
    taken = {name: Taken(rows["seconds"], rows["place"]) for name, rows in frame.groupby("subject")}
    gain = in_words(ratio_over_turns(taken[peer], taken[auto]), "{} times as fast")
    title = f"{gets:,} concurrent gets, {auto} beside redis-py: {gain}"
    with drawing(title) as (figure, axes):
        labels = []
        for name, variant, look in ((peer, "naive", "o-"), (auto, "hardened", "s-")):
            rows, shade = frame[frame["subject"] == name], COLOURS[variant]
            y = rows["seconds"] * 1e3
            axes.axhline(y.median(), color=shade, lw=1.2, dashes=(5, 2))
            axes.plot(rows["turn"], y, look, color=shade, ms=8, lw=1)
            text = f"{name}\n{y.median():.0f} ms, {rows['wrong'].sum()} wrong"
            labels.append((float(y.median()), text, shade))
        from_zero(axes, frame["seconds"].max() * 1.12e3)
        whole_numbers(axes.xaxis)
        axes.set(xlabel="turn", ylabel=f"time for {gets:,} gets (ms)")
        note(axes, "points: one turn each    dashes: median")
        label_right(axes, labels)
    return figure


def _values(frame: pd.DataFrame) -> int:
    return int((frame["size"] * frame["trips"]).max())


def _seconds_of_an_op(frame: pd.DataFrame) -> float:
    """The least time for one value, without its share of the round trip."""
    whole = frame[frame["size"] == frame["size"].max()]
    return max(float(((whole["seconds"] - whole["network"]) / _values(frame)).min()), 0.0)


def _trips(number: int) -> str:
    return f"{number} trip" if number == 1 else f"{number} trips"


def _shade(i: int, n: int) -> str:
    return COLOURS["naive"] if i == 0 else COLOURS["hardened"] if i == n - 1 else OTHERS[i - 1]
