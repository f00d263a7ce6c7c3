"""Whether what a rate limiter admitted was allowed, judged from the admissions alone.

Each algorithm has a bound of its own, so each is judged by its own: a fixed window may admit
twice its limit across an edge and keep its promise. Times are seconds of one clock; they are
judged in whole microseconds, the server's resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvlab.errors import InvalidArgument

Micros = npt.NDArray[np.int64]
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """``worst`` is the most that one interval of the bound held; ``over``: admissions too many."""

    bound: str
    limit: float
    worst: float
    over: int
    admitted: int

    @property
    def holds(self) -> bool:
        return self.over == 0

    def __add__(self, other: Verdict) -> Verdict:
        """The verdict on two keys together."""
        return Verdict(
            self.bound,
            self.limit,
            max(self.worst, other.worst),
            self.over + other.over,
            self.admitted + other.admitted,
        )


def judge(
    algorithm: str, times: npt.ArrayLike, *, limit: int, window: float, burst: int | None = None
) -> Verdict:
    """Judge the admissions of one key, each of cost 1, in any order.

    ``algorithm``: one of ``BOUNDS``. ``times``: the server's time of each admission (``at`` of
    its decision).
    """
    if algorithm not in BOUNDS:
        raise InvalidArgument(f"algorithm is {algorithm!r}; it must be one of {', '.join(BOUNDS)}")
    moments = np.sort(np.round(np.asarray(times, np.float64) * _MICRO).astype(np.int64))
    width = round(window * _MICRO)
    return BOUNDS[algorithm](moments, limit, width, burst or limit)


def _fixed(moments: Micros, limit: int, width: int, burst: int) -> Verdict:
    bound = "at most the limit in each window of the server's clock"
    _, counts = np.unique(moments // width, return_counts=True)
    worst = int(counts.max(initial=0))
    return Verdict(bound, limit, worst, int(np.maximum(counts - limit, 0).sum()), len(moments))


def _log(moments: Micros, limit: int, width: int, burst: int) -> Verdict:
    bound = "at most the limit in any interval of the window's length"
    # Each admission is too many when the limit was already used in the window before it.
    before = np.arange(len(moments)) - np.searchsorted(moments, moments - width, "right")
    worst = int(before.max(initial=-1)) + 1
    return Verdict(bound, limit, worst, int((before >= limit).sum()), len(moments))


def _counter(moments: Micros, limit: int, width: int, burst: int) -> Verdict:
    bound = "the estimate, last window weighted by its overlap plus this window, at most the limit"
    windows = moments // width
    started = np.searchsorted(windows, windows, "left")
    current = np.arange(1, len(moments) + 1) - started
    previous = started - np.searchsorted(windows, windows - 1, "left")
    estimate = previous * (width - moments % width) / width + current
    worst = float(estimate.max(initial=0))
    over = int((estimate > limit * (1 + 1e-9)).sum())
    return Verdict(bound, limit, worst, over, len(moments))


def _bucket(moments: Micros, limit: int, width: int, burst: int) -> Verdict:
    bound = "at most burst + rate x t in any interval of length t"
    # The fullest interval that ends at each admission: one pass over the level of the bucket.
    level, worst, over, last = 0.0, 0.0, 0, 0
    for moment in moments.tolist():
        level = max(level - (moment - last) * limit / width, 0.0) + 1
        last = moment
        worst = max(worst, level)
        # A server that counts in whole microseconds may round each interval up by one of them.
        over += level > burst + len(moments) * limit / width
    return Verdict(bound, burst, worst, over, len(moments))


BOUNDS: Mapping[str, Callable[[Micros, int, int, int], Verdict]] = {
    "fixed-window": _fixed,
    "sliding-log": _log,
    "sliding-counter": _counter,
    "token-bucket": _bucket,
}


def certain_overlap(spans: npt.ArrayLike, *, limit: int, window: float) -> Verdict:
    """Judge admissions whose moment is unknown: only when each began and ended, in seconds.

    Counts just what is beyond doubt: intervals of the window's length that hold more than
    ``limit`` admissions from begin to end. For limiters that do not say when they decided.
    """
    began, ended = np.asarray(spans, np.float64).reshape(-1, 2).T
    short = ended - began < window
    starts, ends = np.sort(began[short]), np.sort(ended[short])
    # Spans shorter than the window: those in [s, s + window) are the ones that ended before it
    # closes, less the ones that began before it opens.
    inside = np.searchsorted(ends, starts + window, "left") - np.arange(len(starts))
    over, closed = 0, -np.inf
    for i in np.flatnonzero(inside > limit):
        if starts[i] >= closed:
            over += int(inside[i]) - limit
            closed = starts[i] + window
    bound = "at most the limit in any interval of the window's length, beyond doubt"
    return Verdict(bound, limit, int(inside.max(initial=0)), over, len(began))
