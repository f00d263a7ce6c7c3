"""What a verdict makes of the evidence: recorded calls, without a run."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from support.load_samples import limiter_settings

from kvlab.errors import InvalidArgument
from kvlab.instruments.judges.server_clock import ServerClock, server_clock
from kvlab.load.evidence import CUT_OFF, Evidence
from kvlab.load.leaderboard import verdict as of_boards
from kvlab.load.leaderboard.facts import BoardFacts
from kvlab.load.options import ExitCode
from kvlab.load.rate_limiter.decisions import Decisions
from kvlab.load.rate_limiter.verdict import _server_times, conclude
from kvlab.load.verdict import Conclusion, _cut_short, _generator, _unanswered


class Server:
    """``ahead``: the seconds of its clock when ours shows 0."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def time(self) -> tuple[int, int]:
        seconds, rest = divmod(time.time() + self.ahead, 1)
        return int(seconds), int(rest * 1e6)


def concluded(evidence: Evidence[Decisions], began: float = 1000.0, **more: Any) -> Conclusion:
    process: Any = SimpleNamespace(
        settings=limiter_settings(**more), evidence=evidence, kv=SimpleNamespace(client=Server())
    )
    return conclude(process, began)


def decided(**times: list[float]) -> Evidence[Decisions]:
    """A record of answers, ``admitted`` and ``denied``."""
    evidence = Evidence(Decisions())
    for at in times.get("admitted", []):
        evidence.facts.decided("client-0", at, at, at, allowed=True)
    for at in times.get("denied", []):
        evidence.facts.decided("client-0", at, at, at, allowed=False)
    return evidence


def naive(*spans: tuple[float, float]) -> Evidence[Decisions]:
    evidence = Evidence(Decisions())
    for began, ended in spans:
        evidence.facts.decided_within("naive-0", began, ended, allowed=True)
    return evidence


@pytest.mark.parametrize(
    ("evidence", "more", "finding", "line"),
    [
        (
            decided(admitted=[999.0, 1000.1, 1000.2, 1000.9], denied=[1000.95]),
            {},
            "over-admission",
            "client-0: calls at 0.100000, 0.200000, 0.900000 s answered allowed; promised: at most "
            "the limit in any interval of the window's length",
        ),
        (
            decided(admitted=[1000.1], denied=[1000.25, 1000.5]),
            {},
            "denials",
            "client-0: call at 0.250000 s answered denied; promised: 1 of 2 were used, so one more "
            "is allowed",
        ),
        (
            naive((1000.1, 1000.2), (1000.15, 1000.3), (1000.12, 1000.25), (1002, 1002.1)),
            {"naive": True},
            "over-admission",
            "naive-0: calls at 0.200000, 0.250000, 0.300000 s answered allowed; promised: at most "
            "the limit in any interval of the window's length, beyond doubt",
        ),
    ],
)
def test_a_broken_promise_names_its_calls(
    evidence: Evidence[Decisions], more: dict[str, Any], finding: str, line: str
) -> None:
    (found,) = (one for one in concluded(evidence, **more).findings if not one.holds)
    assert found.name == finding
    assert found.evidence == (line,)


def test_of_many_calls_the_last_are_named() -> None:
    evidence = decided(admitted=[1000.1] * 9 + [1000.3], denied=[1000.4])
    (found,) = (one for one in concluded(evidence, limit=9).findings if not one.holds)
    assert found.evidence[0].startswith(
        "client-0: the last of 10 calls at 0.100000, 0.100000, 0.100000, 0.100000, 0.300000 s"
    )


def test_a_promise_that_holds_names_no_calls() -> None:
    conclusion = concluded(decided(admitted=[1000.1, 1000.2], denied=[1000.5]))
    assert all(one.holds and not one.evidence for one in conclusion.findings)
    assert conclusion.untested is None


@pytest.mark.parametrize("evidence", [decided(admitted=[1.0]), Evidence(Decisions())])
def test_a_run_that_denies_nobody_shows_nothing(evidence: Evidence[Decisions]) -> None:
    assert (concluded(evidence).untested or "").startswith("no request was denied")


def test_a_naive_run_that_denies_nobody_shows_nothing() -> None:
    evidence = naive((1000, 1000.1))
    assert (concluded(evidence, naive=True).untested or "").startswith("no request was denied")
    evidence.facts.decided_within("naive-0", 1000.2, 1000.3, allowed=False)
    assert concluded(evidence, naive=True).untested is None


@pytest.mark.parametrize("ahead", [0.0, 3600.0])
@pytest.mark.parametrize(("stamped", "outside"), [(0.5, 0), (1.004, 0), (1.02, 1), (-3600, 1)])
def test_a_server_time_is_held_against_its_call(ahead: float, stamped: float, outside: int) -> None:
    """A limiter that stamps its admissions an hour back admits as many as it likes."""
    decisions = Decisions()
    for at in (0.5, stamped):
        decisions.decided("client-0", 1000 + ahead + at, 1000.0, 1001.0, allowed=True)
    clock = server_clock(Server(ahead))
    assert clock.ahead == pytest.approx(ahead, abs=1.0)
    assert clock.unsure < 1.0
    finding = _server_times(decisions, 1000.0, ServerClock(ahead, 0.0))
    assert finding.holds == (not outside)
    assert f"outside: {outside} of 2" in finding.says
    assert [f"says that it was decided at {stamped:.6f} s" in e for e in finding.evidence] == (
        [True] * outside
    )


def test_a_verdict_that_holds_says_what_it_could_have_shown() -> None:
    many = [1000 + 0.6 * n for n in range(300)]
    found = concluded(decided(admitted=many, denied=[1e4])).findings
    least = {one.name: one.least for one in found}
    assert least["over-admission"] == (
        "one admission too many in a window; a fault in one of 100 admissions, with 95 % certainty"
    )
    assert "a fault in one of 1 denials" in least["denials"]


@pytest.mark.parametrize(
    ("cpu", "latest", "reason"),
    [
        (0.5, 0.001, None),
        (0.95, 0.001, "one process used 95% of a core."),
        (0.5, 0.02, "half of its timers were late by more than 20 ms."),
    ],
)
def test_a_generator_is_judged_by_its_worst_interval(
    cpu: float, latest: float, reason: str | None
) -> None:
    evidence = Evidence(Decisions())
    evidence.record("hit", 1000.0, 0.5, waited=0.1)
    one: dict[str, Any] = {"cpu": 0.2, "bare": 500.0, "noop": 900.0}
    evidence.processes = {
        "busy": one | {"busiest": cpu, "latest": latest},
        "idle": one | {"busiest": 0.2, "latest": 0.0, "bare": None, "noop": None},
    }
    generator = _generator(evidence, 2.0, open_loop=True)
    assert generator is not None
    assert (generator.cpu_share, generator.busiest, generator.latest) == (0.2, cpu, latest)
    assert generator.noop_per_second == 900.0
    assert (generator.bare_per_second, generator.under_way) == (500.0, pytest.approx(0.2))
    overloaded = (generator.warning or "").partition(" 1 of ")[0]
    assert (reason is not None) == ("set the pace" in overloaded)
    assert (reason or "") in overloaded


def test_histories_without_an_operation_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    board = SimpleNamespace(scores=lambda: {"m1": 3})
    monkeypatch.setattr(of_boards, "board_of", lambda process: board)
    facts = BoardFacts("add")
    facts.submissions.add("m1", 3)
    facts.histories = [[], []]
    process: Any = SimpleNamespace(
        settings=SimpleNamespace(app_url=None), evidence=SimpleNamespace(facts=facts)
    )
    conclusion = of_boards.conclude(process)
    assert [finding.name for finding in conclusion.findings] == ["scores"]
    assert (conclusion.untested or "").startswith("no history was sampled")


def test_calls_without_an_answer_break_a_run_without_faults() -> None:
    evidence = Evidence(Decisions())
    for problem in (None, "lost", "lost", "refused", CUT_OFF):
        evidence.record("hit", 1000.0, 0.1, problem)
    (finding,) = _unanswered(limiter_settings(), evidence)
    assert finding.says.endswith("failed: 3 of 5")
    assert finding.evidence[0] == "2 x hit: lost"
    assert not _unanswered(limiter_settings(fault=("cut@1",)), evidence)


def test_a_naive_run_has_its_own_name_and_each_algorithm_its_own_bound() -> None:
    assert limiter_settings(naive=True).recorded()["algorithm"] == "naive-sliding-window"
    assert limiter_settings().recorded()["algorithm"] == "sliding-log"
    bounds = {
        name: limiter_settings(algorithm=name, limit=10).bounds
        for name in ("fixed-window", "sliding-log", "sliding-counter", "token-bucket")
    }
    assert bounds == {
        "fixed-window": (10, 20), "sliding-log": (10, 10), "sliding-counter": (10, 19),
        "token-bucket": (19, 19),
    }  # fmt: skip
    assert limiter_settings(algorithm="token-bucket", naive=True, limit=10).naive_bounds[0] == 10


@pytest.mark.parametrize("verdict", ["HOLDS", "BROKEN", "SHOWS NOTHING"])
def test_every_verdict_has_its_exit_code(verdict: str) -> None:
    assert (ExitCode[verdict.replace(" ", "_")] == 0) == (verdict == "HOLDS")


@pytest.mark.parametrize(
    ("planned", "lasted", "says"),
    [(60, 2.04, ", CUT SHORT at 2.0 of 60 s"), (60, 59.9, ""), (1, 1.0, ""), (None, 2.0, "")],
)
def test_a_run_that_was_cut_short_says_so(planned: int | None, lasted: float, says: str) -> None:
    assert _cut_short(limiter_settings(seconds=planned), lasted) == says


def test_no_process_makes_no_load() -> None:
    with pytest.raises(InvalidArgument, match="processes must be at least 1"):
        limiter_settings(processes=0)
