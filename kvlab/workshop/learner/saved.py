"""``kvlab check``: the checks of ``check`` for saved notebooks, in a terminal.

The code cells of a notebook are run in their order, without its checks; then its functions are
tried. A cell that raises does not stop the cells after it.
"""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Iterable, Iterator, Sequence
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


def check_saved(copy: WorkingCopy, asked: Sequence[str], *, every: bool) -> Iterator[Report]:
    """The reports of the exercises asked for, of every chapter, or of the notebook saved last.

    ``asked``: chapters such as "05", which stands for both its exercises, and single exercises,
    "05-short" or the two words "05" and "short". The reports come in the order of the chapters,
    each once. Raises InvalidArgument for another word, KvlabError when the working copy has no
    such notebook.
    """
    wanted = [exercise for word in _joined(asked) for exercise in _exercises(word)]
    chosen = [one for one in exercises.every() if one in wanted or not asked]
    paths = _notebooks(copy.folder / "exercises", chosen, all_of_them=bool(asked))
    if not (asked or every):
        paths = [max(paths, key=lambda path: path.stat().st_mtime)]
    with private_server() as server:
        for path in paths:
            kernel = Cells()
            kernel.run(path)
            for exercise in chosen:
                if exercise.chapter == path.name[:2]:
                    report = _report(exercise, kernel, server)
                    log_of(copy).note_report(report)
                    yield report


def _joined(words: Iterable[str]) -> list[str]:
    """The two words "05" and "short" are one."""
    joined: list[str] = []
    for word in words:
        if joined and not word[:1].isdigit() and joined[-1].isdecimal():
            joined[-1] += f"-{word}"
        else:
            joined.append(word)
    return joined


def _exercises(asked: str) -> tuple[Exercise, ...]:
    """Of "5" and "05" both exercises of the chapter; of "5-short" and "05-short" that one."""
    chapter, dash, size = asked.partition("-")
    number = f"{chapter.zfill(2)}{dash}{size}"
    return (exercises.find(number),) if dash else exercises.of_chapter(number)


def _notebooks(folder: Path, chosen: Sequence[Exercise], *, all_of_them: bool) -> list[Path]:
    """The notebooks of these exercises; with ``all_of_them`` none may be absent."""
    chapters = sorted({exercise.chapter for exercise in chosen})
    laid = [path for path in sorted(folder.glob("*.ipynb")) if ".mine-" not in path.name]
    found = [path for path in laid if path.name[:2] in chapters]
    absent = [name for name in chapters if not any(path.name[:2] == name for path in found)]
    if not found or (all_of_them and absent):
        which = f" {', '.join(absent)}" if all_of_them else "s"
        raise KvlabError(
            f"no exercise notebook{which} in {folder}; kvlab lab makes a copy of the workbook there"
        )
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
