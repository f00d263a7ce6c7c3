"""How much load a run has at which time, and when the requests of an open loop are due.

A level is a share of the full load: of the users, or of the arrivals a second. ``constant`` is the
full load; ``step`` climbs in four equal steps; ``spike`` is a fifth of the load, and the full load
in the middle fifth of the run.
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
CHANGES: Mapping[str, tuple[float, ...]] = {
    "constant": (),
    "step": tuple(n / STEPS for n in range(1, STEPS)),
    "spike": (0.4, 0.6),
}
"""The shares of the run's time at which a level changes."""


class Arrivals:
    """When the requests of an open loop are due: a Poisson process, its intervals exponential.

    ``rate``: arrivals a second at the full level. ``began`` and all moments are seconds of one
    clock. ``seconds``: the length of the run, for the shape, None for a run without an end.
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

    def next(self) -> float:
        """The moment of the next arrival. Every call returns another arrival."""
        share = 0.0 if self._seconds is None else (self._last - self._began) / self._seconds
        self._last += self._random.expovariate(self.rate * self._shape(min(share, 1.0)))
        return self._last

    def never_sent(self, until: float) -> list[float]:
        """The arrivals that were due before ``until`` and that no user took."""
        left = []
        while (due := self.next()) < until:
            left.append(due)
        return left
