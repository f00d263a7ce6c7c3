"""One function per figure of a load run; each takes a run, or several, and returns a ``Figure``.

Titles say the finding, made from the run's own numbers. Faults are shaded spans with their names,
and a dotted line where the throughput was back. No latency is drawn without the number of
invariants that broke in its run. Long runs are drawn in at most ``POINTS`` intervals: rates are
summed up, percentiles and admissions show the worst interval, and the figure says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import label_right, limit_line
from kvlab.instruments.charts.latency import LATENCY_LABEL
from kvlab.instruments.charts.scales import log_y
from kvlab.instruments.charts.style import bar_look, colour
from kvlab.instruments.palette import COLOURS, FAINT, INK, OTHERS
from kvlab.load.record.drawing import (
    POINTS,
    edges,
    from_zero,
    fullest,
    last,
    panels_below,
    percentiles,
    remark,
    run_drawing,
    standing,
    thin,
    time_axis,
    together,
)
from kvlab.load.record.recovery import recoveries
from kvlab.load.record.run import LoadRun
from kvlab.load.record.words import duration, printable, times

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
    open_loop = bool(frame["due_rate"].notna().any())
    if title is None:
        title = _answered(run, open_loop=open_loop)
    with run_drawing(title) as (figure, axes):
        panels = ["errors"] if frame["errors"].any() else []
        panels += ["users"] if frame["users"].nunique() > 1 else []
        below = panels_below(figure, axes, len(panels))
        at = edges(frame)
        labels = [(last(frame["rate"]), "calls", COLOURS["hardened"])]
        axes.stairs(frame["rate"], at, color=COLOURS["hardened"], lw=2, baseline=None)
        if open_loop:
            axes.stairs(frame["due_rate"], at, color=INK, lw=1.2, ls=(0, (5, 2)), baseline=None)
            labels.append((last(frame["due_rate"]), "asked for", INK))
        from_zero(axes, frame["rate"], frame["due_rate"])
        axes.set(ylabel="calls/s")
        for name, small in zip(panels, below, strict=True):
            y = frame["error_rate"] if name == "errors" else frame["users"]
            shade = _WRONG if name == "errors" else FAINT
            small.stairs(y, at, color=shade, fill=True, lw=0)
            from_zero(small, y)
            small.yaxis.set_major_locator(MaxNLocator(2, integer=True))
            small.set(ylabel="errors/s" if name == "errors" else name)
        time_axis([axes, *below], run)
        remark(axes, together(of, "steps: mean"), run=run)
        label_right(axes, labels)
    return figure


def latency_over_time(run: LoadRun, *, title: str | None = None) -> Figure:
    """p50, p99 and p99.9 of each interval, from the intended start; log scale."""
    frame, of = thin(run.intervals())
    columns = {"p50": "p50_us", "p99": "p99_us", "p99.9": "p999_us"}
    if title is None:
        title = "Nothing was called"
        if run.calls:
            title = f"p99 {duration(run.latency_all.percentile(99))} over the run"
        if frame["p99_us"].notna().any():
            worst = frame.loc[frame["p99_us"].idxmax()]
            title += f", {duration(worst['p99_us'] / 1e6)} in the worst interval"
            title += f", at {round(worst['second'], 2):,.10g} s"
    with run_drawing(title) as (figure, axes):
        labels = []
        for name, column in columns.items():
            y = frame[column] / 1e3
            axes.stairs(y, edges(frame), color=_PERCENTILES[name], lw=1.8, baseline=None)
            if y.notna().any():
                labels.append((last(y), name, _PERCENTILES[name]))
        log_y(axes)
        axes.set(ylabel=LATENCY_LABEL)
        time_axis([axes], run)
        worst_of = together(of, "steps: worst")
        remark(axes, f"invariants: {standing(run)}", worst_of, run=run)
        label_right(axes, labels)
    return figure


def admissions(run: LoadRun, *, title: str | None = None) -> Figure:
    """Admissions in each window of each key, against the bound of the algorithm."""
    if run.windows is None:
        raise InvalidArgument(f"a run of {run.pattern} has no windows")
    frame = run.windows
    over = frame["admitted"] > frame["bound"]
    if title is None:
        title = _admitted(frame, over)
    shown, of = fullest(frame)
    wrong = shown["admitted"] > shown["bound"]
    with run_drawing(title) as (figure, axes):
        for mask, shade, size in ((~wrong, COLOURS["hardened"], 5), (wrong, _WRONG, 6)):
            rows = shown[mask]
            axes.plot(
                rows["second"], rows["admitted"], "o", color=shade, ms=size, mew=0,
                zorder=4 + (shade == _WRONG),
            )  # fmt: skip
        bounds = frame["bound"].dropna().unique()
        if len(bounds) == 1:
            limit_line(axes, float(bounds[0]))
        elif len(bounds):
            line = frame.dropna(subset="bound").groupby("second")["bound"].max()
            axes.step(line.index, line, where="post", color=INK, lw=1.5, ls=(0, (5, 2)))
            label_right(axes, [(float(line.iloc[-1]), "bound", INK)])
        from_zero(axes, shown["admitted"], frame["bound"])
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(ylabel="admitted in a window")
        time_axis([axes], run)
        dots = "each dot one key in one window" if of == 1 else f"each dot the fullest of {of:,}"
        remark(axes, dots + "; orange: over the bound" * bool(wrong.any()))
    return figure


def latency_curve(run: LoadRun, *, title: str | None = None) -> Figure:
    """Latency by percentile, a curve for each name of call."""
    named = {name: recorder for name, recorder in run.latency.items() if recorder.count}
    if title is None:
        ends = [f"{printable(n, 24)} {duration(r.percentile(99))}" for n, r in named.items()]
        title = "p99: " + ", ".join(ends) if ends else "Nothing was called"
    with run_drawing(title) as (figure, axes):
        curves = {name: (r, f"{r.count:,} calls") for name, r in named.items()}
        percentiles(axes, curves)
        remark(axes, f"invariants: {standing(run)}")
    return figure


def compare_latency(
    runs: Mapping[str, LoadRun] | Sequence[LoadRun], *, title: str | None = None
) -> Figure:
    """Latency by percentile, a curve for each run, with how it stands."""
    named = _named(runs)
    if title is None:
        title = _ratio_title({n: r.latency_all.percentile(99) for n, r in named.items()})
    with run_drawing(title) as (figure, axes):
        curves = {n: (r.latency_all, standing(r)) for n, r in named.items()}
        percentiles(axes, curves)
    return figure


def compare_throughput(
    runs: Mapping[str, LoadRun] | Sequence[LoadRun], *, title: str | None = None
) -> Figure:
    """Calls a second: the median interval of each run, and its spread, with how it stands."""
    named = _named(runs)
    rates = {name: run.intervals()["rate"].to_numpy() for name, run in named.items()}
    middle = {name: float(np.median(rate)) if len(rate) else 0.0 for name, rate in rates.items()}
    if title is None:
        (low, least), (high, most) = _extremes(middle)
        title = f"{high}: {most:,.0f} calls/s"
        if len(named) > 1 and least:
            title += f", {times(most / least)} {low}"
    tops = []
    with run_drawing(title) as (figure, axes):
        for i, (name, rate) in enumerate(rates.items()):
            spread = np.percentile(rate, (10, 90)) if len(rate) else np.zeros(2)
            axes.bar(i, middle[name], 0.7, **bar_look(name, colour(name, i)))
            axes.plot([i, i], spread, color=INK, lw=1.4)
            tops.append(max(float(spread[1]), middle[name]))
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
    """The same store under a closed and an open loop: what waiting the closed loop leaves out."""
    for name, run, wanted in (("closed", closed, False), ("open", open, True)):
        if run.open_loop is not wanted:
            raise InvalidArgument(f"{name} must be a run of a{'n'[:wanted]} {name} loop")
    if title is None:
        ends = [duration(run.latency_all.percentile(99)) for run in (closed, open)]
        title = f"p99 by the closed loop {ends[0]}, by the open loop {ends[1]}"
    names = f"closed loop, {closed.settings.get('users')} users", "open loop, "
    asked = f"{open.timeline['due'].sum() / open.seconds:,.0f}/s"
    return compare_latency({names[0]: closed, names[1] + asked: open}, title=title)


def _answered(run: LoadRun, *, open_loop: bool) -> str:
    title = f"{run.rate:,.0f} calls/s"
    if open_loop:
        title += f" of {run.timeline['due'].sum() / run.seconds:,.0f} asked for"
    title += f", {run.errors_total:,} error{'' if run.errors_total == 1 else 's'}"
    low = [recovery for recovery in recoveries(run) if recovery.lowest is not None]
    if lasting := [recovery for recovery in low if recovery.seconds is None]:
        return f"{title}; not back after the {lasting[-1].fault.kind}"
    if low:
        slowest = max(low, key=lambda recovery: recovery.seconds or 0)
        title += f"; back {slowest.seconds:.3g} s after the {slowest.fault.kind} began"
    return title


def _admitted(frame: pd.DataFrame, over: pd.Series) -> str:
    if not len(frame):
        return "Nothing was admitted"
    if over.any():
        worst = frame.loc[(frame["admitted"] - frame["bound"])[over].idxmax()]
        title = f"{over.sum():,} of {len(frame):,} windows over the bound, the worst holds "
        return title + f"{worst['admitted']:,} where {worst['bound']:,g} are allowed"
    if frame["bound"].isna().all():
        return f"Up to {frame['admitted'].max():,} admitted in a window, no bound is stated"
    return f"None of {len(frame):,} windows over the bound, the fullest holds " + (
        f"{frame['admitted'].max():,}"
    )


def _named(runs: Mapping[str, LoadRun] | Sequence[LoadRun]) -> dict[str, LoadRun]:
    named = dict(runs) if isinstance(runs, Mapping) else {run.title: run for run in runs}
    if not named or len(named) < len(runs):
        raise InvalidArgument("runs must be at least one, each with a name of its own")
    if silent := [name for name, run in named.items() if not run.calls]:
        raise InvalidArgument(f"nothing was called in {silent}")
    return named


def _extremes(values: Mapping[str, float]) -> tuple[tuple[str, float], tuple[str, float]]:
    ranked = sorted(values.items(), key=lambda item: item[1])
    return ranked[0], ranked[-1]


def _ratio_title(seconds: Mapping[str, float]) -> str:
    (best, low), (worst, high) = _extremes(seconds)
    title = f"p99: {best} {duration(low)}"
    return title + (f", {worst} {times(high / low)} that" if len(seconds) > 1 else "")
