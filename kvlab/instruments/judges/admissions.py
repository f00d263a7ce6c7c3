"""Whether a rate limiter admitted too many requests, judged from outside.

Each algorithm has a bound of its own, so each algorithm is judged by its own bound: a fixed window
may admit twice its limit across an edge and keep its promise. Times are seconds of the server's
clock (``at`` of a decision). They are judged in whole microseconds, the clock's resolution, and
with whole numbers, so there is no tolerance. (The script of the counter rounds where limit times
window is above 2^53 µs, as 100,000 in a day; there it may admit a microsecond early.)

A record is of one key, begins when nothing was used, and every hit has a cost of 1. Not judged: a
clock that was set back, after which times no longer give the order.

    verdict = judge("sliding-log", [d.at for d in decisions if d.allowed], limit=10, window=1.0)
    assert verdict.holds, verdict.over
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvlab.core.checks import real, whole
from kvlab.instruments.judges.algorithms import (
    MICRO,
    Flags,
    Micros,
    bucket_levels,
    bucket_units,
    checked_rules,
    earliest,
    in_micros,
    weighed,
)
from kvlab.instruments.numbers import pairs


@dataclass(frozen=True, slots=True)
class AdmissionVerdict:
    """``worst``: the most that one interval of the bound held; ``over``: admissions too many.

    ``moment``: the server's time, in seconds, of the first admission too many.
    """

    bound: str
    limit: float
    worst: float
    over: int
    admitted: int
    moment: float | None = None

    @property
    def holds(self) -> bool:
        return self.over == 0

    def __add__(self, other: AdmissionVerdict) -> AdmissionVerdict:
        """The verdict on two keys together."""
        return AdmissionVerdict(
            self.bound,
            self.limit,
            max(self.worst, other.worst),
            self.over + other.over,
            self.admitted + other.admitted,
            earliest(self.moment, other.moment),
        )


def judge(
    algorithm: str, times: npt.ArrayLike, *, limit: int, window: float, burst: int | None = None
) -> AdmissionVerdict:
    """Judge the admissions of one key, in any order.

    ``algorithm``: a key of ``BOUNDS``. ``times``: the server's time of each admission (``at`` of
    its decision).
    """
    rules = checked_rules(algorithm, limit, window, burst)
    return BOUNDS[algorithm](in_micros("times", times), *rules)


def _fixed(moments: Micros, limit: int, width: int, burst: int) -> AdmissionVerdict:
    bound = "at most the limit in each window of the server's clock"
    windows = moments // width
    before = np.arange(len(moments)) - np.searchsorted(windows, windows, "left")
    return _verdict(bound, limit, int(before.max(initial=-1)) + 1, moments, before >= limit)


def _log(moments: Micros, limit: int, width: int, burst: int) -> AdmissionVerdict:
    bound = "at most the limit in any interval of the window's length"
    # Each admission is too many when the limit was already used in the window before it.
    before = np.arange(len(moments)) - np.searchsorted(moments, moments - width, "right")
    return _verdict(bound, limit, int(before.max(initial=-1)) + 1, moments, before >= limit)


def _counter(moments: Micros, limit: int, width: int, burst: int) -> AdmissionVerdict:
    bound = "the estimate, last window weighted by its overlap plus this window, at most the limit"
    windows = moments // width
    started = np.searchsorted(windows, windows, "left")
    current = np.arange(1, len(moments) + 1) - started
    previous = started - np.searchsorted(windows, windows - 1, "left")
    faded = weighed(previous, width - moments % width, width)
    worst = float((faded / width + current).max(initial=0))
    return _verdict(bound, limit, worst, moments, -(-faded // width) + current > limit)


def _bucket(moments: Micros, limit: int, width: int, burst: int) -> AdmissionVerdict:
    bound = "at most burst + rate x t in any interval of length t"
    # The fullest interval that ends at an admission is the level of the bucket after it.
    scale, drain = bucket_units(limit, width)
    levels = bucket_levels(moments, scale, drain)
    too_full = np.fromiter((level > burst * scale for level in levels), np.bool_, len(levels))
    return _verdict(bound, burst, max(levels, default=0) / scale, moments, too_full)


BOUNDS: Mapping[str, Callable[[Micros, int, int, int], AdmissionVerdict]] = {
    "fixed-window": _fixed,
    "sliding-log": _log,
    "sliding-counter": _counter,
    "token-bucket": _bucket,
}


def _verdict(
    bound: str, limit: int, worst: float, moments: Micros, over: Flags
) -> AdmissionVerdict:
    moment = float(moments[over][0]) / MICRO if over.any() else None
    return AdmissionVerdict(bound, limit, worst, int(over.sum()), len(moments), moment)


def certain_overlap(spans: npt.ArrayLike, *, limit: int, window: float) -> AdmissionVerdict:
    """Judge admissions of which only begin and end are known, in seconds.

    For limiters that do not say when they decided. Counts what is beyond doubt: intervals of the
    window's length that hold more than ``limit`` admissions from begin to end. ``moment`` is the
    begin of the first such interval, on the caller's clock.
    """
    limit, window = whole("limit", limit, 1), real("window", window, 1e-6)
    began, ended = pairs("spans", spans)
    short = ended - began < window
    starts, ends = np.sort(began[short]), np.sort(ended[short])
    # Spans shorter than the window: those in [s, s + window) are the ones that ended before it
    # closes, less the ones that began before it opens.
    inside = np.searchsorted(ends, starts + window, "left") - np.arange(len(starts))
    over, closed, moment = 0, -np.inf, None
    for i in np.flatnonzero(inside > limit):
        if starts[i] >= closed:
            over += int(inside[i]) - limit
            closed = starts[i] + window
            moment = float(starts[i]) if moment is None else moment
    bound = "at most the limit in any interval of the window's length, beyond doubt"
    return AdmissionVerdict(bound, limit, int(inside.max(initial=0)), over, len(began), moment)
