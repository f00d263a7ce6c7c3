"""A run keeps every turn, says no more than its noise allows, and its page shows it all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.bench_samples import sample

from kvlab.bench import BenchRun
from kvlab.bench.page import page
from kvlab.bench.run import CONTROL
from kvlab.bench.verdict import against
from kvlab.errors import InvalidArgument
from kvlab.workshop import bench_figures, readme

HOSTILE = "<script>alert(1)</script> $x$ {{ 7*7 }} |"


def test_a_folder_gives_back_the_run_to_the_last_bit(tmp_path: Path) -> None:
    run = replace(sample(1, cases=3), absent=("limits is absent",), failed={"x": "it broke"})
    folder = run.save(tmp_path / "run", {"report.html": "page"})
    assert BenchRun.load(folder) == run
    assert {file.name for file in folder.iterdir()} == {
        "run.json", "rows.csv", "turns.csv", "report.html",
    }  # fmt: skip
    frame = BenchRun.load(folder).frame()
    assert list(frame["ratio"]) == [row.compared.ratio for row in run.rows]
    assert len(run.turns_frame()) == sum(len(row.turns) for row in run.rows)


@pytest.mark.parametrize("text", ['{"format": "another"}', "{", '{"format": "kvlab-bench-run-1"}'])
def test_what_is_no_run_is_refused_by_name(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"no run\.json"):
        BenchRun.load(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InvalidArgument, match=r"run\.json cannot be read"):
        BenchRun.load(tmp_path)
    with pytest.raises(InvalidArgument, match="no run is written over another"):
        sample(1, cases=1).save(tmp_path)


def test_a_difference_inside_the_noise_is_called_none() -> None:
    run = sample(2, noise=0.002, drift=0.0, cases=3)
    small = replace(run.rows[1], turns=_times(run.rows[1], 1.004 / run.rows[1].compared.ratio))
    quiet = replace(run, rows=(run.rows[0], small))
    assert quiet.differs(small)
    assert "slower" in quiet.says(small)
    shifted = replace(run.rows[0], turns=_times(run.rows[0], 1.05))
    noisy = replace(run, rows=(shifted, small))
    assert noisy.noise > 1.05
    assert not noisy.differs(small)
    assert noisy.says(small).startswith("kvlab takes 1.00 of the time (1.00 to 1.00), no diff")
    assert "inside the noise of 5 %" in noisy.says(small)
    assert not noisy.differs(shifted), "an A/A row is never a finding"


def _times(row: object, factor: float) -> tuple[object, ...]:
    return tuple(replace(turn, ours=turn.ours * factor) for turn in row.turns)  # type: ignore


def test_the_page_escapes_every_text_and_shows_every_row() -> None:
    run = sample(3, cases=3, slower={1: 2.0})
    rows = tuple(
        replace(row, case=f"{row.case} {HOSTILE}", less=HOSTILE, peer=HOSTILE, version=HOSTILE)
        for row in run.rows
    )
    run = replace(run, rows=rows, absent=(HOSTILE,), failed={HOSTILE: HOSTILE})
    text = page(run, against(run, replace(run, environment={"python": HOSTILE})))
    assert "<script" not in text
    assert "{{" not in text.replace("{{ 7*7 }}", "")
    assert text.count("<figure") == 2
    for row in run.rows:
        assert run.says(row) in text
    assert CONTROL not in text or "The same code twice" in text


def test_the_readme_gets_the_rows_against_packages_that_people_install() -> None:
    run = sample(4, cases=4)
    by_hand = replace(run.rows[1], peer="the same script by redis-py")
    without = replace(run.rows[2], version="")
    text = bench_figures.table(replace(run, rows=(run.rows[0], by_hand, without, *run.rows[3:])))
    assert [line.split(" | ")[1] for line in text.splitlines()[2:4]] == ["case 2", "case 3"]
    assert "| a peer 1.0 | " in text
    assert "A short run of 4 rounds on Valkey 9.1.2, Python 3.11.7" in text
    assert text in readme.replaced("<!-- bench -->\n<!-- /bench -->", "bench", text)
