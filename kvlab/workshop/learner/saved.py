"""``kvlab check``: the checks of ``check`` for saved notebooks, in a terminal.

The code cells of a notebook are run in their order, without its checks; then its functions are
tried. A cell that raises does not stop the cells after it.
"""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import nbformat

from kvlab.errors import KvlabError
from kvlab.server.running_server import RunningServer
from kvlab.workshop import exercises
from kvlab.workshop.exercises.exercise import Exercise
from kvlab.workshop.learner.check import examine, private_server
from kvlab.workshop.learner.progress import log_of
from kvlab.workshop.learner.report import Check, Report
from kvlab.workshop.workbook import WorkingCopy

CELL_SECONDS = 10
_NOT_RUN = ("check(", "hint(", "%", "!")
"""How the last line of a cell begins that is the learner's talk with the workbook."""


def check_saved(copy: WorkingCopy, chapter: str | None, *, every: bool) -> Iterator[Report]:
    """The reports of a chapter's exercises, of every chapter, or of the notebook saved last.

    Raises KvlabError when there is no such notebook in the working copy.
    """
    with private_server() as server:
        for path in _notebooks(copy.folder / "exercises", chapter, every=every):
            kernel = Cells()
            kernel.run(path)
            for exercise in exercises.of_chapter(path.name[:2]):
                report = _report(exercise, kernel, server)
                log_of(copy).note_report(report)
                yield report


def _notebooks(folder: Path, chapter: str | None, *, every: bool) -> list[Path]:
    found = [p for p in sorted(folder.glob("[0-9][0-9]_*.ipynb")) if ".mine-" not in p.name]
    if chapter is not None:
        found = [path for path in found if path.name.startswith(chapter.zfill(2))]
    elif not every:
        found = sorted(found, key=lambda path: path.stat().st_mtime)[-1:]
    if not found:
        raise KvlabError(f"no exercise notebook {chapter or ''} in {folder}; kvlab lab lays them")
    return found


@dataclass(slots=True)
class Cells:
    """What the cells of a notebook leave behind: names, and what went wrong."""

    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    problems: list[str] = field(default_factory=list)

    def run(self, path: Path) -> None:
        cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        for number, cell in enumerate(cells, start=1):
            if "check" in cell.metadata.get("tags", ()):
                continue
            lines = [line for line in cell.source.splitlines() if not line.startswith(_NOT_RUN)]
            self._run_cell("\n".join(lines), f"code cell {number}")

    def _run_cell(self, source: str, where: str) -> None:
        try:
            with at_most(CELL_SECONDS), contextlib.redirect_stdout(io.StringIO()):
                exec(compile(source, f"<{where}>", "exec"), self.names)
        except Exception as problem:
            self.problems.append(f"{where} raised {type(problem).__name__}: {problem}")


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the block after ``seconds``; where there is no alarm, never."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it did not end within {seconds} s: is there a loop without an end?")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _report(exercise: Exercise, kernel: Cells, server: RunningServer) -> Report:
    function = kernel.names.get(exercise.function)
    if callable(function):
        return examine(exercise, function, server)
    seen = "; ".join(kernel.problems) or f"no cell defines {exercise.function}"
    missing = Check(exercise.function, False, f"a function {exercise.function}", seen)
    return Report(exercise.number, exercise.title, (missing,))
