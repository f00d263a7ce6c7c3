"""What a limiter costs: round trips, latency beside violations of the same run, and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

import kvlab
from kvlab import Kv, NaiveSlidingWindow, SlidingWindowLog
from kvlab.chapters.rate_limiting.admissions import KINDS, LONG, worst_interval
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.judges.admissions import certain_overlap, judge
from kvlab.instruments.judges.server_clock import server_clock
from kvlab.instruments.measure.experiment import experiment
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.workload import ClosedLoop, Uniform


def round_trips(url: str, prefix: str) -> pd.DataFrame:
    """Round trips of one admitted and of one denied request at limit 1, counted by a proxy.

    Columns ``op``, ``variant`` and ``round_trips``. Connections are open and the script is loaded
    before the proxy counts.
    """
    log = SlidingWindowLog("trips", limit=1, window=LONG)
    rows = []
    with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=prefix) as kv:
        naive = NaiveSlidingWindow(kv.client, limit=1, prefix=prefix)
        requests: dict[str, Callable[[], object]] = {
            "naive": lambda: naive.check("hal"),
            "hardened": lambda: kv.run(log.hit("hal")),
        }
        kv.client.ping()
        kv.run(log.peek("warm"))
        for answer in ("admitted", "denied"):
            for variant, request in requests.items():
                proxy.reset()
                request()
                rows.append((answer, variant, proxy.requests))
    return pd.DataFrame(rows, columns=["op", "variant", "round_trips"])


def latency_far_away(
    url: str, prefix: str, *, limit: int, window: float, delay: float, seed: int
) -> dict[str, Result]:
    """Six workers of a closed loop on one key, with a server ``delay`` seconds away.

    ``violations``: admissions beyond the limit, of the same run. The naive limiter does not say
    when it decided, so only what is beyond doubt counts against it. The hardened limiter is judged
    by the server's time of each decision. Raises ``ServerTimeOutsideCall`` when the call was not
    under way at that time.
    """
    with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=prefix) as kv:
        proxy.delay(delay)
        return {
            "naive": _naive_race(kv, limit, window, seed),
            "hardened": _hardened_race(kv, limit, window, seed),
        }


def _naive_race(kv: Kv, limit: int, window: float, seed: int) -> Result:
    naive = NaiveSlidingWindow(kv.client, limit, round(window * 1000), kv.prefix)
    spans: list[tuple[float, float]] = []

    def request(_: int) -> None:
        began = time.perf_counter()
        if naive.check("ida"):
            spans.append((began, time.perf_counter()))

    def violations() -> int:
        return certain_overlap(spans, limit=limit, window=window).over

    return _race(request, violations, seed)


def _hardened_race(kv: Kv, limit: int, window: float, seed: int) -> Result:
    log = SlidingWindowLog("race", limit, window)
    calls: list[tuple[float, float, float]] = []

    def request(_: int) -> None:
        began = time.time()
        decision: Any = kv.run(log.hit("ida"))
        if decision.allowed:
            calls.append((decision.at, began, time.time()))

    def violations() -> int:
        server_clock(kv.client).require(calls)
        moments = [at for at, _, _ in calls]
        return judge("sliding-log", moments, limit=limit, window=window).over

    return _race(request, violations, seed)


def _race(request: Callable[[int], None], violations: Callable[[], int], seed: int) -> Result:
    return experiment(
        request,
        Uniform(1),
        seed,
        arrivals=ClosedLoop(6),
        count=600,
        warmup=50,
        check=violations,
        progress=False,
    )


def memory_of_full_keys(kv: Kv, limits: Sequence[int]) -> pd.DataFrame:
    """Bytes of one key whose limit is used up (``MEMORY USAGE``), by limiter and limit.

    The last column is the most that theory lets some interval of one window hold at the first
    limit.
    """
    worst = worst_interval(limits[0], burst=limits[0])
    rows = [
        (*[_bytes(kv, kind, limit) for limit in limits], worst[name])
        for name, kind in KINDS.items()
    ]
    columns = [f"bytes at limit {limit:,}" for limit in limits]
    columns.append(f"worst interval at limit {limits[0]}")
    return pd.DataFrame(rows, columns=columns, index=pd.Index(KINDS, name="limiter"))


def _bytes(kv: Kv, kind: Callable[..., Any], limit: int) -> int:
    limiter = kind(f"size{limit}", limit=limit, window=LONG)
    kv.run([limiter.hit("jon") for _ in range(limit)])
    key = kv.prefix + limiter.hit("jon").keys[0].name
    size: Any = kv.client.memory_usage(key, samples=0)
    return int(size)
