"""A prediction is kept and compared; nobody is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvlab.errors import InvalidArgument
from kvlab.workshop import predict, progress

QUESTION = "When can the next worker take the lock?"
CHOICES = ["at once", "after 10 s", "never"]


@pytest.fixture(autouse=True)
def _in_a_working_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".kvlab-workbook.json").write_text("{}")
    monkeypatch.chdir(tmp_path)


def test_without_a_person_the_question_is_text_and_nothing_is_kept() -> None:
    asked = predict("05-stuck", QUESTION, CHOICES)
    assert asked._repr_markdown_().startswith(f"**Predict.** {QUESTION}\n\n- **a)** at once")
    assert "  c) never" in str(asked)
    assert str(asked.measured("never")) == "Not answered. Measured: never"
    assert progress().predictions == {}


def test_an_answer_is_kept_and_shown_beside_what_was_measured() -> None:
    predict("05-stuck", QUESTION, CHOICES).answered("at once")
    again = predict("05-stuck", QUESTION, CHOICES)  # after a restart of the kernel
    assert again.answer == "at once"
    assert progress().predictions == {"05-stuck": None}
    assert str(again.measured("never")) == "You said at once: not so. Measured: never"
    assert progress().predictions == {"05-stuck": False}
    again.answered("never")
    assert again.measured("never").right
    assert "predictions right: 1 of 1" in str(progress())


@pytest.mark.parametrize(("answer", "right"), [(50, True), (60, True), (64, False), (5, False)])
def test_a_number_is_right_within_a_quarter(answer: float, right: bool) -> None:
    asked = predict("00-page", "How long does the page wait?", unit="ms")
    asked.answered(answer)
    said = asked.measured(50.7)
    assert said.right is right
    assert "Measured: 50.7 ms" in str(said)


def test_the_widget_gives_the_answer() -> None:
    asked = predict("05-stuck", QUESTION, CHOICES)
    asked._widget().value = "b"
    assert asked.answer == "after 10 s"
    number = predict("00-page", "How long?", unit="ms")
    number._widget().value = 12.5
    assert number.answer == 12.5


@pytest.mark.parametrize("choices", [["one"], ["a", "b", "a"]])
def test_choices_are_several(choices: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="choices must be several"):
        predict("x", "?", choices)


def test_an_answer_is_one_of_the_choices() -> None:
    with pytest.raises(InvalidArgument, match="answer must be one of"):
        predict("x", "?", CHOICES).answered("perhaps")
