"""Examines answers in a process of its own.

The process is small: it has imported what an exercise needs, and none of the tests. A check forks,
and the fork of a process that has imported everything costs more CPU than the trials.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Protocol

import jupytext

from kvlab.server.running_server import RunningServer
from kvlab.workshop import exercises
from kvlab.workshop.learner import check
from kvlab.workshop.learner.check import examine, private_server
from kvlab.workshop.learner.isolated import isolated
from kvlab.workshop.learner.report import Report
from kvlab.workshop.notebooks import NOTEBOOKS

SECONDS = 60.0
"""A guard on a busy machine."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The function that a chapter's source has in its cells of this tag."""

    exercise: str
    tag: str

    def text(self) -> str:
        wanted = {"exercise-setup", self.tag}
        cells = code_cells(exercises.find(self.exercise).chapter)
        return "\n".join(cell.source for cell in cells if wanted & {*cell.metadata.get("tags", ())})

    def function(self) -> Any:
        names: dict[str, Any] = {}
        exec(compile(self.text(), f"<{self.exercise}>", "exec"), names)
        return names[exercises.find(self.exercise).function]


@functools.cache
def code_cells(chapter: str) -> list[Any]:
    """Of a chapter's source."""
    (source,) = (NOTEBOOKS / "source").glob(f"{chapter}_*.py")
    return [c for c in jupytext.read(source, fmt="py:percent").cells if c.cell_type == "code"]


class Examine(Protocol):
    """What asks the examiner.

    ``function``: one of a module, or :class:`Cells`. With ``a_process_for_each`` each promise has a
    process of its own, as ``check`` does it; else all share one.
    """

    def __call__(
        self, exercise: str, function: Any, a_process_for_each: bool = False
    ) -> Report: ...


@contextmanager
def examiner() -> Iterator[Examine]:
    """A process that examines until the block ends."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,))
    child.start()
    theirs.close()

    def ask(exercise: str, function: Any, a_process_for_each: bool = False) -> Report:
        ours.send((exercise, function, a_process_for_each))
        answer = ours.recv()
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Report)
        return answer

    try:
        yield ask
    finally:
        ours.close()
        child.join()


def _serve(pipe: Connection) -> None:
    with private_server() as server:
        while True:
            try:
                asked = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(_examined(server, *asked))
            except Exception as problem:
                pipe.send(problem)


def _examined(
    server: RunningServer, exercise: str, function: Any, a_process_for_each: bool
) -> Report:
    if isinstance(function, Cells):
        function.text()  # read once, and not in each fork
    work = partial(_work, server, exercise, function)
    if a_process_for_each:
        return work()

    def in_this_process() -> Report:
        check.isolated = lambda trial, seconds: trial()  # type: ignore[assignment]
        return work()

    return isolated(in_this_process, SECONDS * 5)


def _work(server: RunningServer, exercise: str, function: Any) -> Report:
    called = function.function() if isinstance(function, Cells) else function
    return examine(exercises.find(exercise), called, server, SECONDS)
