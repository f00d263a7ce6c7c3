"""How much load there is at which time of a run: ``constant``, ``step`` or ``spike``.

A level is a share of the full load, users or arrivals a second. ``step`` climbs in four equal
steps; ``spike`` is a fifth of the load, and all of it in the middle fifth of the run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

from kvlab.core.checks import real

STEPS = 4
QUIET = 0.2

Shape = Callable[[float], float]
"""The level at a share of the run's time, both from 0 to 1."""


def constant(_: float) -> float:
    return 1.0


def step(share: float) -> float:
    return min(math.floor(share * STEPS) + 1, STEPS) / STEPS


def spike(share: float) -> float:
    return 1.0 if 0.4 <= share < 0.6 else QUIET


SHAPES: Mapping[str, Shape] = {"constant": constant, "step": step, "spike": spike}


class Arrivals:
    """When requests are due that arrive by chance, ``rate`` a second at the full level.

    A Poisson process: intervals are exponential. ``began`` and the times given out are seconds of
    one clock; ``seconds`` is the length of the run, for the shape, None for a run without an end.
    """

    def __init__(
        self,
        rate: float,
        began: float,
        seed: int,
        shape: Shape = constant,
        seconds: float | None = None,
    ) -> None:
        self.rate = real("rate", rate, 0, 1e7, above=True)
        self._shape, self._began, self._seconds = shape, began, seconds
        self._random = random.Random(seed)
        self._last = began

    def change(self, rate: float, now: float) -> None:
        """From ``now`` on, ``rate``. What is drawn beyond, and a chance has no memory, moves along.

        Otherwise the users who start one after another, each with its part of the rate, would
        draw their first gaps at a small rate, one behind the other.
        """
        rate = real("rate", rate, 0, 1e7, above=True)
        if self._last > now:
            self._last = now + (self._last - now) * self.rate / rate
        self.rate = rate

    def next(self) -> float:
        """When the next one is due. Each is given out once."""
        share = 0.0 if self._seconds is None else (self._last - self._began) / self._seconds
        self._last += self._random.expovariate(self.rate * self._shape(min(share, 1.0)))
        return self._last

    def overdue(self, until: float) -> list[float]:
        """Those that were due before ``until`` and that nobody took."""
        left = []
        while (due := self.next()) < until:
            left.append(due)
        return left
