"""What both judges of limiters share: names, units, and the level of a token bucket."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kvlab.core.checks import one_of, real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.numbers import numbers

Micros = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
ALGORITHMS = ("fixed-window", "sliding-log", "sliding-counter", "token-bucket")
MICRO = 1_000_000
FAR_FUTURE = 2**62
"""Microseconds; beyond any clock, and twice of it is still an int64."""


def checked_rules(
    algorithm: str, limit: int, window: float, burst: int | None
) -> tuple[int, int, int]:
    """The limit, the window in µs, and the burst, which is the limit unless it is given."""
    one_of("algorithm", algorithm, ALGORITHMS)
    limit = whole("limit", limit, 1)
    width = round(real("window", window, 1e-6) * MICRO)
    return limit, width, limit if burst is None else whole("burst", burst, 1)


def in_micros(name: str, times: npt.ArrayLike) -> Micros:
    """Seconds as whole microseconds, in order."""
    unknown = isinstance(times, list | tuple) and None in times
    seconds = numbers(name, () if unknown else times).reshape(-1)
    if unknown or not np.isfinite(seconds).all():
        raise InvalidArgument(f"{name} must be finite: a decision without the server has no time")
    return np.sort(np.round(seconds * MICRO).astype(np.int64))


def bucket_levels(moments: Micros, scale: int, drain: int, most: int | None = None) -> list[int]:
    """The level of a bucket, in 1/``scale`` units, after each admission; at most ``most``.

    Every admission adds one unit, and ``drain`` leaves the bucket in a microsecond.
    """
    levels, level, last = [], 0, 0
    for moment in moments.tolist():
        level -= drain * (moment - last)
        level = (level if level > 0 else 0) + scale
        if most is not None and level > most:
            level = most
        last = moment
        levels.append(level)
    return levels


def weighed(previous: Micros, left: Micros, width: int) -> Micros:
    """``previous`` · ``left``, exactly: units of a window times the microseconds that it has left.

    In units of 1/``width``. Python's integers where 64 bits are too few.
    """
    if int(previous.max(initial=0)) * width > FAR_FUTURE:
        previous = previous.astype(object)
    return previous * left


def bucket_units(limit: int, width: int) -> tuple[int, int]:
    """One unit, and what drains in a microsecond, both as whole numbers."""
    common = math.gcd(limit, width)
    return width // common, limit // common


def earliest(one: float | None, other: float | None) -> float | None:
    """The earlier moment; None when there is none."""
    return min((at for at in (one, other) if at is not None), default=None)
