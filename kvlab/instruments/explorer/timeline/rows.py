"""The rows of a timeline: the steps, with what repeats folded, and the middle of a long run left
out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvlab.instruments.explorer.run.steps import Step

HEAD, TAIL = 24, 8
"""Rows shown of a longer run: the first and the last."""
_LONGEST = 6  # steps that repeat together
_TIMES = 2  # and so often again, at least


@dataclass(frozen=True, slots=True)
class Row:
    """A step, its number from 1, and what the keys hold now that they did not hold before.

    Without a step: ``number`` steps are left out here, which are the ``again`` steps before them
    again and again, or any (0).
    """

    number: int
    step: Step | None
    changes: Sequence[str] = ()
    again: int = 0

    @property
    def left_out(self) -> str:
        """The words for the steps that are left out."""
        if not self.again:
            return f"… {self.number} more steps"
        steps = f"the last {self.again} steps" if self.again > 1 else "the last step"
        return f"… {steps} {self.number // self.again} times more"


def in_short(rows: Sequence[Row]) -> list[Row]:
    """The rows that are shown."""
    found: list[Row] = []
    like = [_likeness(row) for row in rows]
    at = 0
    while at < len(rows):
        again, times = max(_repeats(like, at), key=lambda one: one[0] * one[1])
        if times < _TIMES:
            found.append(rows[at])
            at += 1
            continue
        found += [*rows[at : at + again], Row(times * again, None, again=again)]
        at += (times + 1) * again
    middle = found[HEAD:-TAIL]
    if middle:
        found[HEAD:-TAIL] = [Row(sum(_steps_in(row) for row in middle), None)]
    return found


def _repeats(like: Sequence[Any], at: int) -> list[tuple[int, int]]:
    """How often the next one, two, three … come again at once."""
    found = []
    for length in range(1, _LONGEST + 1):
        times, end = 0, at + 2 * length
        while end <= len(like) and like[at : at + length] == like[end - length : end]:
            times, end = times + 1, end + length
        found.append((length, times if times >= _TIMES else 0))
    return found


def _likeness(row: Row) -> Any:
    """What is the same in steps that repeat; a TTL may go on."""
    return repr(row.step), [change.rpartition("  ")[0] for change in row.changes]


def _steps_in(row: Row) -> int:
    return row.number if row.step is None else 1
