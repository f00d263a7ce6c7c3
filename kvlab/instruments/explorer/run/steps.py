"""What has happened in a run: its steps, and the world at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kvlab.instruments.explorer.clients.stops import Command
from kvlab.instruments.explorer.connections.redis_clients import KvRedis
from kvlab.instruments.explorer.run.choices import Choice, Kind
from kvlab.instruments.explorer.run.footprints import Footprint


class Unfinished:
    """The result of a client that had not ended when the run did."""

    def __repr__(self) -> str:
        return "unfinished"


UNFINISHED = Unfinished()


class Step(NamedTuple):
    """One step of a run.

    ``commands`` were sent and ``replies`` came back, an exception for an error reply. ``label``
    is that of a ``step``. ``ended`` says that it was the client's last step, and ``result`` is
    then what the client returned, or the exception that it raised. ``scripts``: the texts that
    the SHA-1s in ``commands`` stand for, as far as they are known.
    """

    kind: Kind
    client: int | None
    commands: tuple[Command, ...] = ()
    replies: tuple[Any, ...] = ()
    label: str = ""
    key: bytes = b""
    ended: bool = False
    result: Any = None
    scripts: Mapping[bytes, bytes] = {}


class Done(NamedTuple):
    """A choice that was taken, the step that it made, if any, and what it touched."""

    choice: Choice
    step: Step | None
    touched: Footprint


@dataclass(frozen=True, slots=True)
class World:
    """What an invariant gets, at the end of a run.

    * ``results``: of each client, in order, what it returned, or the exception that it raised;
      ``ClientCrashed`` for a client that crashed, ``UNFINISHED`` after a deadlock.
    * ``kv``: a redis-py client, whose ``run`` takes ops.
    * ``trace``: every :class:`Step`, in order.
    """

    results: list[Any]
    kv: KvRedis
    trace: tuple[Step, ...]

    def most_inside(self, enters: str, leaves: str) -> int:
        """How many clients at most were at once between their ``step(enters, …)`` and their
        ``step(leaves, …)``. A client that has crashed or ended is not inside."""
        inside, most = set[int | None](), 0
        for one in self.trace:
            inside |= {one.client} if one.label == enters else set()
            inside -= {one.client} if one.ended or one.label == leaves else set()
            most = max(most, len(inside))
        return most


Invariant = Callable[[World], object]
"""Whether a run is as it should be at its end: a false value, or an exception, says no."""
