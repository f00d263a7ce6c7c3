"""Models: objects that do one operation at a time, against which concurrent histories are judged.

An operation has a name and positional arguments. A model raises InvalidArgument for an operation
that it does not know.
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
        """The operations that change no state."""

    def start(self) -> Hashable:
        """The first state."""

    def apply(self, state: Any, do: str, arguments: tuple[Any, ...], /) -> tuple[Hashable, Any]:
        """The state after the operation, and its answer."""


Board = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """A leaderboard from high to low; members with equal scores in descending order of their bytes.

    ``add(member, n)`` and ``set(member, score)`` → the member's new score. ``score(member)``;
    ``rank(member)`` → 1 + the number of members with more; ``around(member, n)`` → the (member,
    score) pairs from n places above the member to n places below. These three answer None for a
    member that is not on the board. ``top(n)`` → the first n pairs.
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
        raise unknown_operation(do, arguments)


def _place(board: Board, member: str) -> int | None:
    return next((place for place, (name, _) in enumerate(board) if name == member), None)


def _put(board: Board, place: int | None, member: str, score: float) -> Board:
    """The board with the member's score in its place."""
    others = board if place is None else board[:place] + board[place + 1 :]
    # The order of characters is the order of their bytes in UTF-8.
    ahead = sum((other, name) > (score, member) for name, other in others)
    return (*others[:ahead], (member, score), *others[ahead:])


def unknown_operation(do: str, arguments: tuple[Any, ...]) -> InvalidArgument:
    return InvalidArgument(f"the model knows no {do}{arguments!r}")
