"""How well a generator keeps time: how late its timers are, and how busy its core is.

A greenlet sleeps for ``TICK``, again and again. Its timer is late by as long as a reply of the
server waits until its user runs: this time is the generator's, and every latency contains it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import gevent

TICK = 0.01


class Pulse:
    """Figures of the worst interval so far, of ``width`` seconds.

    ``busiest``: the share of a core that this process used. ``latest``: the seconds by which half
    of the timers were late.
    """

    def __init__(
        self,
        width: float,
        clock: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.process_time,
        sleep: Callable[[float], object] = gevent.sleep,
    ) -> None:
        self._width, self._clock, self._cpu, self._sleep = width, clock, cpu, sleep
        self.busiest = self.latest = 0.0

    def run(self, note: Callable[[float], None]) -> None:
        """Measure until the greenlet is killed. ``note`` gets the lateness of each timer."""
        while True:
            self.measure(note)

    def measure(self, note: Callable[[float], None]) -> None:
        """Measure one interval."""
        now = began = self._clock()
        used, lates = self._cpu(), []
        while now < began + self._width:
            self._sleep(TICK)
            then, now = now, self._clock()
            lates.append(max(0.0, now - then - TICK))
            note(lates[-1])
        self.busiest = max(self.busiest, (self._cpu() - used) / (now - began))
        self.latest = max(self.latest, statistics.median(lates))
