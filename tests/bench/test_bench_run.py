"""A run keeps every turn, says no more than its noise allows, and its page shows it all."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from support.bench_samples import sample

from kvlab.bench import BenchRun, runner
from kvlab.bench.command import Asked, bench
from kvlab.bench.page import page
from kvlab.bench.run import CONTROL, FORMAT
from kvlab.bench.verdict import against
from kvlab.errors import InvalidArgument
from kvlab.workshop import bench_figures, readme

HOSTILE = "<script>alert(1)</script> $x$ {{ 7*7 }} |"


def test_a_folder_gives_back_the_run_to_the_last_bit(tmp_path: Path) -> None:
    run = replace(sample(1, cases=3), absent=("limits is absent",), failed={"x": "it broke"})
    folder = run.save(tmp_path / "run")
    assert BenchRun.load(folder) == run
    assert {file.name for file in folder.iterdir()} == {"run.json", "rows.csv", "turns.csv"}
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


def _in_turn(field: str, value: object) -> Callable[[Any], object]:
    return lambda run: run["rows"][1]["turns"][0].update({field: value})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda run: run.update(environment=[]), "environment must be an object"),
        (lambda run: run.update(more=1), "has the unknown field 'more'"),
        (lambda run: run.pop("absent"), "misses 'absent'"),
        (lambda run: run.update(began=1e300), "began must"),
        (lambda run: run["settings"].update(rounds=[{"turns": 1}]), r"rounds\[0\]\.seed must"),
        (lambda run: run["rows"][1].update(case=5), r"rows\[1\]\.case must be text"),
        (lambda run: run["rows"][1].update(case="\ud800"), "surrogates not allowed"),
        (lambda run: run["rows"][1].update(turns=[]), r"length of rows\[1\]\.turns"),
        (lambda run: run["rows"][1]["turns"].__delitem__(slice(1, None)), "length of rows"),
        *((_in_turn("ours", wrong), r"rows\[1\]\.turns\[0\]\.ours must")
          for wrong in ("x", 0, -1, None, True, math.nan, math.inf, 1e308, 10**400)),
        (_in_turn("peer", []), r"turns\[0\]\.peer must"),
        (_in_turn("round", []), r"turns\[0\]\.round must"),
        (_in_turn("after", math.inf), r"turns\[0\]\.after must"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_judged_is_refused_by_its_field(
    change: Callable[[Any], object], field: str, tmp_path: Path
) -> None:
    facts = json.loads(json.dumps({"format": FORMAT} | asdict(sample(1, cases=2))))
    (tmp_path / "run.json").write_text(json.dumps(facts))
    BenchRun.load(tmp_path)
    change(facts)
    (tmp_path / "run.json").write_text(json.dumps(facts))
    with pytest.raises(InvalidArgument, match=rf"run\.json cannot be read: .*{field}"):
        BenchRun.load(tmp_path)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[runner.Plan]:
    """The runs that were measured, by the command in ``tmp_path``, without a clock."""
    done: list[runner.Plan] = []

    def run(plan: runner.Plan) -> BenchRun:
        done.append(plan)
        return sample(len(done), cases=3)

    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "cases.py").touch()
    monkeypatch.setattr(runner, "run", run)
    return done


def test_what_would_lose_the_run_is_refused_before_it(
    measured: list[runner.Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    other = sample(9, cases=2)
    rows = tuple(replace(row, benchmark="other") for row in other.rows)
    replace(other, rows=rows).save(tmp_path / "other")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "run.json").write_text("[" * 100_000)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "read-only")
    (tmp_path / "benches").symlink_to(tmp_path / "a disk that is not there")
    monkeypatch.chdir(tmp_path)
    for asked, why in (
        (Asked(save=tmp_path / "read-only"), "cannot hold a run: it is read-only"),
        (Asked(), "benches cannot hold a run: .*File exists"),
        (Asked(save=tmp_path / "new", fail_on_slower=True), "--fail-on-slower needs --against"),
        (Asked(save=tmp_path / "full"), "no run is written over another"),
        (Asked(save=tmp_path / "full" / "file" / "new"), "cannot hold a run"),
        (Asked(save=tmp_path / "new", against=tmp_path / "other"), "no row in common .* other"),
        (Asked(save=tmp_path / "new", against=tmp_path / "deep"), "cannot be read: .*recursion"),
    ):
        with pytest.raises(InvalidArgument, match=why):
            bench(tmp_path, asked)
    assert measured == []
    assert not (tmp_path / "new").exists()


def test_a_run_is_kept_before_it_is_judged_and_steers_no_terminal(
    measured: list[runner.Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = sample(9, cases=3)
    renamed = tuple(replace(row, case=f"{row.case} \x1b[2J", version="\x9b2J") for row in old.rows)
    old = replace(old, environment={"\x1b]0;x\x07": "\r"})
    replace(old, rows=renamed).save(tmp_path / "renamed")
    replace(old, rows=(*old.rows, *renamed)).save(tmp_path / "old")
    with pytest.raises(InvalidArgument, match="no row in common"):
        bench(tmp_path, Asked(save=tmp_path / "a", against=tmp_path / "renamed"))
    assert BenchRun.load(tmp_path / "a") == sample(1, cases=3)
    assert (tmp_path / "a" / "report.html").is_file()
    assert bench(tmp_path, Asked(save=tmp_path / "b", against=tmp_path / "old")) == 0
    said = capsys.readouterr().out
    assert r"only in the older run: case 0 \x1b[2J / a peer \x9b2J" in said
    assert said.replace("\n", "").isprintable()
    assert "Against the older run" in (tmp_path / "b" / "report.html").read_text()


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
    verdicts = against(run, replace(run, environment={"python": HOSTILE}))
    text = page(run, verdicts)
    assert text.count(" of the older time (") == len(verdicts.each) == 3
    assert "<script" not in text
    assert "{{" not in text.replace("{{ 7*7 }}", "")
    assert text.count("<figure") == 2
    for row in run.rows:
        assert run.says(row) in text
    assert CONTROL not in text or "The same code twice" in text


def test_the_page_says_first_what_to_pick() -> None:
    run = sample(4, noise=0.002, drift=0.0, cases=4)
    _, quick, floor, slow, also = run.rows
    rows = (
        replace(quick, peer="a library"),
        replace(floor, peer="a bare socket", version=""),
        replace(slow, peer="a library"),
        replace(also, peer="another"),
    )
    text = " ".join(page(replace(run, rows=rows)).split())
    low, high, last = (f"{row.compared.ratio:.2f}" for row in (quick, slow, also))
    assert "kvlab beside packages that people install: quicker in 1, slower in 2 of 3 rows" in text
    section = text.partition("What to pick")[2].partition("</section>")[0]
    assert [*re.findall(r"<td.*?>(.*?)</td>", section)] == [
        "cases",
        f"a library 1.0: case 0 {low}<br>",
        "",
        f"a library 1.0: case 2 {high}<br>another 1.0: case 3 {last}<br>",
    ]


def test_the_readme_gets_the_rows_against_packages_that_people_install() -> None:
    run = sample(4, cases=4)
    by_hand = replace(run.rows[1], peer="the same script by redis-py")
    without = replace(run.rows[2], version="")
    text = bench_figures.table(replace(run, rows=(run.rows[0], by_hand, without, *run.rows[3:])))
    assert [line.split(" | ")[1] for line in text.splitlines()[2:4]] == ["case 2", "case 3"]
    assert "| a peer 1.0 | " in text
    assert "A short run of 4 rounds on Valkey 9.1.2, Python 3.11.7" in text
    assert text in readme.replaced("<!-- bench -->\n<!-- /bench -->", "bench", text)
