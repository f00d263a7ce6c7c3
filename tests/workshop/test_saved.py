"""``kvlab check``: saved notebooks in a terminal."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import nbformat
import pytest
import typer.testing

from kvlab.cli import app
from kvlab.errors import KvlabError
from kvlab.workshop.learner import saved
from kvlab.workshop.notebooks import NOTEBOOKS
from kvlab.workshop.workbook import WorkingCopy

GOOD = """
import kvlab

def latencies(interval, durations):
    end, found = 0.0, []
    for number, duration in enumerate(durations):
        end = max(end, number * interval) + duration
        found.append(end - number * interval)
    return found
"""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkingCopy:
    (tmp_path / ".kvlab-workbook.json").write_text("{}")
    (tmp_path / "exercises").mkdir()
    monkeypatch.chdir(tmp_path)
    return WorkingCopy(tmp_path)


def save(copy: WorkingCopy, *cells: str) -> None:
    v4 = nbformat.v4
    checks = v4.new_code_cell(
        "raise SystemExit('a check is not run')", metadata={"tags": ["check"]}
    )
    book = v4.new_notebook(cells=[*map(v4.new_code_cell, cells), checks])
    nbformat.write(book, copy.folder / "exercises" / "10_load_tests.ipynb")


def test_cells_run_in_order_and_a_broken_one_stops_none(copy: WorkingCopy) -> None:
    save(copy, "hint('10')", "1 / 0", "%matplotlib inline", GOOD, "print('noise')")
    short, long = saved.check_saved(copy, (), every=False)
    assert short.passed
    assert long.checks[0].seen == "code cell 2 raised ZeroDivisionError: division by zero"


def test_a_cell_without_an_end_is_stopped(
    copy: WorkingCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "CELL_SECONDS", 1)
    save(copy, "while True:\n    pass", GOOD)
    short, long = saved.check_saved(copy, ["10"], every=False)
    assert short.passed
    assert "is there a loop without an end?" in long.checks[0].seen


def test_the_command_has_an_exit_code_and_keeps_what_it_found(copy: WorkingCopy) -> None:
    save(copy, GOOD)
    run = typer.testing.CliRunner().invoke
    done = run(app, ["check", "--all"])
    assert done.exit_code == 1
    assert "Exercise 10-short, latency from the intended start: solved, 4 of 4" in done.stdout
    assert "[x] 10-short" in run(app, ["progress"]).stdout
    solved = NOTEBOOKS / "solutions" / "10_load_tests.ipynb"
    (copy.folder / "exercises" / "10_load_tests.ipynb").write_bytes(solved.read_bytes())
    assert run(app, ["check"]).exit_code == 0


def test_no_notebook_is_told(copy: WorkingCopy) -> None:
    with pytest.raises(KvlabError, match=r"no exercise notebooks in .*; kvlab lab makes a copy"):
        list(saved.check_saved(copy, (), every=False))
    save(copy, GOOD)
    with pytest.raises(KvlabError, match="no exercise notebook 05 in"):
        list(saved.check_saved(copy, ["10", "5"], every=False))


@pytest.mark.parametrize(
    ("words", "tried"),
    [
        ("10-short", ["10-short"]),
        ("10 short", ["10-short"]),
        ("9-short 10-short", ["09-short", "10-short"]),
        ("10 short 9 short", ["09-short", "10-short"]),
        ("10-short 10", ["10-short", "10"]),
        ("9 10", ["09-short", "09", "10-short", "10"]),
    ],
)
def test_the_exercises_of_a_list_are_tried_each_once(
    copy: WorkingCopy, monkeypatch: pytest.MonkeyPatch, words: str, tried: list[str]
) -> None:
    save(copy, "")
    exercises = copy.folder / "exercises"
    shutil.copy(exercises / "10_load_tests.ipynb", exercises / "09_explore_your_own_code.ipynb")
    monkeypatch.setattr(saved, "private_server", contextlib.nullcontext)
    reports = saved.check_saved(copy, words.split(), every=False)
    assert [report.exercise for report in reports] == tried


def test_stubs_come_back_after_asking_and_nothing_is_lost(copy: WorkingCopy) -> None:
    save(copy, GOOD)
    mine = copy.folder / "exercises" / "10_load_tests.ipynb"
    before = mine.read_bytes()
    run = typer.testing.CliRunner().invoke
    refused = run(app, ["reset", "--exercises"], input="n\n").exception
    assert str(refused) == "nothing was changed"
    assert mine.read_bytes() == before
    assert run(app, ["reset", "--exercises"], input="y\n").exit_code == 0
    assert mine.read_bytes() != before
    assert (copy.folder / "exercises" / "10_load_tests.mine-1.ipynb").read_bytes() == before
    said = run(app, ["reset", "--exercises", "--yes"]).stdout
    assert said == f"the exercises in {copy.folder} are as released; 0 had changed\n"
