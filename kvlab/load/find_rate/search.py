"""The search for the highest rate that holds: plain arithmetic, no clock and no server.

A climb from a low rate finds where to look; the up-and-down part finds the limit and its spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Protocol, TypeVar

CLIMB = 1.6
STEP = 1.12
TURNS = 6
"""So many turns of the up-and-down part; the first is left out, because it depends on the climb."""
LOWEST = 5.0
"""A second. A search that holds at no rate down to here ends, unless it is told another rate."""
_FALL = 4.0
_MOST = 40
"""Probes."""


class Tried(Protocol):
    """What one rate came to."""

    @property
    def rate(self) -> float: ...
    @property
    def holds(self) -> bool: ...


P = TypeVar("P", bound=Tried)


@dataclass(frozen=True, slots=True)
class Limit:
    """The rate found, a second, and the lowest and highest rate at which the search turned."""

    rate: float
    low: float
    high: float


def search(try_rate: Callable[[float], P], begin: float, lowest: float = LOWEST) -> Iterator[P]:
    """Try rates, at first ``begin``, and yield what each came to; :func:`limit` reads them."""
    first = probe = try_rate(begin)
    yield probe
    while probe.holds == first.holds:
        rate = probe.rate * CLIMB if first.holds else probe.rate / _FALL
        if rate < lowest:
            return
        probe = try_rate(rate)
        yield probe
    turns = 1
    for _ in range(_MOST):
        if turns > TURNS:
            return
        before = probe
        probe = try_rate(probe.rate * STEP if probe.holds else max(probe.rate / STEP, lowest))
        yield probe
        turns += probe.holds != before.holds


def limit(probes: Sequence[Tried]) -> Limit | None:
    """What a search found; None when no rate held."""
    held = [one.rate for one in probes if one.holds]
    if not held:
        return None
    # The search turns between a rate that holds and the next, which does not, or the reverse.
    turned = [
        math.sqrt(one.rate * after.rate)
        for one, after in pairwise(probes)
        if one.holds != after.holds
    ][1:]
    if not turned:
        return Limit(max(held), max(held), max(held))
    return Limit(math.exp(fmean(map(math.log, turned))), min(turned), max(turned))
