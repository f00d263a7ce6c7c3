"""What a learner has done so far, kept in the working copy: it survives kernels and restarts.

The log is a file of lines, one JSON object each. Several kernels add to it at once: a line is one
write, and nothing is ever rewritten. Without a working copy nothing is kept, so that building the
notebooks, or a checkout, solves no exercise for anybody.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from kvlab.workshop import exercises
from kvlab.workshop.learner.report import Report
from kvlab.workshop.workbook import WorkingCopy, working_copy

FILE = ".kvlab-progress.jsonl"
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Log:
    """The events of one working copy, the oldest first."""

    path: Path

    def note(self, kind: str, **facts: Any) -> None:
        """Add one event: ``kind`` is "check", "hint" or "prediction"."""
        line = json.dumps({"kind": kind, "at": round(time.time(), 3)} | facts) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def note_report(self, report: Report) -> None:
        failed = [done.name for done in report.checks if not done.passed]
        self.note("check", exercise=report.exercise, passed=report.passed, failed=failed)

    def events(self) -> list[Event]:
        """All events. A line that a power cut has torn is left out."""
        if not self.path.is_file():
            return []
        found: list[Event] = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and isinstance(event.get("kind"), str):
                found.append(event)
        return found


def log_of(copy: WorkingCopy) -> Log:
    return Log(copy.folder / FILE)


def log_here() -> Log | None:
    """The log of the working copy that this process works in; None where there is none."""
    copy = working_copy(Path.cwd())
    return log_of(copy) if copy.exists else None


@dataclass(frozen=True, slots=True)
class Progress:
    """The events, added up.

    ``attempts``: checks by exercise; ``solved``: exercises with a check that passed; ``hints``:
    the highest rung opened by exercise (4 is the solution); ``predictions``: by question, whether
    the answer was right, None while nothing is measured.
    """

    attempts: Mapping[str, int]
    solved: frozenset[str]
    hints: Mapping[str, int]
    predictions: Mapping[str, bool | None]

    def __str__(self) -> str:
        lines = []
        for exercise in exercises.every():
            number = exercise.number
            mark = "x" if number in self.solved else " "
            lines.append(f"[{mark}] {number:9} {exercise.title}{self._remark(number)}")
        lines += ["", f"exercises solved: {len(self.solved)} of {len(lines)}"]
        right = sum(answer is True for answer in self.predictions.values())
        lines.append(f"predictions right: {right} of {len(self.predictions)}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def _remark(self, number: str) -> str:
        tries, rung = self.attempts.get(number, 0), self.hints.get(number, 0)
        said = [f"{tries} check{'s' * (tries != 1)}"] if tries else []
        if rung:
            said.append("solution opened" if rung > 3 else f"hint {rung} of 3")
        return f"  ({', '.join(said)})" if said else ""


def added_up(events: Iterable[Event]) -> Progress:
    attempts: Counter[str] = Counter()
    solved: set[str] = set()
    hints: dict[str, int] = {}
    predictions: dict[str, bool | None] = {}
    for event in events:
        name = str(event.get("exercise") or event.get("question"))
        if event["kind"] == "check":
            attempts[name] += 1
            if event.get("passed") is True:
                solved.add(name)
        elif event["kind"] == "hint":
            hints[name] = max(hints.get(name, 0), int(event.get("rung", 1)))
        elif event["kind"] == "prediction":
            predictions[name] = event.get("right")
    return Progress(attempts, frozenset(solved), hints, predictions)


def progress() -> Progress:
    """The progress in this working copy; as the last value of a cell it shows itself."""
    log = log_here()
    return added_up(log.events() if log else ())
