"""One function per figure of a load run; each takes one run or several and returns a ``Figure``.

A title says the verdict of the run first, then its speed, both from the run's own numbers. Faults
are shaded spans with their names, with a dotted line where the throughput was back. No latency is
drawn without the number of invariants that broke in its run. Long runs are drawn in at most
``POINTS`` intervals: rates are summed up, percentiles and admissions show the worst interval, and
the figure says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import label_right, limit_line
from kvlab.instruments.charts.latency import LATENCY_LABEL, title_percentile
from kvlab.instruments.charts.scales import log_y
from kvlab.instruments.charts.style import bar_look, colour
from kvlab.instruments.palette import COLOURS, FAINT, INK, OTHERS
from kvlab.load.record.drawing import (
    POINTS,
    edges,
    excess,
    from_zero,
    fullest,
    last,
    pace,
    panels_below,
    percentiles,
    remark,
    run_drawing,
    standing,
    thin,
    time_axis,
    together,
)
from kvlab.load.record.run import LoadRun
from kvlab.load.record.titles import (
    admissions_title,
    comparison_title,
    latency_title,
    names_title,
    throughput_title,
)
from kvlab.load.record.words import duration

__all__ = [
    "POINTS",
    "admissions",
    "compare_latency",
    "compare_throughput",
    "coordinated_omission",
    "duration",
    "latency_curve",
    "latency_over_time",
    "standing",
    "throughput",
]

_WRONG = COLOURS["naive"]
_PERCENTILES = {"p50": OTHERS[3], "p99": COLOURS["hardened"], "p99.9": INK}


def throughput(run: LoadRun, *, title: str | None = None) -> Figure:
    """Calls a second over time; below it errors, if any, and users, if their number changes."""
    frame, of = thin(run.intervals())
    with run_drawing(title or throughput_title(run)) as (figure, axes):
        panels = ["errors"] if frame["errors"].any() else []
        panels += ["users"] if frame["users"].nunique() > 1 else []
        below = panels_below(figure, axes, len(panels))
        at = edges(frame)
        labels = [(last(frame["rate"]), "calls", COLOURS["hardened"])]
        axes.stairs(frame["rate"], at, color=COLOURS["hardened"], lw=2, baseline=None)
        if frame["due_rate"].notna().any():
            axes.stairs(frame["due_rate"], at, color=INK, lw=1.2, ls=(0, (5, 2)), baseline=None)
            labels.append((last(frame["due_rate"]), "due", INK))
        from_zero(axes, frame["rate"], frame["due_rate"])
        axes.set(ylabel="calls/s")
        for name, small in zip(panels, below, strict=True):
            _small_panel(small, frame, name)
        time_axis([axes, *below], run)
        remark(axes, together(of, "steps: mean"), run=run)
        label_right(axes, labels)
    return figure


def _small_panel(axes: Axes, frame: pd.DataFrame, name: str) -> None:
    """Errors or users over time."""
    y = frame["error_rate"] if name == "errors" else frame["users"]
    shade = _WRONG if name == "errors" else FAINT
    axes.stairs(y, edges(frame), color=shade, fill=True, lw=0)
    from_zero(axes, y)
    axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    axes.set(ylabel="errors/s" if name == "errors" else name)


def latency_over_time(run: LoadRun, *, title: str | None = None) -> Figure:
    """p50, p99 and p99.9 of each interval, from the intended start; log scale.

    A ring marks the worst interval.
    """
    frame, of = thin(run.intervals())
    columns = {"p50": "p50_us", "p99": "p99_us", "p99.9": "p999_us"}
    with run_drawing(title or latency_title(run)) as (figure, axes):
        labels = []
        for name, column in columns.items():
            y = frame[column] / 1e3
            axes.stairs(y, edges(frame), color=_PERCENTILES[name], lw=1.8, baseline=None)
            if y.notna().any():
                labels.append((last(y), name, _PERCENTILES[name]))
        worst = run.worst_interval()
        if worst is not None:
            at = worst["second"] + worst["width"] / 2, worst["p99_us"] / 1e3
            axes.plot(*at, "o", mfc="none", mec=_WRONG, mew=1.8, ms=10)
        log_y(axes)
        axes.set(ylabel=LATENCY_LABEL)
        time_axis([axes], run)
        marks = [together(of, "steps: worst"), "ring: worst interval" * (worst is not None)]
        remark(axes, f"invariants: {standing(run)}", pace(run), *marks, run=run)
        label_right(axes, labels)
    return figure


def admissions(run: LoadRun, *, title: str | None = None) -> Figure:
    """Admissions in each window of each key, against the bound of its limiter."""
    if run.windows is None:
        raise InvalidArgument(f"a run of {run.pattern} has no windows")
    frame = run.windows
    shown, of = fullest(frame)
    wrong = excess(shown) > 0
    control = shown["key"].str.startswith("naive-")
    with run_drawing(title or admissions_title(run, frame)) as (figure, axes):
        for is_wrong, shade in ((False, COLOURS["hardened"]), (True, _WRONG)):
            for is_control, marker in ((False, "o"), (True, "x")):
                rows = shown[(wrong == is_wrong) & (control == is_control)]
                axes.plot(
                    rows["second"], rows["admitted"], marker, color=shade, ms=5 + is_wrong,
                    mew=1.5 * is_control, zorder=4 + is_wrong,
                )  # fmt: skip
        _bound_line(axes, frame)
        from_zero(axes, shown["admitted"], frame["bound"])
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(ylabel="admitted in a window")
        time_axis([axes], run)
        dots = (
            "a dot: one key in one window" if of == 1 else f"a dot: the fullest of {of:,} windows"
        )
        crosses = "crosses: the naive control" * bool(control.any() and not control.all())
        remark(axes, dots, crosses, "orange: over the bound" * bool(wrong.any()))
    return figure


def _bound_line(axes: Axes, windows: pd.DataFrame) -> None:
    """A line for the bound; for a limiter and its control a line each, where they differ."""
    bounds = windows["bound"].dropna().unique()
    of = windows.groupby(windows["key"].str.startswith("naive-"))["bound"].unique()
    if len(bounds) == 1:
        limit_line(axes, float(bounds[0]), "bound")
    elif len(of) == 2 and all(len(one) == 1 for one in of):
        limit_line(axes, float(of[False][0]), "bound")
        limit_line(axes, float(of[True][0]), "control's")
    elif len(bounds):
        line = windows.dropna(subset="bound").groupby("second")["bound"].max()
        axes.step(line.index, line, where="post", color=INK, lw=1.5, ls=(0, (5, 2)))
        label_right(axes, [(float(line.iloc[-1]), "bound", INK)])


def latency_curve(run: LoadRun, *, title: str | None = None) -> Figure:
    """Latency by percentile, a curve for each name of call."""
    named = {name: recorder for name, recorder in run.latency.items() if recorder.count}
    with run_drawing(title or names_title(run)) as (figure, axes):
        curves = {name: (r, f"{r.count:,} calls") for name, r in named.items()}
        percentiles(axes, curves)
        remark(axes, f"invariants: {standing(run)}", pace(run))
    return figure


def compare_latency(
    runs: Mapping[str, LoadRun] | Sequence[LoadRun], *, title: str | None = None
) -> Figure:
    """Latency by percentile: a curve for each run, with the verdict of the run.

    The title has the 99th percentiles, or the medians where the curve of a run ends before.
    """
    named = _named(runs)
    quantity, percent = title_percentile(run.latency_all for run in named.values())
    ends = {name: run.latency_all.percentile(percent) for name, run in named.items()}
    title = title or comparison_title(named, ends, quantity, duration)
    with run_drawing(title) as (figure, axes):
        curves = {n: (r.latency_all, standing(r)) for n, r in named.items()}
        percentiles(axes, curves)
        remark(axes, pace(*named.values()))
    return figure


def compare_throughput(
    runs: Mapping[str, LoadRun] | Sequence[LoadRun], *, title: str | None = None
) -> Figure:
    """Calls a second: the median interval of each run and its spread, with the run's verdict."""
    named = _named(runs)
    rates = {name: run.intervals()["rate"].to_numpy() for name, run in named.items()}
    middle = {name: float(np.median(rate)) if len(rate) else 0.0 for name, rate in rates.items()}
    title = title or comparison_title(named, middle, "calls/s", lambda rate: f"{rate:,.0f}")
    tops = []
    with run_drawing(title) as (figure, axes):
        for i, (name, rate) in enumerate(rates.items()):
            ends = np.percentile(rate, (10, 90)) if len(rate) else np.zeros(2)
            axes.bar(i, middle[name], 0.7, **bar_look(name, colour(name, i)))
            axes.plot([i, i], ends, color=INK, lw=1.4)
            tops.append(max(float(ends[1]), middle[name]))
            axes.annotate(
                f"{middle[name]:,.0f}", (i, tops[-1]), xytext=(0, 4),
                textcoords="offset points", ha="center", fontsize=11,
            )  # fmt: skip
        ticks = [f"{name}\n{standing(run)}" for name, run in named.items()]
        axes.set_xticks(range(len(named)), ticks)
        axes.tick_params(axis="x", length=0)
        axes.grid(False, axis="x")
        from_zero(axes, pd.Series(tops))
        axes.set(ylabel="calls/s")
        remark(axes, "bars: median interval", "lines: 10 to 90 % of the intervals")
    return figure


def coordinated_omission(closed: LoadRun, open: LoadRun, *, title: str | None = None) -> Figure:
    """The same store under a closed and an open loop: which waits the closed loop leaves out."""
    for name, run, wanted in (("closed", closed, False), ("open", open, True)):
        if run.open_loop is not wanted:
            raise InvalidArgument(f"{name} must be a run of a{'n'[:wanted]} {name} loop")
    ends = {"closed loop": closed, "open loop": open}
    p99 = {name: run.latency_all.percentile(99) for name, run in ends.items()}
    title = title or comparison_title(ends, p99, "p99", duration)
    users = closed.settings.get("users")
    due = open.timeline["due"].sum() / open.seconds
    named = {f"closed loop, {users} users": closed, f"open loop, {due:,.0f}/s": open}
    return compare_latency(named, title=title)


def _named(runs: Mapping[str, LoadRun] | Sequence[LoadRun]) -> dict[str, LoadRun]:
    named = dict(runs) if isinstance(runs, Mapping) else {run.title: run for run in runs}
    if not named or len(named) < len(runs):
        raise InvalidArgument("runs must be at least one, each with a name of its own")
    if silent := [name for name, run in named.items() if not run.calls]:
        raise InvalidArgument(f"nothing was called in {silent}")
    return named
