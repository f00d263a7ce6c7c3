"""Every exercise: wrong answers are rejected with their message, right ones are accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from workshop.answers import ANSWERS
from workshop.answers.answer import Answer
from workshop.examiner import Cells, Examine, examiner
from workshop.trainer_guide import GUIDE, line_of

from kvlab import flow
from kvlab.workshop import exercises
from kvlab.workshop.exercises.exercise import Exercise
from kvlab.workshop.learner.hints import solution


@pytest.fixture(scope="module")
def examine() -> Iterator[Examine]:
    with examiner() as ask:
        yield ask


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.name)
def test_an_answer_gets_its_report(answer: Answer, examine: Examine) -> None:
    report = examine(answer.exercise, answer.function)
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


@pytest.mark.parametrize("exercise", exercises.every(), ids=lambda exercise: exercise.number)
def test_the_stub_is_rejected_and_the_solution_accepted(
    exercise: Exercise, examine: Examine
) -> None:
    for tag, passes in (("stub", False), ("solution", True)):
        assert examine(exercise.number, Cells(exercise.number, tag)).passed is passes


def test_a_process_for_each_promise_says_the_same(examine: Examine) -> None:
    for tag, passes in (("stub", False), ("solution", True)):
        report = examine("05", Cells("05", tag), a_process_for_each=True)
        assert report.passed is passes
        assert examine("05", Cells("05", tag)).summary == report.summary


@pytest.mark.parametrize("exercise", exercises.every(), ids=lambda exercise: exercise.number)
def test_the_last_rung_is_the_solution(exercise: Exercise) -> None:
    names: dict[str, Any] = {}
    exec(compile(solution(exercise), "<solution>", "exec"), {"flow": flow}, names)
    assert callable(names[exercise.function])
