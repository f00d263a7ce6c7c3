"""The columns of a sequence diagram: where they stand, and what fits into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvlab.instruments.explorer.run.steps import Step
from kvlab.instruments.explorer.timeline.shapes import (
    SMALL,
    columns_in,
    columns_of,
    fitting,
    widest,
    wrapped,
)
from kvlab.instruments.explorer.timeline.wording import line_of, reply_of, request_of

WIDTH = 960.0
"""No diagram is wider."""
MARGIN = 10.0
NUMBERS = 28.0
"""The column of the steps' numbers."""

_LANE, _LANES = 96.0, 470.0  # from lane to lane, and all of them, at most
_TEXT, _KEYS = 320.0, 290.0  # a text between lanes, and the column of the keys, at least


Spell = Callable[[str], str]
"""How a text is spelled with the characters that can be drawn."""


class Columns:
    """Where the columns stand: as near to each other as their texts allow."""

    def __init__(self, names: Sequence[str], steps: Sequence[Step], spell: Spell) -> None:
        self._spell = spell
        left = MARGIN + NUMBERS
        gap = min(_LANES / len(names), max(_LANE, widest(names) + 24))
        self.gap = gap
        self.lanes = [left + gap * (number + 0.5) for number in range(len(names))]
        self.server = most = WIDTH - MARGIN - _KEYS - 14
        needed = [
            self.lanes[step.client] + 24 + widest(self.lines(step.client, text))
            if step.client is not None
            else left + 24 + widest([text])
            for step in steps
            for text in self.texts_of(step)
        ]
        self.server = min(most, max([self.lanes[-1] + 150, *needed]))
        self.keys = self.server + 14

    def texts_of(self, step: Step) -> tuple[str, ...]:
        """See :func:`texts_of`, spelled as it will be drawn."""
        return tuple(map(self._spell, texts_of(step)))

    def lines(self, client: int, text: str) -> list[str]:
        """The text in lines that fit between the client's lane and the server."""
        return wrapped(text, max(_TEXT, self.server - self.lanes[client] - 24))

    def key_lines(self, change: str) -> list[str]:
        return wrapped(change, WIDTH - MARGIN - self.keys)


def name_lines(name: str, room: float, size: float) -> list[str]:
    """A client's name in two lines at most; of a longer one its end, where names differ."""
    columns = columns_in(room - (6 if size == SMALL else 16), size)
    lines = wrapped(name, room - 16, indent="") if columns >= 6 else [name]
    if len(lines) <= 2 and max(map(columns_of, lines)) <= columns:
        return lines
    end = max(1, fitting(name[::-1], columns - 1))
    return ["…" + name[-end:].lstrip()]


def texts_of(step: Step) -> tuple[str, ...]:
    """The texts beside a client's lane: over the arrow to the server and over the arrow back, or
    beside a mark."""
    if step.kind == "crash" or not step.commands:
        return (line_of(step),)
    request = request_of(step)
    if step.kind == "lose request":
        return (request,)
    if not step.replies:
        return (f"{request} … waits",)
    if step.kind == "time out":
        request += " times out"
    lost = ", and the reply is lost" if step.kind == "lose reply" else ""
    vain = ": no replica has got it" if step.kind == "wait in vain" else ""
    return request, reply_of(step) + lost + vain
