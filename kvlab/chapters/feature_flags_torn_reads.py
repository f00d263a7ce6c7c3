"""Does a reader see half of a change? Counted beside a busy writer."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def turning(write: Callable[[bool], object], pause: float) -> Iterator[None]:
    """Meanwhile a thread calls ``write`` with True, False, True … and rests ``pause`` seconds."""
    stop = threading.Event()

    def work() -> None:
        for on in itertools.cycle((True, False)):
            if stop.wait(pause):
                return
            write(on)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(work)
        try:
            yield
        finally:
            stop.set()
            writing.result()


class Pairs:
    """Reads of two values that belong together: how long they take, how often they differ.

    ``asked`` and ``halves``: requests, and those that saw half a change, by variant.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.halves: Counter[str] = Counter()

    def turn(self, variant: str, read: Callable[[], tuple[bool, bool]], requests: int) -> float:
        """Seconds of one check, on average: ``requests`` times ``read``, two checks each."""
        began = time.perf_counter()
        saw = [read() for _ in range(requests)]
        took = time.perf_counter() - began
        self.asked[variant] += requests
        self.halves[variant] += sum(first != second for first, second in saw)
        return took / requests / 2
