"""The search for the highest rate that holds: found, found again, or said to be nowhere."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support.load_samples import flat

from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.recorder import Recorder
from kvlab.load.find_rate import command
from kvlab.load.find_rate.record import Probe, RateSearch
from kvlab.load.find_rate.search import LOWEST, STEP, Limit, limit, search
from kvlab.load.find_rate.slo import Slo, parsed
from kvlab.load.options import ExitCode
from kvlab.load.record.parts import Finding

SLOS = (Slo(99, 0.005),)


@dataclass(frozen=True)
class Verdict:
    rate: float
    holds: bool


def noisy(true: float, seed: int, width: float) -> Iterator[Verdict]:
    """A search where a rate near ``true`` holds by chance."""
    chance = random.Random(seed)

    def try_rate(rate: float) -> Verdict:
        above = math.log(rate / true) / width
        return Verdict(rate, chance.random() < 1 / (1 + math.exp(min(above, 50))))

    return search(try_rate, true / 5)


def test_a_sharp_limit_is_found_within_a_step() -> None:
    probes = [*search(lambda rate: Verdict(rate, rate <= 1_000), 200)]
    found = limit(probes)
    assert found is not None
    assert 1_000 / STEP < found.low <= found.rate <= found.high < 1_000 * STEP
    assert len(probes) < 20
    down = limit([*search(lambda rate: Verdict(rate, rate <= 100), 2_000)])
    assert down is not None
    assert 100 / STEP < down.rate < 100 * STEP


def test_two_searches_with_noise_agree() -> None:
    found = [limit([*noisy(1_000, seed, 0.05)]) for seed in range(100)]
    rates = sorted(one.rate for one in found if one is not None)
    assert len(rates) == 100
    assert rates[-3] / rates[2] < 1.15 * STEP


def stalled(true: float, begin: float, share: float, seed: int) -> Limit | None:
    """A search with a sharp limit, in which this share of the probes fails by chance."""
    chance = random.Random(seed)

    def try_rate(rate: float) -> Verdict:
        return Verdict(rate, rate <= true and chance.random() >= share)

    return limit([*search(try_rate, begin)])


@pytest.mark.parametrize("probe", [1, 2, 4, 11])
def test_one_probe_that_stalls_in_the_climb_changes_nothing(probe: int) -> None:
    tried: list[Verdict] = []

    def try_rate(rate: float) -> Verdict:
        tried.append(Verdict(rate, rate <= 20_000 and len(tried) + 1 != probe))
        return tried[-1]

    assert limit([*search(try_rate, 100)]) == stalled(20_000, 100, 0, 1)


@pytest.mark.parametrize(("share", "far"), [(0.05, 4), (0.1, 20)])
def test_probes_that_stall_rarely_spoil_a_search(share: float, far: int) -> None:
    found = [stalled(1_000, begin, share, i) for begin in (5, 100, 250) for i in range(170)]
    good = [one for one in found if one and 800 < one.rate < 1_250]
    assert len(found) - len(good) <= far
    assert sum(one.low <= 1_000 <= one.high for one in good) == len(good)


def test_a_search_that_is_cut_says_so() -> None:
    endless = limit([*search(lambda rate: Verdict(rate, True), 100)])
    assert endless is not None
    assert endless.cut
    good = Probe(100, 4, 400, 1e-3, 2e-3, 3e-3, "HOLDS", "", 1e-4, 0.2, False, 900.0)
    facts: dict[str, Any] = {"pattern": "p", "title": "t", "slos": SLOS, "began": 0.0}
    facts |= {"seconds": 1.0, "most": 300.0, "settings": {}, "machine": {}}
    assert "cut after 2 rates" in RateSearch(probes=(good, good), **facts).says()


def test_a_search_that_holds_nowhere_ends_and_says_so() -> None:
    probes = [*search(lambda rate: Verdict(rate, False), 1_000)]
    assert limit(probes) is None
    assert len(probes) < 10
    assert min(one.rate for one in probes) == LOWEST


@pytest.mark.parametrize("text", ["p99", "p99=5", "99=5ms", "p0=5ms", "p99=0ms", "p100=1s", ""])
def test_an_slo_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="must be like p99=5ms"):
        Slo.parse(text)
    with pytest.raises(InvalidArgument, match="needs an --slo"):
        parsed(())


def test_an_slo_is_read() -> None:
    assert parsed(["p99=5ms", "p99.9=800us"]) == (Slo(99, 0.005), Slo(99.9, 0.0008))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Runs that never happened: a rate above 900/s takes 8 ms, the naive limiter breaks."""
    asked: list[list[str]] = []

    def record_words(name: str, seconds: int, users: int, words: list[str]) -> Any:
        asked.append([*words])
        rate = float(words[words.index("--rate") + 1]) if "--rate" in words else None
        latency = Recorder()
        latency.record_all([0.008 if rate and rate > 900 else 0.002] * 400)
        run = flat([100] * 4, latency={"hit": latency}, settings={"users": users, "rate": rate})
        if "--naive" in words:
            broken = Finding("limit", False, "10 admissions, 11 seen")
            run = replace(run, findings=(broken,), untested=None)
        return run

    monkeypatch.setattr(command, "record_words", record_words)
    return asked


def test_the_command_finds_the_rate_and_keeps_the_search(
    loads: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {"users": 20, "seconds": 4, "more": ["--limit", "5"]}
    assert command.run("rate-limiter", SLOS, reports=tmp_path, **asked) == 0
    (folder,) = tmp_path.iterdir()
    found = RateSearch.load(folder)
    assert found.found is not None
    assert 900 / STEP < found.found.rate < 900 * STEP
    assert found.knee is not None
    assert 900 < found.knee < 900 * STEP * STEP
    assert all(words[:2] == ["--limit", "5"] for words in loads)
    said = capsys.readouterr().out
    assert found.says() in said
    assert "cut" not in found.says()
    assert "DOES NOT HOLD: p99 is 8 ms, above 5 ms" in said
    page = (folder / "report.html").read_text()
    assert found.says() in page
    assert page.count("<tr>") == len(found.probes) + 1
    assert len(found.frame()) == len(found.probes)
    with pytest.raises(InvalidArgument, match=r"search\.json cannot be read"):
        RateSearch.load(tmp_path)


def test_a_search_is_kept_before_its_page_is_drawn(
    loads: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "page", lambda found: 1 / 0)
    asked: dict[str, Any] = {"users": 20, "seconds": 4, "more": [], "reports": tmp_path}
    with pytest.raises(ZeroDivisionError):
        command.run("rate-limiter", SLOS, **asked)
    (folder,) = tmp_path.iterdir()
    assert RateSearch.load(folder).found is not None


def test_a_percentile_of_too_few_calls_is_refused_after_the_closed_loop(
    loads: list[list[str]], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"users": 20, "seconds": 4, "more": [], "reports": tmp_path}
    with pytest.raises(InvalidArgument, match=r"p99\.9 needs 2,000 calls a rate.* --time 20s"):
        command.run("rate-limiter", (Slo(99, 0.005), Slo(99.9, 0.02)), **asked)
    assert len(loads) == 1
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_holds_no_report_is_refused_before_the_search(
    loads: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    asked: dict[str, Any] = {"users": 20, "seconds": 4, "more": []}
    code = command.run("rate-limiter", SLOS, reports=tmp_path / "file", **asked)
    assert code == ExitCode.REPORT
    assert loads == []
    assert "no report can be written to" in capsys.readouterr().out


def test_a_pattern_that_breaks_holds_at_no_rate(
    loads: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {"users": 20, "seconds": 4, "more": ["--naive"]}
    assert command.run("rate-limiter", SLOS, reports=tmp_path, **asked) == 1
    assert "no rate holds p99 of 5 ms" in (said := capsys.readouterr().out)
    assert "10 admissions, 11 seen" in said


@pytest.mark.parametrize("others", [0, 1])
def test_a_rate_at_which_nothing_was_called_is_kept_and_shown(others: int, tmp_path: Path) -> None:
    good = Probe(100, 4, 400, 1e-3, 2e-3, 3e-3, "HOLDS", "", 1e-4, 0.2, False, 900.0)
    times = dict.fromkeys(("p50", "p99", "p999"), math.nan)
    silent = replace(good, rate=5, calls=0, why="nothing was called", **times)
    found = RateSearch("p", "t", SLOS, 0.0, 1.0, 300.0, (silent, *[good] * others), {}, {})
    again = RateSearch.load(found.save(tmp_path / "run"))
    assert math.isnan(again.probes[0].p99)
    assert again.probes[1:] == found.probes[1:]
    assert again.says() == found.says()
    assert "nan" not in command.page(found)


def test_a_limit_that_the_generator_sets_is_called_so() -> None:
    good = Probe(100, 4, 400, 1e-3, 2e-3, 3e-3, "HOLDS", "", 1e-4, 0.2, False, 900.0)
    bad = replace(good, rate=200, why="p99 is 9 ms, above 5 ms", overloaded=True)
    facts: dict[str, Any] = {"pattern": "p", "title": "t", "slos": SLOS, "began": 0.0}
    facts |= {"seconds": 1.0, "most": 300.0, "settings": {}, "machine": {}}
    assert "THE GENERATOR SET THE LIMIT" in command.generator_says(
        RateSearch(probes=(good, bad), **facts)
    )
    calm = RateSearch(probes=(good, replace(bad, overloaded=False)), **facts)
    assert "THE GENERATOR" not in command.generator_says(calm)


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"overloaded": True}, ExitCode.SHOWS_NOTHING, "this shows nothing of p99 of 5 ms"),
        ({"calls": 0, "oracle": "SHOWS NOTHING"}, ExitCode.SHOWS_NOTHING, "this shows nothing of"),
        ({"overloaded": True, "oracle": "BROKEN"}, ExitCode.BROKEN, "no rate holds p99 of 5 ms"),
        ({}, ExitCode.BROKEN, "no rate holds p99 of 5 ms"),
    ],
)
def test_no_rate_by_fault_of_the_generator_shows_nothing(
    changes: dict[str, Any],
    code: ExitCode,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    probe = Probe(50, 4, 200, 1e-3, 9e-3, 9e-3, "HOLDS", "p99 is 9 ms", 1e-4, 0.2, False, None)
    search = RateSearch(
        "p", "t", SLOS, 0.0, 1.0, 300.0, (replace(probe, **changes),), settings={}, machine={}
    )
    monkeypatch.setattr(command, "find", lambda *_, **__: search)
    asked: dict[str, Any] = {"users": 20, "seconds": 4, "more": []}
    assert command.run("leaderboard", SLOS, reports=tmp_path, **asked) == code
    said = capsys.readouterr().out
    assert says in said
    assert "at the rates that held" not in said
    assert ("THE GENERATOR SET THE LIMIT" in said) == (search.by_generator)
    assert " 1 rate in" in next(tmp_path.glob("*/report.html")).read_text()
