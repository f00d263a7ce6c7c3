"""What a verdict makes of the evidence: recorded calls, without a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support.load_samples import limiter_settings

from kvlab.load.evidence import CUT_OFF, Evidence
from kvlab.load.leaderboard import verdict as of_boards
from kvlab.load.leaderboard.facts import BoardFacts
from kvlab.load.options import ExitCode
from kvlab.load.rate_limiter.decisions import Decisions
from kvlab.load.rate_limiter.verdict import conclude
from kvlab.load.verdict import Conclusion, _unanswered


def concluded(evidence: Evidence[Decisions], began: float = 1000.0, **more: Any) -> Conclusion:
    process: Any = SimpleNamespace(settings=limiter_settings(**more), evidence=evidence)
    return conclude(process, began)


def decided(**times: list[float]) -> Evidence[Decisions]:
    """A record of answers, ``admitted`` and ``denied``."""
    evidence = Evidence(Decisions())
    for at in times.get("admitted", []):
        evidence.facts.decided("client-0", at, allowed=True)
    for at in times.get("denied", []):
        evidence.facts.decided("client-0", at, allowed=False)
    return evidence


def naive(*spans: tuple[float, float]) -> Evidence[Decisions]:
    evidence = Evidence(Decisions())
    for began, ended in spans:
        evidence.facts.admitted_within("naive-0", began, ended)
        evidence.record("naive hit", ended, ended - began)
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
    evidence.record("naive hit", 1000.3, 0.1)  # answered, and not allowed
    assert concluded(evidence, naive=True).untested is None


def test_a_call_that_the_end_cut_off_is_no_denial() -> None:
    evidence = naive((1001.0, 1001.001), (1002.0, 1002.001))
    evidence.record("naive hit", 1003.0, 0.001, CUT_OFF)
    untested = concluded(evidence, naive=True, limit=10).untested
    assert (untested or "").startswith("no request was denied")


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
    most = {
        name: limiter_settings(algorithm=name, limit=10).most
        for name in ("fixed-window", "sliding-log", "sliding-counter", "token-bucket")
    }
    assert most == {
        "fixed-window": 10, "sliding-log": 10, "sliding-counter": 10, "token-bucket": 19
    }  # fmt: skip
    assert limiter_settings(algorithm="token-bucket", naive=True, limit=10).most == 10


@pytest.mark.parametrize("verdict", ["HOLDS", "BROKEN", "SHOWS NOTHING"])
def test_every_verdict_has_its_exit_code(verdict: str) -> None:
    assert (ExitCode[verdict.replace(" ", "_")] == 0) == (verdict == "HOLDS")
