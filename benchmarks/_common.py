"""What the benchmarks share: the seconds of a call, and one wording of a comparison."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Awaitable, Callable

from kvlab import Kv, connect
from kvlab.instruments import Comparison


def opened(url: str | None) -> Kv:
    """An executor in a namespace of this run's own, inside the default prefix.

    A benchmark clears its namespace, and another benchmark may run on the same server.
    """
    return connect(url).within("bench").within(secrets.token_hex(4))


def mean_seconds(call: Callable[[], object], n: int) -> float:
    """Seconds of one call, on average over ``n`` calls one after the other."""
    began = time.perf_counter()
    for _ in range(n):
        call()
    return (time.perf_counter() - began) / n


def median_seconds(call: Callable[[], object], n: int) -> float:
    """Median seconds of ``n`` calls one after the other."""
    times = []
    for _ in range(n):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def mean_seconds_awaited(call: Callable[[], Awaitable[object]], n: int) -> float:
    """:func:`mean_seconds` of an async call."""
    began = time.perf_counter()
    for _ in range(n):
        await call()
    return (time.perf_counter() - began) / n


async def median_seconds_awaited(call: Callable[[], Awaitable[object]], n: int) -> float:
    """:func:`median_seconds` of an async call."""
    times = []
    for _ in range(n):
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def report(name: str, compared: Comparison) -> None:
    """Print "a / b", how a compares with b, with its interval, and the medians of a and of b."""
    a, b = (_text(statistics.median(side)) for side in (compared.a, compared.b))
    print(f"{name:42} takes {compared}  [{a} / {b}]", flush=True)


def _text(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
