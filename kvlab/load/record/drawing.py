"""What the figures of load runs share: the time axis with its faults, scales, fewer points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from kvlab.instruments.charts.labels import note
from kvlab.instruments.charts.latency import percentile_curves
from kvlab.instruments.charts.style import drawing
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.palette import FAINT
from kvlab.load.record.recovery import BACK, recoveries
from kvlab.load.record.run import LoadRun
from kvlab.load.record.words import percent, printable

POINTS = 400
REMARK = "remark"
_MOST_NAMED = 12


def standing(run: LoadRun) -> str:
    """The verdict of a run, short enough for a label."""
    if run.verdict == "SHOWS NOTHING":
        return "shows nothing"
    return f"{run.broken} of {len(run.findings)} broken"


def pace(*runs: LoadRun) -> str:
    """The remark on latencies that contain the wait for an overloaded generator."""
    generators = [run.generator for run in runs if run.generator is not None]
    is_overloaded = any(one.is_overloaded for one in generators)
    return "with the wait for an overloaded generator" if is_overloaded else ""


@contextmanager
def run_drawing(title: str) -> Iterator[tuple[Figure, Axes]]:
    """``drawing`` for titles with names in them: a dollar begins no formula."""
    with mpl.rc_context({"text.parse_math": False}), drawing("") as (figure, axes):
        # matplotlib wraps a title as if the title were parsed, whatever that setting says.
        axes.set_title(title.replace("$", r"\$"), wrap=True, parse_math=True)
        yield figure, axes


def title_of(figure: Figure) -> str:
    """The title that ``run_drawing`` was given."""
    return figure.axes[0].get_title(loc="left").replace(r"\$", "$")


def panels_below(figure: Figure, axes: Axes, count: int) -> list[Axes]:
    """``count`` low axes below ``axes`` that share its time axis."""
    if not count:
        return []
    grid = figure.add_gridspec(1 + count, 1, height_ratios=[4, *[1] * count])
    axes.set_subplotspec(grid[0])
    return [figure.add_subplot(grid[1 + i], sharex=axes) for i in range(count)]


def time_axis(panels: Sequence[Axes], run: LoadRun) -> None:
    """The run's seconds below the last panel, and its faults through all of them."""
    for axes in panels[:-1]:
        axes.tick_params(axis="x", labelbottom=False)
    panels[-1].set(xlabel="seconds since the run began")
    panels[0].set_xlim(0, run.seconds)
    if len(run.faults) > _MOST_NAMED:
        at = [fault.at for fault in run.faults]
        for axes in panels:
            axes.vlines(at, 0, 1, transform=axes.get_xaxis_transform(), color=FAINT, lw=0.8)
        return
    for recovery in recoveries(run):
        fault = recovery.fault
        for axes in panels:
            axes.axvspan(fault.at, fault.at + fault.seconds, color=FAINT, alpha=0.22, lw=0)
            axes.axvline(fault.at, color=FAINT, lw=1)
        if recovery.lowest is not None and recovery.seconds is not None:
            panels[0].axvline(fault.at + recovery.seconds, color=FAINT, lw=1.2, ls=":")
        panels[0].annotate(
            fault.kind, (fault.at, 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
            textcoords="offset points", va="top", rotation=90, fontsize=9,
        )  # fmt: skip


def from_zero(axes: Axes, *series: pd.Series) -> None:
    """A linear scale from 0 with room above the highest of ``series``."""
    top = np.nanmax([float(y.max()) if len(y) else 0.0 for y in series] + [0.0])
    axes.set_ylim(0, top * 1.18 or 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.10g}"))


def percentiles(axes: Axes, curves: Mapping[str, tuple[Recorder, str]]) -> None:
    """``percentile_curves`` with the labels of a load run; draws nothing without a curve."""
    if curves:
        short = {printable(name, 24): curve for name, curve in curves.items()}
        percentile_curves(axes, short)
        axes.set_xlabel("share of calls answered within")


def remark(axes: Axes, *parts: str, run: LoadRun | None = None) -> None:
    """A small line under the title; with ``run``, the line explains the marks of faults."""
    shown = [part for part in parts if part]
    if run is not None and len(run.faults) > _MOST_NAMED:
        shown.append(f"grey: {len(run.faults)} faults")
    elif run is not None and run.faults:
        shown += ["grey: fault", f"dots: back at {percent(BACK)}"]
    if shown:
        note(axes, " · ".join(shown))
        axes.texts[-1].set_gid(REMARK)


def together(of: int, how: str) -> str:
    """The remark on points that stand for ``of`` intervals."""
    return f"{how} of {of} intervals" if of > 1 else ""


def last(y: pd.Series) -> float:
    """The last number that is not NaN, or 0."""
    numbers = y.dropna()
    return float(numbers.iloc[-1]) if len(numbers) else 0.0


def edges(frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """The begin of every interval, and the end of the last one."""
    ends = frame["second"] + frame["width"]
    return np.array([*frame["second"], *ends.tail(1)] if len(frame) else [0.0], np.float64)


def thin(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """At most ``POINTS`` intervals, and how many intervals each of them joins."""
    of = -(-len(frame) // POINTS) or 1
    if of == 1:
        return frame, 1
    how = dict.fromkeys(("p50_us", "p99_us", "p999_us", "max_us", "users"), "max")
    how |= {"second": "first", "width": "sum", "calls": "sum", "errors": "sum"}
    groups = frame.groupby(np.arange(len(frame)) // of)
    thin = groups.agg(how)
    thin["due"] = groups["due"].sum(min_count=1)
    for column, total in (("rate", "calls"), ("error_rate", "errors"), ("due_rate", "due")):
        thin[column] = thin[total] / thin["width"]
    return thin, of


def excess(windows: pd.DataFrame) -> pd.Series:
    """Admissions beyond the bound of their kind, of the window or of its busiest interval.

    Not above 0 when both are kept; NaN without a stated bound.
    """
    window = windows["admitted"] - windows["bound"]
    return np.fmax(window, windows["busiest"] - windows["busiest_bound"])


def fullest(windows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """At most about ``POINTS`` windows, those furthest over (or least under) their bound."""
    of = -(-len(windows) // POINTS) or 1
    if of == 1:
        return windows, 1
    frame = windows.sort_values("second", kind="stable").reset_index(drop=True)
    beyond = excess(frame).fillna(frame["admitted"])
    return frame.loc[beyond.groupby(np.arange(len(frame)) // of).idxmax()], of
