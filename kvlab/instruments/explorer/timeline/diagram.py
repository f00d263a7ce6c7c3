"""A run as a sequence diagram: what stands where, in pixels. Arithmetic; nothing is drawn here.

From left to right: the numbers of the steps, a lane for each client, the lane of the server, and
beside it what its keys hold now. Time runs from top to bottom, a row for each step. A text that is
wider than its column is wrapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvlab.instruments.explorer.run.steps import Step
from kvlab.instruments.explorer.timeline.columns import (
    MARGIN,
    NUMBERS,
    WIDTH,
    Columns,
    Spell,
    name_lines,
)
from kvlab.instruments.explorer.timeline.rows import Row
from kvlab.instruments.explorer.timeline.shapes import (
    LINE,
    SIZE,
    SMALL,
    Box,
    Line,
    Mark,
    Shape,
    Text,
    interrupted,
    widest,
    wrapped,
)
from kvlab.instruments.palette import COLOURS, FAINT, INK, OTHERS

_FAULT = COLOURS["naive"]
_LANE_COLOURS = (COLOURS["hardened"], *OTHERS)
_BAND = "#8a8a8a18"
_MOST_CHANGES = 8  # keys shown beside one step


@dataclass(frozen=True, slots=True)
class Content:
    """What a diagram shows. ``waiting``: the clients that still wait at the end."""

    title: str
    names: Sequence[str]
    at_first: Sequence[str]
    rows: Sequence[Row]
    waiting: frozenset[int]
    endings: Sequence[str]
    verdict: str
    broken: bool
    schedule: str
    spell: Spell = str


@dataclass(frozen=True, slots=True)
class Diagram:
    """Shapes, the lower ones first, and the size of the paper."""

    shapes: Sequence[Shape]
    width: float
    height: float


def laid_out(content: Content) -> Diagram:
    """Where everything stands."""
    sheet = _Sheet(content)
    sheet.head()
    sheet.steps()
    sheet.foot()
    return sheet.finished()


class _Sheet:
    """Shapes are put on it from top to bottom; ``_y`` is where the next row begins."""

    def __init__(self, content: Content) -> None:
        self._content = content
        steps = [row.step for row in content.rows if row.step is not None]
        self._columns = Columns(content.names, steps, content.spell)
        self._shapes: list[Shape] = []
        self._bands: list[tuple[float, float]] = []
        self._y = MARGIN
        self._heads_end = self._server_end = 0.0
        self._alive: dict[int, float] = {}
        self._waiting: set[int] = set()

    def head(self) -> None:
        self._lines(self._content.title, INK, bold=True)
        self._y += 8
        top, columns = self._y, self._columns
        small = columns.gap < 60
        size = SMALL if small else SIZE
        named = [name_lines(name, columns.gap - 8, size) for name in self._content.names]
        high = max(map(len, named)) * (size + 3) + 8
        for number, (x, lines) in enumerate(zip(columns.lanes, named, strict=True)):
            self._box(x, top, high, lines, _lane_colour(number), size)
        self._box(columns.server, top, high, ["server"], INK, SIZE)
        self._text(columns.keys + 40, top + high / 2 + 4, "keys after the step", bold=True)
        self._y = self._heads_end = top + high
        self._alive = dict.fromkeys(range(len(named)), self._y + 10)
        self._y += 6
        if at_first := [f"at first {change}" for change in self._content.at_first]:
            self._y = self._changes(at_first, self._y) + 6

    def steps(self) -> None:
        for at, row in enumerate(self._content.rows):
            top = self._y
            bottom = top + LINE + 12
            if row.step is None:
                self._text(MARGIN, top + LINE, row.left_out)
            else:
                number = MARGIN + NUMBERS - 8
                self._text(number, top + LINE, str(row.number), align="right")
                bottom = max(self._step(row.step, top), self._changes(row.changes, top))
            self._y = bottom + 8
            if at % 2 == 0:
                self._bands.append((top, self._y))
        self._server_end = self._y + 4
        for client in self._content.waiting:
            self._alive[client] = self._server_end

    def foot(self) -> None:
        self._y += 14
        for ending in self._content.endings:
            self._lines(ending, INK)
        self._y += 4
        self._lines(self._content.verdict, _FAULT if self._content.broken else INK, bold=True)
        self._lines(f'replay it: "{self._content.schedule}"', INK)

    def finished(self) -> Diagram:
        texts = [shape for shape in self._shapes if isinstance(shape, Text)]
        width = max(text.left + text.width for text in texts) + MARGIN
        bands = [Box(0, top, width, end - top, _BAND, rounded=False) for top, end in self._bands]
        ends = zip([*self._columns.lanes, self._columns.server],
                   [*self._alive.values(), self._server_end], strict=True)  # fmt: skip
        lifelines = [
            piece
            for x, end in ends
            for piece in interrupted(Line(x, self._heads_end, x, end, FAINT), texts)
        ]
        return Diagram([*bands, *lifelines, *self._shapes], width, self._y + 4)

    # --- rows; each function returns where its row ends ---

    def _step(self, step: Step, top: float) -> float:
        if step.client is None:
            x = self._columns.server
            self._shapes.append(Mark(x, top + LINE - 4, _FAULT, cross=True))
            (text,) = self._columns.texts_of(step)
            self._text(x - 14, top + LINE, text, _FAULT, align="right")
            return top + LINE + 4
        woken = step.client in self._waiting
        self._waiting.discard(step.client)
        if step.commands and step.kind != "crash":
            end = self._exchange(step, step.client, top, woken)
        else:
            end = self._mark(step, step.client, top)
        self._alive[step.client] = end
        return end

    def _mark(self, step: Step, client: int, top: float) -> float:
        """What a client does without the server."""
        x, server = self._columns.lanes[client], self._columns.server
        colour = _lane_colour(client) if step.kind == "go" else _FAULT
        self._shapes.append(Mark(x, top + LINE - 4, colour, cross=step.kind == "crash"))
        (text,) = self._columns.texts_of(step)
        lines = self._columns.lines(client, text)
        fits_right = x + 14 + widest(lines) <= server - 9
        left_end = x + 14 if fits_right else max(MARGIN, x - 14 - widest(lines))
        return self._texts(lines, left_end, top, colour)

    def _exchange(self, step: Step, client: int, top: float, woken: bool) -> float:
        """A request and its reply. ``woken``: an earlier step was the request."""
        x, server, colour = self._columns.lanes[client], self._columns.server, _lane_colour(client)
        middle = (x + server) / 2
        request, *reply = self._columns.texts_of(step)
        y = self._beside(client, request, top, colour)
        if step.kind == "lose request":
            y += 6  # its text stands beside the arrow, not over it
            self._shapes += [
                Line(x, y, middle, y, colour, arrow=True),
                Mark(middle + 9, y, _FAULT, cross=True),
            ]
            return self._texts(["lost"], middle + 20, y - LINE + 4, _FAULT)
        if not woken:
            self._shapes.append(Line(x, y, server, y, colour, arrow=True))
        if not reply:
            self._waiting.add(client)
            return y + 4
        lost = step.kind == "lose reply"
        y = self._beside(client, reply[0], y - 1 if not woken else y - 4, _FAULT if lost else INK)
        y += 6 if lost else 0  # below the text there is room for the cross
        end = middle if lost else x
        self._shapes.append(Line(server, y, end, y, colour, dashed=True, arrow=True))
        if lost:
            self._shapes.append(Mark(middle - 9, y, _FAULT, cross=True))
        return y + 4

    def _beside(self, client: int, text: str, top: float, colour: str) -> float:
        """A text over an arrow between the client and the server; returns where the arrow goes."""
        lines = self._columns.lines(client, text)
        x = min(self._columns.lanes[client] + 12, self._columns.server - 10 - widest(lines))
        return self._texts(lines, x, top, colour) + 2

    def _changes(self, changes: Sequence[str], top: float) -> float:
        more = len(changes) - _MOST_CHANGES
        shown = [*changes[:_MOST_CHANGES], f"and {more} more keys"] if more > 1 else changes
        lines = [line for change in shown for line in self._columns.key_lines(change)]
        return self._texts(lines, self._columns.keys, top, INK)

    # --- texts ---

    def _texts(self, lines: Sequence[str], x: float, top: float, colour: str) -> float:
        for number, line in enumerate(lines, 1):
            self._text(x, top + number * LINE, line, colour)
        return top + len(lines) * LINE + 4

    def _lines(self, words: str, colour: str, *, bold: bool = False) -> None:
        """Across the whole diagram, at ``_y``."""
        for line in wrapped(words, WIDTH - 2 * MARGIN) if words else ():
            self._text(MARGIN, self._y + SIZE, line, colour, bold=bold)
            self._y += LINE + 1

    def _text(
        self, x: float, y: float, words: str, colour: str = INK, *,
        align: Any = "left", bold: bool = False, size: float = SIZE,
    ) -> None:  # fmt: skip
        self._shapes.append(Text(x, y, words, colour, align, bold, size))

    def _box(
        self, x: float, top: float, high: float, lines: Sequence[str], colour: str, size: float
    ) -> None:
        wide = widest(lines, size) + (6 if size == SMALL else 16)
        self._shapes.append(Box(x - wide / 2, top, wide, high, colour))
        y = top + (high - len(lines) * (size + 3)) / 2 + size - 1
        for number, line in enumerate(lines):
            self._text(
                x, y + number * (size + 3), line.strip(), "#ffffff", align="center", size=size
            )


def _lane_colour(client: int) -> str:
    return _LANE_COLOURS[client % len(_LANE_COLOURS)]
