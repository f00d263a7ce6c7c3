"""Whether the scores on a board are those of the submissions that made it.

An acknowledged submission counts exactly once. A submission without an answer counts once or not at
all, so a member's right score is a range. The least sum has all unknown negative points and no
unknown positive points; the most has it the other way round. A best score may be an unknown one.
Sums are whole numbers or fractions, never floats, so one point too many in 2**53 is seen. What the
board held at first counts as acknowledged. The judge takes for granted that no other client submits
and that no member is removed.

Not seen: a wrong score within its range. The fewer unknown submissions, the stricter the judge.

    submissions = Submissions("add")
    submissions.add("ada", 10)
    assert submissions.judge({"ada": 10}).holds
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from heapq import nsmallest
from typing import Any, Literal

from kvlab.core.checks import boolean, items, mapping, shown
from kvlab.errors import InvalidArgument

Mode = Literal["add", "best"]
Order = Literal["desc", "asc"]
_Exact = int | Fraction
_EXAMPLES = 5

# Of one member: the number of acknowledged and of unknown submissions, the sum (or the best) of the
# acknowledged points, and the least and the most that unknown submissions can add: the sums of
# their negative and positive points (or their lowest and highest score). None where there is none.
_Row = list[Any]


@dataclass(frozen=True, slots=True)
class ScoreVerdict:
    """``members``: how many were judged; ``wrong``: how many have a score that nothing explains.

    ``acknowledged``, ``unknown``: numbers of submissions. ``examples``: a line for each of the
    members that are most wrong.
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
    """What was submitted to a board, by member. The submissions of several workers can be merged.

    ``mode``: "add" or "best", which every submission had; ``order``: "desc" when the highest is
    best, "asc" when the lowest is.
    """

    def __init__(self, mode: Mode = "add", order: Order = "desc") -> None:
        if mode not in ("add", "best"):
            raise InvalidArgument(f"mode must be add or best, not {shown(mode)}")
        if order not in ("desc", "asc"):
            raise InvalidArgument(f"order must be desc or asc, not {shown(order)}")
        self.mode, self.order = mode, order
        self._better: Callable[..., Any] = max if order == "desc" else min
        self._rows: dict[str, _Row] = {}

    def add(self, member: str | int, score: float, *, unknown: bool = False) -> None:
        """Add one submission: acknowledged, or ``unknown`` when its answer never came.

        Retries with one operation id are one submission. A submission that was refused or never
        sent is none. Raises InvalidArgument for a score that is not a finite number.
        """
        boolean("unknown", unknown)
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
        """The submissions of both. Raises InvalidArgument unless mode and order are the same."""
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
        """The inverse of :meth:`to_dict`."""
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
        acknowledged = "nothing" if row[2] is None else _text(row[2])
        right = low if low == high else f"{low} to {high}"
        return (
            f"member {member}: {here}, {acknowledged} acknowledged ({row[0]:,} submissions), "
            f"{row[1]:,} unknown: {right} would be right"
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

    For pairs that are at hand; a load test keeps :class:`Submissions` instead. Raises the errors
    of ``Submissions``. ``judge_scores({"ann": 5}, [("ann", 2), ("ann", 3)]).holds`` is True.
    """
    submissions = Submissions(mode, order)
    for member, score in _scored("acknowledged", acknowledged):
        submissions.add(member, score)
    for member, score in _scored("unknown", unknown):
        submissions.add(member, score, unknown=True)
    return submissions.judge(mapping("final", final))


def _scored(
    name: str, given: Iterable[tuple[str | int, float]]
) -> Iterator[tuple[str | int, float]]:
    for pair in items(name, given):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InvalidArgument(f"{name} must be (member, score) pairs, not {shown(pair)}")
        yield pair[0], pair[1]


def _exact(score: Any) -> _Exact:
    """A number without rounding."""
    try:
        if isinstance(score, str | bool):
            raise TypeError
        return _reduced(Fraction(score))
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgument(f"score must be a finite number, not {score!r}") from None


def _reduced(value: Fraction) -> _Exact:
    return value.numerator if value.denominator == 1 else value


def _plain(value: _Exact | None) -> int | str | None:
    """For msgpack, which has no whole number beyond 64 bits and no fraction."""
    if value is None or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return str(value)


def _text(value: _Exact) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
