"""The TTL formula against caches whose behaviour is known, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvlab import CacheAside, Kv, Lookup
from kvlab.chapters.cache_aside.hit_ratio import HitRatios, measure, predicted
from kvlab.chapters.cache_aside.hit_ratio_charts import knob, misses_by_ttl
from kvlab.errors import InvalidArgument
from kvlab.instruments import Zipf
from kvlab.instruments.measure.experiment import Clock

SETTINGS: dict[str, Any] = {
    "skews": (0.5, 1.0, 1.5), "ttls": (0.1, 0.2, 0.4), "keys": 40, "rate": 400, "duration": 40,
    "seed": 1,
}  # fmt: skip


class Virtual(Clock):
    """Waits in no time. Runs ops; each trip takes ``trip`` seconds."""

    def __init__(self, trip: float = 0.0) -> None:
        self.time, self.trip = 0.0, trip

    def now(self) -> float:
        return self.time

    def wait_until(self, moment: float) -> None:
        self.time = max(self.time, moment)

    def run(self, ops: Any) -> list[Any]:
        self.time += self.trip
        return [op() for op in ops]


class Memory:
    """A cache of known behaviour: ``lives(ttl, now)`` says until when a fill or a hit lives."""

    def __init__(self, clock: Clock, ttl: float, *, sliding: bool = False) -> None:
        self.clock, self.ttl, self.sliding = clock, ttl, sliding
        self.until: dict[Any, float] = {}

    def read(self, key: Any) -> Callable[[], Lookup]:
        def look() -> Lookup:
            hit = self.until.get(key, -1.0) > self.clock.now()
            if hit and self.sliding:
                self.until[key] = self.clock.now() + self.ttl
            return Lookup(hit, key, None if hit else "lease")

        return look

    def fill(self, key: Any, lease: str, value: Any) -> Callable[[], None]:
        def store() -> None:
            self.until[key] = self.clock.now() + self.ttl

        return store


def measured(clock: Virtual, **memory: Any) -> HitRatios:
    return measure(clock, lambda _, ttl: Memory(clock, ttl, **memory), clock=clock, **SETTINGS)


def test_a_ttl_cache_meets_the_formula_within_a_point() -> None:
    ratios = measured(Virtual())
    assert len(ratios.frame) == 9
    assert ratios.worst < 1
    assert ratios.result.late == 0


def test_a_cache_that_renews_on_each_hit_does_not() -> None:
    assert measured(Virtual(), sliding=True).worst > 5


def test_a_late_generator_is_judged_by_the_rate_it_made() -> None:
    ratios = measured(Virtual(trip=0.003))
    assert ratios.result.late_share > 0.9
    assert ratios.rate < 300
    assert ratios.worst < 2
    first = ratios.frame.iloc[0]
    by_schedule = predicted(Zipf(40, first["skew"]), SETTINGS["rate"], first["ttl"])
    assert abs(first["measured"] - by_schedule) > 0.05


def test_the_warm_up_is_not_counted() -> None:
    clock = Virtual()

    class WarmsUp(Memory):
        def read(self, key: Any) -> Callable[[], Lookup]:
            return lambda: Lookup(self.clock.now() >= 0.4, key, "lease")

    ratios = measure(clock, lambda _, ttl: WarmsUp(clock, ttl), clock=clock, **SETTINGS)
    assert set(ratios.frame["measured"]) == {1.0}
    assert set(ratios.frame["requests"]) == {ratios.result.count}


def test_the_real_cache_filled_once_for_each_key(kv: Kv) -> None:
    # virtual arrivals, real TTLs that do not end meanwhile: a miss is a key's first request
    clock = Virtual()
    ratios = measure(
        kv, lambda name, ttl: CacheAside(name, ttl, jitter=0, early=0), clock=clock,
        skews=(0.0, 2.0), ttls=(600, 1200), keys=50, rate=0.02, duration=12_000, seed=1,
    )  # fmt: skip
    stored = [len(list(kv.client.scan_iter(f"{kv.prefix}cache:zipf-{s}-*"))) for s in (0, 2)]
    trips = len(list(kv.client.scan_iter(f"{kv.prefix}*")))
    assert trips == sum(stored) > 50
    for skew, rows in ratios.frame.groupby("skew"):
        misses = (1 - rows["measured"]) * rows["requests"]
        assert misses.round(6).nunique() == 1, "two TTLs, the same requests"
        assert misses.iloc[0] <= stored[0 if skew == 0 else 1] / 2


def test_too_short_a_run_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="duration"):
        measure(Virtual(), lambda *_: None, **SETTINGS | {"duration": 3.9})  # type: ignore[arg-type,return-value]


def test_the_knob_says_what_the_formula_says() -> None:
    ratios = measured(Virtual())
    share = predicted(Zipf(40, 0.8), ratios.rate, 0.3)
    title = knob(ratios, 0.8, 0.3).axes[0].get_title(loc="left")
    assert title == f"Zipf skew 0.8, TTL 300 ms: {share:.0%} hits predicted"


def test_the_interval_of_a_hit_ratio_holds_the_formula_in_nineteen_of_twenty() -> None:
    frame = measured(Virtual()).frame
    assert (frame["off"].abs() / 100 <= 1.5 * frame["within"]).all()
    assert frame["within"].between(0.001, 0.02).all()


def test_what_a_doubled_ttl_leaves_of_the_misses() -> None:
    ratios = measured(Virtual())
    least, most = ratios.misses_left
    assert 0.5 < least < most < 1.02
    first, second = ratios.frame["measured"][:2]
    assert least < (1 - second) / (1 - first) < most
    figure = misses_by_ttl(ratios, title="t")
    assert [text.get_text() for text in figure.axes[0].texts][:3] == [
        "Zipf skew 0.5",
        "Zipf skew 1",
        "Zipf skew 1.5",
    ]


def test_without_a_doubled_ttl_nothing_is_said_of_it() -> None:
    clock = Virtual()
    settings = SETTINGS | {"ttls": (0.1, 0.3)}
    ratios = measure(clock, lambda _, ttl: Memory(clock, ttl), clock=clock, **settings)
    with pytest.raises(InvalidArgument, match="twice"):
        _ = ratios.misses_left
