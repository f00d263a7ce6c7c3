"""The search for the highest rate that holds: plain arithmetic, no clock and no server.

A climb from a low rate finds where to look; the up-and-down part finds the limit and its spread. A
probe may fail by chance, when the machine stalls: so the climb tries a rate that failed once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from statistics import fmean, median
from typing import Protocol, TypeVar

CLIMB = 1.6
STEP = 1.12
TURNS = 10
"""So many turns of the up-and-down part make a result. In simulated pairs of searches with noisy
probes, ten turns differ by more than 15 % half as often as six."""
LOWEST = 5.0
"""A second. A search that holds at no rate down to here ends, unless it is told another rate."""
MOST = 60
"""Probes of a search; a search that needs more is cut, and says so."""
_FALL = 4.0
_FAR = 4
"""After so many rates in a row that hold, the limit is far: the search climbs again."""


class Tried(Protocol):
    """What one rate came to."""

    @property
    def rate(self) -> float: ...
    @property
    def holds(self) -> bool: ...


P = TypeVar("P", bound=Tried)


@dataclass(frozen=True, slots=True)
class Limit:
    """The rate found, a second, and the lowest and highest rate between which the search turned.

    ``cut``: whether the search ended before it had its turns. Then the limit may lie elsewhere.
    """

    rate: float
    low: float
    high: float
    cut: bool = False


def search(try_rate: Callable[[float], P], begin: float, lowest: float = LOWEST) -> Iterator[P]:
    """Try rates, at first ``begin``, and yield what each came to; :func:`limit` reads them."""
    probes: list[P] = []
    rate: float | None = begin
    while rate is not None and len(probes) < MOST and len(_turns(probes)) < TURNS:
        probes.append(try_rate(rate))
        yield probes[-1]
        rate = _next(probes, lowest)


def limit(probes: Sequence[Tried]) -> Limit | None:
    """What a search found; None when no rate held."""
    held = [one.rate for one in probes if one.holds]
    if not held:
        return None
    turns = _turns(probes)
    if not turns:
        return Limit(max(held), max(held), max(held), cut=True)
    rate = math.exp(fmean(math.log(_middle(turn)) for turn in turns))
    low, high = min(low for low, _ in turns), max(high for _, high in turns)
    return Limit(rate, low, high, cut=len(turns) < TURNS)


def _next(probes: Sequence[Tried], lowest: float) -> float | None:
    """The rate to try after these; None when no rate holds."""
    last, before = probes[-1], probes[:-1]
    climbing = _far(before) and (not before or before[-1].holds)
    nowhere = last.rate <= lowest and not any(one.holds for one in probes)
    twice = bool(before) and before[-1].rate == last.rate
    if last.holds:
        return last.rate * (CLIMB if _far(probes) else STEP)
    if (climbing or nowhere) and not twice:
        return last.rate  # one probe that stalled must not end the climb
    if nowhere:
        return None
    return max(last.rate / (STEP if any(one.holds for one in probes) else _FALL), lowest)


def _far(probes: Sequence[Tried]) -> bool:
    """Whether the limit is far above: no rate failed yet, or none of the last few."""
    return all(one.holds for one in _counted(probes)[-_FAR:])


def _counted(probes: Sequence[Tried]) -> list[Tried]:
    """Of a rate that was tried twice in a row, the second probe counts."""
    both = zip_longest(probes, probes[1:])
    return [one for one, after in both if after is None or one.rate != after.rate]


def _turns(probes: Sequence[Tried]) -> list[tuple[float, float]]:
    """The pairs of rates between which the search turned, without those at a false place.

    The first turn depends on the climb. A turn far from most turns is due to probes that stalled.
    """
    turns = [
        (min(one.rate, after.rate), max(one.rate, after.rate))
        for one, after in pairwise(_counted(probes))
        if one.holds != after.holds
    ][1:]
    if not turns:
        return []
    usual = median(map(_middle, turns))
    return [turn for turn in turns if 1 / CLIMB < _middle(turn) / usual < CLIMB]


def _middle(turn: tuple[float, float]) -> float:
    return math.sqrt(turn[0] * turn[1])
