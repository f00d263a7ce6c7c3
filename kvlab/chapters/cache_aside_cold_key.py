"""Readers that meet at one cache entry: at a cold key, at one that changes, when many end at once.

Guarantee: ``crowd`` lets nobody load before every reader has looked into the cache, so the number
of loads is the cache's doing and not the scheduler's.

A stampede, forced:

1. n readers start together
2. each looks into the cache and finds nothing
3. when all have looked, those that want to load may
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from matplotlib.figure import Figure

from kvlab.core.checks import whole
from kvlab.core.settings import Settings
from kvlab.errors import KvlabError
from kvlab.instruments.charts.style import panels
from kvlab.instruments.measure.experiment import experiment
from kvlab.instruments.measure.machine import HasClient
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.workload import OpenLoop, Zipf
from kvlab.instruments.palette import COLOURS, FAINT, IDLE

HOLD_AT_MOST = 30.0

Load = Callable[[], Any]


class NotEverybodyLooked(KvlabError):
    """A load was held, and some reader never looked into the cache."""


class Traced(Protocol):
    """What is used of a Kv: its settings, for the trace hook among them."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Visit:
    """One reader: ``began`` and ``ended``, and its own ``loading`` from … to if it loaded.

    Times are seconds since the first reader began.
    """

    value: Any
    began: float
    ended: float
    loading: tuple[float, float] | None = None


def crowd(
    n: int, read: Callable[[Load], Any], load: Load, *, kv: Traced | None = None
) -> list[Visit]:
    """``read(load)`` by ``n`` threads that start together; each load waits for all to have looked.

    A reader has looked when its load begins; with ``kv``, also when a round trip of that executor
    has been answered in its thread. Raises what a reader raises.
    """
    whole("n", n, 1, 1024)
    looked: set[int] = set()
    everybody = threading.Event()
    lock = threading.Lock()
    barrier = threading.Barrier(n)

    def has_looked(_: object = None) -> None:
        with lock:
            looked.add(threading.get_ident())
            if len(looked) == n:
                everybody.set()

    def visit() -> Visit:
        loading: list[float] = []

        def held() -> Any:
            has_looked()
            if not everybody.wait(HOLD_AT_MOST):
                raise NotEverybodyLooked(f"only {len(looked)} of {n} readers looked")
            loading.append(time.perf_counter())
            try:
                return load()
            finally:
                loading.append(time.perf_counter())

        barrier.wait(HOLD_AT_MOST)
        began = time.perf_counter()
        value = read(held)
        ended = time.perf_counter()
        return Visit(value, began, ended, (loading[0], loading[1]) if loading else None)

    before = None if kv is None else kv.settings
    try:
        if kv is not None:
            kv.settings = replace(kv.settings, trace=has_looked)
        with ThreadPoolExecutor(n) as pool:
            visits = [future.result() for future in [pool.submit(visit) for _ in range(n)]]
    finally:
        if kv is not None and before is not None:
            kv.settings = before
    return _from_zero(visits)


def _from_zero(visits: Sequence[Visit]) -> list[Visit]:
    zero = min(v.began for v in visits)
    return [
        Visit(
            v.value,
            v.began - zero,
            v.ended - zero,
            None if v.loading is None else (v.loading[0] - zero, v.loading[1] - zero),
        )
        for v in visits
    ]


def filled_together(
    name: str,
    fetch: Callable[[int, Load], Any],
    load: Callable[[int], Any],
    *,
    popularity: Zipf,
    arrivals: OpenLoop,
    duration: float,
    seed: int,
    bucket: float = 0.1,
    kv: HasClient | None = None,
) -> Result:
    """Fill every key at once, then let readers come: when do the entries end, and who loads?

    ``fetch(key, load)`` reads through the cache. Outcomes: "loads" (this request loaded) and
    "cached" (it did not). Violations: loads begun while the same key was loading.
    """
    loading = Loads(load)
    for key in range(popularity.n):
        fetch(key, lambda key=key: {"filled": key})  # type: ignore[misc]

    def request(key: int) -> str:
        mine: list[int] = []

        def count_and_load() -> Any:
            mine.append(key)
            return loading(key)

        fetch(key, count_and_load)
        return "loads" if mine else "cached"

    return experiment(
        request, popularity, seed, arrivals=arrivals, duration=duration, bucket=bucket,
        check=lambda: loading.overlapping, kv=kv, name=name, progress=False,
    )  # fmt: skip


class Loads:
    """A loader that counts: ``total``, and ``overlapping``: begun while the same key was loading.

    Safe to share between threads.
    """

    def __init__(self, load: Callable[[int], Any]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._under_way: Counter[int] = Counter()
        self.total = 0
        self.overlapping = 0

    def __call__(self, key: int) -> Any:
        with self._lock:
            self.total += 1
            self.overlapping += self._under_way[key] > 0
            self._under_way[key] += 1
        try:
            return self._load(key)
        finally:
            with self._lock:
                self._under_way[key] -= 1


def chart(visits: dict[str, list[Visit]], loads: dict[str, int], *, title: str) -> Figure:
    """A panel per variant, a row per reader: grey while it waits, in colour while it loads.

    ``loads``: for each variant what the database counted.
    """
    with panels(title, len(visits)) as (figure, side_by_side):
        for axes, (name, rows) in zip(side_by_side, visits.items(), strict=True):
            # loaders first, in the order in which they were done
            rows = sorted(rows, key=lambda v: (v.loading is None, v.ended))
            for y, v in enumerate(rows, start=1):
                axes.plot([v.began * 1e3, v.ended * 1e3], [y, y], color=IDLE, lw=1.6)
                if v.loading is not None:
                    span = [moment * 1e3 for moment in v.loading]
                    axes.plot(span, [y, y], color=COLOURS[name], lw=2.8)
            done = max(v.ended for v in rows) * 1e3
            axes.axvline(done, color=FAINT, lw=1, ls=":")
            count = f"{loads[name]:,} load" + ("" if loads[name] == 1 else "s")
            axes.set_title(f"{name}: {count}, all served after {done:,.0f} ms", color=COLOURS[name])
            axes.set_xlabel("milliseconds since the first reader")
            axes.grid(False, axis="y")
        first = side_by_side[0]
        first.set_ylabel("reader (grey: waits, colour: loads)")
        n = max(map(len, visits.values()))
        first.set_ylim(0, n + 1)
        first.set_xlim(left=0)
        first.set_yticks([1, *range(16, n + 1, 16)])
        first.invert_yaxis()
    return figure
