"""What chapter 11 shows: the kept matrix, its picture, and the figures of a whole request."""

from __future__ import annotations

import dataclasses
from html import escape
from importlib import resources
from pathlib import Path

import pytest
from matplotlib.colors import to_hex

from benchmarks.libraries.explored import explored
from benchmarks.libraries.promised import QUOTES, unfounded
from benchmarks.libraries.promises import FAULTS
from benchmarks.studies.explored_libraries import LIBRARIES
from kvlab.bench import BenchRun
from kvlab.bench.matrix import VERDICTS, Cell, Matrix
from kvlab.chapters.libraries.broken_runs import BrokenRuns, broken_runs
from kvlab.chapters.libraries.kept_bench import kept_folder
from kvlab.chapters.libraries.race_matrix import SIGNS, kept_matrix, race_matrix, unbroken, words_of
from kvlab.chapters.libraries.whole_request import kept_requests, totals, whole_request_chart
from kvlab.errors import InvalidArgument
from kvlab.instruments.palette import ON_TINT, TINTS
from kvlab.workshop import bench_figures, readme

MATRIX = kept_matrix()


def test_a_matrix_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    MATRIX.save(tmp_path / "matrix.json")
    assert Matrix.load(tmp_path / "matrix.json") == MATRIX
    frame = MATRIX.frame()
    assert [Cell(**row) for row in frame.to_dict("records")][:9] == list(MATRIX.cells)[:9]


@pytest.mark.parametrize("text", ["", "[]", '{"format": "another"}', '{"cells": 3}'])
def test_a_file_without_a_matrix_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(InvalidArgument, match="cannot be read"):
        Matrix.load(tmp_path / "file")


def test_the_kept_matrix_has_every_row_and_column_and_is_small() -> None:
    names = [(library.family.name, library.name) for library in LIBRARIES]
    assert [(cell.family, cell.library) for cell in MATRIX.cells[:: len(FAULTS)]] == names
    assert MATRIX.faults == tuple(FAULTS)
    assert len(MATRIX.cells) == len(names) * len(FAULTS)
    assert len({cell.package for cell in MATRIX.cells} - {""}) >= 20
    file = resources.files("benchmarks") / "results" / "explored_libraries.json"
    assert len(file.read_bytes()) < 300_000


def test_each_broken_cell_has_its_run_and_no_other_has() -> None:
    for cell in MATRIX.cells:
        assert bool(cell.replay) == (cell.verdict in ("breaks", "inherent")), cell
        assert (cell.schedules > 0) or cell.verdict != "holds", cell
        assert cell.version or not cell.package or cell.verdict == "can't be driven", cell


def test_the_quotes_are_those_of_today_and_stand_in_what_is_installed() -> None:
    assert dict(MATRIX.quotes) == QUOTES
    assert [*unfounded()] == []


@pytest.mark.parametrize("name", ["kvlab SessionStore", "kvlab Leaderboard"])
def test_a_row_of_ours_comes_out_again(name: str) -> None:
    (library,) = (one for one in LIBRARIES if one.name == name)
    cell, _ = explored(library, "none")
    kept = MATRIX.cell(name)
    assert (cell.verdict, cell.schedules) == (kept.verdict, kept.schedules)


def test_each_verdict_is_told_apart_without_colour() -> None:
    cell = MATRIX.cells[0]
    words = [words_of(dataclasses.replace(cell, verdict=verdict)) for verdict in VERDICTS]
    assert len({word[0] for word in words}) == len(VERDICTS) == len(SIGNS)
    assert words_of(dataclasses.replace(cell, verdict="breaks", reproduced=False)) == "✗ breaks ≠"


def test_the_picture_has_a_row_a_library_in_the_order_of_the_matrix() -> None:
    texts = [text.get_text() for text in race_matrix(MATRIX, "sessions").axes[0].texts]
    names = [row[0].name for row in MATRIX.families["sessions"]]
    assert [text for text in texts if text in names] == names
    with pytest.raises(InvalidArgument, match="no family 'session'"):
        race_matrix(MATRIX, "session")


def test_the_words_of_a_cell_have_the_ink_of_its_tint() -> None:
    axes = race_matrix(MATRIX, "rate limiter").axes[0]
    tinted = [cell for cell in axes.patches if cell.get_facecolor()[3] == 1]
    assert {to_hex(cell.get_facecolor()).upper() for cell in tinted} == {*TINTS.values()}
    for cell in tinted:
        (words,) = (text for text in axes.texts if cell.get_bbox().contains(*text.get_position()))
        assert words.get_color() == ON_TINT


def test_unbroken_rows_have_no_broken_cell() -> None:
    table = unbroken(MATRIX)
    assert list(table.index) == list(MATRIX.families)
    assert table.loc["lock", "no run breaks it"].count("kvlab Lock") == 1
    assert "tutorial" not in table.loc["lock", "no run breaks it"]


def test_each_broken_cell_opens_its_run() -> None:
    runs = broken_runs(MATRIX)
    assert {cell.replay for cell in runs.cells} <= {cell.replay for cell in MATRIX.cells}
    page = runs._repr_html_()
    assert page.count("<details>") == len(runs.cells) == len(str(runs).splitlines())
    assert all(escape(cell.timeline) in page for cell in runs.cells)
    worst = dataclasses.replace(runs.cells[0], says="<script>")
    assert "<script>" not in BrokenRuns((worst,))._repr_html_()


def test_a_cell_is_asked_for_by_name() -> None:
    with pytest.raises(InvalidArgument, match="0 cells of 'no such library'"):
        MATRIX.cell("no such library")
    with pytest.raises(InvalidArgument, match="2 cells"):
        MATRIX.cell("dogpile.cache")
    assert "undone" in str(MATRIX.cell("flask-session"))


def test_a_whole_request_is_one_round_trip_against_five() -> None:
    frame = kept_requests()
    trips = totals(frame)["round_trips"]
    assert trips.to_dict("list") == {"peers": [5, 5, 5], "kvlab": [1, 1, 1]}
    assert len(whole_request_chart(frame).axes) == 3


def test_the_readme_and_the_chapter_have_the_figures_of_the_kept_bench() -> None:
    run = BenchRun.load(kept_folder())
    text = (readme.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.replaced(text, "bench", bench_figures.table(run)) == text
    frame = run.frame()
    assert list(frame["of_package"]) == [row.of_package for row in run.rows]
    assert not run.failed
    assert not run.absent
