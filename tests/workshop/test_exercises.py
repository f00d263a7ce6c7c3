"""Every exercise: wrong answers are rejected with their message, right ones are accepted."""

from __future__ import annotations

from collections import Counter

import pytest
from workshop.answers import ANSWERS
from workshop.answers.answer import Answer

from kvlab.server.running_server import RunningServer
from kvlab.workshop import exercises
from kvlab.workshop.learner.check import examine, private_server

SECONDS = 60.0
"""A guard on a busy machine."""


@pytest.fixture(scope="module")
def server():
    with private_server() as running:
        yield running


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.name)
def test_an_answer_gets_its_report(answer: Answer, server: RunningServer) -> None:
    report = examine(exercises.find(answer.exercise), answer.function, server, SECONDS)
    if answer.seen is None:
        assert report.passed, str(report)
        return
    assert not report.passed, str(report)
    seen = [check.seen for check in report.checks if not check.passed]
    assert any(answer.seen in words for words in seen), str(report)


def test_every_exercise_has_enough_answers() -> None:
    wrong = Counter(answer.exercise for answer in ANSWERS if answer.seen is not None)
    right = Counter(answer.exercise for answer in ANSWERS if answer.seen is None)
    for exercise in exercises.every():
        assert wrong[exercise.number] >= 4, exercise.number
        assert right[exercise.number] >= 3, exercise.number
