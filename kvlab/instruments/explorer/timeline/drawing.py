"""Draws a diagram's shapes with matplotlib, on a transparent ground, for light and dark pages."""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.ft2font import FT2Font
from matplotlib.patches import FancyBboxPatch, Polygon

from kvlab.instruments.explorer.timeline.diagram import Diagram
from kvlab.instruments.explorer.timeline.shapes import (
    Box,
    Line,
    Mark,
    Shape,
    Text,
    columns_of,
)

_DPI = 100
_POINTS = 72 / _DPI  # of a pixel
_FONT = "DejaVu Sans Mono"
_STYLE: Any = {"figure.dpi": _DPI, "path.simplify": False}


def spell(text: str) -> str:
    """The text with an escape, as \\u{1F600}, for each character that no font here can draw."""
    if text.isascii():
        return text
    return "".join(c if _font_of(c) else f"\\u{{{ord(c):X}}}" for c in text)


@functools.cache
def _font_of(character: str) -> str | None:
    """The family that draws the character. A narrow one must have the width of our own font."""
    if get_font(findfont(_FONT)).get_char_index(ord(character)):
        return _FONT
    if columns_of(character) < 2:
        return None
    for entry in fontManager.ttflist:
        if entry.name.startswith("Last Resort"):  # which draws a box for any character
            continue
        with suppress(RuntimeError, OSError):  # a font of coloured bitmaps
            if FT2Font(entry.fname).get_char_index(ord(character)):
                return str(entry.name)
    return None


def drawn(diagram: Diagram) -> Figure:
    """The figure, as large as the diagram at 100 dots an inch."""
    texts = "".join(shape.words for shape in diagram.shapes if isinstance(shape, Text))
    others = {} if texts.isascii() else dict.fromkeys(filter(None, map(_font_of, texts)))
    with mpl.rc_context(_STYLE | {"font.family": list(dict.fromkeys([_FONT, *others]))}):
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
