"""Where a client program can stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Command = tuple[bytes, ...]
Order = Literal["go", "crash", "lose reply", "lose request", "time out", "wait in vain"]
"""What the explorer lets happen to a client that stands at a stop."""


@dataclass(frozen=True, slots=True)
class Sending:
    """The client is about to send these commands, all at once."""

    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Blocked:
    """The client has sent a command, and the server makes it wait: ``seconds``, or for ever (0).

    The command times out when the clock says ``until``. ``answered()`` says whether the server
    has answered; ``connection`` is the number that the server gave to the connection.
    """

    commands: tuple[Command, ...]
    seconds: float
    until: float
    answered: Callable[[], bool]
    connection: int


@dataclass(frozen=True, slots=True)
class Asleep:
    """The client sleeps until the clock says ``until``."""

    seconds: float
    until: float


@dataclass(frozen=True, slots=True)
class Local:
    """The client is about to touch ``touches``, which are not on the server: see ``step``."""

    label: str
    touches: frozenset[str]
    reads: bool


@dataclass(frozen=True, slots=True)
class ReadsClock:
    """The client is about to read its wall clock."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The client has returned ``value``, or raised ``error``."""

    value: Any = None
    error: BaseException | None = None


Stop = Sending | Blocked | Asleep | Local | ReadsClock | Ended
