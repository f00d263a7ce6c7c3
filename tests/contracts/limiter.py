"""What every limiter promises, whatever its algorithm, on every engine and by every way.

And the oracles: what each algorithm must say, worked out from the history of admissions alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest

from kvlab import FixedWindow, Key, Kv, Op, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from kvlab.errors import ServerRefused

LONG = 10_000_000.0  # seconds: no window ends during a test
KINDS = (FixedWindow, SlidingWindowLog, SlidingWindowCounter, TokenBucket)
Run = Callable[[Any], Any]


def ttls(run: Any) -> dict[str, int]:
    """The TTL in ms of every key of the namespace."""
    client, prefix = run.kv.client, run.kv.prefix
    keys = [k.decode() for k in client.scan_iter(prefix + "*", count=1000)]
    return {k.removeprefix(prefix): client.pttl(k) for k in keys}


class LimiterContract:
    """Subclasses provide nothing: ``kind`` comes from the parameter, ``run`` from the fixture."""

    @pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
    def limiter(self, request: pytest.FixtureRequest) -> Any:
        return request.param("api", limit=10, window=LONG)

    def test_admits_the_limit_and_no_more(self, run: Run, limiter: Any) -> None:
        decisions = [run(limiter.hit("k")) for _ in range(12)]
        assert [d.allowed for d in decisions] == [True] * 10 + [False] * 2
        assert [d.remaining for d in decisions] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]
        assert all(d.limit == 10 and d.reset_after > 0 for d in decisions)
        assert all((d.retry_after == 0.0) == d.allowed for d in decisions)
        assert all(a.at < b.at for a, b in itertools.pairwise(decisions))
        assert run(limiter.hit("another")).allowed

    def test_a_denied_cost_uses_up_nothing(self, run: Run, limiter: Any) -> None:
        assert run(limiter.hit("k", cost=7)).remaining == 3
        for _ in range(3):
            denied = run(limiter.hit("k", cost=4))
            assert (denied.allowed, denied.remaining) == (False, 3)
        assert run(limiter.hit("k", cost=3)).allowed

    def test_a_cost_over_the_limit_never_fits(self, run: Run, limiter: Any) -> None:
        for cost in (11, 2**53):
            never = run(limiter.hit("k", cost=cost))
            assert (never.allowed, never.remaining, never.retry_after) == (False, 10, math.inf)
        assert ttls(run) == {}
        assert run(limiter.hit("k", cost=10)).allowed

    def test_a_peek_tells_what_a_hit_would_be_told(self, run: Run, limiter: Any) -> None:
        fresh = run(limiter.peek("k"))
        assert (fresh.allowed, fresh.remaining, fresh.reset_after) == (True, 10, 0.0)
        assert ttls(run) == {}
        run(limiter.hit("k", cost=9))
        assert [run(limiter.peek("k")).remaining for _ in range(3)] == [1, 1, 1]
        assert not run(limiter.peek("k", cost=2)).allowed
        assert run(limiter.hit("k")).allowed
        full = run(limiter.peek("k"))
        assert (full.allowed, full.remaining) == (False, 0)
        assert 0 < full.retry_after < math.inf

    def test_forget_gives_everything_back(self, run: Run, limiter: Any) -> None:
        assert run(limiter.forget("k")) is False
        run(limiter.hit("k", cost=10))
        assert run(limiter.forget("k")) is True
        assert run(limiter.hit("k", cost=10)).allowed

    def test_an_operation_counts_once(self, run: Run, limiter: Any) -> None:
        first = run(limiter.hit("k", cost=4, op_id="a"))
        assert [run(limiter.hit("k", cost=4, op_id="a")) for _ in range(5)] == [first] * 5
        assert run(limiter.hit("k", cost=4, op_id="b")).remaining == 2
        # A denied hit is no operation yet: it is admitted when it fits.
        assert not run(limiter.hit("k", cost=4, op_id="c")).allowed
        run(limiter.forget("k"))
        assert run(limiter.hit("k", cost=4, op_id="c")).remaining == 6
        assert run(limiter.hit("other", cost=4, op_id="a")).remaining == 6

    def test_every_key_expires_from_the_first_call_on(self, run: Run, limiter: Any) -> None:
        run(limiter.hit("k", op_id="a"))
        kept = ttls(run)
        assert len(kept) == 2
        assert all(ttl > 0 for ttl in kept.values())
        assert 30_000 < next(ttl for key, ttl in kept.items() if ":op:" in key) <= 60_000
        (used,) = [key for key in kept if ":op:" not in key]
        reset = run(limiter.hit("k", cost=9)).reset_after * 1000
        assert ttls(run)[used] == pytest.approx(reset, abs=60_000)
        run.kv.client.persist(run.kv.prefix + used)  # type: ignore[attr-defined]
        assert not run(limiter.peek("k")).allowed
        assert ttls(run)[used] == -1  # a peek writes nothing
        assert not run(limiter.hit("k")).allowed  # a denied hit heals too
        assert ttls(run)[used] == pytest.approx(reset, abs=60_000)

    def test_a_flushed_script_changes_nothing(self, any_kv: Kv, limiter: Any) -> None:
        any_kv.run(limiter.hit("k", cost=6))
        any_kv.client.script_flush()
        assert any_kv.run(limiter.hit("k")).remaining == 3

    def test_a_key_of_another_type_is_refused(self, any_kv: Kv, limiter: Any) -> None:
        any_kv.run(Op("HSET", Key(limiter.hit("k").keys[0].name), "field", "value"))
        with pytest.raises(ServerRefused, match="WRONGTYPE"):
            any_kv.run(limiter.hit("k"))

    def test_text_of_any_kind_is_a_key_of_its_own(self, any_kv: Kv, limiter: Any) -> None:
        texts = ["", "a", "{a}", "}{", "a\0", "a\n", "a:b", "é", "\udc80", "~", "x" * 10_000_000]
        for text in texts:
            op = limiter.hit(text, cost=10, op_id=text or "none")
            slots = {key.name[key.name.index("{") : key.name.index("}") + 1] for key in op.keys}
            assert len(slots) == 1
            assert any_kv.run(op).allowed, text[:10]
        kind = type(limiter)
        for name, key in (("a/b", "c"), ("a", "b/c"), ("a", "{b/c}"), ("a:b", "c"), ("a", "b:c")):
            assert any_kv.run(kind(name, limit=1, window=LONG).hit(key)).allowed


# --- oracles ----------------------------------------------------------------------------------


@dataclass
class Oracle:
    """What a limiter must say, from the admissions so far (µs, units), in exact arithmetic."""

    limit: int
    window: int  # µs
    admitted: list[tuple[int, int]] = field(default_factory=list)

    @property
    def most(self) -> int:
        return self.limit

    def load(self, now: int) -> Fraction:
        """What is in use at ``now``, in units."""
        raise NotImplementedError

    def fits(self, now: int, cost: int) -> bool:
        return self.load(now) + cost <= self.most

    def first(self, now: int, true: Callable[[int], bool]) -> int:
        """After how many µs it becomes true, and stays so."""
        low, high = 0, 4 * self.window * max(1, -(-self.most // self.limit))
        while low < high:
            middle = (low + high) // 2
            if true(now + middle):
                high = middle
            else:
                low = middle + 1
        return low

    def answer(self, now: int, cost: int, *, counting: bool) -> tuple[bool, int, float, int]:
        """(allowed, remaining, retry after, reset after), times in µs."""
        allowed = self.fits(now, cost)
        retry: float = 0 if allowed else self.first(now, lambda t: self.fits(t, cost))
        if cost > self.most:
            retry = math.inf
        if allowed and counting:
            self.admitted.append((now, cost))
        remaining = max(0, math.floor(self.most - self.load(now)))
        return allowed, remaining, retry, self.first(now, lambda t: self.load(t) == 0)

    def check_bound(self) -> None:
        """No true interval holds more than the algorithm's stated bound."""
        for i, (start, _) in enumerate(self.admitted):
            total = 0
            for end, cost in self.admitted[i:]:
                total += cost
                assert total <= self.bound(start, end), (start, end, total)

    def bound(self, start: int, end: int) -> Fraction:
        """The most that can be admitted from ``start`` to ``end``, both included."""
        raise NotImplementedError


class FixedOracle(Oracle):
    def load(self, now: int) -> Fraction:
        return Fraction(sum(c for t, c in self.admitted if t // self.window == now // self.window))

    def bound(self, start: int, end: int) -> Fraction:
        return Fraction(self.limit * (end // self.window - start // self.window + 1))


class LogOracle(Oracle):
    def load(self, now: int) -> Fraction:
        return Fraction(sum(c for t, c in self.admitted if now - self.window < t <= now))

    def bound(self, start: int, end: int) -> Fraction:
        return Fraction(self.limit * ((end - start) // self.window + 1))


class CounterOracle(FixedOracle):
    def load(self, now: int) -> Fraction:
        overlap = Fraction(self.window - now % self.window, self.window)
        return super().load(now) + overlap * super().load(now - self.window)


class BucketOracle(Oracle):
    burst = 0

    @property
    def most(self) -> int:
        return self.burst

    def load(self, now: int) -> Fraction:
        level, last = Fraction(0), 0
        for t, cost in [*self.admitted, (now, 0)]:
            level = max(Fraction(0), level - Fraction(self.limit * (t - last), self.window)) + cost
            last = t
        return level

    def bound(self, start: int, end: int) -> Fraction:
        return self.burst + Fraction(self.limit * (end - start), self.window)


def oracle_for(limiter: Any) -> Oracle:
    kinds = {FixedWindow: FixedOracle, SlidingWindowLog: LogOracle}
    kinds |= {SlidingWindowCounter: CounterOracle, TokenBucket: BucketOracle}
    oracle = kinds[type(limiter)](limiter.limit, round(limiter.window * 1_000_000))
    if isinstance(oracle, BucketOracle):
        oracle.burst = limiter.burst or limiter.limit
    return oracle
