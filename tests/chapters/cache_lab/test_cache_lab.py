"""The caches of arithmetic are right, and the real ones lie where theory says."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from kvlab.chapters.cache_lab import charts, recorded
from kvlab.chapters.cache_lab.memory import bytes_an_entry
from kvlab.chapters.cache_lab.real_cache import CacheSettings, measure
from kvlab.chapters.cache_lab.theory import lru_curve, no_limit, optimum, stack_distances
from kvlab.chapters.cache_lab.workloads import workloads
from kvlab.errors import InvalidArgument
from kvlab.instruments import Zipf, che_lru_hit_ratio
from kvlab.instruments.measure.workload import Keys


def slow_lru(keys: Keys, size: int) -> int:
    """Hits of an LRU that is written down as it is told."""
    held: list[int] = []
    hits = 0
    for key in keys.tolist():
        hits += key in held
        held = [key, *(other for other in held if other != key)][:size]
    return hits


def best_possible(keys: Keys, size: int, warm: int = 0) -> int:
    """The most hits from ``warm`` on of any cache that stores each missed key: every choice is
    tried, and whatever was asked for in the warm-up may be held after it."""

    def hits(place: int, held: frozenset[int]) -> int:
        if place == len(keys):
            return 0
        key = int(keys[place])
        if key in held:
            return 1 + hits(place + 1, held)
        if len(held) < size:
            return hits(place + 1, held | {key})
        return max(hits(place + 1, held - {gone} | {key}) for gone in held)

    seen = {*keys[:warm].tolist()}
    held = itertools.combinations(seen, min(size, len(seen)))
    return max(hits(warm, frozenset(first)) for first in held)


@pytest.mark.parametrize("seed", range(8))
def test_arithmetic_agrees_with_brute_force(seed: int) -> None:
    keys = np.random.default_rng(seed).integers(0, 5, 12)
    for size in (1, 2, 3):
        assert lru_curve(keys, [size])[size] * 12 == pytest.approx(slow_lru(keys, size))
        for warm in (0, 3, 6):
            best = best_possible(keys, size, warm)
            assert optimum(keys, size, warm=warm) * (12 - warm) == pytest.approx(best)
    assert no_limit(keys) * 12 == pytest.approx(12 - len(set(keys.tolist())))


def test_an_exact_lru_is_near_che_and_below_the_optimum() -> None:
    popular = Zipf(2_000, 0.9)
    keys = popular.keys(20_000, 3)
    for size, ratio in lru_curve(keys, [100, 400, 1_000], warm=5_000).items():
        assert ratio == pytest.approx(che_lru_hit_ratio(popular.probabilities, size), abs=0.02)
        assert optimum(keys, size, warm=5_000) > ratio
    assert stack_distances(np.array([4, 7, 4, 4])).tolist()[2:] == [1, 0]
    with pytest.raises(InvalidArgument, match="warm must leave a request"):
        no_limit(keys, warm=20_000)


def test_the_server_lies_between_random_and_the_optimum() -> None:
    popular = Zipf(2_000, 0.9)
    keys = popular.keys(9_000, 5)
    policies = {"LRU": "allkeys-lru", "LFU": "allkeys-lfu", "random": "allkeys-random"}
    caches = {name: CacheSettings(policy, 500, samples=10) for name, policy in policies.items()}
    caches["no limit"] = CacheSettings("", 0)
    found = measure(caches, keys, rate=0, warm=3_000)
    limited = [one for name, one in found.items() if name != "no limit"]
    most = max(one.most for one in limited)
    # How many items fit is the server's matter: its memory depends on its buffers of the moment.
    assert all(0 < one.held < found["no limit"].held for one in limited)
    best = optimum(keys, most, warm=3_000)
    assert max(one.ratio for one in limited) < best < no_limit(keys, warm=3_000) + 1e-9
    assert found["no limit"].ratio == pytest.approx(no_limit(keys, warm=3_000))
    # Counting needs no clock: LFU is nearer to the optimum of its size than random is, however fast
    # the requests come.
    lfu, by_chance = found["LFU"], found["random"]
    best_of_both = (optimum(keys, one.held, warm=3_000) for one in (lfu, by_chance))
    assert lfu.ratio / next(best_of_both) > by_chance.ratio / next(best_of_both)


def test_a_short_trace_is_measured_too_and_a_cache_without_room_is_refused() -> None:
    keys = Zipf(300, 0.9).keys(230, 5)
    for warm in (0, 30, 220):
        (found,) = measure({"c": CacheSettings("", 0)}, keys, rate=0, warm=warm).values()
        counted = -(-warm // 20) * 20
        assert found.ratio == pytest.approx(no_limit(keys, warm=counted))
        assert found.most == len(set(keys.tolist()))
        assert found.held > 0.5 * found.most
    with pytest.raises(InvalidArgument, match="whole number from 0 to 220, not 221"):
        measure({"c": CacheSettings("", 0)}, keys, rate=0, warm=221)
    with pytest.raises(InvalidArgument, match="whole number of at least 500, not 9"):
        CacheSettings("allkeys-lru", 9)


def test_every_workload_has_the_keys_that_its_name_promises() -> None:
    made = workloads()
    assert {len(keys) for keys in made.values()} == {len(made["Zipf"])}
    scan = made["Zipf and a scan"]
    assert (scan != made["Zipf"]).mean() == pytest.approx(0.5, abs=0.01)
    assert len(set(scan[scan >= 10_000].tolist())) == (scan >= 10_000).sum()
    newest = np.maximum.accumulate(made["latest"])
    assert newest[-1] - newest[0] == pytest.approx(len(newest) * 0.1, rel=0.1)


def test_the_trace_that_ships_is_read_and_its_charts_say_what_was_measured() -> None:
    trace = recorded.trace()
    assert len(trace) == recorded.REQUESTS
    assert 0.7 < no_limit(trace.asked) < 0.9
    rows = [
        (workload, policy, kind, ratio)
        for workload in ("a", "b")
        for policy, kind, ratio in (
            ("LRU", "measured", 0.5), ("LFU", "measured", 0.6), ("random", "measured", 0.4),
            ("volatile-ttl", "measured", 0.4), ("Belady's optimum", "theory", 0.9),
            ("no limit", "theory", 0.95), ("exact LRU", "theory", 0.5),
        )
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["workload", "cache", "kind", "hit ratio"])
    assert charts.best_of(pd.concat([frame, frame])) == {"a": "LFU", "b": "LFU"}
    assert charts.best_policies(frame).endswith("Workloads won: LFU 2")
    figure = charts.by_workload(frame, title="t")
    marks = list(itertools.chain(*(line.get_xdata() for line in figure.axes[0].lines)))
    assert sorted(set(marks)) == sorted(set(frame["hit ratio"]))


def test_an_entry_of_a_small_hash_is_the_cheapest() -> None:
    entries = bytes_an_entry(5_000).set_index("layout")["bytes"]
    assert entries.idxmin() == "small hashes"
    assert entries.idxmax() == "string with TTL"
    assert entries.min() > 20
