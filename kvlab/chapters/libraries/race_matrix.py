"""The race matrix as a picture: a row a library, a column a fault, a word and a sign a cell."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kvlab.bench.matrix import EARLIER, Cell, Matrix
from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.style import STYLE, Drawing
from kvlab.instruments.palette import COLOURS, FAINT, GRID, INK, ON_TINT, TINTS

SIGNS = {
    "holds": "✓",
    "breaks": "✗",
    "inherent": "◇",
    "not applicable": "–",
    "undecided": "?",
    "can't be driven": "⊘",
}
WORDS = {"not applicable": "–", "can't be driven": "⊘ not driven"}
SHADES = {"holds": "hit", "breaks": "naive"}
LEGEND = (
    "✓ all n: holds in all n schedules    ✗ breaks    ✗ alone: breaks without a fault too    "
    "◇ no library of this family can hold it\n"
    "– no such fault here    ? not all was searched    ⊘ cannot be driven    "
    "≠ the broken run could not be made again on a real server\n"
    "RT round trips of one operation, alone"
)
ROW, HEAD, FOOT = 0.27, 0.62, 0.65
"""Inches."""
NAMES, TRIPS, CELL = 3.05, 0.35, 0.97


def kept_matrix() -> Matrix:
    """The matrix that the repository keeps, of the pinned versions."""
    file = resources.files("benchmarks") / "results" / "explored_libraries.json"
    with resources.as_file(file) as path:
        return Matrix.load(path)


def unbroken(matrix: Matrix) -> pd.DataFrame:
    """For each family the rows whose cells all hold, or could not hold in any library of it."""
    fine = {"holds", "inherent", "not applicable"}
    rows = [
        (
            name,
            rows[0][0].promise,
            "; ".join(sorted(row[0].name for row in rows if {c.verdict for c in row} <= fine)),
        )
        for name, rows in matrix.families.items()
    ]
    columns = ["family", "promise", "no run breaks it"]
    return pd.DataFrame(rows, columns=columns).set_index("family")


def race_matrix(matrix: Matrix, *families: str, title: str = "") -> Figure:
    """The rows of these families, all without a name, each family below its promise.

    The rows stand in the order of the matrix: nothing is ranked. Raises ``InvalidArgument`` for an
    unknown family.
    """
    if unknown := [name for name in families if name not in matrix.families]:
        raise InvalidArgument(f"no family {unknown[0]!r}; there are {', '.join(matrix.families)}")
    shown = {name: matrix.families[name] for name in families or matrix.families}
    height = sum(HEAD + ROW * len(rows) for rows in shown.values()) + FOOT + 0.35 * bool(title)
    width = NAMES + TRIPS + CELL * len(matrix.faults)
    with mpl.rc_context(STYLE | {"text.parse_math": False}):
        figure = Drawing(figsize=(width, height))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        top = 0.05
        if title:
            axes.text(0.05, 0.05, title, va="top", weight="bold", size=STYLE["axes.titlesize"])
            top = 0.4
        for name, rows in shown.items():
            top = _family(axes, top, name, rows, matrix.faults)
        axes.text(0.05, top + 0.1, LEGEND, va="top", size=7.6)
    return figure


def _family(
    axes: Axes, top: float, name: str, rows: Sequence[Sequence[Cell]], faults: Sequence[str]
) -> float:
    """Draws one family from ``top`` on; returns where it ends."""
    axes.text(0.05, top + 0.2, name, weight="bold", va="center")
    axes.text(0.25 + 0.087 * len(name), top + 0.2, rows[0][0].promise, va="center", size=9.5)
    axes.text(NAMES + TRIPS / 2, top + 0.48, "RT", ha="center", va="center", size=8.5)
    for at, fault in enumerate(faults):
        words = "no fault" if fault == "none" else fault
        axes.text(_middle(at), top + 0.48, words, ha="center", va="center", size=8.5)
    for number, row in enumerate(rows):
        _row(axes, top + HEAD + ROW * (number + 0.5), row)
    return top + HEAD + ROW * len(rows)


def _row(axes: Axes, middle: float, row: Sequence[Cell]) -> None:
    first = row[0]
    own = first.library.startswith("kvlab")
    axes.text(0.05, middle, first.name, va="center", size=9, weight="bold" if own else "normal")
    trips = "?" if first.round_trips is None else str(first.round_trips)
    axes.text(NAMES + TRIPS / 2, middle, trips, ha="center", va="center", size=9)
    for at, cell in enumerate(row):
        left = NAMES + TRIPS + CELL * at
        axes.add_patch(Rectangle((left + 0.03, middle - 0.115), CELL - 0.06, 0.23, **_look(cell)))
        ink = INK if cell.verdict == "not applicable" else ON_TINT
        words = words_of(cell)
        axes.text(_middle(at), middle, words, ha="center", va="center", size=8.5, color=ink)


def words_of(cell: Cell) -> str:
    """As in "✓ all 1,234": what stands in the cell, the same without any colour."""
    if cell.verdict == "holds":
        return f"✓ all {cell.schedules:,}"
    if cell.says == EARLIER:
        return SIGNS[cell.verdict]
    words = WORDS.get(cell.verdict, f"{SIGNS[cell.verdict]} {cell.verdict}")
    return f"{words} ≠" if cell.reproduced is False else words


def _look(cell: Cell) -> dict[str, Any]:
    if cell.verdict == "not applicable":
        return {"facecolor": "none", "edgecolor": GRID, "linewidth": 0.6}
    name = SHADES.get(cell.verdict, "none")
    width = 1.6 if cell.verdict == "breaks" and cell.says != EARLIER else 0.6
    edge = COLOURS.get(name, FAINT)
    return {"facecolor": TINTS[name], "edgecolor": edge, "linewidth": width}


def _middle(at: int) -> float:
    return NAMES + TRIPS + CELL * (at + 0.5)
