"""What a diagram is made of, in pixels of the page: texts, lines, marks and boxes."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from kvlab.instruments.palette import INK

SIZE, SMALL = 12.0, 10.0
"""Of characters."""
LINE = 16.0
"""From one line of text to the next."""

_CHARACTER = 0.602  # the width of one of DejaVu Sans Mono, of size 1
_SIGN = re.compile(r"[:,/;}\]_-]")


@dataclass(frozen=True, slots=True)
class Text:
    """``x`` is its left end, its middle or its right end; ``y`` its base line."""

    x: float
    y: float
    words: str
    colour: str = INK
    align: Literal["left", "center", "right"] = "left"
    bold: bool = False
    size: float = SIZE

    @property
    def left(self) -> float:
        return self.x - {"left": 0.0, "center": 0.5, "right": 1.0}[self.align] * self.width

    @property
    def width(self) -> float:
        return width_of(self.words, self.size)


@dataclass(frozen=True, slots=True)
class Line:
    x: float
    y: float
    to_x: float
    to_y: float
    colour: str
    dashed: bool = False
    arrow: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A dot; or a cross, where a fault ends something."""

    x: float
    y: float
    colour: str
    cross: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    colour: str
    rounded: bool = True


Shape = Text | Line | Mark | Box


def width_of(words: str, size: float = SIZE) -> float:
    return columns_of(words) * _CHARACTER * size


def columns_of(words: str) -> int:
    """A wide character (Chinese, an emoji) takes two columns, a combining one takes none."""
    return len(words) if words.isascii() else sum(map(_columns, words))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fitting(words: str, columns: int) -> int:
    """How many characters of the words fit."""
    if words.isascii():
        return min(len(words), columns)
    ends = itertools.accumulate(map(_columns, words))
    return sum(1 for end in ends if end <= columns)


def columns_in(room: float, size: float = SIZE) -> int:
    """How many characters."""
    return math.floor(room / (_CHARACTER * size) + 1e-6)  # a room made for n characters holds n


def widest(lines: Iterable[str], size: float = SIZE) -> float:
    return max((width_of(line, size) for line in lines), default=0.0)


def wrapped(words: str, room: float, *, indent: str = "  ") -> list[str]:
    """The words in lines no wider than ``room``, all but the first indented."""
    columns = max(6, columns_in(room))
    lines = []
    while columns_of(words) > columns:
        at = _break(words, max(fitting(words, columns), len(indent) + 1))
        lines.append(words[:at].rstrip())
        words = indent + words[at:].lstrip()
    return [*lines, words]


def _break(words: str, columns: int) -> int:
    """Where to break: in the second half of the line at a double space, else at a space, else
    after a sign, as in a key; else at the line's end."""
    for spaces in ("  ", " "):
        space = words.rfind(spaces, 0, columns + len(spaces))
        if space > columns / 2:
            return space
    signs = [found.end() for found in _SIGN.finditer(words, 0, columns)]
    return signs[-1] if signs and signs[-1] > columns / 2 else columns


def interrupted(line: Line, texts: Sequence[Text]) -> list[Line]:
    """A vertical line, without the pieces where a text stands."""
    pieces, y = [], line.y
    for text in sorted(texts, key=lambda text: text.y):
        if not text.left - 3 < line.x < text.left + text.width + 3:
            continue
        top, bottom = text.y - text.size, text.y + text.size / 4
        if top > line.to_y or bottom < y:
            continue
        if top > y:
            pieces.append(Line(line.x, y, line.x, top, line.colour))
        y = bottom
    if line.to_y > y:
        pieces.append(Line(line.x, y, line.x, line.to_y, line.colour))
    return pieces
