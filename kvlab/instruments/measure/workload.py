"""Which key a request asks for, and when it arrives: seeded, so that a run can be repeated.

Guarantee: the same arguments and seed give the same keys and times on every machine, and a shorter
draw is a prefix of a longer one (``keys(1000, 7)[:10]`` equals ``keys(10, 7)``). Keys are the
integers 0…n-1. Key 0 is the most popular one of a ``Zipf``.

Not promised: the same numbers across major versions of numpy's default generator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kvlab.core.checks import boolean, keep, real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.numbers import numbers

Keys = npt.NDArray[np.int64]
Seconds = npt.NDArray[np.float64]

MOST_KEYS = 10_000_000


class Popularity(Protocol):
    """What draws keys: the classes below, and ``Trace``."""

    def keys(self, count: int, seed: int) -> Keys:
        """The first ``count`` keys for ``seed``."""
        ...


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every one of ``n`` keys is as likely as any other."""

    n: int

    def __post_init__(self) -> None:
        whole("n", self.n, 1, MOST_KEYS)

    @property
    def probabilities(self) -> Seconds:
        """Chance of each key, shape (n,), sum 1."""
        return np.full(self.n, 1.0 / self.n)

    def keys(self, count: int, seed: int) -> Keys:
        """``count`` keys, drawn independently."""
        drawn = np.random.default_rng(whole("seed", seed, 0)).random(whole("count", count, 0))
        return (drawn * self.n).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Zipf:
    """Key i (from 0) has a chance proportional to ``1 / (i + 1) ** s``, over ``n`` keys.

    Bounded, so any s ≥ 0 is allowed: 0 is uniform, about 1 is usual for web caches (Breslau et
    al., "Web caching and Zipf-like distributions", INFOCOM 1999). Drawn by inverting the
    cumulative distribution: O(log n) a key.
    """

    n: int
    s: float
    probabilities: Seconds = field(init=False, repr=False, compare=False)
    _cumulative: Seconds = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        whole("n", self.n, 1, MOST_KEYS)
        real("s", self.s, 0, 50)
        weights = np.arange(1, self.n + 1, dtype=np.float64) ** -float(self.s)
        chance = weights / weights.sum()
        cumulative = np.cumsum(chance)
        cumulative[-1] = 1.0  # rounding must not leave a gap above the last key
        object.__setattr__(self, "probabilities", chance)
        object.__setattr__(self, "_cumulative", cumulative)

    def keys(self, count: int, seed: int) -> Keys:
        """``count`` keys, drawn independently."""
        drawn = np.random.default_rng(whole("seed", seed, 0)).random(whole("count", count, 0))
        return np.searchsorted(self._cumulative, drawn, side="right").astype(np.int64)


@dataclass(frozen=True, slots=True)
class Hotspot:
    """A hot set of keys gets ``hot_weight`` of the draws, and moves after ``shift_every`` draws.

    The hot set has ``round(n * hot_fraction)`` keys (at least one, never all), at first those
    from key 0. A move shifts the set by its own size, modulo ``n``. With ``shift_every=None`` the
    set never moves.
    """

    n: int
    hot_fraction: float = 0.1
    hot_weight: float = 0.9
    shift_every: int | None = None

    def __post_init__(self) -> None:
        whole("n", self.n, 2, MOST_KEYS)
        real("hot_fraction", self.hot_fraction, 0, 1, above=True)
        real("hot_weight", self.hot_weight, 0, 1)
        if self.shift_every is not None:
            whole("shift_every", self.shift_every, 1)

    @property
    def hot(self) -> int:
        """Number of keys in the hot set."""
        return min(max(round(self.n * self.hot_fraction), 1), self.n - 1)

    @property
    def probabilities(self) -> Seconds:
        """Chance of each key before the first move, shape (n,), sum 1."""
        chance = np.full(self.n, (1 - self.hot_weight) / (self.n - self.hot))
        chance[: self.hot] = self.hot_weight / self.hot
        return chance

    def keys(self, count: int, seed: int) -> Keys:
        """``count`` keys; draw i falls in hot set number ``i // shift_every``."""
        drawn = np.random.default_rng(whole("seed", seed, 0)).random((whole("count", count, 0), 2))
        is_hot = drawn[:, 0] < self.hot_weight
        width = np.where(is_hot, self.hot, self.n - self.hot)
        offset = np.where(is_hot, 0, self.hot) + (drawn[:, 1] * width).astype(np.int64)
        moves = np.zeros(count, dtype=np.int64)
        if self.shift_every is not None:
            moves = np.arange(count, dtype=np.int64) // self.shift_every
        return (offset + moves * self.hot) % self.n


@dataclass(frozen=True, slots=True)
class Scan:
    """Keys 0, 1 … n-1, then from 0 again: the walk that an LRU cache never hits."""

    n: int

    def __post_init__(self) -> None:
        whole("n", self.n, 1, MOST_KEYS)

    @property
    def probabilities(self) -> Seconds:
        """Share of each key over a full cycle, shape (n,), sum 1."""
        return np.full(self.n, 1.0 / self.n)

    def keys(self, count: int, seed: int = 0) -> Keys:
        """``count`` keys in order."""
        return np.arange(whole("count", count, 0), dtype=np.int64) % self.n


@dataclass(frozen=True, slots=True)
class Latest:
    """New keys are the popular ones (YCSB's "latest"): a feed, a chat, the news.

    A share ``inserts`` of the draws writes a new key, first key ``n``. Every other draw counts back
    from the newest key by a ``Zipf(n, s)``: the newest is the most popular.
    """

    n: int
    s: float = 1.0
    inserts: float = 0.05

    def __post_init__(self) -> None:
        whole("n", self.n, 1, MOST_KEYS)
        real("s", self.s, 0, 50)
        real("inserts", self.inserts, 0, 1)

    def keys(self, count: int, seed: int) -> Keys:
        """``count`` keys; the cache has seen keys 0…n-1 before the first draw."""
        ranks = Zipf(self.n, self.s).keys(count, seed)
        draws = np.random.default_rng([seed, 0x1A7E]).random(count)
        is_new = draws < self.inserts
        newest = self.n - 1 + np.cumsum(is_new)
        return np.where(is_new, newest, newest - ranks).astype(np.int64)


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """``workers`` threads; a thread sends its next request as soon as it has its answer.

    A slow answer lowers the load, so a closed loop hides queueing. A closed loop measures capacity.
    """

    workers: int = 1

    def __post_init__(self) -> None:
        whole("workers", self.workers, 1, 1024)


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests arrive at ``rate`` a second whether or not the earlier ones are answered.

    ``poisson``: independent exponential gaps; otherwise one every 1/rate seconds. ``workers`` is
    how many threads may wait for an answer at once; when all threads wait, the next request starts
    late, and its latency is measured from its intended start.
    """

    rate: float
    poisson: bool = True
    workers: int = 1

    def __post_init__(self) -> None:
        real("rate", self.rate, 0, 1e7, above=True)
        whole("workers", self.workers, 1, 1024)
        boolean("poisson", self.poisson)

    def times(
        self, *, duration: float | None = None, count: int | None = None, seed: int = 0
    ) -> Seconds:
        """Intended starts in seconds from 0, rising; give ``duration`` or ``count``."""
        whole("seed", seed, 0)
        if (duration is None) == (count is None):
            raise InvalidArgument(
                f"give either duration or count, got duration={duration!r}, count={count!r}"
            )
        if count is not None:
            return self._first(whole("count", count, 0), seed)
        span = real("duration", duration if duration is not None else 0, 0)
        guess = int(span * self.rate * 1.1) + 64
        while (times := self._first(guess, seed))[-1] < span:
            guess *= 2
        return times[times < span]

    def _first(self, count: int, seed: int) -> Seconds:
        if not self.poisson:
            return np.arange(count, dtype=np.float64) / self.rate
        # A random stream of its own: times and keys of one seed are independent.
        rng = np.random.default_rng([seed, 0x7139])
        return np.cumsum(rng.exponential(1.0 / self.rate, count))


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A recorded workload: request i asks for ``asked[i]`` at ``times[i]`` seconds.

    An experiment takes a trace in place of a popularity. The trace's own times then drive an open
    loop, unless other arrivals are given; the experiment ends after the trace's last request.
    """

    times: Seconds
    asked: Keys

    def __post_init__(self) -> None:
        keep(self, times=numbers("times", self.times))
        numbers("asked", self.asked)
        if len(self.times) != len(self.asked):
            raise InvalidArgument(
                f"times and asked must have one length, got {len(self.times)} and {len(self.asked)}"
            )
        if len(self.times) and (
            not np.isfinite(self.times).all()
            or self.times[0] < 0
            or (np.diff(self.times) < 0).any()
        ):
            raise InvalidArgument("times must be finite, not negative and never fall")

    def __len__(self) -> int:
        return len(self.times)

    def keys(self, count: int, seed: int = 0) -> Keys:
        """The first ``count`` keys of the trace; the seed changes nothing."""
        return self.asked[: whole("count", count, 0, len(self))]
