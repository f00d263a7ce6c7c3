"""Whether "try again in …" is true: each limiter is watched from its denial to its first yes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kvlab import Kv
from kvlab.chapters.rate_limiting.admissions import KINDS, next_edge
from kvlab.errors import InvalidArgument
from kvlab.instruments.judges.server_clock import server_clock


def waits_of_all(kv: Kv, *, limit: int, window: float, cost: int) -> pd.DataFrame:
    """:func:`watch_waits` of the four limiters from a window's edge, with all ``limit`` used up."""
    limiters = {name: kind("wait", limit=limit, window=window) for name, kind in KINDS.items()}
    next_edge(kv, window)
    return watch_waits(kv, limiters, "eve", fill=limit, cost=cost)


def watch_waits(
    kv: Kv, limiters: Mapping[str, Any], key: str, *, fill: int, cost: int
) -> pd.DataFrame:
    """Compare each limiter's ``retry_after`` with the moment at which it says yes.

    The limiters use up ``fill`` units of ``key`` and deny ``cost`` more units. Then all are peeked
    at without a pause until all say yes. Columns: ``retry_after, s``; ``last no, ms`` and
    ``first yes, ms`` of the server's clock, counted from the promised moment; ``true``, whether
    the last no lies before that moment and the first yes does not.

    Raises InvalidArgument when a limiter does not deny the cost, and ``ServerTimeOutsideCall``
    when a limiter says a time at which the limiter was not asked.
    """
    calls: list[tuple[float, float, float]] = []

    def look(ops: list[Any]) -> list[Any]:
        began = time.time()
        decisions = kv.run(ops)
        ended = time.time()
        calls.extend((decision.at, began, ended) for decision in decisions)
        return decisions

    kv.run([limiter.hit(key, fill) for limiter in limiters.values()])
    looks = [look([limiter.hit(key, cost) for limiter in limiters.values()])]
    if any(decision.allowed for decision in looks[0]):
        raise InvalidArgument(f"not every limiter denied a cost of {cost} after {fill}")
    while not all(decision.allowed for decision in looks[-1]):
        looks.append(look([limiter.peek(key, cost) for limiter in limiters.values()]))
    server_clock(kv.client).require(calls)
    rows = [_wait(decisions) for decisions in zip(*looks, strict=True)]
    columns = ["retry_after, s", "last no, ms", "first yes, ms"]
    frame = pd.DataFrame(rows, columns=columns, index=pd.Index(limiters, name="limiter"))
    return frame.assign(true=(frame["last no, ms"] < 0) & (frame["first yes, ms"] >= 0))


def _wait(decisions: Sequence[Any]) -> tuple[float, float, float]:
    """The promised seconds; milliseconds from the promised moment to the last no and first yes."""
    denial = decisions[0]
    promised = denial.at + denial.retry_after
    answers = [(round((d.at - promised) * 1e6) / 1e3, d.allowed) for d in decisions]
    last_no = max(offset for offset, allowed in answers if not allowed)
    first_yes = min(offset for offset, allowed in answers if allowed)
    return denial.retry_after, last_no, first_yes
