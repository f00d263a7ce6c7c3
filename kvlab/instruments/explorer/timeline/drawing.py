"""Draws a diagram's shapes with matplotlib, on a transparent ground, for light and dark pages."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon

from kvlab.instruments.explorer.timeline.diagram import Diagram
from kvlab.instruments.explorer.timeline.shapes import Box, Line, Mark, Shape, Text

_DPI = 100
_POINTS = 72 / _DPI  # of a pixel
_STYLE: Any = {"font.family": "DejaVu Sans Mono", "figure.dpi": _DPI, "path.simplify": False}


def drawn(diagram: Diagram) -> Figure:
    """The figure, as large as the diagram at 100 dots an inch."""
    with mpl.rc_context(_STYLE):
        size = (diagram.width / _DPI, diagram.height / _DPI)
        figure = Figure(figsize=size, facecolor="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, diagram.width), ylim=(diagram.height, 0))
        axes.axis("off")
        for order, shape in enumerate(diagram.shapes):
            _draw(axes, shape, order)
    return figure


def _draw(axes: Axes, shape: Shape, order: int) -> None:
    match shape:
        case Text(x, y, words, colour, align, bold, size):
            axes.text(
                x, y, words, color=colour, ha=align, va="baseline", fontsize=size * _POINTS,
                fontweight="bold" if bold else "normal", parse_math=False, zorder=order,
            )  # fmt: skip
        case Line(x, y, to_x, to_y, colour, dashed, arrow):
            dashes = (0, (4, 3)) if dashed else "-"
            axes.plot([x, to_x], [y, to_y], color=colour, lw=1.1, ls=dashes, zorder=order)
            if arrow:
                back = -7 if to_x > x else 7
                head = [(to_x, y), (to_x + back, y - 4), (to_x + back, y + 4)]
                axes.add_patch(Polygon(head, color=colour, lw=0, zorder=order))
        case Mark(x, y, colour, cross):
            kind, wide = ("x", 2.2) if cross else ("o", 0)
            axes.plot([x], [y], kind, color=colour, ms=8 * 0.9, mew=wide, zorder=order)
        case Box(x, y, width, height, colour, rounded):
            look = "round,pad=0,rounding_size=4" if rounded else "square,pad=0"
            axes.add_patch(FancyBboxPatch((x, y), width, height, look, color=colour, lw=0,
                                          zorder=order))  # fmt: skip
