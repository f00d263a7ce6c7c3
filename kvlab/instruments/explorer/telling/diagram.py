"""A run as a sequence diagram: lanes from left to right, time from top to bottom, in SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from kvlab.instruments.explorer.run.events import Event, Unfinished
from kvlab.instruments.explorer.telling.wording import answer, changes, said, spoken
from kvlab.instruments.palette import COLOURS, FAINT, INK, OTHERS

if TYPE_CHECKING:
    from kvlab.instruments.explorer.telling.timeline import Timeline

_FAULT = COLOURS["naive"]
_LANES = (COLOURS["hardened"], OTHERS[0], OTHERS[1], OTHERS[2], OTHERS[3])
_CHARACTER = 7.3  # pixels, of the 12 px monospace used
_ROW, _TOP, _LEFT, _GAP = 50, 84, 20, 120


def draw(timeline: Timeline, title: str) -> str:
    """The diagram of a timeline."""
    return _Diagram(timeline, title).drawn()


class _Diagram:
    """Lanes from left to right: the clients, the server, and beside it what its keys now hold."""

    def __init__(self, timeline: Timeline, title: str) -> None:
        self._timeline, self._title = timeline, title
        names = timeline.names
        gap = max(_GAP, max(len(name) for name in names) * _CHARACTER + 40)
        self._x = [_LEFT + gap / 2 + gap * number for number in range(len(names))]
        reach = [
            self._x[event.client] + max(map(len, _written(event))) * _CHARACTER + 30
            for event in timeline.trace
            if event.client is not None
        ]
        self._server = max([self._x[-1] + 200, *reach])
        self._parts: list[str] = []
        self._right = self._server + 80

    def drawn(self) -> str:
        states = self._timeline.states
        y = float(_TOP)
        for change in changes({}, states[0])[:3]:
            self._text(self._server + 14, y, change, FAINT)
            y += 16
        y += 26
        alive = dict.fromkeys(range(len(self._x)), y)
        for number, event in self._timeline.told():
            if event is None:
                self._text(_LEFT, y + 4, f"… {number} steps more", FAINT)
                y += _ROW
                continue
            changed = changes(states[number], states[number + 1])
            self._event(number + 1, event, y)
            for i, change in enumerate(changed):
                self._text(self._server + 14, y + 4 + 16 * i, change, INK)
            if event.client is not None:
                alive[event.client] = y + 16
            y += max(_ROW, 16 * len(changed) + 14)
        bottom = y
        for number, result in enumerate(self._timeline.results):
            if isinstance(result, Unfinished):
                alive[number] = bottom
        lines = [self._line(x, _TOP - 14, x, alive[n], FAINT) for n, x in enumerate(self._x)]
        lines.append(self._line(self._server, _TOP - 14, self._server, bottom, FAINT))
        self._heads()
        y += 22
        for ending in self._timeline.endings:
            self._text(_LEFT, y, ending, INK)
            y += 18
        colour = INK if self._timeline.problem is None else _FAULT
        self._text(_LEFT, y + 8, self._timeline.verdict, colour, bold=True)
        self._text(_LEFT, y + 28, f'replay it: "{self._timeline.schedule}"', FAINT)
        width, height = self._right + 10, y + 44
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="DejaVu Sans Mono, monospace" '
            f'font-size="12" style="max-width:100%;height:auto">'
            '<rect width="100%" height="100%" fill="white"/>'
            + "".join(lines)
            + "".join(self._parts)
            + "</svg>"
        )

    def _heads(self) -> None:
        self._text(_LEFT, 26, self._title, INK, bold=True)
        for number, (x, name) in enumerate(zip(self._x, self._timeline.names, strict=True)):
            self._box(x, name, _LANES[number % len(_LANES)])
        self._box(self._server, "server", INK)
        self._text(self._server + 60, 62, "keys", FAINT)

    def _box(self, x: float, name: str, colour: str) -> None:
        half = len(name) * _CHARACTER / 2 + 8
        self._parts.append(
            f'<rect x="{x - half:.1f}" y="46" width="{2 * half:.1f}" height="24" rx="4" '
            f'fill="{colour}"/>'
        )
        self._text(x, 62, name, "white", anchor="middle")

    def _event(self, number: int, event: Event, y: float) -> None:
        if event.client is None:
            self._cross(self._server, y)
            self._text(self._server - 14, y + 4, said(event), _FAULT, anchor="end")
            self._number(number, y)
            return
        x, colour = self._x[event.client], _LANES[event.client % len(_LANES)]
        self._number(number, y)
        above = _above(event)
        if event.kind == "crash":
            self._cross(x, y)
            self._text(x + 14, y + 4, above, _FAULT)
        elif not event.commands:
            fault = event.kind != "go"
            self._parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{_FAULT if fault else colour}"/>'
            )
            self._text(x + 14, y + 4, above, _FAULT if fault else colour)
        else:
            self._exchange(event, x, y, colour, above)

    def _exchange(self, event: Event, x: float, y: float, colour: str, above: str) -> None:
        middle = (x + self._server) / 2
        self._text(x + 12, y - 4, above, colour)
        if event.kind == "lose request":
            self._arrow(x, middle, y + 2, colour)
            self._cross(middle + 8, y + 2)
            return
        self._arrow(x, self._server, y + 2, colour)
        if event.kind == "lose reply":
            self._arrow(self._server, middle, y + 14, colour, dashed=True)
            self._cross(middle - 8, y + 14)
            self._text(self._server - 12, y + 27, answer(event), _FAULT, anchor="end")
        elif event.replies:
            self._arrow(self._server, x, y + 14, colour, dashed=True)
            self._text(x + 12, y + 26, answer(event), FAINT)

    def _number(self, number: int, y: float) -> None:
        self._text(4, y + 4, str(number), FAINT)

    def _arrow(self, x: float, to: float, y: float, colour: str, *, dashed: bool = False) -> None:
        tip = -6 if to > x else 6
        self._parts.append(self._line(x, y, to, y, colour, dashed=dashed))
        self._parts.append(f'<path d="M{to:.1f} {y:.1f} l{tip} -4 l0 8 z" fill="{colour}"/>')

    def _cross(self, x: float, y: float) -> None:
        self._parts.append(
            f'<path d="M{x - 6:.1f} {y - 6:.1f} l12 12 m0 -12 l-12 12" stroke="{_FAULT}" '
            'stroke-width="3"/>'
        )

    @staticmethod
    def _line(
        x: float, y: float, to_x: float, to_y: float, colour: str, *, dashed: bool = False
    ) -> str:
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        return (
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}"'
            f"{dash}/>"
        )

    def _text(
        self,
        x: float,
        y: float,
        text: str,
        colour: str,
        *,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="bold"' if bold else ""
        if anchor == "start":
            self._right = max(self._right, x + len(text) * _CHARACTER)
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" '
            f'paint-order="stroke" stroke="{"none" if colour == "white" else "white"}" '
            f'stroke-width="3"{weight} xml:space="preserve">{escape(text)}</text>'
        )


def _above(event: Event) -> str:
    """What stands over an event's arrow, or beside its mark."""
    if event.kind in ("go", "lose reply", "lose request") and event.commands:
        return spoken(event)
    if event.kind == "time out":
        return f"{spoken(event)}: time is up"
    return said(event)


def _written(event: Event) -> tuple[str, str]:
    """What stands between its lane and the server."""
    return _above(event), answer(event) if event.replies else ""
