"""Latencies in an HDR histogram, which has precise percentiles and can be merged and stored.

Guarantee: every sample is counted. Values from 1 µs to 60 s are kept in buckets no wider than
1/1024 of the value. A percentile is the middle of its bucket, so the percentile lies within 0.05 %
of the exact nearest-rank percentile. A shorter sample counts as 1 µs, a longer one as 60 s, and
both are counted in ``clamped_low`` and ``clamped_high``. ``mean``, ``min`` and ``max`` are exact
(of the clamped values, to the nanosecond).

A latency is measured from the *intended start* of the request. A generator that starts late,
because the previous answer was slow, would otherwise leave out exactly the slow moments
(coordinated omission, Gil Tene). The caller knows the intended start: ``record(…, started=,
intended=)``.

Safe to share between threads. Layout and encoding are HdrHistogram V2 in nanoseconds
(package ``hdrhistogram``), readable by its tools in other languages.

Samples are buffered and counted in bulk with numpy.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

from kvlab.core.checks import real
from kvlab.errors import InvalidArgument
from kvlab.instruments.numbers import numbers

SHORTEST = 1_000
LONGEST = 60_000_000_000
DIGITS = 3
BUFFER = 4096

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


class Recorder:
    """A histogram of seconds. See the module's docstring for its precision and range."""

    def __init__(self) -> None:
        self._histogram: Any = HdrHistogram(1, LONGEST, DIGITS)
        self._counts = np.ctypeslib.as_array(self._histogram.counts)
        self._buffer: list[float] = []
        self._lock = threading.RLock()
        self._sum = 0
        self._min = LONGEST
        self._max = 0
        self._clamped_low = 0
        self._clamped_high = 0

    def record(
        self, seconds: float, *, started: float | None = None, intended: float | None = None
    ) -> None:
        """Count one sample of ``seconds``.

        With ``started`` and ``intended``, two readings of one clock, the wait between them is
        added: the sample is then the latency from the intended start.
        """
        if intended is not None:
            if started is None:
                raise InvalidArgument("intended needs started: the wait is started - intended")
            seconds += started - intended
        if type(seconds) is not float or seconds != seconds:
            seconds = real("seconds", seconds, -math.inf, infinite=True)
        with self._lock:
            self._buffer.append(seconds)
            if len(self._buffer) >= BUFFER:
                self._flush()

    def record_all(self, seconds: Iterable[float] | npt.NDArray[np.float64]) -> None:
        """Count many samples at once."""
        samples = numbers("seconds", seconds, nan=False)
        with self._lock:
            self._flush()
            self._add(samples)

    def _flush(self) -> None:
        if self._buffer:
            samples, self._buffer = np.array(self._buffer), []
            self._add(samples)

    def _add(self, samples: npt.NDArray[np.float64]) -> None:
        if not len(samples):
            return
        # the cast would overflow on inf, so the upper clamp comes first
        nanos = np.rint(np.minimum(samples * 1e9, 2.0 * LONGEST)).astype(np.int64)
        self._clamped_low += int(np.count_nonzero(nanos < SHORTEST))
        self._clamped_high += int(np.count_nonzero(nanos > LONGEST))
        np.clip(nanos, SHORTEST, LONGEST, out=nanos)
        np.add.at(self._counts, self._index(nanos), 1)
        self._sum += int(nanos.sum())
        self._extend(int(nanos.min()), int(nanos.max()), len(nanos))

    def _extend(self, low: int, high: int, added: int) -> None:
        self._min, self._max = min(self._min, low), max(self._max, high)
        histogram = self._histogram  # its encoder needs these three
        histogram.min_value, histogram.max_value = self._min, self._max
        histogram.total_count += added

    def _index(self, nanos: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Slot of each value: ``HdrHistogram._counts_index_for`` for a whole array."""
        half = int(self._histogram.sub_bucket_half_count_magnitude)
        bits = np.frexp(nanos.astype(np.float64))[1].astype(np.int64)  # bit length, exact < 2^53
        bucket = np.maximum(bits, half + 1) - (half + 1)
        index: npt.NDArray[np.int64] = ((bucket + 1) << half) + (nanos >> bucket) - (1 << half)
        return index

    def _middle(self, index: int) -> float:
        histogram = self._histogram
        low = histogram.get_value_from_index(index)
        return float((low + histogram.get_highest_equivalent_value(low)) / 2)

    @property
    def count(self) -> int:
        """Samples so far, the clamped ones included."""
        with self._lock:
            self._flush()
            return int(self._histogram.total_count)

    @property
    def clamped_low(self) -> int:
        """Samples below 1 µs, counted as 1 µs."""
        return self.count and self._clamped_low

    @property
    def clamped_high(self) -> int:
        """Samples above 60 s, counted as 60 s."""
        return self.count and self._clamped_high

    @property
    def mean(self) -> float:
        """Seconds; nan when empty."""
        count = self.count
        return self._sum / count / 1e9 if count else float("nan")

    @property
    def min(self) -> float:
        """Seconds; nan when empty."""
        return self._min / 1e9 if self.count else float("nan")

    @property
    def max(self) -> float:
        """Seconds; nan when empty."""
        return self._max / 1e9 if self.count else float("nan")

    def percentile(self, percent: float) -> float:
        """Seconds below or at which ``percent`` (0…100) of the samples lie, by nearest rank.

        nan when empty.
        """
        rank = real("percent", percent, 0, 100)
        with self._lock:
            count = self.count
            if not count:
                return float("nan")
            # 99.9 % of 1000 is 999, though the product of the two doubles is a little more
            target = max(int(np.ceil(round(rank / 100 * count, 6))), 1)
            index = int(np.searchsorted(np.cumsum(self._counts), target))
            return float(np.clip(self._middle(index), self._min, self._max)) / 1e9

    def merge(self, other: Recorder) -> Recorder:
        """Add the samples of ``other``; returns self."""
        with other._lock:
            other._flush()
            counts, added = other._counts.copy(), other.count
            low, high, total = other._min, other._max, other._sum
            clamped = other._clamped_low, other._clamped_high
        with self._lock:
            self._flush()
            if added:
                self._counts += counts
                self._extend(low, high, added)
                self._sum += total
                self._clamped_low += clamped[0]
                self._clamped_high += clamped[1]
        return self

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the histogram in HdrHistogram's V2 base64 form, nanoseconds."""
        with self._lock:
            count = self.count
            return {
                "format": "kvlab-recorder-1",
                "count": count,
                "sum_ns": self._sum,
                "min_ns": self._min if count else None,
                "max_ns": self._max if count else None,
                "clamped_low": self._clamped_low,
                "clamped_high": self._clamped_high,
                "histogram": self._histogram.encode().decode("ascii") if count else None,
            }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recorder:
        """The inverse of ``to_dict``; ``InvalidArgument`` for anything else."""
        if data.get("format") != "kvlab-recorder-1":
            raise InvalidArgument(f"not a saved recorder: format is {data.get('format')!r}")
        recorder = cls()
        if data["count"]:
            recorder._histogram = HdrHistogram.decode(data["histogram"])
            recorder._counts = np.ctypeslib.as_array(recorder._histogram.counts)
            recorder._sum = int(data["sum_ns"])
            recorder._extend(int(data["min_ns"]), int(data["max_ns"]), 0)
            recorder._clamped_low = int(data["clamped_low"])
            recorder._clamped_high = int(data["clamped_high"])
        return recorder

    def curve(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(seconds, share of samples at or below), one point per occupied bucket, for charts."""
        with self._lock:
            self._flush()
            occupied = np.flatnonzero(self._counts)
            seconds = np.array([self._middle(int(i)) for i in occupied]) / 1e9
            total = max(int(self._histogram.total_count), 1)
            return seconds, np.cumsum(self._counts[occupied]) / total

    def __repr__(self) -> str:
        if not self.count:
            return "Recorder(empty)"
        return f"Recorder(count={self.count}, p50={self.percentile(50) * 1e3:.3g} ms)"
