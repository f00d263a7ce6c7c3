"""Loads the rate limiter directly through ``kv.run``, and judges what it admitted.

    locust -f loadtests/rate_limiter.py --headless --users 20 --run-time 30s
    kvlab load rate-limiter --algorithm token-bucket

At the end the admissions, by the server times that the decisions carry, are compared with the
algorithm's own bound (``kvlab.instruments.oracle``); one too many makes the exit code 1. The naive
sliding window tells no time, so it is judged only by what is beyond doubt, and is caught all the
same. ``--host`` takes a Redis URL; without it the embedded server is used.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from kv_user import KvUser, evidence_of, ready, report
from locust import events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import WorkerRunner

from kvlab import FixedWindow, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from kvlab.errors import InvalidArgument
from kvlab.instruments.oracle import Verdict, certain_overlap, judge
from kvlab.rate_limiting import NaiveSlidingWindow

LIMITERS: dict[str, Any] = {
    "fixed-window": FixedWindow,
    "sliding-log": SlidingWindowLog,
    "sliding-counter": SlidingWindowCounter,
    "token-bucket": TokenBucket,
}


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    own = parser.add_argument_group("rate limiter")
    own.add_argument("--algorithm", choices=LIMITERS, default="sliding-log", help="which limiter")
    own.add_argument("--limit", type=int, default=10, help="admissions a window and key")
    own.add_argument("--window", type=float, default=1.0, help="the window, in seconds")
    own.add_argument("--keys", type=int, default=2, help="how many keys share the load")
    own.add_argument("--naive", action="store_true", help="the tutorial's sliding window instead")


def limiter(given: Any) -> Any:
    """The limiter that the options ask for. Raises ``InvalidArgument`` for unusable ones."""
    return LIMITERS[given.algorithm]("load", limit=given.limit, window=given.window)


@events.init.add_listener
def _first(environment: Environment, **_: Any) -> None:
    given = environment.parsed_options
    if given.keys < 1:
        sys.exit(f"kvlab: keys must be at least 1, not {given.keys}")
    try:
        first = limiter(given).peek("client-0")
    except InvalidArgument as problem:
        sys.exit(f"kvlab: {problem}")
    ready(environment, first)


class RateLimited(KvUser):
    """Asks the limiter as fast as it answers: a closed loop, each user one request at a time."""

    def on_start(self) -> None:
        given = self.environment.parsed_options
        self.keys = [f"client-{number}" for number in range(given.keys)]
        self.limiter = limiter(given)
        self.naive = NaiveSlidingWindow(
            self.kv.client, given.limit, int(given.window * 1000), prefix=self.kv.prefix
        )

    @task
    def hit(self) -> None:
        key = random.choice(self.keys)
        if self.environment.parsed_options.naive:
            allowed, began, ended = self.timed("naive hit", lambda: self.naive.check(key))
            if allowed:
                self.evidence.facts.append([key, began, ended])
            return
        decision, _, _ = self.timed("hit", lambda: self.kv.run(self.limiter.hit(key)))
        if decision is not None and decision.allowed:
            self.evidence.facts.append([key, decision.at])


@events.quitting.add_listener
def _judge(environment: Environment, **_: Any) -> None:
    if isinstance(environment.runner, WorkerRunner):
        return
    given, evidence = environment.parsed_options, evidence_of(environment)
    verdict = _verdict(evidence.facts, given)
    name = "the naive sliding window" if given.naive else given.algorithm
    report(
        environment,
        f"Rate limiter: {name}, {given.limit} per {given.window:g} s, {given.keys} keys",
        f"{evidence.calls:,} decisions, {verdict.admitted:,} admitted",
        f"{verdict.bound}; the most seen is {verdict.worst:g}, the bound {verdict.limit:g}, "
        f"admissions too many: {verdict.over:,}",
        holds=verdict.holds,
        untested="no request was denied; take fewer keys, a lower limit or more users"
        if verdict.admitted == evidence.calls
        else None,
    )


def _verdict(facts: list[list[Any]], given: Any) -> Verdict:
    by_key: dict[str, list[Any]] = {"": []}
    for key, *moments in facts:
        by_key.setdefault(key, []).append(moments if given.naive else moments[0])
    settings = {"limit": given.limit, "window": given.window}
    verdicts = [
        certain_overlap(moments, **settings)
        if given.naive
        else judge(given.algorithm, moments, **settings)
        for moments in by_key.values()
    ]
    return sum(verdicts[1:], verdicts[0])
