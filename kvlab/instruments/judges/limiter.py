"""Whether a rate limiter admitted too many, or denied what it had room for, judged from outside.

Each algorithm has a bound of its own, so each is judged by its own: a fixed window may admit
twice its limit across an edge and keep its promise. Times are seconds of the server's clock (the
``at`` of a decision); they are judged in whole microseconds, its resolution, and by the arithmetic
of the limiters' own scripts, so there is no tolerance to hide in and none is needed.

A record is of one key, from a time when nothing was used, with every hit of cost 1. Not judged: a
clock that was set back, after which times no longer tell the order. What a server forgets once it
has stopped mattering is asked for by neither side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument

Micros = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_MICRO = 1_000_000
_EVER = 2**62  # µs; beyond any clock, and twice of it is still an int64


@dataclass(frozen=True, slots=True)
class Verdict:
    """``worst`` is the most that one interval of the bound held; ``over``: admissions too many.

    ``moment``: the server's time, in seconds, of the first of them.
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

    def __add__(self, other: Verdict) -> Verdict:
        """The verdict on two keys together."""
        return Verdict(
            self.bound,
            self.limit,
            max(self.worst, other.worst),
            self.over + other.over,
            self.admitted + other.admitted,
            _earliest(self.moment, other.moment),
        )


def judge(
    algorithm: str, times: npt.ArrayLike, *, limit: int, window: float, burst: int | None = None
) -> Verdict:
    """Judge the admissions of one key, each of cost 1, in any order.

    ``algorithm``: one of ``BOUNDS``. ``times``: the server's time of each admission (``at`` of
    its decision).
    """
    rules = _rules(algorithm, limit, window, burst)
    return BOUNDS[algorithm](_micros("times", times), *rules)


def _fixed(moments: Micros, limit: int, width: int, burst: int) -> Verdict:
    bound = "at most the limit in each window of the server's clock"
    windows = moments // width
    before = np.arange(len(moments)) - np.searchsorted(windows, windows, "left")
    return _verdict(bound, limit, int(before.max(initial=-1)) + 1, moments, before >= limit)


def _log(moments: Micros, limit: int, width: int, burst: int) -> Verdict:
    bound = "at most the limit in any interval of the window's length"
    # Each admission is too many when the limit was already used in the window before it.
    before = np.arange(len(moments)) - np.searchsorted(moments, moments - width, "right")
    return _verdict(bound, limit, int(before.max(initial=-1)) + 1, moments, before >= limit)


def _counter(moments: Micros, limit: int, width: int, burst: int) -> Verdict:
    bound = "the estimate, last window weighted by its overlap plus this window, at most the limit"
    windows = moments // width
    started = np.searchsorted(windows, windows, "left")
    current = np.arange(1, len(moments) + 1) - started
    previous = started - np.searchsorted(windows, windows - 1, "left")
    estimate = previous * (width - moments % width) / width + current
    worst = float(estimate.max(initial=0))
    return _verdict(bound, limit, worst, moments, estimate > limit * (1 + 1e-9))


def _bucket(moments: Micros, limit: int, width: int, burst: int) -> Verdict:
    bound = "at most burst + rate x t in any interval of length t"
    # The fullest interval that ends at an admission is the level of the bucket after it.
    scale, drain = _scaled(limit, width)
    levels = _levels(moments, scale, drain)
    too_full = np.fromiter((level > burst * scale for level in levels), np.bool_, len(levels))
    return _verdict(bound, burst, max(levels, default=0) / scale, moments, too_full)


BOUNDS: Mapping[str, Callable[[Micros, int, int, int], Verdict]] = {
    "fixed-window": _fixed,
    "sliding-log": _log,
    "sliding-counter": _counter,
    "token-bucket": _bucket,
}


def _verdict(bound: str, limit: int, worst: float, moments: Micros, over: Flags) -> Verdict:
    moment = float(moments[over][0]) / _MICRO if over.any() else None
    return Verdict(bound, limit, worst, int(over.sum()), len(moments), moment)


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


# --- the other side: was anybody denied who need not be? ---------------------------------------


@dataclass(frozen=True, slots=True)
class DenialVerdict:
    """``unjustified``: denials at a moment when what was used up left room for one more.

    Of the first of them: its ``moment``, in seconds of the server's clock, and the most that can
    have been ``used`` then. ``unknown``: answers that never came and had the benefit of the doubt.
    """

    limit: float
    denied: int
    unjustified: int
    unknown: int
    moment: float | None = None
    used: float | None = None

    @property
    def holds(self) -> bool:
        return self.unjustified == 0

    def __add__(self, other: DenialVerdict) -> DenialVerdict:
        """The verdict on two keys together."""
        moment = _earliest(self.moment, other.moment)
        return DenialVerdict(
            self.limit,
            self.denied + other.denied,
            self.unjustified + other.unjustified,
            self.unknown + other.unknown,
            moment,
            self.used if moment == self.moment else other.used,
        )

    def __str__(self) -> str:
        text = f"{self.unjustified:,} of {self.denied:,} denials had nothing to justify them"
        if self.moment is None:
            return text
        return f"{text}; the first at {self.moment:.6f}: {self.used:g} of {self.limit:g} were used"


def judge_denials(
    algorithm: str,
    admitted: npt.ArrayLike,
    denied: npt.ArrayLike,
    *,
    limit: int,
    window: float,
    burst: int | None = None,
    unknown: npt.ArrayLike = (),
    slack: float = 0.001,
) -> DenialVerdict:
    """Judge the denials of one key: right only when one more would not have fitted.

    ``admitted``, ``denied``: the server's times of the decisions, in any order. ``unknown``: the
    hits without an answer, as [began, ended] in seconds of the caller's clock, which differs from
    the server's by at most ``slack``; ``ended`` is when such a hit can no longer be executed,
    ``inf`` if nobody knows. Each may have been admitted at whichever moment of its span justifies
    a denial best. So may admissions in the same microsecond as a denial.
    """
    rules = _rules(algorithm, limit, window, burst)
    record = _Record(_micros("admitted", admitted), *_spans(unknown, slack))
    moments = _micros("denied", denied)
    used, room = _USED[algorithm](record, moments, *rules)
    most = rules[2] if algorithm == "token-bucket" else limit
    count = int(room.sum())
    if not count:
        return DenialVerdict(most, len(moments), 0, len(record.began))
    first = int(room.argmax())
    moment, left = float(moments[first]) / _MICRO, float(used[first])
    return DenialVerdict(most, len(moments), count, len(record.began), moment, left)


@dataclass(frozen=True, slots=True)
class _Record:
    """What can have used something up. All three in order; a span's two ends are apart."""

    admitted: Micros
    began: Micros
    ended: Micros

    def within(self, low: Micros, high: Micros) -> Micros:
        """The most admissions that each interval from ``low`` to ``high``, both inside, held."""
        known = np.searchsorted(self.admitted, high, "right")
        known -= np.searchsorted(self.admitted, low, "left")
        possible = np.searchsorted(self.began, high, "right")
        possible -= np.searchsorted(self.ended, low, "left")
        return known + possible


_Used = tuple[npt.NDArray[np.generic], Flags]
"""The most that can have been used up at each moment, and whether one more would have fitted."""


def _used_fixed(record: _Record, now: Micros, limit: int, width: int, burst: int) -> _Used:
    used = record.within(now - now % width, now)
    return used, used < limit


def _used_log(record: _Record, now: Micros, limit: int, width: int, burst: int) -> _Used:
    used = record.within(now - width + 1, now)
    return used, used < limit


def _used_counter(record: _Record, now: Micros, limit: int, width: int, burst: int) -> _Used:
    elapsed = now % width
    start = now - elapsed
    current = record.within(start, now)
    # What can have come in either window counts in this one, where it weighs more.
    previous = np.minimum(record.within(start - width, now) - current, limit)
    weighted = previous.astype(np.float64) * (width - elapsed) / width
    return weighted + current, weighted <= limit - current - 1


def _used_bucket(record: _Record, now: Micros, limit: int, width: int, burst: int) -> _Used:
    scale, drain = _scaled(limit, width)
    size = burst * scale
    if 2 * size > _EVER:
        raise InvalidArgument(f"a burst of {burst} at this rate cannot be counted exactly")
    # A unit weighs most when it came last: of a span that is over at its end, else just now.
    filled = np.sort(np.concatenate([record.admitted, record.ended]))
    after = np.array([0, *_levels(filled, scale, drain, size)], np.int64)
    count = np.searchsorted(filled, now, "right")
    since = now - np.concatenate([[-_EVER], filled])[count]
    level = np.maximum(after[count] - drain * np.minimum(since, size // drain + 1), 0)
    possible = np.searchsorted(record.began, now, "right")
    possible -= np.searchsorted(record.ended, now, "right")
    level += scale * np.minimum(possible, burst)
    return level / scale, level <= size - scale


_USED: Mapping[str, Callable[[_Record, Micros, int, int, int], _Used]] = {
    "fixed-window": _used_fixed,
    "sliding-log": _used_log,
    "sliding-counter": _used_counter,
    "token-bucket": _used_bucket,
}


def _levels(moments: Micros, scale: int, drain: int, most: int | None = None) -> list[int]:
    """The level of a bucket after each unit poured in, in 1/``scale`` units; at ``most`` full."""
    levels, level, last = [], 0, 0
    for moment in moments.tolist():
        level -= drain * (moment - last)
        level = (level if level > 0 else 0) + scale
        if most is not None and level > most:
            level = most
        last = moment
        levels.append(level)
    return levels


def _scaled(limit: int, width: int) -> tuple[int, int]:
    """The level of one unit, and what drains in a microsecond: whole numbers both."""
    common = math.gcd(limit, width)
    return width // common, limit // common


# --- arguments ----------------------------------------------------------------------------------


def _rules(algorithm: str, limit: int, window: float, burst: int | None) -> tuple[int, int, int]:
    """Limit, window in µs, and burst."""
    if algorithm not in BOUNDS:
        raise InvalidArgument(f"algorithm is {algorithm!r}; it must be one of {', '.join(BOUNDS)}")
    limit = whole("limit", limit, 1)
    width = round(real("window", window, 1e-6) * _MICRO)
    return limit, width, limit if burst is None else whole("burst", burst, 1)


def _micros(name: str, times: npt.ArrayLike) -> Micros:
    """Seconds as whole microseconds, in order."""
    seconds = np.asarray(times, np.float64).reshape(-1)
    if not np.isfinite(seconds).all():
        raise InvalidArgument(f"{name} must be finite: a decision without the server has no time")
    return np.sort(np.round(seconds * _MICRO).astype(np.int64))


def _spans(spans: npt.ArrayLike, slack: float) -> tuple[Micros, Micros]:
    """Begins and ends in microseconds, each in order, wider by ``slack`` on both sides."""
    slack = real("slack", slack, 0)
    began, ended = np.asarray(spans, np.float64).reshape(-1, 2).T
    if not ((began <= ended) & np.isfinite(began)).all():
        raise InvalidArgument("unknown must be pairs of seconds, [began, ended]")
    last = np.minimum(np.ceil((ended + slack) * _MICRO), _EVER / 2)
    first = np.floor((began - slack) * _MICRO)
    return np.sort(first.astype(np.int64)), np.sort(last.astype(np.int64))


def _earliest(one: float | None, other: float | None) -> float | None:
    return min((at for at in (one, other) if at is not None), default=None)
