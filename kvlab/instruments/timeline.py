"""A run as a person reads it: a numbered timeline in text, a sequence diagram in a notebook."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

import redis

from kvlab.instruments.gate import ClientCrashed
from kvlab.instruments.lanes import Command
from kvlab.instruments.palette import COLOURS, FAINT, INK, OTHERS
from kvlab.instruments.scene import Event, Unfinished

State = Mapping[str, tuple[str, float | None]]
"""What each key holds, in words, and the seconds that it has left, None for no TTL."""

HEAD, TAIL = 40, 8  # steps shown of a longer run

MOST_KEYS = 20
WORD, LINE, VALUE, NAME = 24, 60, 56, 40  # characters: argument, command, value, name of a key

_SCRIPTS = {b"EVALSHA", b"EVALSHA_RO", b"EVAL", b"EVAL_RO"}


def state_of(client: redis.Redis) -> State:
    """Every key of the client's database, ``MOST_KEYS`` of them at most."""
    names: list[bytes] = sorted(client.keys("*"))  # type: ignore[arg-type]
    return {_word(name, 1000): _value(client, name) for name in names[:MOST_KEYS]}


def _value(client: redis.Redis, name: bytes) -> tuple[str, float | None]:
    kind: Any = client.type(name)
    found: Any
    match kind if isinstance(kind, str) else kind.decode():
        case "string":
            shown = _word(client.get(name), VALUE)
        case "hash":
            found = client.hgetall(name)
            shown = "{" + ", ".join(f"{_word(k)}: {_word(v)}" for k, v in found.items()) + "}"
        case "list":
            found = client.lrange(name, 0, 9)
            shown = "[" + ", ".join(map(_word, found)) + "]"
        case "set":
            found = sorted(client.smembers(name))
            shown = "{" + ", ".join(map(_word, found)) + "}"
        case "zset":
            found = client.zrange(name, 0, 9, withscores=True)
            shown = "{" + ", ".join(f"{_word(m)}: {score:.15g}" for m, score in found) + "}"
        case other:
            shown = f"a {other}"
    left: Any = client.pttl(name)
    return _cut(shown, VALUE), None if left < 0 else left / 1000


@dataclass(frozen=True)
class Timeline:
    """One run. ``states`` has one more than ``trace``: the first is before it."""

    names: tuple[str, ...]
    schedule: str
    trace: tuple[Event, ...]
    states: tuple[State, ...]
    results: tuple[Any, ...]
    problem: str | None

    def __str__(self) -> str:
        lines = [self.verdict, f'replay it: "{self.schedule}"', ""]
        if self.states[0]:
            lines += [f"    at first {change}" for change in _changes({}, self.states[0])]
        indent = max(map(len, self.names)) + 2
        for number, event in self.told():
            if event is None:
                lines.append(f"  … {number} steps more")
                continue
            who = "server" if event.client is None else self.names[event.client]
            lines.append(f"{number + 1:3} {who:{indent}}{said(event)}")
            changes = _changes(self.states[number], self.states[number + 1])
            lines += [f"    {'':{indent}}    {change}" for change in changes]
        return "\n".join([*lines, "", *self.endings])

    __repr__ = __str__

    @property
    def verdict(self) -> str:
        return "holds" if self.problem is None else f"broken: {self.problem}"

    @property
    def endings(self) -> list[str]:
        """What became of each client."""
        both = zip(self.names, self.results, strict=True)
        return [f"{name} {_ending(result)}" for name, result in both]

    def told(self) -> list[tuple[int, Event | None]]:
        """The events with their numbers from 0; of a very long run the middle is left out, and
        there is the number of events left out, with None."""
        numbered: list[tuple[int, Event | None]] = list(enumerate(self.trace))
        left_out = len(numbered) - HEAD - TAIL
        if left_out > 0:
            numbered[HEAD:-TAIL] = [(left_out, None)]
        return numbered

    def svg(self, title: str = "") -> str:
        """The sequence diagram."""
        return _Diagram(self, title).drawn()

    def _repr_svg_(self) -> str:
        return self.svg()


def said(event: Event) -> str:
    """An event in one line, without who did it."""
    request, reply = spoken(event), answer(event)
    match event.kind:
        case "crash":
            return "crashes" + (f" before {request}" if request else "")
        case "lose reply":
            return f"{request} → {reply}, and the reply is lost"
        case "lose request":
            return f"{request} is lost on its way"
        case "time out":
            return f"{request}: time is up → {reply}"
        case "expire":
            return f"the TTL of {_word(event.key, 40)} ends"
        case "flush":
            return "forgets its scripts"
    if not event.commands:
        return event.label
    return f"{request} → {reply}" if event.replies else f"{request} … waits"


def spoken(event: Event) -> str:
    """The commands of an event."""
    commands = list(event.commands)
    if len(commands) > 2 and commands[0][0].upper() == b"MULTI":
        inner = "; ".join(map(_command, commands[1:-1]))
        return _cut(f"MULTI {inner} EXEC", LINE)
    return _cut("; ".join(map(_command, commands)), LINE)


def answer(event: Event) -> str:
    """Its replies."""
    replies: Sequence[Any] = event.replies
    if len(replies) > 1 and event.commands[0][0].upper() == b"MULTI":
        replies = replies[-1:]
    return _cut(", ".join(map(_reply, replies)), LINE)


def _command(command: Command) -> str:
    name, rest = command[0].decode("latin-1").upper(), command[1:]
    if command[0].upper() in _SCRIPTS:
        count = int(command[2])
        keys, values = map(_word, rest[2 : 2 + count]), map(_word, rest[2 + count :])
        return _joined([_script(command[0], command[1]), *keys, "|", *values])
    return _joined([name, *map(_word, rest)])


def _joined(words: Iterable[str]) -> str:
    return " ".join(words).removesuffix(" |")


def _script(name: bytes, given: bytes) -> str:
    sha = given.decode("latin-1")
    if not name.upper().startswith(b"EVALSHA"):
        sha = hashlib.sha1(given, usedforsecurity=False).hexdigest()
    return _own_scripts().get(sha, f"{name.decode().upper()} {sha[:7]}")


@functools.cache
def _own_scripts() -> Mapping[str, str]:
    return {
        hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest(): file.name
        for file in (resources.files("kvlab") / "lua").iterdir()
        if file.name.endswith(".lua")
    }


def _reply(reply: Any) -> str:
    match reply:
        case None:
            return "nil"
        case BaseException():
            return f"error {reply}"
        case bytes() | str():
            return _word(reply)
        case list() | tuple() | set() | frozenset():
            return "[" + ", ".join(map(_reply, reply)) + "]"
        case dict():
            return "{" + ", ".join(f"{_reply(k)}: {_reply(v)}" for k, v in reply.items()) + "}"
    return str(reply)


def _word(raw: Any, most: int = WORD) -> str:
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else str(raw)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return _cut(text, most) if text and " " not in text else f'"{_cut(text, most)}"'


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _changes(before: State, after: State) -> list[str]:
    """The keys that are not as they were; a TTL that only went on running is no change."""
    gone = [f"{_named(name)} is gone" for name in before if name not in after]
    return gone + [
        f"{_named(name)} = {value}  {_left(left)}"
        for name, (value, left) in after.items()
        if name not in before or before[name][0] != value or _jumped(before[name][1], left)
    ]


def _named(key: str) -> str:
    """Long names of related keys begin alike, and differ at their ends."""
    return key if len(key) <= NAME else f"{key[: NAME // 2 - 1]}…{key[-NAME // 2 :]}"


def _jumped(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return before is not after
    return abs(before - after) > 0.5


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "no TTL"
    return f"TTL {seconds:,.0f} s" if seconds > 9.5 else f"TTL {seconds:.1g} s"


def _ending(result: Any) -> str:
    if isinstance(result, ClientCrashed):
        return "crashed"
    if isinstance(result, Unfinished):
        return "did not come to its end"
    if isinstance(result, BaseException):
        return _cut(f"raised {type(result).__name__}: {result}", 100)
    return _cut(f"returned {result!r}", 100)


_FAULT = COLOURS["naive"]
_LANES = (COLOURS["hardened"], OTHERS[0], OTHERS[1], OTHERS[2], OTHERS[3])
_CHARACTER = 7.3  # pixels, of the 12 px monospace used
_ROW, _TOP, _LEFT, _GAP = 44, 84, 20, 120


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
        for change in _changes({}, states[0])[:3]:
            self._text(self._server + 14, y, change, FAINT)
            y += 16
        y += 26
        alive = dict.fromkeys(range(len(self._x)), y)
        for number, event in self._timeline.told():
            if event is None:
                self._text(_LEFT, y + 4, f"… {number} steps more", FAINT)
                y += _ROW
                continue
            changes = _changes(states[number], states[number + 1])
            self._event(number + 1, event, y)
            for i, change in enumerate(changes):
                self._text(self._server + 14, y + 4 + 16 * i, change, INK)
            if event.client is not None:
                alive[event.client] = y + 16
            y += max(_ROW, 16 * len(changes) + 14)
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
            f'font-size="12">'
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
