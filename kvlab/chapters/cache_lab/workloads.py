"""The four workloads of the lab, each ``REQUESTS`` keys, and what theory says about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kvlab.chapters.cache_lab.real_cache import CacheSettings, Measured, measure
from kvlab.chapters.cache_lab.theory import lru_curve, no_limit, optimum
from kvlab.instruments.measure.theory import che_lru_hit_ratio
from kvlab.instruments.measure.workload import Hotspot, Keys, Latest, Zipf

KEYS, REQUESTS, WARM = 10_000, 24_000, 8_000
RATE, ITEMS, SEED = 5_000.0, 2_000, 12
POLICIES = {
    "LRU": "allkeys-lru",
    "LFU": "allkeys-lfu",
    "random": "allkeys-random",
    "volatile-ttl": "volatile-ttl",
}
POPULARITY = Zipf(KEYS, 0.9)
SCAN_EVERY, SCAN = 3_000, 1_500


def workloads() -> dict[str, Keys]:
    """By name, the keys that are asked for."""
    return {
        "Zipf": POPULARITY.keys(REQUESTS, SEED),
        "moving hot spot": Hotspot(KEYS, 0.1, 0.9, shift_every=4_000).keys(REQUESTS, SEED),
        "Zipf and a scan": with_scans(POPULARITY.keys(REQUESTS, SEED)),
        "latest": Latest(KEYS, 0.9, inserts=0.1).keys(REQUESTS, SEED),
    }


def with_scans(keys: Keys) -> Keys:
    """Every ``SCAN_EVERY`` requests a job reads ``SCAN`` keys in order that nobody else reads."""
    mixed, cold = keys.copy(), KEYS
    for begin in range(SCAN_EVERY - SCAN, len(keys), SCAN_EVERY):
        places = slice(begin, min(begin + SCAN, len(keys)))
        many = places.stop - places.start
        mixed[places] = np.arange(cold, cold + many)
        cold += many
    return mixed


@dataclass(frozen=True, slots=True)
class Theory:
    """Hit ratios of caches made of arithmetic; ``che`` is None where Che's assumption is wrong."""

    lru: float
    optimum: float
    no_limit: float
    che: float | None = None


def theory(keys: Keys, held: int, most: int, *, zipf: bool = False) -> Theory:
    """For caches that hold ``held`` items on average and ``most`` at most."""
    che = che_lru_hit_ratio(POPULARITY.probabilities, held) if zipf else None
    lru = lru_curve(keys, [held], warm=WARM)[held]
    return Theory(lru, optimum(keys, most, warm=WARM), no_limit(keys, warm=WARM), che)


def four_policies(keys: Keys) -> dict[str, Measured]:
    """Every policy side by side, on caches of one size."""
    caches = {name: CacheSettings(policy, ITEMS) for name, policy in POLICIES.items()}
    return measure(caches, keys, rate=RATE, warm=WARM)


def table(name: str, keys: Keys, measured: dict[str, Measured]) -> pd.DataFrame:
    """A row a cache, the measured ones and those of theory."""
    held, most = measured["LRU"].held, max(one.most for one in measured.values())
    of = theory(keys, held, most, zipf=name == "Zipf")
    rows = [(name, cache, "measured", one.ratio) for cache, one in measured.items()]
    rows += [
        (name, "Belady's optimum", "theory", of.optimum),
        (name, "no limit", "theory", of.no_limit),
    ]
    rows += [(name, "exact LRU", "theory", of.lru)]
    rows += [(name, "Che's LRU", "theory", of.che)] if of.che is not None else []
    return pd.DataFrame(rows, columns=["workload", "cache", "kind", "hit ratio"])


def curves(keys: Keys) -> dict[str, dict[int, float]]:
    """Hit ratio by size, for the workload *Zipf*: of Che's formula, an exact LRU, the optimum."""
    sizes = [125 * 2**n for n in range(6)]
    return {
        "Che's LRU": {
            n: che_lru_hit_ratio(POPULARITY.probabilities, n) for n in range(100, 4_600, 100)
        },
        "exact LRU": lru_curve(keys, sizes, warm=WARM),
        "Belady's optimum": {size: optimum(keys, size, warm=WARM) for size in sizes},
    }
