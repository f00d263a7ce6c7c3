"""What can happen in a run of several clients, and what has happened.

A choice is written as a token:

    0         client 0 goes on: its next command, or what it waited for
    x0        client 0 stops for good, before its next command
    r0 q0     client 0 sends its next command; the reply is lost, or the request
    t0        the time of client 0's blocking command is up
    j0        client 0 looks at its clock, which has jumped (j0:2 by the third of the jumps given)
    l0        client 0 looks at its clock; written only where it looks again at once and then j0
    e:key     the key's TTL ends
    f         the server forgets its scripts (SCRIPT FLUSH)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from kvlab.instruments.explorer.run.clients import KvRedis
from kvlab.instruments.explorer.run.footprints import Footprint
from kvlab.instruments.explorer.run.lanes import Command

Kind = Literal[
    "go", "crash", "lose reply", "lose request", "time out", "look", "jump", "expire", "flush"
]
FAULTS = frozenset({"crash", "lose reply", "lose request", "jump", "expire", "flush"})
_MARKS = {
    "go": "",
    "crash": "x",
    "lose reply": "r",
    "lose request": "q",
    "time out": "t",
    "look": "l",
}


class Unfinished:
    """The result of a client that had not come to its end when the run did."""

    def __repr__(self) -> str:
        return "unfinished"


UNFINISHED = Unfinished()


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that may happen next. ``client`` is None for what happens to the server."""

    kind: Kind
    client: int | None = None
    key: bytes = b""
    jump: int = 0

    def __str__(self) -> str:
        if self.kind == "expire":
            return "e:" + quote(self.key, safe=":{}/@,;+*!'()[]|<>=&?$")
        if self.kind == "flush":
            return "f"
        if self.kind == "jump":
            return f"j{self.client}" + (f":{self.jump}" if self.jump else "")
        return f"{_MARKS[self.kind]}{self.client}"

    @property
    def is_fault(self) -> bool:
        return self.kind in FAULTS


class Event(NamedTuple):
    """What happened in one step.

    ``commands`` were sent and ``replies`` came back, an exception for an error reply; ``label``
    is that of a ``step``. ``result`` is the client's, when this was its last step: what it
    returned, or the exception it raised.
    """

    kind: Kind
    client: int | None
    commands: tuple[Command, ...] = ()
    replies: tuple[Any, ...] = ()
    label: str = ""
    key: bytes = b""
    ended: bool = False
    result: Any = None


class Done(NamedTuple):
    """A choice that was taken, and what it touched."""

    choice: Choice
    touched: Footprint


@dataclass(frozen=True, slots=True)
class World:
    """What an invariant is given, at the end of a run.

    * ``results``: of each client, in order, what it returned, or the exception that it raised;
      ``ClientCrashed`` for one that crashed. ``UNFINISHED`` after a deadlock.
    * ``kv``: a redis-py client, whose ``run`` takes ops.
    * ``trace``: every :class:`Event`, in order.
    """

    results: list[Any]
    kv: KvRedis
    trace: tuple[Event, ...]


Invariant = Callable[[World], object]
"""Whether a run that has ended is as it should be: a false value, or an exception, says no."""
