"""Denials judged: by limiters written out here, by every placing of what is unknown, on a server.

Beside each zero stands a limiter that denies one hit too early and is caught.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import redis

from kvlab import FixedWindow, Kv, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from kvlab.errors import InvalidArgument, OutcomeUnknown
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.judges.admissions import BOUNDS, judge
from kvlab.instruments.judges.denials import judge_denials
from kvlab.server.running_server import RunningServer

ALGORITHMS = list(BOUNDS)
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)

# --- limiters in whole microseconds, each as its promise has it --------------------------------


@dataclass
class Exact:
    """``forgets``: loses what it knows as soon as a key of kvlab may expire, and no sooner."""

    algorithm: str
    limit: int
    width: int
    burst: int
    forgets: bool = True
    times: list[int] = field(default_factory=list)
    level: int = 0
    last: int = 0

    def hit(self, now: int) -> bool:
        if self.forgets and self.times and now >= self.times[-1] + self.lives():
            self.times, self.level = [], 0
        allowed = self.fits(now)
        if allowed:
            self.level, self.last = self.left(now) + self.width, now
            self.times.append(now)
        return allowed

    def left(self, now: int) -> int:
        """The level of the bucket, in 1/width units."""
        return max(0, self.level - self.limit * (now - self.last))

    def fits(self, now: int) -> bool:
        start = now - now % self.width
        if self.algorithm == "token-bucket":
            return self.left(now) + self.width <= self.burst * self.width
        if self.algorithm == "sliding-log":
            return sum(now - self.width < t <= now for t in self.times) < self.limit
        current = sum(start <= t <= now for t in self.times)
        if self.algorithm == "fixed-window":
            return current < self.limit
        previous = sum(start - self.width <= t < start for t in self.times)
        overlap = self.width - now % self.width
        return previous * overlap <= (self.limit - current - 1) * self.width

    def lives(self) -> int:
        """For how long what is kept matters, from the last admission on."""
        since = self.times[-1] % self.width
        return {
            "fixed-window": self.width - since,
            "sliding-log": self.width,
            "sliding-counter": 2 * self.width - since,
            "token-bucket": math.ceil(self.level / self.limit),
        }[self.algorithm]


WIDTH = 50_000  # µs
START = 1_800_000_000_000_007  # µs


def arrivals(lot: random.Random, count: int) -> list[int]:
    """Bursts, some in one microsecond, and pauses in which everything is forgotten."""
    now, moments = START, []
    for _ in range(count):
        now += lot.choice((0, 1, lot.randrange(3_000), lot.randrange(9_000)))
        now += WIDTH * lot.choice((2, 3)) if lot.random() < 0.01 else 0
        moments.append(now)
    return moments


def seconds(micros: list[int]) -> list[float]:
    return [moment / 1e6 for moment in micros]


def decided(limiter: Exact, moments: list[int]) -> tuple[list[int], list[int]]:
    told = [(limiter.hit(now), now) for now in moments]
    return [t for ok, t in told if ok], [t for ok, t in told if not ok]


RULES = {"limit": 7, "window": WIDTH / 1e6, "burst": 5}


@pytest.mark.parametrize("forgets", [True, False], ids=["forgets", "remembers"])
@every_algorithm
def test_an_exact_limiter_is_never_wrong(algorithm: str, forgets: bool) -> None:
    for seed in range(5):
        limiter = Exact(algorithm, 7, WIDTH, 5, forgets)
        admitted, denied = decided(limiter, arrivals(random.Random(seed), 2_000))
        assert judge(algorithm, seconds(admitted), **RULES).holds
        verdict = judge_denials(algorithm, seconds(admitted), seconds(denied), **RULES)
        assert verdict.holds, verdict
        assert verdict.denied == len(denied) > 200
        assert (verdict.moment, verdict.used) == (None, None)


@every_algorithm
def test_one_admission_fewer_is_caught(algorithm: str) -> None:
    bucket = algorithm == "token-bucket"
    limiter = Exact(algorithm, 7 if bucket else 6, WIDTH, 4)
    admitted, denied = decided(limiter, arrivals(random.Random(1), 2_000))
    assert judge(algorithm, seconds(admitted), **RULES).holds
    verdict = judge_denials(algorithm, seconds(admitted), seconds(denied), **RULES)
    assert verdict.unjustified > 100
    assert verdict.moment is not None
    assert round(verdict.moment * 1e6) in denied
    most = 5 if bucket else 7
    assert verdict.used is not None
    assert most - 2 < verdict.used <= most - 1
    assert f"of {most} were used" in str(verdict)


def test_a_bucket_that_drains_too_slowly_is_caught() -> None:
    admitted, denied = decided(
        Exact("token-bucket", 6, WIDTH, 5), arrivals(random.Random(1), 2_000)
    )
    assert not judge_denials("token-bucket", seconds(admitted), seconds(denied), **RULES).holds


@pytest.mark.parametrize(
    ("algorithm", "admitted", "denied", "unjustified"),
    [
        ("fixed-window", [0.0] * 10, [59.999999, 60.0], 1),
        ("sliding-log", [30.0] * 10, [89.999999, 90.0], 1),
        ("sliding-counter", [0.0] * 10 + [90.0] * 5, [90.0, 95.999999, 96.0], 1),
        ("token-bucket", [0.0] * 10, [5.999999, 6.0], 1),
        ("fixed-window", [], [5.0], 1),
        ("fixed-window", [5.0] * 9, [5.0], 1),
        ("fixed-window", [5.0] * 10, [5.0, 4.999999], 1),  # the same microsecond may be before
        ("sliding-log", [5.0] * 10, [5.0, 4.999999], 1),
        ("sliding-counter", [5.0] * 10, [5.0, 4.999999], 1),
        ("token-bucket", [5.0] * 10, [5.0, 4.999999], 1),
    ],
)
def test_room_comes_back_at_one_microsecond(
    algorithm: str, admitted: list[float], denied: list[float], unjustified: int
) -> None:
    verdict = judge_denials(algorithm, admitted, denied, limit=10, window=60)
    assert verdict.unjustified == unjustified
    assert verdict.moment in denied


# --- answers that never came --------------------------------------------------------------------


@every_algorithm
def test_lost_answers_have_the_benefit_of_the_doubt(algorithm: str) -> None:
    lot = random.Random(3)
    admitted, denied = decided(Exact(algorithm, 7, WIDTH, 5), arrivals(lot, 3_000))
    lot.shuffle(admitted)
    lost, known = admitted[::5], [t for i, t in enumerate(admitted) if i % 5]
    late = [math.inf if lot.random() < 0.01 else lot.randrange(9_000) for _ in lost]
    spans = [
        ((t - lot.randrange(9_000)) / 1e6, (t + after) / 1e6)
        for t, after in zip(lost, late, strict=True)
    ]
    args = (algorithm, seconds(known), seconds(denied))
    verdict = judge_denials(*args, unknown=spans, **RULES)
    assert verdict.holds, verdict
    assert verdict.unknown == len(lost)
    assert judge_denials(*args, **RULES).unjustified > 100  # the control: nobody said they are lost


@every_algorithm
def test_the_doubt_has_an_end(algorithm: str) -> None:
    # Ten of ten may be used from 100 to 101 s; four windows later none of it can matter.
    args: Any = (algorithm, [], [101.0, 341.0])
    spans = [(100.0, 101.0)] * 10
    verdict = judge_denials(*args, limit=10, window=60, unknown=spans)
    assert (verdict.unjustified, verdict.moment) == (1, 341.0)
    verdict = judge_denials(*args, limit=10, window=60, unknown=spans[1:])
    assert (verdict.unjustified, verdict.used) == (2, 9)
    # However many are unknown, no more than ten were admitted.
    verdict = judge_denials(*args, limit=10, window=60, unknown=spans * 100)
    assert verdict.moment == 341.0


def test_a_counter_doubts_each_unknown_once_and_within_the_limit() -> None:
    args: Any = ("sliding-counter", [])
    # Five that came before the edge or after it are five, not ten.
    verdict = judge_denials(*args, [122.0], limit=10, window=60, unknown=[(119.0, 121.0)] * 5)
    assert (verdict.unjustified, verdict.used) == (1, 5)
    # However many may have come before the edge, ten did; five sixths of them are left.
    verdict = judge_denials(*args, [130.0], limit=10, window=60, unknown=[(100.0, 101.0)] * 99)
    assert (verdict.unjustified, verdict.used) == (1, pytest.approx(10 * 5 / 6))


@every_algorithm
def test_a_hit_that_may_still_come_justifies_whatever_is_later(algorithm: str) -> None:
    for denied, holds in ((4.0, False), (5.0, True), (10.0**9, True)):
        verdict = judge_denials(
            algorithm, [], [denied], limit=1, window=1, unknown=[(5.0, math.inf)]
        )
        assert verdict.holds is holds


def test_slack_widens_a_span_on_both_sides() -> None:
    for denied, least in ((9.5, 0.5), (70.5, 0.5)):
        spans = [(10.0, 10.5)] if denied < 10 else [(9.0, 10.0)]
        for slack, holds in ((least - 0.01, False), (least + 0.01, True)):
            verdict = judge_denials(
                "sliding-log", [], [denied], limit=1, window=60, unknown=spans, slack=slack
            )
            assert verdict.holds is holds


UNIT, WINDOW = 0.125, 4  # seconds, units: whole in binary, so that nothing is rounded


def justified(algorithm: str, used: list[int], now: int, limit: int, burst: int) -> bool:
    """Whether these admissions leave no room at ``now``, from the promise itself."""
    if algorithm == "token-bucket":
        past = [t for t in used if t <= now]
        fullest = (sum(t >= since for t in past) * WINDOW - limit * (now - since) for since in past)
        return max(0, max(fullest, default=0)) + WINDOW > burst * WINDOW
    return not Exact(algorithm, limit, WINDOW, burst, times=used).fits(now)


@every_algorithm
def test_agrees_with_every_placing_of_the_unknown_on_small_cases(algorithm: str) -> None:
    lot, answers = random.Random(11), []
    for case in range(80):
        limit, burst = lot.randrange(1, 4), lot.randrange(1, 4)
        admitted, _ = decided(
            Exact(algorithm, limit, WINDOW, burst), sorted(lot.choices(range(20), k=5))
        )
        # in half of the cases nothing is unknown, and the verdict must be the very one
        spans = [(b, b + lot.randrange(4)) for b in lot.choices(range(20), k=2 * (case % 2))]
        places = [[None, *range(b, e + 1)] for b, e in spans]
        placings = [[t for t in p if t is not None] for p in itertools.product(*places)]
        rules: Any = {"limit": limit, "window": WINDOW * UNIT, "burst": burst}
        for now in range(24):
            verdict = judge_denials(
                algorithm,
                np.array(admitted) * UNIT,
                [now * UNIT],
                unknown=[(b * UNIT, e * UNIT) for b, e in spans],
                slack=0,
                **rules,
            )
            possible = [
                used
                for placed in placings
                if judge(algorithm, np.array(used := admitted + placed) * UNIT, **rules).holds
            ]
            expected = any(justified(algorithm, used, now, limit, burst) for used in possible)
            if spans:
                assert verdict.holds or not expected  # never a false alarm
            else:
                assert verdict.holds == expected
            answers.append((verdict.holds, expected))
    right = sum(a == b for a, b in answers) / len(answers)
    assert right > 0.95  # the doubt is not given where no placing could use it
    assert {a for a, _ in answers} == {True, False}


# --- verdicts -----------------------------------------------------------------------------------


def test_verdicts_add_up_over_keys() -> None:
    def of(admitted: list[float], denied: list[float]) -> Any:
        return judge_denials("sliding-log", admitted, denied, limit=3, window=1, unknown=[(0, 0)])

    one, two, fine = of([4.9], [5.0, 9.0]), of([3.5] * 2, [4.0]), of([1.0] * 3, [1.5])
    assert (one.unjustified, two.unjustified, fine.unjustified) == (2, 1, 0)
    for both in (one + two + fine, fine + two + one):
        assert (both.denied, both.unjustified, both.unknown) == (4, 3, 3)
        assert (both.moment, both.used, both.holds) == (4.0, 2, False)
    assert (fine + fine).holds


def test_the_order_of_the_record_does_not_matter() -> None:
    admitted, denied = decided(
        Exact("sliding-counter", 6, WIDTH, 6), arrivals(random.Random(2), 500)
    )
    one = judge_denials("sliding-counter", seconds(admitted), seconds(denied), **RULES)
    two = judge_denials("sliding-counter", seconds(admitted[::-1]), seconds(denied[::-1]), **RULES)
    assert one == two
    assert not one.holds


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"algorithm": "leaky"}, "leaky"),
        ({"denied": [None]}, "denied must be finite"),
        ({"admitted": [math.nan]}, "admitted must be finite"),
        ({"limit": 0}, "limit must be a whole number of at least 1"),
        ({"window": 0}, "window must be"),
        ({"burst": 0}, "burst must be a whole number of at least 1"),
        ({"unknown": [(2, 1)]}, "unknown must be pairs"),
        ({"unknown": [(math.nan, 1)]}, "unknown must be pairs"),
        ({"slack": -1}, "slack must be"),
        ({"limit": 10**6 + 3, "window": 366 * 86400}, "cannot be counted exactly"),
    ],
)
def test_bad_records_are_refused(bad: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "algorithm": "token-bucket", "admitted": [], "denied": [], "limit": 1, "window": 1,
    }  # fmt: skip
    with pytest.raises(InvalidArgument, match=message):
        judge_denials(**good | bad)


# --- the real limiters --------------------------------------------------------------------------


def limiters(limit: int, burst: int) -> dict[str, Any]:
    return {
        "fixed-window": FixedWindow("f", limit, 0.05),
        "sliding-log": SlidingWindowLog("l", limit, 0.05),
        "sliding-counter": SlidingWindowCounter("c", limit, 0.05),
        "token-bucket": TokenBucket("b", 7, 0.05, burst=burst),
    }


def test_the_real_limiters_hold_on_both_sides_and_one_fewer_does_not(kv: Kv) -> None:
    exact, early = limiters(7, 5), limiters(6, 4)
    told: dict[tuple[str, str, str], list[Any]] = {}
    # Three keys by turns, 0.1 s of the server's clock each: what was kept expires in between.
    for turn in range(6):
        key, since, now, asked = f"k{turn % 3}", math.inf, -math.inf, 0
        while now < since + 0.1 or asked < 400:
            for kind, some in (("exact", exact), ("early", early)):
                names = [name for name in some for _ in range(10)]
                decisions = kv.run([some[name].hit(kind + key) for name in names])
                for name, decision in zip(names, decisions, strict=True):
                    told.setdefault((kind, name, key), []).append(decision)
                since, now = min(since, decisions[0].at), decisions[-1].at
                asked += len(decisions)
    for name in ALGORITHMS:
        verdicts = {}
        for kind in ("exact", "early"):
            each = []
            for _, decisions in ((k, d) for k, d in told.items() if k[:2] == (kind, name)):
                admitted = [d.at for d in decisions if d.allowed]
                denied = [d.at for d in decisions if not d.allowed]
                assert judge(name, admitted, **RULES).holds
                each.append(judge_denials(name, admitted, denied, **RULES))
            verdicts[kind] = sum(each[1:], each[0])
        assert verdicts["exact"].holds, (name, verdicts["exact"])
        assert verdicts["exact"].denied > 0
        assert not verdicts["early"].holds, name


@pytest.fixture
def lossy(kv: Kv, server: RunningServer) -> Iterator[tuple[Kv, Proxy]]:
    with (
        Proxy(server.url) as proxy,
        redis.Redis.from_url(proxy.url) as client,
        Kv(client, prefix=kv.prefix, sleep=lambda _: None) as through,
    ):
        yield through, proxy


@pytest.mark.parametrize(
    ("algorithm", "limiter"),
    [("sliding-log", SlidingWindowLog("l", 5, 60)), ("token-bucket", TokenBucket("b", 5, 60))],
)
def test_lost_answers_of_a_real_limiter(
    kv: Kv, lossy: tuple[Kv, Proxy], algorithm: str, limiter: Any
) -> None:
    through, proxy = lossy
    kv.run(limiter.hit("another"))  # the script is there
    spans = []
    for _ in range(3):
        proxy.swallow_replies(1, only="EVALSHA")
        began = time.time()
        with pytest.raises(OutcomeUnknown):
            through.run(limiter.hit("ann"))
        spans.append((began, time.time()))
    decisions = [kv.run(limiter.hit("ann")) for _ in range(6)]
    assert [d.allowed for d in decisions] == [True] * 2 + [False] * 4
    admitted, denied = [d.at for d in decisions[:2]], [d.at for d in decisions[2:]]
    args: Any = (algorithm, admitted, denied)
    assert judge_denials(*args, limit=5, window=60, unknown=spans).holds
    assert judge_denials(*args, limit=5, window=60, unknown=spans[1:]).unjustified == 4
