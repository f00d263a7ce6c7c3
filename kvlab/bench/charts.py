"""The chart of a benchmark: a row a comparison, its interval, and the band of the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from kvlab.bench.run import CONTROL, BenchRun, Row
from kvlab.instruments.charts.scales import PLAIN
from kvlab.instruments.charts.style import drawing
from kvlab.instruments.palette import COLOURS, IDLE, INK

QUICKER, SLOWER = COLOURS["hardened"], COLOURS["naive"]
_STEPS = (1, 2, 5)
ROW_HEIGHT, MARGIN = 0.34, 0.9
"""Inches."""


def standing(run: BenchRun, rows: Sequence[Row]) -> str:
    """As in "quicker in 3 rows, slower in 1, no difference seen in 2"."""
    quicker = sum(run.differs(row) and row.compared.ratio < 1 for row in rows)
    slower = sum(run.differs(row) and row.compared.ratio > 1 for row in rows)
    parts = {"quicker in": quicker, "slower in": slower}
    parts["no difference seen in"] = len(rows) - quicker - slower
    said = [f"{words} {n}" for words, n in parts.items() if n]
    return ", ".join(said) + f" of {len(rows)} rows"


def ratios(run: BenchRun, benchmark: str) -> Figure:
    """The rows of one benchmark on a log axis, best first in each case."""
    rows = [row for row in run.rows if row.benchmark == benchmark]
    title = f"{benchmark.replace('_', ' ')}: {standing(run, rows)}"
    if benchmark == CONTROL:
        title = f"The same code twice: the noise of this run is {run.noise_in_words}"
    with mpl.rc_context({"text.parse_math": False}), drawing(title) as (figure, axes):
        axes.axvspan(1 / run.noise, run.noise, color=IDLE, lw=0, zorder=0)
        axes.axvline(1, color=INK, lw=1.2)
        for place, row in enumerate(rows):
            _row(axes, place, run, row)
        _scale(axes, rows)
        axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(False, axis="y")
        # At the right: below a narrow chart with long names the words go on to the left.
        axes.set_xlabel("time, measured by the peer's (1 = the same; left is quicker)", loc="right")
        figure.set_size_inches(8.6, MARGIN + ROW_HEIGHT * len(rows))
    return figure


def _label(row: Row) -> str:
    return f"{row.case} / {row.peer}"


def _row(axes: Axes, place: int, run: BenchRun, row: Row) -> None:
    found = row.compared
    shade = INK if not run.differs(row) else QUICKER if found.ratio < 1 else SLOWER
    axes.plot([found.low, found.high], [place, place], color=shade, lw=2.5, solid_capstyle="butt")
    marker = "<" if shade == QUICKER else ">" if shade == SLOWER else "o"
    axes.plot([found.ratio], [place], marker, color=shade, ms=8)


def _scale(axes: Axes, rows: Sequence[Row]) -> None:
    """A log axis that holds every ratio and 1, with plain numbers at 1, 2, 5 and their tenths."""
    low = min([0.5, *(row.compared.low for row in rows if row.compared.low > 0)])
    high = max([2.0, *(row.compared.high for row in rows if row.compared.high < math.inf)])
    axes.set_xscale("log")
    axes.set_xlim(low * 0.9, high * 1.1)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    steps = _STEPS if high < low * 300 else (1,)
    axes.xaxis.set_major_locator(FixedLocator([s * 10.0**p for p in powers for s in steps]))
    axes.xaxis.set_major_formatter(PLAIN)
    axes.xaxis.set_minor_formatter(NullFormatter())
