"""How much load a run has at which time, and when the requests of an open loop are due.

A level is a share of the full load: of the users, or of the arrivals a second. ``constant`` is the
full load; ``step`` climbs in four equal steps; ``spike`` is a fifth of the load, and the full load
in the middle fifth of the run. Three are named after what a service meets:

* ``flash-sale``: a tenth of the load, then at once the full load, which fades away.
* ``daily-peak``: a day in the length of the run, from a fifth of the load up to all, and back.
* ``retry-storm``: an outage and what follows: clients wait, then all of them retry, and the load
  fades back to the usual 40 %. With ``--fault pause@…`` the store is away meanwhile.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

from kvlab.core.checks import real

STEPS = 4
QUIET = 0.2
SALE, FADING = 0.3, 0.12
"""Shares of the run's time: when the sale begins, and after which a rush is down to 1/e."""
OUTAGE, USUAL = (0.3, 0.4), 0.4

Shape = Callable[[float], float]
"""The level at a share of the run's time, both from 0 to 1."""


def constant(_: float) -> float:
    return 1.0


def step(share: float) -> float:
    return min(math.floor(share * STEPS) + 1, STEPS) / STEPS


def spike(share: float) -> float:
    return 1.0 if 0.4 <= share < 0.6 else QUIET


def flash_sale(share: float) -> float:
    return 0.1 if share < SALE else 0.1 + 0.9 * math.exp(-(share - SALE) / FADING)


def daily_peak(share: float) -> float:
    return QUIET + (1 - QUIET) * (1 - math.cos(2 * math.pi * share)) / 2


def retry_storm(share: float) -> float:
    if OUTAGE[0] <= share < OUTAGE[1]:
        return 0.02  # who has given up comes back later
    if share < OUTAGE[0]:
        return USUAL
    return USUAL + (1 - USUAL) * math.exp(-(share - OUTAGE[1]) / FADING)


SHAPES: Mapping[str, Shape] = {
    "constant": constant,
    "step": step,
    "spike": spike,
    "flash-sale": flash_sale,
    "daily-peak": daily_peak,
    "retry-storm": retry_storm,
}
_OFTEN = tuple(n / 50 for n in range(1, 50))
CHANGES: Mapping[str, tuple[float, ...]] = {
    "constant": (),
    "step": tuple(n / STEPS for n in range(1, STEPS)),
    "spike": (0.4, 0.6),
    "flash-sale": _OFTEN,
    "daily-peak": _OFTEN,
    "retry-storm": _OFTEN,
}
"""The shares of the run's time at which a level changes, or is looked at again."""


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
        """The moment of the next arrival. Every call returns another arrival.

        Drawn at the full rate, and kept with the chance of the level (thinning: Lewis and Shedler,
        "Simulation of nonhomogeneous Poisson processes by thinning", 1979).
        """
        while True:
            self._last += self._random.expovariate(self.rate)
            share = 0.0 if self._seconds is None else (self._last - self._began) / self._seconds
            level = self._shape(min(share, 1.0))
            if level >= 1 or self._random.random() < level:
                return self._last

    def never_sent(self, until: float) -> list[float]:
        """The arrivals that were due before ``until`` and that no user took."""
        left = []
        while (due := self.next()) < until:
            left.append(due)
        return left
