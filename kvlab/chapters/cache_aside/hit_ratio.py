"""The measured hit ratio of a TTL cache beside the formula, for several popularities and TTLs.

Guarantee: every cache gets requests at the same Poisson moments, for keys drawn from its own
popularity. One round trip asks all caches, and one more fills the caches that missed. Counting
begins after the longest TTL and lasts for at least ten of the longest TTL. The formula gets the
rate at which requests were really made: a generator that falls behind its schedule changes the
load and not the verdict, and the result says how late the generator was.

Not promised: the formula for a cache with jitter or early renewal, or for a cache whose fills take
as long as its TTL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from kvlab.core.checks import real
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.experiment import Clock, experiment
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.theory import student_t, ttl_hit_ratio
from kvlab.instruments.measure.workload import OpenLoop, Trace, Zipf

WARM_TTLS, LEAST_TTLS = 1, 10
CURVE_POINTS = 40
BATCHES = 10


class Found(Protocol):
    """What a read gives: a hit, or the lease to fill under."""

    @property
    def hit(self) -> bool: ...
    @property
    def lease(self) -> str | None: ...


class TtlCache(Protocol):
    """``kvlab.CacheAside`` is one; its ``jitter`` and ``early`` must be 0."""

    def read(self, key: str | int, /) -> Any: ...
    def fill(self, key: str | int, lease: str, value: Any, /) -> Any: ...


class Runs(Protocol):
    """Runs a list of ops in one round trip, as ``kvlab.Kv`` does."""

    def run(self, ops: Iterable[Any], /) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class HitRatios:
    """``frame``: skew, ttl (s), requests, measured, theory (shares), off (percentage points).

    ``within``: half of the 95 % interval of ``measured``, from ``BATCHES`` parts of the run one
    after the other (batch means; Conway, "Some tactical problems in digital simulation", 1963).
    ``result`` is the run behind the frame: its latency is the time to ask all caches and to fill
    those that missed. ``rate``: the requests that were made in a second.
    """

    frame: pd.DataFrame
    result: Result
    rate: float
    popularities: Mapping[float, Zipf]

    @property
    def worst(self) -> float:
        """The largest distance between measurement and formula, in percentage points."""
        return float(self.frame["off"].abs().max())

    @property
    def misses_left(self) -> tuple[float, float]:
        """What a doubled TTL leaves of the measured misses: the least and the most, of all skews.

        These are the ends of the intervals: each share is at least the first number, and at most
        the second. Raises InvalidArgument when no TTL is twice another one.
        """
        shares = []
        for _, rows in self.frame.groupby("skew"):
            misses = dict(zip(rows["ttl"], 1 - rows["measured"], strict=True))
            error = dict(zip(rows["ttl"], rows["within"], strict=True))
            for ttl in misses:
                if (twice := 2 * ttl) in misses:
                    share = misses[twice] / misses[ttl]
                    parts = error[twice] / misses[twice], error[ttl] / misses[ttl]
                    shares += [share * (1 - math.hypot(*parts)), share * (1 + math.hypot(*parts))]
        if not shares:
            raise InvalidArgument(f"no TTL is twice another one: {sorted(set(self.frame['ttl']))}")
        return min(shares), max(shares)

    @property
    def described(self) -> str:
        """How the ratios were measured, and how far they are from the formula, in one line."""
        facts, late = self.result.environment, self.result.late_share
        return (
            f"open loop, Poisson, {self.rate:.0f} requests/s were made; {late:.0%} started more "
            f"than 1 ms late; warm-up {facts['warmup']}; seed {facts['seed']}; 1 repetition; "
            f"at most {self.worst:.2f} points off the formula"
        )

    def table(self) -> Any:
        """The frame, styled for a notebook."""
        shown = self.frame.rename(columns={"ttl": "TTL", "off": "off, points", "within": "±"})
        percent = dict.fromkeys(("measured", "±", "theory"), "{:.1%}")
        forms = {"skew": "{:g}", "TTL": "{:g} s", "off, points": "{:+.2f}"} | percent
        return shown.style.hide(axis="index").format(forms)

    def curve(self, skew: float) -> pd.DataFrame:
        """The formula's hit ratio for one skew, between the shortest and the longest TTL."""
        ttls = np.geomspace(self.frame["ttl"].min(), self.frame["ttl"].max(), CURVE_POINTS)
        ratios = [predicted(self.popularities[skew], self.rate, ttl) for ttl in ttls]
        return pd.DataFrame({"ttl": ttls, "theory": ratios})


def predicted(popularity: Zipf, rate: float, ttl: float) -> float:
    """The formula's hit ratio; see :func:`kvlab.instruments.measure.theory.ttl_hit_ratio`."""
    return ttl_hit_ratio(popularity.probabilities, rate, ttl)


def measure(
    kv: Runs,
    cache: Callable[[str, float], TtlCache],
    *,
    skews: Sequence[float],
    ttls: Sequence[float],
    keys: int,
    rate: float,
    duration: float,
    seed: int,
    clock: Clock | None = None,
) -> HitRatios:
    """Ask ``cache(name, ttl)`` for every skew and TTL, ``rate`` requests a second, open loop.

    ``duration``: seconds after the warm-up, at least ten of the longest TTL. Raises
    :class:`~kvlab.errors.InvalidArgument` for a shorter one.
    """
    longest = max(ttls)
    real("duration", duration, LEAST_TTLS * longest)
    warm = WARM_TTLS * longest
    times = OpenLoop(rate).times(duration=warm + duration, seed=seed)
    popularities = {skew: Zipf(keys, skew) for skew in skews}
    tick = clock or Clock()
    grid = _Grid(kv, cache, popularities, ttls, len(times), seed, tick)
    result = experiment(
        grid.request,
        Trace(times, np.arange(len(times), dtype=np.int64)),
        seed,
        duration=duration,
        warmup_seconds=warm,
        progress=False,
        clock=tick,
        name="hit ratio",
    )
    if result.count < BATCHES:
        raise InvalidArgument(f"too few requests in {duration!r} s at {rate!r} a second")
    return HitRatios(*grid.measured(result), popularities)


class _Grid:
    """One cache for every pair of skew and TTL, all asked in the same round trip."""

    def __init__(
        self,
        kv: Runs,
        cache: Callable[[str, float], TtlCache],
        popularities: Mapping[float, Zipf],
        ttls: Sequence[float],
        requests: int,
        seed: int,
        clock: Clock,
    ) -> None:
        self._kv, self._popularities, self._clock = kv, popularities, clock
        self._points = [(skew, ttl) for skew in popularities for ttl in ttls]
        self._caches = [cache(f"zipf-{skew:g}-ttl-{ttl:g}", ttl) for skew, ttl in self._points]
        # One op per key, run again and again: a lease is always used up before the next read.
        keys = range(next(iter(popularities.values())).n)
        self._reads = [[cache.read(key) for key in keys] for cache in self._caches]
        # Every skew draws from its own seed: the points of two skews err independently.
        drawn = [zipf.keys(requests, seed + i) for i, zipf in enumerate(popularities.values())]
        self._asked = np.repeat(np.array(drawn), len(ttls), axis=0).T.tolist()
        self._hits: list[list[bool]] = []
        self._made: list[float] = []

    def request(self, number: int) -> None:
        """Ask every cache for its key of this request, and fill the caches that missed."""
        asked = self._asked[number]
        self._made.append(self._clock.now())
        ops = [reads[key] for reads, key in zip(self._reads, asked, strict=True)]
        found: list[Found] = self._kv.run(ops)
        self._hits.append([lookup.hit for lookup in found])
        fills = [
            cache.fill(key, lookup.lease, key)
            for cache, key, lookup in zip(self._caches, asked, found, strict=True)
            if lookup.lease is not None
        ]
        if fills:
            self._kv.run(fills)

    def measured(self, result: Result) -> tuple[pd.DataFrame, Result, float]:
        """The table, the result, and the rate at which its requests were made."""
        made = self._made[-result.count :]
        rate = (result.count - 1) / (made[-1] - made[0])
        frame = pd.DataFrame(self._points, columns=["skew", "ttl"])
        frame["requests"] = result.count
        hits = np.array(self._hits[-result.count :])
        frame["measured"] = hits.mean(axis=0)
        parts = np.array([part.mean(axis=0) for part in np.array_split(hits, BATCHES)])
        error = parts.std(axis=0, ddof=1) / math.sqrt(BATCHES)
        frame["within"] = student_t(0.975, BATCHES - 1) * error
        frame["theory"] = [
            predicted(self._popularities[skew], rate, ttl) for skew, ttl in self._points
        ]
        frame["off"] = (frame["measured"] - frame["theory"]) * 100
        return frame, result, rate
