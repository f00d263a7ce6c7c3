"""Loads the rate limiter and judges what it admitted, and what it did not.

    locust -f loadtests/rate_limiter.py --headless --users 20 --run-time 30s
    kvlab load rate-limiter --algorithm token-bucket

At the end every admission, by the server time that its decision carries, is held against the
algorithm's own bound, and every denial against what it must let through
(``instruments/judges``); one too many of either makes the exit code 1. The naive sliding
window tells no time, so it is judged only by what is beyond doubt, and is caught all the same.

``--host`` takes a Redis URL; without it the embedded server is used. ``--app`` goes through the
sample web app; one that runs already is named by ``--host http://…`` and must have the same
algorithm, limit and window, and trust the addresses that 127.0.0.1 forwards.
"""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from locust import task

import kvlab
from kvlab.core.checks import whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.judges.admissions import certain_overlap, judge
from kvlab.instruments.judges.denials import judge_denials
from kvlab.load.decisions import Decisions
from kvlab.load.http_target import HttpTarget
from kvlab.load.record.run import Finding
from kvlab.load.user import KvUser, Process
from kvlab.load.verdict import Judgement
from kvlab.rate_limiting import NaiveSlidingWindow
from kvlab.sample_app.settings import LIMITERS

_TOLD = (200, 429)
CONTROL = 5
"""With --control each so-manieth user is naive."""


def limiter(given: Any) -> Any:
    """The limiter that the options ask for. Raises ``InvalidArgument`` for unusable ones."""
    return LIMITERS[given.algorithm]("load", limit=given.limit, window=given.window)


def decisions(process: Process) -> Decisions:
    """What the users of this process have noted so far."""
    facts = process.evidence.facts
    assert isinstance(facts, Decisions)
    return facts


class RateLimiterLoad:
    """See :class:`kvlab.load.verdict.LoadTest`."""

    pattern = "rate-limiter"

    def options(self, add: Callable[..., Any]) -> None:
        add("--algorithm", choices=list(LIMITERS), default="sliding-log", help="which limiter")
        add("--limit", type=int, default=10, help="admissions a window and key")
        add("--window", type=float, default=1.0, help="the window, in seconds")
        add("--keys", type=int, default=2, help="how many keys share the load")
        add(
            "--control",
            action="store_true",
            help="one user of five uses the tutorial's sliding "
            "window, on keys of its own: it must be caught in the same run",
        )

    def first(self, given: Any) -> kvlab.Op[Any]:
        whole("keys", given.keys, 1)
        least = CONTROL * (given.processes or 1)
        if given.control and given.num_users and given.num_users < least:
            raise InvalidArgument(
                f"--control needs at least {least} users, {CONTROL} a process: one of them is naive"
            )
        op: kvlab.Op[Any] = limiter(given).peek("client-0")
        return op

    def title(self, given: Any) -> str:
        name = "the naive sliding window" if given.naive else given.algorithm
        return f"Rate limiter: {name}, {given.limit} per {given.window:g} s, {given.keys} keys"

    def app_settings(self, given: Any) -> dict[str, Any]:
        return {"algorithm": given.algorithm, "limit": given.limit, "window": given.window}

    def facts(self, given: Any) -> Decisions:
        return Decisions()

    def beside(self, process: Process) -> None:
        """Nothing."""

    def judge(self, process: Process, began: float) -> Judgement:
        given, facts = process.environment.parsed_options, decisions(process)
        findings = [] if given.naive else _findings(facts, given)
        if given.naive or given.control:
            findings.append(_naive_finding(facts, given))
        denied = sum(len(facts.denials(key)) for key in facts.keys)
        untested = None
        if given.naive:
            answered = process.evidence.calls - sum(process.evidence.errors.values())
            denied = answered - facts.untimed
        if not denied:
            untested = "no request was denied; take fewer keys, a lower limit or more users"
        windows = facts.windows(began, given.window, given.limit)
        return Judgement(findings, untested, windows)


def _findings(facts: Decisions, given: Any) -> list[Finding]:
    settings = {"limit": given.limit, "window": given.window}
    over = [judge(given.algorithm, facts.admissions(key), **settings) for key in facts.keys]
    under = [
        judge_denials(
            given.algorithm,
            facts.admissions(key),
            facts.denials(key),
            unknown=facts.unknown_spans(key),
            **settings,
        )
        for key in facts.keys
    ]
    return [_over(sum(over[1:], over[0])), _under(sum(under[1:], under[0]))] if over else []


def _over(verdict: Any) -> Finding:
    says = (
        f"{verdict.bound}; the most seen is {verdict.worst:g}, the bound {verdict.limit:g}, "
        f"admissions too many: {verdict.over:,} of {verdict.admitted:,}"
    )
    return Finding("over-admission", verdict.holds, says)


def _under(verdict: Any) -> Finding:
    says = (
        "nobody is denied who is within the limit; denials without reason: "
        f"{verdict.unjustified:,} of {verdict.denied:,}"
        + (f", {verdict.unknown:,} answers unknown" if verdict.unknown else "")
    )
    evidence = () if verdict.holds else (str(verdict),)
    return Finding("denials", verdict.holds, says, evidence)


def _naive_finding(facts: Decisions, given: Any) -> Finding:
    verdicts = [
        certain_overlap(facts.untimed_spans(key), limit=given.limit, window=given.window)
        for key in facts.untimed_keys
    ]
    if not verdicts:
        return Finding("naive", False, "the naive sliding window admitted nothing")
    verdict = sum(verdicts[1:], verdicts[0])
    if given.naive:
        return _over(verdict)
    return Finding(
        "control",
        not verdict.holds,
        f"the naive sliding window, beside it, is caught: {verdict.over:,} admissions too many "
        f"beyond doubt, of {verdict.admitted:,}",
    )


class RateLimited(KvUser):
    """Asks the limiter again and again."""

    def prepare(self) -> None:
        given = self.given = self.process.given
        number = next(self.process.numbers)
        is_naive = given.naive or (given.control and number % CONTROL == CONTROL - 1)
        if is_naive:
            self.hit_once = self._hit_naive
            self.naive = NaiveSlidingWindow(
                self.process.naive_client, given.limit, int(given.window * 1000), self.kv.prefix
            )
        elif self.http is not None:
            self.hit_once = partial(self._hit_app, self.http)
        else:
            self.hit_once = self._hit
            self.limiter = limiter(given)

    @property
    def facts(self) -> Decisions:
        """Of now: what was noted before may be on its way to the master."""
        return decisions(self.process)

    @task
    def hit(self) -> None:
        self.hit_once(random.randrange(self.given.keys))

    def _hit(self, number: int) -> None:
        key = f"client-{number}"
        decision = self.timed(
            "hit",
            lambda: self.kv.run(self.limiter.hit(key)),
            partial(self._unknown, key),
        )
        if decision is not None:
            self.facts.decided(key, decision.at, allowed=decision.allowed)

    def _unknown(self, key: str, began: float, now: float) -> None:
        self.facts.unknown(key, began, now + self.given.kvlab["late"])

    def _hit_app(self, http: HttpTarget, number: int) -> None:
        key = _address(self.given.kvlab["tag"], number)
        decision = self.timed(
            "POST /api/work",
            lambda: http.post("/api/work", headers={"X-Forwarded-For": key}, expected=_TOLD),
            partial(self._unknown, key),
        )
        if decision is not None and decision["decided_at"] is not None:
            self.facts.decided(key, decision["decided_at"], allowed=decision["allowed"])

    def _hit_naive(self, number: int) -> None:
        key = f"naive-{number}"
        began = time.time()
        if self.timed("naive hit", lambda: self.naive.check(key), lambda *_: None):
            self.facts.admitted_within(key, began, time.time())


def _address(tag: int, number: int) -> str:
    """An address in a /64 of its own, which other runs do not use."""
    return str(ipaddress.IPv6Address((0xFD << 120) | (tag % 2**32 << 88) | (number << 64) | 1))
