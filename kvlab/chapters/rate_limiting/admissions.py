"""How many requests each limiter admits: of a crowd that asks at once, and of a load in bursts.

Times are seconds of the server's clock, as in ``at`` of a decision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import redis

from kvlab import (
    FixedWindow,
    Kv,
    NaiveSlidingWindow,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from kvlab.instruments.faults.client_gate import gated
from kvlab.instruments.judges.admissions import judge
from kvlab.instruments.judges.server_clock import server_clock
from kvlab.instruments.measure import theory

Floats = npt.NDArray[np.float64]

KINDS: Mapping[str, Callable[..., Any]] = {
    "fixed-window": FixedWindow,
    "sliding-log": SlidingWindowLog,
    "sliding-counter": SlidingWindowCounter,
    "token-bucket": TokenBucket,
}
"""The four limiters by the names that the judge gives to their bounds."""
LONG = 10_000_000
"""Seconds: a window so long that no limiter frees a place during the measurement."""


# --- a crowd that asks at once -----------------------------------------------------------------


def admitted_at_once(kv: Kv, url: str, *, clients: int, limit: int) -> pd.DataFrame:
    """How many of ``clients`` each limiter admits when all of them ask at the same moment.

    Columns ``case``, ``variant``, ``admitted`` and ``limit``.
    """
    rows = [("naive sliding", "naive", _naive_admits(kv.prefix, url, clients, limit), limit)]
    for name, kind in KINDS.items():
        limiter = kind("crowd", limit=limit, window=LONG)
        kv.run(limiter.peek("warm"))  # from now on the script is on the server
        rows.append((name, "hardened", _limiter_admits(kv.prefix, url, limiter, clients), limit))
    return pd.DataFrame(rows, columns=["case", "variant", "admitted", "limit"])


def admitted_past(url: str, command: str, check: Callable[[Any], bool], *, clients: int) -> int:
    """How many of ``clients`` are admitted when all stand before ``command`` and go on at once.

    ``check`` makes one request with the client that it gets and returns whether the request was
    admitted. Raises ``TimeoutError`` when a client does not come to the command.
    """
    crowd = [gated(url, command) for _ in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        answers = [pool.submit(check, client) for client in crowd]
        arrived = sum(client.gate.reached.wait(20) for client in crowd)
        for client in crowd:
            client.gate.open()
        admitted = sum(answer.result() for answer in answers)
    for client in crowd:
        client.close()
    if arrived < clients:
        raise TimeoutError(f"{arrived} of {clients} clients came to {command} within 20 s")
    return admitted


def _naive_admits(prefix: str, url: str, clients: int, limit: int) -> int:
    def check(client: redis.Redis) -> bool:
        return NaiveSlidingWindow(client, limit=limit, prefix=prefix).check("crowd")

    return admitted_past(url, "ZADD", check, clients=clients)


def _limiter_admits(prefix: str, url: str, limiter: Any, clients: int) -> int:
    def check(client: redis.Redis) -> bool:
        decision: Any = Kv(client, prefix=prefix).run(limiter.hit("crowd"))
        return bool(decision.allowed)

    return admitted_past(url, "EVALSHA", check, clients=clients)


# --- one load for all four ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replay:
    """One load that all four limiters were asked at the same moments.

    ``asked`` and ``admitted`` (by limiter) are seconds from ``edge``, the start of a window of the
    server's clock in Unix seconds.
    """

    limit: int
    window: float
    edge: float
    asked: Floats
    admitted: Mapping[str, list[float]]

    def verdicts(self) -> pd.DataFrame:
        """A row for each limiter, each judged by its own promise.

        ``admitted``: how many. ``most``: the most in any interval of one window's length, and
        ``theory``: the most that theory allows there. ``too many``: admissions beyond the promise.
        """
        rows = [
            (len(times), most_within(times, self.window), self._worst()[name], self._over(name))
            for name, times in self.admitted.items()
        ]
        columns = ["admitted", "most", "theory", "too many"]
        return pd.DataFrame(rows, columns=columns, index=pd.Index(self.admitted, name="limiter"))

    def _over(self, name: str) -> int:
        moments = [self.edge + seconds for seconds in self.admitted[name]]
        return judge(name, moments, limit=self.limit, window=self.window).over

    def _worst(self) -> dict[str, int]:
        return worst_interval(self.limit, burst=self.limit, window=self.window)


def replay_bursts(kv: Kv, asked: Floats, *, limit: int, window: float) -> Replay:
    """Hit all four limiters in one round trip at each moment of ``asked``, from a window's edge.

    An open loop of one caller: a hit that is due while the caller waits for an answer starts late.
    Raises ``ServerTimeOutsideCall`` when a limiter says a time at which it was not asked.
    """
    limiters = {name: kind("load", limit=limit, window=window) for name, kind in KINDS.items()}
    admitted: dict[str, list[float]] = {name: [] for name in limiters}
    calls: list[tuple[float, float, float]] = []
    edge = next_edge(kv, window)
    begin = time.perf_counter()
    for moment in asked:
        time.sleep(max(0.0, begin + float(moment) - time.perf_counter()))
        began = time.time()
        decisions = kv.run([limiter.hit("dan") for limiter in limiters.values()])
        ended = time.time()
        calls += [(decision.at, began, ended) for decision in decisions]
        for name, decision in zip(limiters, decisions, strict=True):
            if decision.allowed:
                admitted[name].append(decision.at - edge)
    server_clock(kv.client).require(calls)
    return Replay(limit, window, edge, asked, admitted)


def bursts(
    count: int,
    *,
    seed: int,
    size: tuple[int, int],
    gap: tuple[float, float],
    spread: float,
) -> Floats:
    """The moments of ``count`` bursts in seconds from 0, in order; the same for the same seed.

    Each burst has ``size[0]`` to ``size[1]`` requests within ``spread`` seconds. It begins
    ``gap[0]`` to ``gap[1]`` seconds after the burst before.
    """
    draw = np.random.default_rng(seed)
    begins = np.cumsum(draw.uniform(*gap, count))
    sizes = draw.integers(size[0], size[1] + 1, count)
    moments = [b + draw.uniform(0, spread, n) for b, n in zip(begins, sizes, strict=True)]
    return np.sort(np.concatenate(moments))


def next_edge(kv: Kv, window: float) -> float:
    """Wait until a window of the server's clock begins; return its start in Unix seconds."""
    moment: Any = kv.client.time()
    now = moment[0] + moment[1] / 1e6
    edge = (now // window + 1) * window
    time.sleep(edge - now)
    return float(edge)


def most_within(times: npt.ArrayLike, seconds: float) -> int:
    """The most ``times`` in any half-open interval of ``seconds``; 0 when there are no times."""
    moments = np.sort(np.round(np.asarray(times, np.float64) * 1e6).astype(np.int64))
    width = round(seconds * 1e6)
    inside = np.arange(1, len(moments) + 1) - np.searchsorted(moments, moments - width, "right")
    return int(inside.max(initial=0))


def worst_interval(limit: int, *, burst: int, window: float = 1.0) -> dict[str, int]:
    """The most that theory lets each limiter admit in some interval of one window's length."""
    return {
        "fixed-window": theory.fixed_window_worst(limit),
        "sliding-log": theory.sliding_log_worst(limit),
        "sliding-counter": theory.sliding_counter_worst(limit),
        "token-bucket": theory.token_bucket_worst(burst, limit / window, window),
    }
