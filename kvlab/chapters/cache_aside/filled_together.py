"""Entries that were all filled at the same moment: when do they end, and who loads then?

Requests arrive in an open loop, whether or not the earlier requests have been answered. There is
no warm-up: the moment when the entries end is what we look at.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from kvlab.instruments.measure.experiment import experiment
from kvlab.instruments.measure.machine import HasClient
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.workload import OpenLoop, Zipf

POPULARITY = Zipf(40, 0.8)
ARRIVALS = OpenLoop(300, workers=8)
DURATION = 2.4

Load = Callable[[], Any]


def read_after_common_fill(
    name: str,
    fetch: Callable[[int, Load], Any],
    load: Callable[[int], Any],
    kv: HasClient | None = None,
    *,
    popularity: Zipf = POPULARITY,
    arrivals: OpenLoop = ARRIVALS,
    duration: float = DURATION,
    bucket: float = 0.1,
    seed: int = 1,
) -> Result:
    """Fill the entries of all keys at once, then read them through ``fetch(key, load)``.

    Outcomes of a request: "loads" (the request loaded) and "cached" (it did not). Violations of
    the result: loads that began while another load of the same key was running.
    """
    counter = LoadCounter(load)
    for key in range(popularity.n):
        fetch(key, _constant({"filled": key}))
    return experiment(
        _Request(fetch, counter),
        popularity,
        seed,
        arrivals=arrivals,
        duration=duration,
        bucket=bucket,
        check=lambda: counter.overlapping,
        kv=kv,
        name=name,
        progress=False,
    )


class LoadCounter:
    """A loader that counts its calls. Safe to share between threads.

    ``total``: all calls; ``overlapping``: calls that began while the same key was being loaded.
    """

    def __init__(self, load: Callable[[int], Any]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._running: Counter[int] = Counter()
        self.total = 0
        self.overlapping = 0

    def __call__(self, key: int) -> Any:
        with self._lock:
            self.total += 1
            self.overlapping += self._running[key] > 0
            self._running[key] += 1
        try:
            return self._load(key)
        finally:
            with self._lock:
                self._running[key] -= 1


class _Request:
    """One request: asks for a key, and says whether it had to load."""

    def __init__(self, fetch: Callable[[int, Load], Any], load: Callable[[int], Any]) -> None:
        self._fetch, self._load = fetch, load

    def __call__(self, key: int) -> str:
        loaded = False

        def load() -> Any:
            nonlocal loaded
            loaded = True
            return self._load(key)

        self._fetch(key, load)
        return "loads" if loaded else "cached"


def _constant(value: Any) -> Load:
    return lambda: value
