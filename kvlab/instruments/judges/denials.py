"""Whether a rate limiter denied a request that it had room for, judged from outside.

A denial is right only when one more request would not have fitted at that moment. Times, units and
what is not judged: as in :mod:`kvlab.instruments.judges.admissions`.

    verdict = judge_denials("sliding-log", admitted_at, denied_at, limit=10, window=1.0)
    assert verdict.holds, verdict
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvlab.core.checks import real
from kvlab.errors import InvalidArgument
from kvlab.instruments.judges.algorithms import (
    FAR_FUTURE,
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
class DenialVerdict:
    """``unjustified``: denials at a moment when there was room for one more request.

    ``moment``: the server's time, in seconds, of the first unjustified denial; ``used``: the most
    that can have been used up at that moment. ``unknown``: hits without an answer, which may each
    have been admitted.
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
        moment = earliest(self.moment, other.moment)
        return DenialVerdict(
            self.limit,
            self.denied + other.denied,
            self.unjustified + other.unjustified,
            self.unknown + other.unknown,
            moment,
            self.used if moment == self.moment else other.used,
        )

    def __str__(self) -> str:
        text = f"{self.unjustified:,} of {self.denied:,} denials were unjustified"
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
    """Judge the denials of one key.

    ``admitted``, ``denied``: the server's times of the decisions, in any order. ``unknown``: the
    hits without an answer, as [began, ended] in seconds of the caller's clock, which differs from
    the server's by at most ``slack``. ``ended`` is the moment from which the server can no longer
    execute the hit, ``inf`` if the moment is unknown. An unknown hit counts as admitted at the
    moment of its span that justifies a denial best. Admissions in the microsecond of a denial
    count as earlier than the denial.
    """
    rules = checked_rules(algorithm, limit, window, burst)
    record = _Record(in_micros("admitted", admitted), *_spans(unknown, slack))
    moments = in_micros("denied", denied)
    used, room = _USED[algorithm](record, moments, *rules)
    most = rules[2] if algorithm == "token-bucket" else limit
    count = int(room.sum())
    if not count:
        return DenialVerdict(most, len(moments), 0, len(record.began))
    first = int(room.argmax())
    moment, left = float(moments[first]) / MICRO, float(used[first])
    return DenialVerdict(most, len(moments), count, len(record.began), moment, left)


@dataclass(frozen=True, slots=True)
class _Record:
    """Moments of the admissions, and begins and ends of the unknown hits; all three sorted."""

    admitted: Micros
    began: Micros
    ended: Micros

    def within(self, low: Micros, high: Micros) -> Micros:
        """The most admissions in each closed interval from ``low`` to ``high``."""
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
    # An unknown hit that fits in both windows counts in the current window, where it weighs more.
    previous = np.minimum(record.within(start - width, now) - current, limit)
    faded = weighed(previous, width - elapsed, width)
    room = -(-faded // width) + current < limit
    return (faded / width + current).astype(np.float64), room.astype(np.bool_)


def _used_bucket(record: _Record, now: Micros, limit: int, width: int, burst: int) -> _Used:
    scale, drain = bucket_units(limit, width)
    size = burst * scale
    if 2 * size > FAR_FUTURE:
        raise InvalidArgument(f"a burst of {burst} at this rate cannot be counted exactly")
    # A unit weighs most when it came last: at the end of its span, or now when the span is open.
    filled = np.sort(np.concatenate([record.admitted, record.ended]))
    after = np.array([0, *bucket_levels(filled, scale, drain, size)], np.int64)
    count = np.searchsorted(filled, now, "right")
    since = now - np.concatenate([[-FAR_FUTURE], filled])[count]
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


def _spans(spans: npt.ArrayLike, slack: float) -> tuple[Micros, Micros]:
    """Begins and ends in microseconds, each in order, wider by ``slack`` on both sides."""
    slack = real("slack", slack, 0)
    began, ended = pairs("unknown", spans)
    if not ((began <= ended) & np.isfinite(began)).all():
        raise InvalidArgument("unknown must be pairs of seconds, [began, ended]")
    last = np.minimum(np.ceil((ended + slack) * MICRO), FAR_FUTURE / 2)
    first = np.floor((began - slack) * MICRO)
    return np.sort(first.astype(np.int64)), np.sort(last.astype(np.int64))
