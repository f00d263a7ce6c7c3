"""What batches earn: throughput by size, time by distance, bursts of concurrent awaits.

Guarantee: whatever is compared takes turns, the first turn is thrown away, and wrong replies are
counted beside the times. Closed load.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from kvlab.instruments.faults.proxy import Proxy

T = TypeVar("T")

PINGS = 51


def parts(ops: Sequence[T], size: int) -> list[Sequence[T]]:
    """``ops`` in pieces of ``size``."""
    return [ops[i : i + size] for i in range(0, len(ops), size)]


def throughput(
    send: Callable[[Sequence[Any]], Iterable[Any]],
    ops: Sequence[Any],
    wanted: Sequence[Any],
    *,
    sizes: Sequence[int],
    turns: int,
) -> pd.DataFrame:
    """``send(batch)`` over all ``ops``, for each batch size, in turns.

    One row per size: ``trips``, ``seconds`` (median), ``rate``, ``low``, ``high`` (ops/s),
    ``wrong`` (replies that are not ``wanted``), and ``model`` (ops/s by two numbers fitted to all
    sizes, which are in ``frame.attrs``: ``trip`` and ``each``, seconds).
    """
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    wrong = dict.fromkeys(sizes, 0)
    for turn in range(turns + 1):
        for size in sizes:
            batches = parts(ops, size)
            began = time.perf_counter()
            replies = [reply for batch in batches for reply in send(batch)]
            if turn:
                taken[size].append(time.perf_counter() - began)
            wrong[size] += _wrong(replies, wanted)
    n = len(ops)
    rows = [
        (s, math.ceil(n / s), statistics.median(t), n / max(t), n / min(t), wrong[s])
        for s, t in taken.items()
    ]
    frame = pd.DataFrame(rows, columns=["size", "trips", "seconds", "low", "high", "wrong"])
    frame["rate"] = n / frame["seconds"]
    # relative errors: a large batch weighs as much as a small one
    sides = np.column_stack([frame["trips"], np.full(len(frame), n)])
    weighed = sides / frame["seconds"].to_numpy()[:, None]
    trip, each = np.linalg.lstsq(weighed, np.ones(len(frame)), rcond=None)[0]
    frame["model"] = n / (sides @ [trip, each])
    frame.attrs = {"trip": float(trip), "each": float(each)}
    return frame


def by_distance(
    send: Callable[[Sequence[Any]], Iterable[Any]],
    ping: Callable[[], object],
    proxy: Proxy,
    ops: Sequence[Any],
    wanted: Sequence[Any],
    *,
    sizes: Sequence[int],
    delays: Sequence[float],
    repeats: int = 5,
) -> pd.DataFrame:
    """All ``ops`` through ``proxy`` at each added delay (s) and batch size.

    One row each: ``size``, ``delay``, ``distance`` (s; the delay, and the median of pings without
    one), ``trips``, ``seconds``, ``network`` (trips × distance, s), ``wrong``. A row of
    more than ten trips is measured once, since it is a sum over them; others are medians of
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
            batches, taken, wrong = parts(ops, size), [], 0
            for _ in range(1 if len(batches) > 10 else repeats):
                began = time.perf_counter()
                replies = [reply for batch in batches for reply in send(batch)]
                taken.append(time.perf_counter() - began)
                wrong += _wrong(replies, wanted)
            trips, seconds = len(batches), statistics.median(taken)
            rows.append((size, delay, distance, trips, seconds, trips * distance, wrong))
    names = ["size", "delay", "distance", "trips", "seconds", "network", "wrong"]
    return pd.DataFrame(rows, columns=names)


async def bursts(
    subjects: Mapping[str, Callable[[], Awaitable[Sequence[Any]]]],
    wanted: Sequence[Any],
    *,
    turns: int,
) -> pd.DataFrame:
    """Await each subject in turns. Rows: ``subject``, ``turn``, ``seconds``, ``wrong``."""
    rows = []
    for turn in range(turns + 1):
        for name, burst in subjects.items():
            gc.collect()
            began = time.perf_counter()
            replies = await burst()
            rows.append((name, turn, time.perf_counter() - began, _wrong(replies, wanted)))
    frame = pd.DataFrame(rows, columns=["subject", "turn", "seconds", "wrong"])
    return frame[frame["turn"] > 0].reset_index(drop=True)


def _wrong(replies: Sequence[Any], wanted: Sequence[Any]) -> int:
    wrong = sum(bool(a != b) for a, b in zip(replies, wanted, strict=False))
    return wrong + abs(len(replies) - len(wanted))


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
