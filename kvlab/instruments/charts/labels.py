"""Texts beside what they name. Labels of one chart do not cover each other.

``settle`` moves them apart when the figure is drawn: only then are the sizes of texts and axes
known.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from kvlab.instruments.palette import COLOURS, FAINT, INK

TITLE: Any = {"fontsize": 13, "fontweight": "bold"}
_BESIDE, _EVENT, _NOTE = "beside a line", "event", "note"
_GAP = 3.0  # points between two labels
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:µs|ms|s|%|times|of)(?:\W|$))")


def note(axes: Axes, text: str) -> None:
    """A small text between title and axes."""
    axes.annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 6),
        textcoords="offset points",
        fontsize=10,
        color=INK,
        label=_NOTE,
        in_layout=False,  # the title's distance makes room for it
    )
    _make_room(axes, text)


def label_right(axes: Axes, labels: Iterable[tuple[float, str, str]]) -> None:
    """A name beside the right end of each line: (the line's last value, name, colour)."""
    for value, text, shade in labels:
        axes.annotate(
            text,
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=shade,
            fontweight="bold",
            fontsize=10.5,
            annotation_clip=False,
            label=_BESIDE,
        )


def limit_line(axes: Axes, limit: float, name: str = "limit") -> None:
    """A dashed horizontal line, named at its right end."""
    axes.axhline(limit, color=COLOURS["limit"], lw=1.5, dashes=(5, 2), zorder=3)
    label_right(axes, [(limit, f"{name} {limit:g}", COLOURS["limit"])])


def event_line(axes: Axes, moment: float, text: str) -> None:
    """A dotted vertical line, named at its upper end."""
    axes.axvline(moment, color=FAINT, lw=1, linestyle=":")
    low, high = axes.get_xlim()
    left = moment > low + 0.7 * (high - low)
    axes.annotate(
        text,
        (moment, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if left else 4, -2),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        fontsize=10,
        label=_EVENT,
    )


def settle(panels: Iterable[Axes], renderer: RendererBase) -> None:
    """Break long titles and notes, and move labels apart that would cover each other."""
    for axes in panels:
        figure = axes.figure
        points = 72 / figure.dpi
        for text in (*figure.texts, *axes.get_children()):
            if isinstance(text, Text) and text.get_wrap():
                _balance(text, figure.bbox.x1, renderer)
        for text in _labels(axes, _NOTE):
            _wrap(axes, text, figure.bbox.x1, renderer)
        _spread(_labels(axes, _BESIDE), axes.get_window_extent(renderer), renderer, points)
        _stagger(_labels(axes, _EVENT), renderer, points)


def _balance(title: Text, right: float, renderer: RendererBase) -> None:
    """Break a title that is longer than a line into lines of about one length.

    A number and its unit stay on one line.
    """
    words = _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", title.get_text())
    title.set_wrap(False)
    box = title.get_window_extent(renderer)
    title.set_wrap(True)
    lines = math.ceil(box.width / (right - box.x0))
    if lines > 1 and "\n" not in words:
        widths = range(len(words) // lines, len(words) + 1)
        width = next(w for w in widths if len(textwrap.wrap(words, w)) <= lines)
        title.set_text("\n".join(textwrap.wrap(words, width)))


def _wrap(axes: Axes, text: Annotation, right: float, renderer: RendererBase) -> None:
    """Break the note where it would leave the page."""
    whole = text.get_text().replace("\n", " ")
    text.set_text(whole)
    box = text.get_window_extent(renderer)
    characters = int(len(whole) * (right - box.x0) / box.width)
    text.set_text("\n".join(textwrap.wrap(whole, max(characters, 20))))
    _make_room(axes, text.get_text())


def _make_room(axes: Axes, text: str) -> None:
    """Move the title above a note."""
    pad = 12 + 14 * (text.count("\n") + 1)
    axes.set_title(axes.get_title(loc="left"), loc="left", pad=pad, wrap=True, **TITLE)


def _labels(axes: Axes, kind: str) -> list[Annotation]:
    return [t for t in axes.texts if t.get_label() == kind and isinstance(t, Annotation)]


def _spread(labels: list[Annotation], frame: Bbox, renderer: RendererBase, points: float) -> None:
    """Move labels up, from the lowest one on, then down, from the frame's top on."""
    gap, floor, ceiling = _GAP / points, -float("inf"), frame.y1 + _GAP / points
    placed = []
    for label, box in sorted(_at_home(labels, renderer), key=lambda pair: pair[1].y0):
        low = max(box.y0, floor)
        floor = low + box.height + gap
        placed.append((label, box, low))
    for label, box, low in reversed(placed):
        low = min(low, ceiling - box.height)
        ceiling = low - gap
        label.set_position((8, (low - box.y0) * points))


def _at_home(labels: list[Annotation], renderer: RendererBase) -> list[tuple[Annotation, Bbox]]:
    for label in labels:
        label.set_position((8, 0))
    return [(label, label.get_window_extent(renderer)) for label in labels]


def _stagger(labels: list[Annotation], renderer: RendererBase, points: float) -> None:
    """Move a label down by a line while it covers one further left."""
    placed: list[Bbox] = []
    for label in sorted(labels, key=lambda label: float(label.xy[0])):
        label.set_position((label.get_position()[0], -2))
        box = label.get_window_extent(renderer)
        lines = 0
        while any(box.overlaps(other) for other in placed):
            lines += 1
            label.set_position((label.get_position()[0], -2 - lines * (box.height * points + 1)))
            box = label.get_window_extent(renderer)
        placed.append(box)
