"""What the benchmarks share: the seconds of a call, and one wording of a comparison."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from kvlab import Kv, connect
from kvlab.core.server_url import server_url
from kvlab.core.settings import TIMEOUT
from kvlab.instruments import Comparison


def fair(url: str) -> str:
    """The URL for a peer's client: with the protocol and the timeouts that kvlab itself uses.

    kvlab speaks RESP2 on connections of its own. redis-py would speak RESP3, which is other work
    for client and server.
    """
    same = {"protocol": 2, "socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
    return f"{url}{'&' if '?' in url else '?'}{urlencode(same)}"


def opened(url: str | None) -> Kv:
    """An executor in a namespace of this run's own, inside the default prefix.

    A benchmark clears its namespace, and another benchmark may run on the same server. ``client``
    of the executor, which is for the calls by hand, is as :func:`fair` says.
    """
    return connect(fair(server_url(url))).within("bench").within(secrets.token_hex(4))


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


def report(name: str, compared: Comparison, less: str = "") -> None:
    """Print "a / b", how a compares with b, with its interval, and the medians of a and of b.

    ``less``: what b does less than a, which belongs to its time.
    """
    a, b = (_text(statistics.median(side)) for side in (compared.a, compared.b))
    note = f"  ({less})" if less else ""
    print(f"{name:42} takes {compared}  [{a} / {b}]{note}", flush=True)


def _text(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
