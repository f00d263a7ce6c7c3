"""Whether the scores on a board are those of the submissions that made it.

An acknowledged submission counts exactly once. One without an answer counts once or not at all, so
it leaves a range: a sum may hold all of its positive ones and none of its negative ones, or the
other way round; a best may be theirs instead. Sums are whole numbers or fractions, never floats, so
one point too many in 2**53 is seen. What a board held at first counts as acknowledged. Nobody else
submits, and nobody is removed.

Inside its range a wrong score is not seen: few unknown outcomes make a strict judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from heapq import nsmallest
from typing import Any, Literal

from kvlab.errors import InvalidArgument

Mode = Literal["add", "best"]
Order = Literal["desc", "asc"]
_Exact = int | Fraction
_EXAMPLES = 5

# Of one member: acknowledged submissions, unknown ones, what the acknowledged come to (sum or
# best), the least and the most that unknown ones can put in (sums of the negative and of the
# positive, or the lowest and the highest); None of none. Lists: they are many, and they travel.
_Row = list[Any]


@dataclass(frozen=True, slots=True)
class ScoreVerdict:
    """``members``: how many were judged; ``wrong``: whose score no outcome explains.

    ``acknowledged``, ``unknown``: submissions. ``examples``: a line for each of the worst members.
    """

    members: int
    wrong: int
    acknowledged: int
    unknown: int
    examples: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return self.wrong == 0

    def __str__(self) -> str:
        text = f"{self.wrong:,} of {self.members:,} members have a wrong score"
        return "\n    ".join([text, *self.examples])


class Submissions:
    """What was submitted to a board, in a row for each member; merges over workers.

    ``mode``: "add" or "best", which every submission had; ``order``: "desc" when the highest is
    best, "asc" when the lowest is.
    """

    def __init__(self, mode: Mode = "add", order: Order = "desc") -> None:
        if mode not in ("add", "best"):
            raise InvalidArgument(f"mode must be add or best, not {mode!r}")
        if order not in ("desc", "asc"):
            raise InvalidArgument(f"order must be desc or asc, not {order!r}")
        self.mode, self.order = mode, order
        self._better: Callable[..., Any] = max if order == "desc" else min
        self._rows: dict[str, _Row] = {}

    def add(self, member: str | int, score: float, *, unknown: bool = False) -> None:
        """One submission: acknowledged, or ``unknown`` when its answer never came.

        Sent again with the same operation id it is still one; refused, or never sent, it is none.
        Raises InvalidArgument for a score that is not a finite number.
        """
        points: _Exact = score if type(score) is int else _exact(score)
        if not unknown:
            self._put(str(member), (1, 0, points, None, None))
        elif self.mode == "best":
            self._put(str(member), (0, 1, None, points, points))
        else:
            self._put(str(member), (0, 1, None, min(points, 0), max(points, 0)))

    def _put(self, member: str, more: Iterable[Any]) -> None:
        row = self._rows.get(member)
        if row is None:
            self._rows[member] = list(more)
            return
        acknowledged, unknown, settled, low, high = more
        row[0] += acknowledged
        row[1] += unknown
        for place, value, better in ((2, settled, self._better), (3, low, min), (4, high, max)):
            if row[place] is None:
                row[place] = value
            elif value is not None:
                row[place] = row[place] + value if self.mode == "add" else better(row[place], value)

    def merge(self, other: Submissions) -> Submissions:
        """Both together; neither is changed. Raises InvalidArgument unless they are of a kind."""
        if (self.mode, self.order) != (other.mode, other.order):
            raise InvalidArgument(
                f"{self.mode} {self.order} does not merge with {other.mode} {other.order}"
            )
        merged = Submissions(self.mode, self.order)
        merged._rows = {member: list(row) for member, row in self._rows.items()}
        for member, row in other._rows.items():
            merged._put(member, row)
        return merged

    def to_dict(self) -> dict[str, Any]:
        """Plain values, exact, for JSON or msgpack."""
        rows = {name: [*row[:2], *map(_plain, row[2:])] for name, row in self._rows.items()}
        return {"mode": self.mode, "order": self.order, "rows": rows}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Submissions:
        """What :meth:`to_dict` gave."""
        made = cls(data["mode"], data["order"])
        for member, row in data["rows"].items():
            exact = (None if value is None else _reduced(Fraction(value)) for value in row[2:])
            made._rows[member] = [*row[:2], *exact]
        return made

    def judge(self, final: Mapping[Any, float]) -> ScoreVerdict:
        """Judge the scores that were on the board at the end, by member."""
        board = {str(member): score for member, score in final.items()}
        members = self._rows.keys() | board.keys()
        wrong = [
            (-off, member)
            for member in members
            if (off := self._off(self._rows.get(member), board.get(member))) > 0
        ]
        return ScoreVerdict(
            len(members),
            len(wrong),
            sum(row[0] for row in self._rows.values()),
            sum(row[1] for row in self._rows.values()),
            tuple(self._line(name, board.get(name)) for _, name in nsmallest(_EXAMPLES, wrong)),
        )

    def _off(self, row: _Row | None, score: float | None) -> float:
        """How far a score is from what it may be; 0 when it is right."""
        if row is None or score is None:
            return math.inf if row is None or row[0] else 0.0
        if not math.isfinite(score):
            return math.inf
        low, high = self._range(row)
        points = _exact(score)
        return float(max(low - points, points - high, 0))

    def _range(self, row: _Row) -> tuple[_Exact, _Exact]:
        """The least and the most that may be on the board."""
        _, _, settled, low, high = row
        if self.mode == "add":
            settled = settled or 0
            return settled + (low or 0), settled + (high or 0)
        bounds = [value for value in (settled, low, high) if value is not None]
        if settled is None:
            return low, high
        return (settled, max(bounds)) if self.order == "desc" else (min(bounds), settled)

    def _line(self, member: str, score: float | None) -> str:
        here = "not on the board"
        if score is not None:
            here = f"{_text(_exact(score)) if math.isfinite(score) else score} on the board"
        row = self._rows.get(member)
        if row is None:
            return f"member {member}: {here}, nothing was submitted"
        low, high = map(_text, self._range(row))
        told = "nothing" if row[2] is None else _text(row[2])
        due = low if low == high else f"{low} to {high}"
        return (
            f"member {member}: {here}, {told} acknowledged ({row[0]:,} submissions), "
            f"{row[1]:,} unknown: {due} would be right"
        )


def judge_scores(
    final: Mapping[Any, float],
    acknowledged: Iterable[tuple[str | int, float]],
    unknown: Iterable[tuple[str | int, float]] = (),
    *,
    mode: Mode = "add",
    order: Order = "desc",
) -> ScoreVerdict:
    """Judge the final scores, by member, against (member, score) pairs that were submitted.

    For pairs that are at hand; a load keeps :class:`Submissions` instead. Raises InvalidArgument
    as those do.
    """
    submissions = Submissions(mode, order)
    for member, score in acknowledged:
        submissions.add(member, score)
    for member, score in unknown:
        submissions.add(member, score, unknown=True)
    return submissions.judge(final)


def _exact(score: Any) -> _Exact:
    """A number as what it stands for, unrounded."""
    try:
        if isinstance(score, str | bool):
            raise TypeError
        return _reduced(Fraction(score))
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgument(f"score must be a finite number, not {score!r}") from None


def _reduced(value: Fraction) -> _Exact:
    return value.numerator if value.denominator == 1 else value


def _plain(value: _Exact | None) -> int | str | None:
    """msgpack has no whole numbers beyond 64 bits, and neither has fractions."""
    if value is None or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return str(value)


def _text(value: _Exact) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
