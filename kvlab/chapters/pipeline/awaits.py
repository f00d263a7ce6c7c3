"""Concurrent awaits: the round trips they take, and the time of a burst of them."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import redis.asyncio as aredis

from kvlab import AsyncKv, AutoBatch
from kvlab.chapters.pipeline.throughput import count_wrong
from kvlab.core.op import Op
from kvlab.core.settings import TIMEOUT
from kvlab.instruments.measure.turns import orders, turns_within

POOL = 50
PEER = f"redis-py,\npool of {POOL}"


async def trips_of_awaits(
    asks: Mapping[str, Callable[[AsyncKv], Awaitable[Sequence[Any]]]],
    executors: Mapping[str, AsyncKv],
    wanted: Sequence[Any],
) -> pd.DataFrame:
    """The round trips of each ``ask`` through each executor, and the replies that are wrong."""
    rows = []
    for how, ask in asks.items():
        for name, executor in executors.items():
            before = executor.round_trips
            wrong = count_wrong(await ask(executor), wanted)
            rows.append((how, name, executor.round_trips - before, wrong))
    names = ["awaits", "through", "round trips", "wrong replies"]
    return pd.DataFrame(rows, columns=names).set_index(["awaits", "through"])


async def time_of_bursts(
    url: str, auto: AutoBatch, ops: Sequence[Op[Any]], wanted: Sequence[Any], *, turns: int
) -> pd.DataFrame:
    """All ``ops`` awaited at once: redis-py with a blocking pool, then ``auto``, in turns.

    Each await is a task of its own. redis-py has the protocol and the timeout of kvlab. ``ops`` are
    GETs without ``decode``, since redis-py answers bytes. Columns as in :func:`bursts`.
    """
    pool = aredis.BlockingConnectionPool.from_url(
        url, max_connections=POOL, timeout=None, protocol=2, socket_timeout=TIMEOUT
    )
    peer = aredis.Redis(connection_pool=pool)

    async def through_peer() -> list[Any]:
        return await asyncio.gather(*(peer.get(auto.name(op.keys[0])) for op in ops))

    async def through_auto() -> list[Any]:
        return await asyncio.gather(*(auto.run(op) for op in ops))

    try:
        return await bursts({PEER: through_peer, "AutoBatch": through_auto}, wanted, turns=turns)
    finally:
        await peer.aclose()
        await pool.disconnect()


async def bursts(
    subjects: Mapping[str, Callable[[], Awaitable[Sequence[Any]]]],
    wanted: Sequence[Any],
    *,
    turns: int,
) -> pd.DataFrame:
    """Await each subject in turns, in random order within a turn; one turn before is warm-up.

    Rows: ``subject``, ``turn``, ``place`` in the turn, ``seconds``, ``wrong``.
    """
    rows = []
    drawn = orders(subjects, seed=7)
    for turn, counts in enumerate(turns_within(turns)):
        for place, name in enumerate(next(drawn) if counts else subjects):
            gc.collect()
            began = time.perf_counter()
            replies = await subjects[name]()
            seconds = time.perf_counter() - began
            rows.append((name, turn, place, seconds, count_wrong(replies, wanted)))
    frame = pd.DataFrame(rows, columns=["subject", "turn", "place", "seconds", "wrong"])
    return frame[frame["turn"] > 0].reset_index(drop=True)
