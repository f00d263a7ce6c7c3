"""What the lock asks for and when, step by step: no server, and a clock that the test answers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from kvlab import Flow, Held, Lock, Now, Wait
from kvlab.core.hold import Holding
from kvlab.distributed_lock.lock import MAX_BLOCK
from kvlab.errors import DEMOTED, LockLost, OutcomeUnknown, ServerRefused, ServerUnavailable

LOCK = Lock("orders", 60)
GOT = Held("token", 7)


class Steps:
    """The steps of a flow; each call answers the last step and gives the next."""

    def __init__(self, flow: Flow[Any]) -> None:
        self._flow, self.result = iter(flow), None
        self.step = next(self._flow)

    def __call__(self, answer: Any) -> Any:
        try:
            self.step = self._flow.send(answer)
        except StopIteration as end:
            self.step, self.result = None, end.value
        return self.step

    def got_it(self) -> Any:
        """The server's reply to the acquire: it is ours, with fence 7."""
        return self(self.step.decode([1, 7]))

    @property
    def said(self) -> str:
        """The kind of the step: the clock, or the script or command."""
        if isinstance(self.step, Now):
            return "now"
        return getattr(self.step.command, "name", self.step.command).rpartition("/")[2]


def test_a_hold_counts_from_the_attempt_that_got_it() -> None:
    steps = Steps(LOCK.acquire(100))
    for answer, said in [(1000, "acquire"), (5.0, "BLPOP"), (None, "now"), (1004, "acquire")]:
        steps(answer)
        assert steps.said == said
    steps.got_it()
    steps(1005)
    assert steps.step is None
    assert (steps.result.fence, steps.result.since) == (7, 1004)


@pytest.mark.parametrize(("took", "is_hold"), [(59.999, True), (60, False), (61, False)])
def test_an_answer_that_took_the_whole_ttl_is_no_hold(took: float, is_hold: bool) -> None:
    steps = Steps(LOCK.acquire(1000))
    steps(100)
    steps.got_it()
    steps(100 + took)
    if is_hold:
        assert steps.result.since == 100
    else:
        assert steps.said == "release"
        steps(True)
        steps(100 + took)
        assert steps.said == "acquire"  # of another token


@pytest.mark.parametrize(
    ("wait", "ttl_left", "blocks"),
    [(100, 5.0, 5.0), (3, 5.0, 3), (100, 50.0, MAX_BLOCK), (0.0004, 5.0, 0.001), (0, 5.0, None)],
)
def test_a_waiter_blocks_for_the_shortest_of_its_bounds(
    wait: float, ttl_left: float, blocks: float | None
) -> None:
    steps = Steps(LOCK.acquire(wait))
    steps(100)
    assert steps.step.args[-1] == str(int(wait > 0))  # the server notes who waits
    steps(ttl_left)
    if blocks is None:
        assert (steps.step, steps.result) == (None, None)
    else:
        assert (steps.said, steps.step.args[-1], steps.step.blocking) == ("BLPOP", blocks, blocks)


@pytest.mark.parametrize(
    "problem",
    [OutcomeUnknown("lost"), ServerUnavailable("gone"), ServerRefused(f"{DEMOTED} from blocking")],
)
def test_a_waiter_that_meets_an_outage_pauses_before_its_next_try(problem: Exception) -> None:
    steps = Steps(LOCK.acquire(100))
    for answer in (100, 5.0):
        steps(answer)
    assert steps._flow.throw(problem) == Wait(0.1)


@pytest.mark.parametrize(("now", "tries"), [(109.999, True), (110, True), (110.001, True)])
def test_the_last_try_comes_when_the_wait_is_over(now: float, tries: bool) -> None:
    steps = Steps(LOCK.acquire(10))
    for answer in (100, 5.0, None, now):
        steps(answer)
    assert steps.said == "acquire"
    steps(5.0)
    assert (steps.step is None) == (now >= 110)


def test_renewals_come_every_third_of_the_ttl_until_the_lock_is_gone() -> None:
    steps = Steps(Holding(LOCK, GOT, lambda: 0.0).renewals())
    for answer in (True, True, False):
        assert steps.step == Wait(20)
        assert isinstance(steps(None), Now)
        steps(100)
        assert steps.said == "renew"
        assert steps.step.args[1:] == ("token", "60000")
        steps(answer)
    assert steps.step is None


def test_a_renewal_that_succeeds_makes_good_one_that_failed() -> None:
    holding = Holding(LOCK, GOT, lambda: 0.0)
    for answer in (ServerUnavailable("gone"), True, False):
        steps = Steps(holding.renewal())
        steps(100)
        with suppress(StopIteration):
            if isinstance(answer, Exception):
                steps._flow.throw(answer)
            else:
                steps._flow.send(answer)
    with pytest.raises(LockLost) as lost:
        holding.check()
    assert lost.value.__cause__ is None


@pytest.mark.parametrize(("reply", "seconds"), [([0, 0], 0.001), ([0, 4999], 5.0)])
def test_a_refusal_says_when_the_ttl_is_surely_over(reply: list[int], seconds: float) -> None:
    steps = Steps(LOCK.acquire(100))
    steps(100)
    assert steps.step.decode(reply) == seconds
