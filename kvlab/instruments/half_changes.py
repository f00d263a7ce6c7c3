"""Does a reader see half of a change? Forced at a gate, and counted beside a busy writer."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from kvlab.instruments.gate import HOLD_AT_MOST, GatedRedis, GateTimeout, gated

T = TypeVar("T")


def midway(
    url: str, work: Callable[[GatedRedis], T], change: Callable[[], object], **gate: Any
) -> T:
    """The result of ``work(client)``, where ``change()`` runs while that client stands at its gate.

    ``gate`` goes to :func:`~kvlab.instruments.gate.gated`. Raises what the work
    raises, and ``GateTimeout`` when it never gets there.
    """
    client = gated(url, **gate)
    with client, ThreadPoolExecutor(1) as pool:
        running = pool.submit(work, client)
        running.add_done_callback(lambda _: client.gate.reached.set())
        try:
            if not client.gate.reached.wait(HOLD_AT_MOST) or running.done():
                client.gate.open()
                running.result(HOLD_AT_MOST)  # its own error says more
                raise GateTimeout(f"the work never came to the gate {gate}")
            change()
        finally:
            client.gate.open()
        return running.result(HOLD_AT_MOST)


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
