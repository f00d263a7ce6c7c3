"""A prediction is kept and compared; nobody is waited for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest

from kvlab.errors import InvalidArgument
from kvlab.workshop import predict, progress
from kvlab.workshop.notebooks import NOTEBOOKS

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
    assert str(again.measured("never")) == "You said at once: not right. Measured: never"
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


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("12.5", 12.5), ("0", 0), ("1,000 times", 1000), (" 67 %", 67), (".5", 0.5), ("many", None)],
)
def test_a_number_may_be_typed_with_its_unit(typed: str, answer: float | None) -> None:
    asked = predict("00-page", "How long?", unit="ms")
    box, remark = asked._widget().children
    box.value = typed
    assert asked.answer == answer
    assert ("not a number" in remark.value) is (answer is None)


@pytest.mark.parametrize("choices", [["one"], ["a", "b", "a"]])
def test_choices_are_several(choices: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="choices must be several"):
        predict("x", "?", choices)


def test_an_answer_is_one_of_the_choices() -> None:
    with pytest.raises(InvalidArgument, match="answer must be one of"):
        predict("x", "?", CHOICES).answered("perhaps")


def test_what_pandas_and_numpy_count_is_kept() -> None:
    asked = predict("07-cut", "How many?")
    asked.answered(3)
    assert str(asked.measured(np.int64(12345))) == "You said 3: not right. Measured: 12,345"
    assert progress().predictions == {"07-cut": False}


CHAPTERS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
_SHOWN = re.compile(r"  [a-z]\) (.+)")


@dataclass(frozen=True)
class Asked:
    """A question as its chapter asks it, and what the executed chapter measured."""

    name: str
    choices: list[str]
    measured: str


def in_chapter(path: Path) -> list[Asked]:
    """In the order of the chapter. Raises KeyError for a question that no cell answers."""
    cells = [c for c in nbformat.read(path, 4).cells if "predict" in c.metadata.get("tags", ())]
    answers = {}
    for cell in cells:
        if answered := re.search(r"^(\w+)\.measured\(", cell.source, re.MULTILINE):
            answers[answered[1]] = cell.outputs[-1].data["text/plain"]
    questions = []
    for cell in cells:
        if found := re.search(r'^(\w+) = predict\(\s*"([^"]+)"', cell.source, re.MULTILINE):
            choices = _SHOWN.findall(cell.outputs[0].data["text/plain"])
            questions.append(Asked(found[2], choices, answers[found[1]]))
    return questions


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_question_of_a_chapter_is_asked_and_answered_by_measuring(path: Path) -> None:
    prose = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown"]
    assert not [text for text in prose if "**Predict" in text], "use predict(...)"
    asked = in_chapter(path)
    assert asked
    for one in asked:
        assert one.name.startswith(f"{path.stem[:2]}-")
        value = one.measured.removeprefix("Not answered. Measured: ")
        assert value != one.measured, "a person has answered in the released notebook"
        assert value in one.choices if one.choices else re.match(r"-?[\d,.]+", value)


def test_each_question_has_a_name_of_its_own() -> None:
    names = [one.name for path in CHAPTERS for one in in_chapter(path)]
    assert len(names) == len(set(names))
