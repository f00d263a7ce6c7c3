"""Every exercise: wrong answers are rejected with their message, right ones are accepted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import jupytext
import pytest
from workshop.answers import ANSWERS
from workshop.answers.answer import Answer
from workshop.trainer_guide import GUIDE, line_of

from kvlab import flow
from kvlab.server.running_server import RunningServer
from kvlab.workshop import exercises
from kvlab.workshop.exercises.exercise import Exercise
from kvlab.workshop.learner import check
from kvlab.workshop.learner.check import examine, private_server
from kvlab.workshop.learner.hints import solution
from kvlab.workshop.learner.isolated import isolated
from kvlab.workshop.learner.report import Report
from kvlab.workshop.notebooks import NOTEBOOKS

SECONDS = 60.0
"""A guard on a busy machine."""


@pytest.fixture(scope="module")
def server():
    with private_server() as running:
        yield running


def in_one_process(exercise: Exercise, function: Any, server: RunningServer) -> Report:
    """The report of ``check``. There each promise has a process of its own; here all share one,
    since a fork costs more than a trial."""

    def work() -> Report:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(check, "isolated", lambda trial, seconds: trial())
            return examine(exercise, function, server, SECONDS)

    return isolated(work, SECONDS * 5)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.name)
def test_an_answer_gets_its_report(answer: Answer, server: RunningServer) -> None:
    report = in_one_process(exercises.find(answer.exercise), answer.function, server)
    if answer.seen is None:
        assert report.passed, str(report)
        return
    assert not report.passed, str(report)
    seen = [check.seen for check in report.checks if not check.passed]
    assert any(answer.seen in words for words in seen), str(report)
    assert line_of(answer, report) in GUIDE.read_text(encoding="utf-8"), (
        "run workshop.trainer_guide"
    )


def test_every_exercise_has_enough_answers() -> None:
    wrong = Counter(answer.exercise for answer in ANSWERS if answer.seen is not None)
    right = Counter(answer.exercise for answer in ANSWERS if answer.seen is None)
    for exercise in exercises.every():
        assert wrong[exercise.number] >= 4, exercise.number
        assert right[exercise.number] >= 3, exercise.number


def cells_of(source: Path, tag: str) -> str:
    cells = jupytext.read(source, fmt="py:percent").cells
    wanted = {"exercise-setup", tag}
    texts = [
        c.source for c in cells if c.cell_type == "code" and wanted & {*c.metadata.get("tags", ())}
    ]
    return "\n".join(texts)


def with_tags(source: Path, tag: str) -> dict[str, Any]:
    """The names that a source's cells of this tag leave in a kernel."""
    names: dict[str, Any] = {}
    exec(compile(cells_of(source, tag), f"<{source.stem}>", "exec"), names)
    return names


@pytest.mark.parametrize("exercise", exercises.every(), ids=lambda exercise: exercise.number)
def test_the_stub_is_rejected_and_the_solution_accepted(
    exercise: Exercise, server: RunningServer
) -> None:
    (source,) = (NOTEBOOKS / "source").glob(f"{exercise.chapter}_*.py")
    for tag, passes in (("stub", False), ("solution", True)):
        function = with_tags(source, tag)[exercise.function]
        examined = in_one_process(exercise, function, server)
        assert examined.passed is passes


def test_a_process_for_each_promise_says_the_same(server: RunningServer) -> None:
    (source,) = (NOTEBOOKS / "source").glob("05_*.py")
    for tag, passes in (("stub", False), ("solution", True)):
        function = with_tags(source, tag)["job"]
        report = examine(exercises.find("05"), function, server, SECONDS)
        assert report.passed is passes
        assert in_one_process(exercises.find("05"), function, server).summary == report.summary


@pytest.mark.parametrize("exercise", exercises.every(), ids=lambda exercise: exercise.number)
def test_the_last_rung_is_the_solution(exercise: Exercise) -> None:
    names: dict[str, Any] = {}
    exec(compile(solution(exercise), "<solution>", "exec"), {"flow": flow}, names)
    assert callable(names[exercise.function])
