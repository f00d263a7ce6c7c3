"""The time of many reads by the distance of the server and by the size of a batch."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

import kvlab
from kvlab import Op
from kvlab.chapters.pipeline.throughput import Send, count_wrong, send_all
from kvlab.instruments.faults.proxy import Proxy

PINGS = 51
MANY_TRIPS = 10


def time_by_distance(
    url: str,
    prefix: str,
    ops: Sequence[Any],
    wanted: Sequence[Any],
    *,
    sizes: Sequence[int],
    delays: Sequence[float],
) -> pd.DataFrame:
    """Read all ``ops`` in batches of each size, behind a proxy that adds each delay (s)."""
    with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=prefix) as far:
        ping: Op[Any] = Op("PING")
        return by_distance(
            far.run, lambda: far.run(ping), proxy, ops, wanted, sizes=sizes, delays=delays
        )


def by_distance(
    send: Send,
    ping: Callable[[], object],
    proxy: Proxy,
    ops: Sequence[Any],
    wanted: Sequence[Any],
    *,
    sizes: Sequence[int],
    delays: Sequence[float],
    repeats: int = 3,
) -> pd.DataFrame:
    """All ``ops`` through ``proxy`` at each added delay (s) and batch size.

    A row: ``size``, ``delay``, ``distance`` (s: the delay, and the median ping without a delay),
    ``trips``, ``seconds``, ``network`` (trips × distance, s), ``wrong``. More than ``MANY_TRIPS``
    trips are measured once, since their time is a sum over many; fewer are the median of
    ``repeats``.
    """
    rows: list[tuple[Any, ...]] = []
    proxy.delay(0)
    send(ops)
    near = statistics.median(_seconds(ping) for _ in range(PINGS))
    for delay in delays:
        proxy.delay(delay)
        distance = delay + near
        for size in sizes:
            trips = math.ceil(len(ops) / size)
            sent = [send_all(send, ops, size) for _ in range(1 if trips > MANY_TRIPS else repeats)]
            seconds = statistics.median(taken for taken, _ in sent)
            wrong = sum(count_wrong(replies, wanted) for _, replies in sent)
            rows.append((size, delay, distance, trips, seconds, trips * distance, wrong))
    names = ["size", "delay", "distance", "trips", "seconds", "network", "wrong"]
    return pd.DataFrame(rows, columns=names)


def at_farthest(frame: pd.DataFrame) -> dict[int, float]:
    """Milliseconds by batch size, at the largest added delay."""
    rows = frame[frame["delay"] == frame["delay"].max()]
    return {
        int(size): float(ms) for size, ms in zip(rows["size"], rows["seconds"] * 1e3, strict=True)
    }


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
