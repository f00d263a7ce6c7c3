"""``hint("05")``: a ladder of three hints, and then a solution. What was opened is kept."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

import nbformat

from kvlab.errors import InvalidArgument
from kvlab.workshop import exercises, workbook
from kvlab.workshop.exercises.exercise import Exercise
from kvlab.workshop.learner.membership import membership_of
from kvlab.workshop.learner.progress import added_up, log_here
from kvlab.workshop.workbook import working_copy

SOLUTION = 4
"""The rung above the three hints."""


@dataclass(frozen=True, slots=True)
class Hint:
    """One rung of the ladder. As the last value of a cell it shows itself.

    ``is_open``: whether the trainer of a room has opened the rung; if not, ``text`` says so.
    """

    exercise: str
    rung: int
    text: str
    is_open: bool = True

    @property
    def head(self) -> str:
        if not self.is_open:
            return f"Exercise {self.exercise}"
        if self.rung == SOLUTION:
            return f"A solution of exercise {self.exercise}"
        return f"Hint {self.rung} of 3 for exercise {self.exercise}"

    @property
    def foot(self) -> str:
        after = "a solution" if self.rung == SOLUTION - 1 else "the next hint"
        last = self.rung == SOLUTION or not self.is_open
        return "" if last else f'hint("{self.exercise}") once more: {after}'

    def __str__(self) -> str:
        return f"{self.head}\n\n{self.text}\n\n{self.foot}".rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tag = "pre" if self.rung == SOLUTION and self.is_open else "p"
        foot = f"<p><i>{escape(self.foot)}</i></p>" if self.foot else ""
        return f"<p><b>{escape(self.head)}</b></p><{tag}>{escape(self.text)}</{tag}>{foot}"


def hint(exercise: str, rung: int | None = None) -> Hint:
    """The next hint for an exercise such as "05", or "05-short": three hints, then a solution.

    ``rung`` chooses one: 1, 2, 3, or 4 for the solution. Without ``rung`` it is the one after the
    highest that was opened in this working copy; without a working copy, the first. What the
    trainer of a room has not opened is neither shown nor noted. A script prints the hint; a
    notebook and Python's prompt show it as a value. Raises InvalidArgument for an unknown exercise
    or rung.
    """
    found = _hint(exercise, rung)
    if not (_in_notebook() or hasattr(sys, "ps1")):
        print(found)
    return found


def _in_notebook() -> bool:
    """Whether IPython runs this process. Where it is not imported, it does not."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _hint(exercise: str, rung: int | None) -> Hint:
    chosen = exercises.find(exercise)
    log = log_here()
    opened = added_up(log.events() if log else ()).hints.get(chosen.number, 0)
    rung = min(opened + 1, SOLUTION) if rung is None else rung
    if rung not in range(1, SOLUTION + 1):
        raise InvalidArgument(f"rung must be from 1 to {SOLUTION}, not {rung!r:.40}")
    if not _is_open(chosen, rung):
        what = "solution" if rung == SOLUTION else "hints"
        closed = f"the trainer has not opened the {what} of {chosen.number} yet"
        return Hint(chosen.number, rung, closed, is_open=False)
    if log and rung > opened:
        log.note("hint", exercise=chosen.number, rung=rung)
    text = solution(chosen) if rung == SOLUTION else chosen.hints[rung - 1]
    return Hint(chosen.number, rung, text)


def _is_open(exercise: Exercise, rung: int) -> bool:
    """In a room the trainer opens hints and solutions."""
    copy = working_copy(Path.cwd())
    member = membership_of(copy) if copy.exists else None
    return member is None or member.may_open(exercise.number, rung)


def solution(exercise: Exercise) -> str:
    """The solution's cells, from the released notebook with the solutions."""
    folder = workbook.released() / "notebooks" / "solutions"
    (path,) = folder.glob(f"{exercise.chapter}_*.ipynb")
    cells: list[str] = []
    for cell in nbformat.read(path, as_version=4).cells:
        if "solution" in cell.metadata.get("tags", ()):
            cells.append(cell.source)
        elif cells and re.search(rf"^def {exercise.function}\(", cells[-1], re.MULTILINE):
            break
        elif cell.cell_type == "markdown":
            cells.clear()  # the solution of the exercise before
    return "\n\n\n".join(cells)
