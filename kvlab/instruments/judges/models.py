"""Objects that do one thing at a time: what concurrent histories are judged against.

Operations are named by a word and take positional arguments. Raises InvalidArgument for one that
a model does not know.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from kvlab.errors import InvalidArgument


class Model(Protocol):
    """A sequential object. States are values and can be hashed."""

    @property
    def reads(self) -> Collection[str]:
        """The operations that leave every state as it is."""

    def start(self) -> Hashable:
        """The state at first."""

    def apply(self, state: Any, do: str, arguments: tuple[Any, ...], /) -> tuple[Hashable, Any]:
        """The state after the operation, and its answer."""


@dataclass(frozen=True, slots=True)
class Register:
    """``read()`` → value, ``write(value)``, ``swap(expected, value)`` → whether it was so."""

    reads: ClassVar[Collection[str]] = ("read",)
    value: Hashable = None

    def start(self) -> Hashable:
        return self.value

    def apply(self, state: Any, do: str, arguments: tuple[Any, ...]) -> tuple[Hashable, Any]:
        match do, arguments:
            case "read", ():
                return state, state
            case "write", (value,):
                return value, None
            case "swap", (expected, value):
                return (value, True) if state == expected else (state, False)
        raise _no_such(do, arguments)


@dataclass(frozen=True, slots=True)
class Counter:
    """``add(n)`` → the sum, ``read()`` → the sum."""

    reads: ClassVar[Collection[str]] = ("read",)

    def start(self) -> int:
        return 0

    def apply(self, state: int, do: str, arguments: tuple[Any, ...]) -> tuple[int, Any]:
        match do, arguments:
            case "read", ():
                return state, state
            case "add", (amount,):
                return state + amount, state + amount
        raise _no_such(do, arguments)


@dataclass(frozen=True, slots=True)
class Mutex:
    """``acquire(who)`` → whether it was free, ``release(who)`` → whether it was theirs."""

    reads: ClassVar[Collection[str]] = ()

    def start(self) -> None:
        return None

    def apply(self, state: Any, do: str, arguments: tuple[Any, ...]) -> tuple[Hashable, Any]:
        match do, arguments:
            case "acquire", (who,):
                return (who, True) if state is None else (state, False)
            case "release", (who,):
                return (None, True) if state == who else (state, False)
        raise _no_such(do, arguments)


Board = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """A leaderboard, high to low, equal scores by the bytes of the names, descending.

    ``add(member, n)`` and ``set(member, score)`` → the score. ``score(member)``; ``rank(member)``
    → 1 + how many have more; ``around(member, n)`` → the (member, score) pairs from n places above
    it to n below; these three None for nobody. ``top(n)`` → the first n pairs.
    """

    reads: ClassVar[Collection[str]] = ("score", "rank", "around", "top")

    def start(self) -> Board:
        return ()

    def apply(self, state: Board, do: str, arguments: tuple[Any, ...]) -> tuple[Board, Any]:
        place = _place(state, arguments[0]) if arguments else None
        match do, arguments:
            case "add", (member, amount):
                score = amount if place is None else state[place][1] + amount
                return _put(state, place, member, score), score
            case "set", (member, score):
                return _put(state, place, member, score), score
            case "top", (n,):
                return state, state[:n]
            case "score", (_,):
                return state, None if place is None else state[place][1]
            case "rank", (_,):
                return state, None if place is None else 1 + sum(
                    score > state[place][1] for _, score in state
                )
            case "around", (_, n):
                return state, None if place is None else state[max(0, place - n) : place + n + 1]
        raise _no_such(do, arguments)


def _place(board: Board, member: str) -> int | None:
    return next((place for place, (name, _) in enumerate(board) if name == member), None)


def _put(board: Board, place: int | None, member: str, score: float) -> Board:
    """The board with the member's score in its place."""
    others = board if place is None else board[:place] + board[place + 1 :]
    # Text is in the order of its characters, which is that of its bytes in UTF-8.
    ahead = sum((other, name) > (score, member) for name, other in others)
    return (*others[:ahead], (member, score), *others[ahead:])


def _no_such(do: str, arguments: tuple[Any, ...]) -> InvalidArgument:
    return InvalidArgument(f"the model knows no {do}{arguments!r}")
