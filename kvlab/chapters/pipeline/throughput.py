"""Throughput of one connection by the size of a batch. Closed loop; wrong replies are counted."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from kvlab.instruments.measure.comparison import ratio_over_turns
from kvlab.instruments.measure.turns import in_turns

ENOUGH = 0.8
"""The share of the highest rate from which a batch counts as large enough."""
Send = Callable[[Sequence[Any]], Iterable[Any]]
"""Sends one batch, and returns the reply of each op."""


def throughput_by_size(
    send: Send, ops: Sequence[Any], wanted: Sequence[Any], *, sizes: Sequence[int], turns: int
) -> pd.DataFrame:
    """Send all ``ops`` in batches of each size, in turns; the first turn is thrown away.

    The sizes have a random order within a turn.

    A row for each size: ``trips``, ``seconds`` (median), ``rate``, ``low``, ``high`` (ops/s),
    ``wrong`` (replies that are not ``wanted``), ``model`` (ops/s by two numbers that are fitted to
    all sizes). The two numbers are in ``frame.attrs``: ``trip`` and ``op``, seconds. ``gain`` is
    the time with the first size over the time with the last. ``enough``: the smallest and the
    largest size, over the turns, that reaches ``ENOUGH`` of the highest rate by that turn's model.
    """
    wrong = dict.fromkeys(sizes, 0)

    def seconds(size: int) -> float:
        took, replies = send_all(send, ops, size)
        wrong[size] += count_wrong(replies, wanted)
        return took

    in_order = in_turns({str(size): partial(seconds, size) for size in sizes}, turns=turns)
    taken = {size: in_order[str(size)] for size in sizes}
    n = len(ops)
    rows = [
        (size, math.ceil(n / size), statistics.median(t), n / max(t), n / min(t), wrong[size])
        for size, t in taken.items()
    ]
    frame = pd.DataFrame(rows, columns=["size", "trips", "seconds", "low", "high", "wrong"])
    frame["rate"] = n / frame["seconds"]
    frame["model"], trip, op = _model(frame["trips"], frame["seconds"], n)
    enough = [
        _enough(sizes, _model(frame["trips"], pd.Series(turn), n)[0])
        for turn in zip(*taken.values(), strict=True)
    ]
    gain = ratio_over_turns(taken[sizes[0]], taken[sizes[-1]])
    frame.attrs = {"trip": trip, "op": op, "gain": gain, "enough": (min(enough), max(enough))}
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


def _model(trips: pd.Series, seconds: pd.Series, n: int) -> tuple[pd.Series, float, float]:
    """Ops a second by the model; seconds of a trip and of an op, least squares of relative errors.

    Relative, so that a large batch weighs as much as a small one.
    """
    sides = np.column_stack([trips, np.full(len(trips), n)])
    weighed = sides / seconds.to_numpy()[:, None]
    trip, op = np.linalg.lstsq(weighed, np.ones(len(trips)), rcond=None)[0]
    return n / (trips * trip + n * op), float(trip), float(op)


def _enough(sizes: Sequence[int], rates: pd.Series) -> int:
    return next(s for s, rate in zip(sizes, rates, strict=True) if rate >= ENOUGH * rates.max())
