"""Throughput of one connection by the size of a batch. Closed loop; wrong replies are counted."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kvlab.instruments.measure.turns import turns_within

Send = Callable[[Sequence[Any]], Iterable[Any]]
"""Sends one batch, and returns the reply of each op."""


def throughput_by_size(
    send: Send, ops: Sequence[Any], wanted: Sequence[Any], *, sizes: Sequence[int], turns: int
) -> pd.DataFrame:
    """Send all ``ops`` in batches of each size, in turns; the first turn is thrown away.

    A row for each size: ``trips``, ``seconds`` (median), ``rate``, ``low``, ``high`` (ops/s),
    ``wrong`` (replies that are not ``wanted``), ``model`` (ops/s by two numbers that are fitted to
    all sizes). The two numbers are in ``frame.attrs``: ``trip`` and ``op``, seconds.
    """
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    wrong = dict.fromkeys(sizes, 0)
    for counts in turns_within(turns):
        for size in sizes:
            seconds, replies = send_all(send, ops, size)
            if counts:
                taken[size].append(seconds)
            wrong[size] += count_wrong(replies, wanted)
    n = len(ops)
    rows = [
        (size, math.ceil(n / size), statistics.median(t), n / max(t), n / min(t), wrong[size])
        for size, t in taken.items()
    ]
    frame = pd.DataFrame(rows, columns=["size", "trips", "seconds", "low", "high", "wrong"])
    frame["rate"] = n / frame["seconds"]
    trip, op = _fitted(frame, n)
    frame["model"] = n / (frame["trips"] * trip + n * op)
    frame.attrs = {"trip": trip, "op": op}
    return frame


def send_all(send: Send, ops: Sequence[Any], size: int) -> tuple[float, list[Any]]:
    """Send ``ops`` in batches of ``size``: the seconds taken, and all replies."""
    batches = [ops[at : at + size] for at in range(0, len(ops), size)]
    began = time.perf_counter()
    replies = [reply for batch in batches for reply in send(batch)]
    return time.perf_counter() - began, replies


def count_wrong(replies: Sequence[Any], wanted: Sequence[Any]) -> int:
    """Replies that are not what was wanted, and replies that are missing or too many."""
    wrong = sum(bool(a != b) for a, b in zip(replies, wanted, strict=False))
    return wrong + abs(len(replies) - len(wanted))


def _fitted(frame: pd.DataFrame, n: int) -> tuple[float, float]:
    """Seconds of a trip and of an op, least squares of the relative errors.

    Relative, so that a large batch weighs as much as a small one.
    """
    sides = np.column_stack([frame["trips"], np.full(len(frame), n)])
    weighed = sides / frame["seconds"].to_numpy()[:, None]
    trip, op = np.linalg.lstsq(weighed, np.ones(len(frame)), rcond=None)[0]
    return float(trip), float(op)
