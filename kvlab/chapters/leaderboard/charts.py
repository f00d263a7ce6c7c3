"""The charts of the leaderboard chapter. Each title says the finding, from the numbers drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvlab.chapters.leaderboard.growth import growth_ratios
from kvlab.chapters.leaderboard.loading import RIVAL, SAMPLES, load_ratios
from kvlab.instruments.charts.ratios import in_words
from kvlab.instruments.charts.scales import from_zero, log_x
from kvlab.instruments.charts.style import bar_look, colour, drawing, panels
from kvlab.instruments.measure.comparison import Comparison
from kvlab.instruments.palette import COLOURS, INK


def time_by_size(times: pd.DataFrame) -> Figure:
    """A panel for each call: median over the turns, their middle half as a band, and the theory.

    The dashes are O(log n) through the first point: what the call would take if the search in the
    board were all of the time. Columns of ``times``: as ``leaderboard_growth.time_by_size``.
    """
    sizes = sorted(times["members"].unique())
    ratios = growth_ratios(times)
    most = max(ratio.high for ratio in ratios.values())
    bound = f"a call takes at most {most:.2g} times as long"
    if math.isinf(most):
        bound = "too few turns to tell how much longer a call takes"
    title = f"{sizes[-1] // sizes[0]:,} times the members: {bound}"
    with panels(title, len(ratios)) as (figure, axes):
        by_call = times.groupby("call", sort=False)
        for panel, (name, rows) in zip(axes, by_call, strict=True):
            _growth(panel, str(name), rows, ratios[str(name)])
        log_x(axes[0], sizes)
        axes[0].set_xticks(sizes, [_short(size) for size in sizes])
        from_zero(axes[0], _top(times, sizes) * 1.1)
        axes[0].set(ylabel="time of a call (µs)")
        turns, wrong = times["turn"].nunique(), times["wrong"].sum()
        figure.supxlabel(
            f"members on the board (log scale)\nline: median of {turns} turns, band: their middle "
            f"half    ratios: last over first, with 95 %\n"
            f"dashes: O(log n) through the first point    {wrong} wrong answers",
            fontsize=10,
        )
    return figure


def _growth(panel: Axes, name: str, rows: pd.DataFrame, ratio: Comparison) -> None:
    spread = rows.groupby("members")["µs"].quantile([0.25, 0.5, 0.75]).unstack()
    sizes, shade = list(spread.index), colour(name.split(":")[0])
    panel.fill_between(sizes, spread[0.25], spread[0.75], color=shade, alpha=0.25, lw=0)
    panel.plot(sizes, spread[0.5], color=shade, marker="o", ms=6)
    panel.plot(sizes, _log_n(spread[0.5].iloc[0], sizes), color=COLOURS["theory"], dashes=(5, 2))
    text = f"{name}\n{in_words(ratio, '{} times as long')}".replace(" (", "\n(")
    panel.annotate(text, (0.04, 0.03), xycoords="axes fraction", color=shade, fontweight="bold")


def _log_n(first: float, sizes: Sequence[int]) -> list[float]:
    return [first * math.log(size) / math.log(sizes[0]) for size in sizes]


def _top(times: pd.DataFrame, sizes: Sequence[int]) -> float:
    """The highest of the bands and of the theory."""
    at_size = times.groupby(["call", "members"])["µs"]
    first = at_size.median().xs(sizes[0], level="members")
    return float(max(at_size.quantile(0.75).max(), max(_log_n(first.max(), sizes))))


def price_of_ties(loads: pd.DataFrame) -> Figure:
    """Memory of a member, and the speed of a load, for each tie rule beside the plain ZADD.

    Columns of ``loads``: as ``leaderboard_loading.load_in_turns``.
    """
    names = list(loads["load"].unique())
    memory_of = loads.pivot(index="turn", columns="load", values="bytes")
    used = memory_of.median()[[n for n in names if n != "ZADD of 1"]]
    ratios = load_ratios(loads).loc[names]
    for end in ("low", "high"):  # two turns have no interval
        ratios[end] = ratios[end].where(np.isfinite(ratios["high"]), ratios["ratio"])
    rules = [name for name in names if not name.startswith("ZADD")]
    costs = ", ".join(f"{rule} {_range(memory_of[rule] / memory_of[RIVAL])}" for rule in rules)
    with drawing(f"Memory, times that of a plain sorted set: {costs}") as (figure, axes):
        memory, speed = _side_by_side(figure, axes)
        _bars(memory, list(used.index), used, used, "{:.0f}")
        memory.set(ylabel="memory of a member (bytes)")
        _bars(speed, names, ratios["ratio"], ratios["high"], "{:.2f}")
        spread = (ratios["ratio"] - ratios["low"], ratios["high"] - ratios["ratio"])
        speed.errorbar(range(len(names)), ratios["ratio"], yerr=spread, fmt="none", color=INK)
        speed.set(ylabel=f"members a second, times {RIVAL}")
        turns = loads["turn"].nunique()
        remark = f"MEMORY USAGE with {SAMPLES:,} samples    lines: 95 %, {turns} turns"
        figure.supxlabel(remark, fontsize=10)
    return figure


def _range(ratios: pd.Series[float]) -> str:
    """The lowest and the highest of the turns; one number when they are written alike."""
    low, high = f"{ratios.min():.1f}", f"{ratios.max():.1f}"
    return low if low == high else f"{low} to {high}"


def _bars(
    panel: Axes,
    names: Sequence[str],
    heights: pd.Series[float],
    tops: pd.Series[float],
    form: str,
) -> None:
    """Bars with their numbers above ``tops``: the bars themselves, or the lines of their spread."""
    for at, name in enumerate(names):
        variant = "naive" if name.startswith("ZADD") else "hardened"
        panel.bar(at, heights[name], 0.7, **bar_look(variant, colour(variant)))
        number = form.format(heights[name])
        panel.annotate(
            number, (at, tops[name]), xytext=(0, 4), textcoords="offset points", ha="center"
        )
    from_zero(panel, tops.max() * 1.12)
    panel.set_xticks(range(len(names)), [name.replace(" of ", "\nof ") for name in names])
    panel.tick_params(axis="x", length=0, labelsize=10)
    panel.grid(False, axis="x")


def _side_by_side(figure: Figure, axes: Axes) -> tuple[Axes, Axes]:
    """``axes``, and axes of another scale to their right, below one title."""
    figure.suptitle(axes.get_title(loc="left"), x=0.01, ha="left", fontweight="bold", fontsize=13)
    axes.set_title("")
    grid = figure.add_gridspec(1, 2)
    axes.set_subplotspec(grid[0])
    return axes, figure.add_subplot(grid[1])


def _short(members: int) -> str:
    return f"{members // 1_000_000}M" if members >= 1_000_000 else f"{members // 1_000}k"
