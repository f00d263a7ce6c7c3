"""The answers of a leaderboard, and its members and scores as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kvlab.core.checks import MAX_EXACT, Id, id_text, real, shown
from kvlab.core.op import Arg, Raw
from kvlab.errors import InvalidArgument, OpIdReused, PeriodClosed, ScoreOutOfRange
from kvlab.leaderboard.periods import At

MAX_SCORE: Final = MAX_EXACT
"""The largest score; −MAX_SCORE is the smallest. A double holds every whole number between."""

_PLACE = 16  # digits before a member's name under "first"


@dataclass(frozen=True, slots=True)
class Entry:
    """A member on the board. ``rank`` counts from 1; a whole ``score`` comes back as int."""

    rank: int
    member: str
    score: float


@dataclass(frozen=True, slots=True)
class Submission:
    """The result of a submission.

    * ``entry``: the member's rank and score afterwards.
    * ``accepted``: False when ``best`` met a better score, so that nothing changed.
    """

    entry: Entry
    accepted: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Entries ``(number − 1) · size + 1`` to ``number · size`` of a board of ``total`` members."""

    number: int
    size: int
    total: int
    entries: list[Entry]

    @property
    def pages(self) -> int:
        """How many pages of this size the board has."""
        return -(-self.total // self.size)


def refused_submission(
    reply: Raw, member: object, score: object, mode: str, op_id: object, at: At | None
) -> Exception:
    why, fact = reply[0], reply[1].decode()
    if why == b"closed":
        return PeriodClosed(
            f"at={at!r} lies in a period that is neither kept nor next; the period now is {fact}"
        )
    if why == b"inexact":
        return ScoreOutOfRange(
            f"{member!r} has {fact}; {score!r} more would be rounded or beyond ±(2**53 - 1)",
            score_of(fact),
        )
    asked = f"{mode} {score!r}"
    return OpIdReused(f"op_id {op_id!r} of {member!r} stood for {fact!r}, not for {asked!r}")


def as_sent(member: Id) -> str | bytes:
    """The member as it is sent; equal for two members that are the same to the server."""
    text = id_text("member", member)
    return text if text.isascii() else text.encode("utf-8", "surrogatepass")


def pair_of(row: tuple[Id, float]) -> tuple[Id, float]:
    """A row of a load, which must be a pair."""
    if isinstance(row, str | bytes) or not isinstance(row, Sequence) or len(row) != 2:
        raise InvalidArgument(f"a row must be a pair (member, score), not {shown(row)}")
    return row


def columns(rows: list[tuple[Id, float]]) -> tuple[Sequence[Arg], Sequence[str]]:
    """The members and the scores of a load's rows, as they are sent.

    The usual kinds are looked at together: a call for each row takes half of the time of a load.
    """
    if {*map(type, rows)} != {tuple} or {*map(len, rows)} != {2}:
        rows = [*map(pair_of, rows)]
    members: tuple[Any, ...]
    scores: tuple[Any, ...]
    members, scores = zip(*rows, strict=True)
    if {*map(type, members)} != {str} or not "".join(members).isascii():
        members = tuple(map(as_sent, members))
    usual = {*map(type, scores)} == {int} and -MAX_SCORE <= min(scores) <= max(scores) <= MAX_SCORE
    return members, tuple(map(str if usual else score_text, scores))


def entries_of(reply: Raw, ties: str) -> list[Entry]:
    """The entries of an answer of ``read.lua``, which holds the rank of the first entry only."""
    _, position, rank, flat = reply
    skip = _PLACE if ties == "first" else 0
    entries: list[Entry] = []
    for i in range(0, len(flat), 2):
        if i and (ties == "first" or flat[i + 1] != flat[i - 1]):
            rank = rank + 1 if ties == "dense" else position + i // 2 + 1
        member = flat[i][skip:].decode("utf-8", "surrogatepass")
        entries.append(Entry(rank, member, score_of(flat[i + 1])))
    return entries


def score_text(score: float) -> str:
    if type(score) is int and -MAX_SCORE <= score <= MAX_SCORE:
        return str(score)
    number = real("score", score, -MAX_SCORE, MAX_SCORE)
    if number != score:
        raise InvalidArgument(f"score must be a number that a double holds, not {shown(score)}")
    return str(int(number)) if number.is_integer() else repr(number)


def score_of(text: bytes | str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value
