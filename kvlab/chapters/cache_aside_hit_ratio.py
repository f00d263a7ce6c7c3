"""Measured hit ratio of a TTL cache, several popularities and TTLs at once, beside the formula.

Guarantee: every cache sees requests at the same Poisson moments, in the order of its own
popularity's draw; one round trip asks all caches and one more fills those that missed. Counting
begins after ``max(ttls)`` and lasts for at least ten of it. The formula gets the rate at which
requests were made, by the clock, so a generator that falls behind its schedule changes the load
and not the verdict; the result says how late it was.

Not promised: the formula for a cache with jitter or early renewal, or for one whose fills take as
long as its TTL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kvlab.core.checks import real
from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.style import MARKERS, drawing
from kvlab.instruments.measure.experiment import Clock, experiment
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.theory import ttl_hit_ratio
from kvlab.instruments.measure.workload import OpenLoop, Trace, Zipf
from kvlab.instruments.palette import COLOURS, FAINT

WARM_TTLS, LEAST_TTLS = 1, 10
CURVE_POINTS = 40


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
    """Sends a list of ops in one round trip, as ``kvlab.Kv`` does."""

    def run(self, ops: Iterable[Any], /) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class HitRatios:
    """``frame``: skew, ttl (s), requests, measured, theory (shares), off (points).

    ``result`` is the run behind it: its latency is that of asking all caches and filling the
    misses, its lateness that of the generator. ``rate``: requests made a second.
    """

    frame: pd.DataFrame
    result: Result
    rate: float
    popularities: Mapping[float, Zipf]

    @property
    def worst(self) -> float:
        """The largest distance between measurement and formula, in points."""
        return float(self.frame["off"].abs().max())

    @property
    def described(self) -> str:
        """How it was measured, in one line."""
        facts, late = self.result.environment, self.result.late_share
        return (
            f"open loop, Poisson, {self.rate:.0f} requests a second made; {late:.0%} started over "
            f"1 ms late; warm-up {facts['warmup']}; seed {facts['seed']}; 1 repetition"
        )

    def table(self) -> Any:
        """The frame, styled for a notebook."""
        shown = self.frame.rename(columns={"off": "off, points"})
        percent = dict.fromkeys(("measured", "theory"), "{:.1%}")
        forms = {"skew": "{:g}", "ttl": "{:g} s", "off, points": "{:+.2f}"} | percent
        return shown.style.hide(axis="index").format(forms)

    def with_curve(self) -> pd.DataFrame:
        """The frame with rows between its TTLs that carry theory alone, for a smooth line."""
        ttls = self.frame["ttl"]
        between = np.geomspace(ttls.min(), ttls.max(), CURVE_POINTS)[1:-1]
        curve = [
            {"skew": skew, "ttl": ttl, "theory": predicted(zipf, self.rate, ttl)}
            for skew, zipf in self.popularities.items()
            for ttl in between
        ]
        return pd.concat([self.frame, pd.DataFrame(curve)], ignore_index=True)


def predicted(popularity: Zipf, rate: float, ttl: float) -> float:
    """The formula's hit ratio; see :func:`kvlab.instruments.measure.theory.ttl_hit_ratio`."""
    return ttl_hit_ratio(popularity.probabilities, rate, ttl)


def knob(ratios: HitRatios, skew: float, ttl: float) -> Figure:
    """The formula's curve for any skew, one TTL marked on it, the measured points around it."""
    frame = ratios.frame
    zipf = Zipf(next(iter(ratios.popularities.values())).n, skew)
    at = np.geomspace(frame["ttl"].min() / 4, frame["ttl"].max() * 4, CURVE_POINTS)
    share = predicted(zipf, ratios.rate, ttl)
    title = f"Zipf skew {skew:g}, TTL {ttl * 1e3:.0f} ms: {share:.0%} hits predicted"
    with drawing(title) as (figure, axes):
        axes.plot(at, [predicted(zipf, ratios.rate, t) for t in at], color=COLOURS["theory"],
                  lw=1.5, dashes=(5, 2))  # fmt: skip
        axes.plot([ttl], [share], "o", ms=13, color=COLOURS["hit"], zorder=4)
        for i, (measured, rows) in enumerate(frame.groupby("skew")):
            axes.plot(rows["ttl"], rows["measured"], MARKERS[i], color=FAINT, ms=7,
                      label=f"measured, skew {measured:g}")  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(ticks := [0.025, 0.1, 0.4, 1.6], [f"{t * 1e3:g} ms" for t in ticks])
        axes.minorticks_off()
        axes.set_xlim(at[0], at[-1])
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(xlabel="TTL (log scale)", ylabel="hit ratio")
        axes.legend(frameon=False, loc="lower right")
    return figure


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
    """Ask ``cache(name, ttl)`` for each skew and TTL, ``rate`` requests a second, open loop.

    ``duration`` is in seconds after the warm-up, at least ten of the longest TTL. Raises
    :class:`~kvlab.errors.InvalidArgument` for a shorter one.
    """
    longest = max(ttls)
    real("duration", duration, LEAST_TTLS * longest)
    warm = WARM_TTLS * longest
    times = OpenLoop(rate).times(duration=warm + duration, seed=seed)
    popularities = {skew: Zipf(keys, skew) for skew in skews}
    points = [(skew, ttl) for skew in skews for ttl in ttls]
    caches = [cache(f"zipf-{skew:g}-ttl-{ttl:g}", ttl) for skew, ttl in points]
    # one op per key, run again and again: each lease is filled before the key is asked for again
    reads = [[c.read(key) for key in range(keys)] for c in caches]
    tick = clock or Clock()
    # a draw of its own for each skew, so that the points of two skews err independently
    drawn = [zipf.keys(len(times), seed + i) for i, zipf in enumerate(popularities.values())]
    asked = np.repeat(np.array(drawn), len(ttls), axis=0).T.tolist()
    hits: list[list[bool]] = []
    made: list[float] = []

    def request(number: int) -> None:
        wanted = asked[number]
        made.append(tick.now())
        found: list[Found] = kv.run([r[k] for r, k in zip(reads, wanted, strict=True)])
        hits.append([f.hit for f in found])
        fills = [
            c.fill(k, f.lease, k)
            for c, k, f in zip(caches, wanted, found, strict=True)
            if f.lease is not None
        ]
        if fills:
            kv.run(fills)

    moments = Trace(times, np.arange(len(times), dtype=np.int64))
    result = experiment(
        request, moments, seed, duration=duration, warmup_seconds=warm, progress=False,
        clock=tick, name="hit ratio",
    )  # fmt: skip
    if result.count < 2:
        raise InvalidArgument(f"too few requests in {duration!r} s at {rate!r} a second")
    shares = np.array(hits[-result.count :]).mean(axis=0)
    done = (result.count - 1) / (made[-1] - made[-result.count])
    frame = pd.DataFrame(points, columns=["skew", "ttl"])
    frame["requests"] = result.count
    frame["measured"] = shares
    frame["theory"] = [predicted(popularities[skew], done, ttl) for skew, ttl in points]
    frame["off"] = (frame["measured"] - frame["theory"]) * 100
    return HitRatios(frame, result, done, popularities)
