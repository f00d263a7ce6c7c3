"""What an executor asks of ``Kv`` or ``AsyncKv``: a round trip, several at once, a wait, a call."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from kvlab.core.flow import Call, Wait
from kvlab.core.op import Op
from kvlab.core.wire import Answer, Command

T = TypeVar("T")
PAUSE, LONGEST_PAUSE = 0.02, 0.1
"""Seconds before the first retry, and before a late one; the connections may say otherwise by their
``pauses``."""
NOT_YET = "TOOMANYREQUESTS"
"""The code of a store behind HTTP that ran nothing, and will serve later: all ops are retried."""
Address = tuple[str, int]
"""The host and the port of a node."""


class Trip(NamedTuple):
    """A round trip to make, and to count; ``at``: to which node of a cluster."""

    ops: Sequence[Op[Any]]
    commands: list[Command]
    blocking: float | None
    at: Address | None = None


class Trips(NamedTuple):
    """Round trips to several nodes at the same time; their answers, or the refusals of some."""

    trips: list[Trip]


class Doubt(NamedTuple):
    """The idle connections are to be closed, so that the next round trip has a new one."""


First = Answer | BaseException
"""The answer to the first round trip, or what kept it from being made."""
UNSETTLED: Any = object()
Request = Trip | Trips | Call[Any] | Wait | Doubt
Running = Generator[Request, Any, T]


def growing() -> Iterator[float]:
    """The pauses before retries, where connections have none of their own."""
    return itertools.chain((PAUSE, 2 * PAUSE, 4 * PAUSE), itertools.repeat(LONGEST_PAUSE))
