"""Figures of what ``batches`` measured. Titles are the finding, made by the caller."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from kvlab.instruments.charts.labels import label_right, note
from kvlab.instruments.charts.style import drawing
from kvlab.instruments.palette import COLOURS, FAINT, INK, OTHERS


def throughput_by_size(frame: pd.DataFrame, *, title: str) -> Figure:
    """What ``throughput`` measured (points; band: slowest to fastest turn), its model dashed."""
    with drawing(title) as (figure, axes):
        shade = COLOURS["hardened"]
        axes.fill_between(frame["size"], frame["low"], frame["high"], color=shade, alpha=0.18, lw=0)
        axes.plot(frame["size"], frame["rate"], "o-", color=shade, ms=7)
        axes.plot(frame["size"], frame["model"], color=COLOURS["theory"], lw=1.2, dashes=(5, 2))
        _logarithmic(axes, list(frame["size"]))
        axes.set_ylim(0, frame["high"].max() * 1.08)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        axes.set(xlabel="ops in one round trip (log scale)", ylabel="throughput (ops/s)")
        trip, each = frame.attrs["trip"] * 1e6, frame.attrs["each"] * 1e6
        remark = f"dashes: {trip:.0f} µs a trip + {each:.0f} µs an op, fitted    "
        remark += f"band: slowest to fastest turn    wrong replies: {frame['wrong'].sum()}"
        note(axes, remark)
    return figure


def time_by_distance(frame: pd.DataFrame, *, title: str) -> Figure:
    """What ``by_distance`` measured, with trips × distance dashed."""
    smallest = frame["size"].min()
    with drawing(title) as (figure, axes):
        labels = []
        for i, (size, rows) in enumerate(frame.groupby("size", sort=True)):
            shade = _shade(i, frame["size"].nunique())
            at, y = rows["distance"] * 1e3, rows["seconds"] * 1e3
            axes.plot(at, y, "osD^"[i % 4] + "-", color=shade, ms=7)
            axes.plot(at, rows["network"] * 1e3, color=COLOURS["theory"], lw=1.2, dashes=(5, 2))
            name = "one by one" if size == smallest == 1 else f"{size} in a run"
            trips = int(rows["trips"].iloc[-1])
            label = f"{name}\n{trips} trip{'s' if trips > 1 else ''}"
            labels.append((float(y.iloc[-1]), label, shade))
        _logarithmic(axes, [d * 1e3 for d in frame["distance"].unique()])
        _log_y(axes)
        axes.set(
            xlabel="distance: added delay + a PING without it (ms, log scale)",
            ylabel="time for all values (ms, log scale)",
        )
        note(axes, "lines: measured    dashes: trips × distance    "
                   f"wrong replies: {frame['wrong'].sum()}")  # fmt: skip
        label_right(axes, labels)
    return figure


def knob(frame: pd.DataFrame, size: int, distance: float) -> Figure:
    """Predicted time over batch size at ``distance`` (s), with the points that were measured.

    Prediction: trips × distance + values × the least that one value cost in the runs of ``frame``.
    """
    values = int((frame["size"] * frame["trips"]).max())
    each = _each(frame, values)
    at = np.unique(np.round(np.geomspace(1, values, 120)).astype(int))

    def predicted(batch: float, far: float) -> float:
        return (math.ceil(values / batch) * far + values * each) * 1e3

    trips, here = math.ceil(values / size), predicted(size, distance)
    plural = "s" if trips > 1 else ""
    title = (
        f"{values} values, {size} a run, {distance * 1e3:g} ms away: {trips} trip{plural}, "
        f"{here:,.0f} ms"
    )
    with drawing(title) as (figure, axes):
        labels = []
        for far, rows in frame.groupby("distance"):
            axes.plot(at, [predicted(b, far) for b in at], color=FAINT, lw=1, dashes=(4, 2))
            axes.plot(rows["size"], rows["seconds"] * 1e3, "o", color=FAINT, ms=7)
            labels.append((predicted(values, far), f"{far * 1e3:.1f} ms", FAINT))
        axes.plot(at, [predicted(b, distance) for b in at], color=INK, lw=1.8)
        axes.plot([size], [here], "o", ms=14, color=COLOURS["hardened"], zorder=4)
        _logarithmic(axes, [1, 2, 5, 10, 20, 50, 100] if values == 100 else [1, values])
        _log_y(axes)
        axes.set(
            xlabel="values in one run (log scale)", ylabel=f"time for {values} values (ms, log)"
        )
        note(axes, "line: predicted here    grey points: measured at the distance on the right")
        label_right(axes, labels)
    return figure


def turns_of(frame: pd.DataFrame, shades: Mapping[str, str], *, title: str, ylabel: str) -> Figure:
    """What ``bursts`` measured, turn by turn; the median of each subject is drawn across."""
    with drawing(title) as (figure, axes):
        labels = []
        for i, (name, rows) in enumerate(frame.groupby("subject", sort=False)):
            shade, y = COLOURS[shades[str(name)]], rows["seconds"] * 1e3
            axes.axhline(y.median(), color=shade, lw=1.2, dashes=(5, 2))
            axes.plot(rows["turn"], y, "os"[i % 2] + "-", color=shade, ms=8, lw=1)
            text = f"{name}\n{y.median():.0f} ms, {rows['wrong'].sum()} wrong"
            labels.append((float(y.median()), text, shade))
        axes.set_ylim(0, frame["seconds"].max() * 1.12e3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="turn", ylabel=ylabel)
        note(axes, "points: one turn each    dashes: median")
        label_right(axes, labels)
    return figure


def _each(frame: pd.DataFrame, values: int) -> float:
    whole = frame[frame["size"] == frame["size"].max()]
    return max(float(((whole["seconds"] - whole["network"]) / values).min()), 0.0)


def _shade(i: int, n: int) -> str:
    return COLOURS["naive"] if i == 0 else COLOURS["hardened"] if i == n - 1 else OTHERS[i - 1]


def _logarithmic(axes: Axes, ticks: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(list(ticks), [f"{round(t, 1):g}" for t in ticks])
    axes.minorticks_off()


def _log_y(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
