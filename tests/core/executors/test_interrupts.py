"""KeyboardInterrupt at each line of the package that a body under a lock, or a load, passes.

An interrupt comes between two lines at most as often as a tracer can raise: what holds here holds
for a signal. The one place that no Python code can guard is the begin of ``__exit__`` itself.
"""

from __future__ import annotations

import gc
import itertools
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from kvlab import CacheAside, Kv, Lock, Op

LOCK, CACHE = Lock("l", 3), CacheAside("c", 60, lease=30)
TAKEN = Op("EXISTS", LOCK._keys[0], CACHE.key("k", "lease"))


class Interrupt:
    """Raises KeyboardInterrupt at the nth of the points that ``work`` passes.

    A point is a line of the package, or the begin of a function, at its first time in each round
    trip.
    """

    def __init__(self, kv: Kv, nth: int) -> None:
        self.kv, self.nth = kv, nth
        self.before = kv.round_trips
        self.points: dict[Any, None] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if "/kvlab/" not in frame.f_code.co_filename:
            return None
        begins = event == "call" and frame.f_lasti < 4  # not: a generator goes on
        if begins or event == "line":
            where = (frame.f_code.co_qualname, frame.f_lineno, event)
            point = (*where, self.kv.round_trips - self.before)
            if point not in self.points:
                self.points[point] = None
                if len(self.points) == self.nth:
                    sys.settrace(None)
                    raise KeyboardInterrupt
        return self


def in_each_point(kv: Kv, work: Callable[[], None]) -> set[str]:
    """Interrupt ``work`` once at each point; the functions in which that leaves something taken."""
    work()  # loads the scripts, so that each run passes the same points
    stayed: set[str] = set()
    for nth in itertools.count(1):
        kv.clear()
        interrupt = Interrupt(kv, nth)
        try:
            sys.settrace(interrupt)
            work()
        except KeyboardInterrupt as problem:
            sys.settrace(None)
            kept = problem  # as a notebook keeps the last traceback, and all that hangs on it
        else:
            break
        finally:
            sys.settrace(None)
        if kv.run(TAKEN):
            stayed.add(list(interrupt.points)[-1][0])
        del kept
    assert nth > 100
    return stayed


def test_no_lock_stays(kv: Kv) -> None:
    def work() -> None:
        with kv.hold(LOCK, renew=True):
            pass

    assert in_each_point(kv, work) <= {"Hold.__exit__"}
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("renew"):
            thread.join(20)
            assert not thread.is_alive()


def test_no_lease_stays(kv: Kv) -> None:
    assert in_each_point(kv, lambda: kv.run(CACHE.fetch("k", lambda: None))) == set()


def test_an_interrupt_between_the_steps_of_connecting_ends_them(kv: Kv) -> None:
    pool = kv._connections
    steps = pool._connected(pool._make())
    next(steps)
    steps.close()  # what dropping it does, where an error would only be printed
    assert kv.outage is None
