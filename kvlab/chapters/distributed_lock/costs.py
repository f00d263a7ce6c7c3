"""What a lock costs when nobody waits: round trips, latency, and what a late release does.

A late release: A's TTL ends just before the last command of A's release, and B takes the lock.
Then A's command reaches the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Thread

import pandas as pd
import redis

import kvlab
from kvlab import Kv, Lock, NaiveLock
from kvlab.instruments.charts.ratios import in_words
from kvlab.instruments.faults.client_gate import GatedRedis, gated
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.measure.comparison import Comparison, ratio_over_turns
from kvlab.instruments.measure.experiment import experiment
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.turns import in_turns, merged
from kvlab.instruments.measure.workload import ClosedLoop, Uniform

TTL = 10
AT_MOST = 20.0
"""Seconds that a client has to reach its gate."""


def round_trips(url: str, prefix: str) -> pd.DataFrame:
    """Round trips to take a free lock and to give it back, counted by a proxy.

    Columns ``op``, ``variant`` and ``round_trips``. Connections are open and scripts are loaded
    before the proxy counts.
    """
    rows = []
    with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=prefix) as kv:
        for variant, (take, give_back) in _variants(kv).items():
            give_back(take())
            proxy.reset()
            token = take()
            rows.append(("acquire", variant, proxy.requests))
            proxy.reset()
            give_back(token)
            rows.append(("release", variant, proxy.requests))
    return pd.DataFrame(rows, columns=["op", "variant", "round_trips"])


@dataclass(frozen=True, slots=True)
class LockCosts:
    """``runs``: the turns of each lock as one. ``price``: median time, hardened over naive."""

    runs: dict[str, Result]
    price: Comparison

    @property
    def finding(self) -> str:
        """How often B's lock was deleted, and the price, in one line."""
        deleted = " and ".join(f"{run.violations} {name}" for name, run in self.runs.items())
        price = in_words(self.price, "hardened takes {} of naive")
        return f"B's lock deleted: {deleted}; median time: {price}"


def latency(url: str, kv: Kv, *, turns: int, count: int, warmup: int, seed: int) -> LockCosts:
    """Take the lock and give it back, the naive and the hardened lock in turns.

    A turn is ``warmup`` and ``count`` calls of one client in a closed loop, then one late release.
    ``violations`` counts the late releases of this run that deleted B's lock. A first turn is not
    counted.
    """
    late_releases = {"naive": naive_late_release, "hardened": hardened_late_release}
    turn = partial(_turn, count=count, warmup=warmup, seed=seed)
    variants = {
        variant: partial(turn, take, give_back, partial(late_releases[variant], url, kv.prefix))
        for variant, (take, give_back) in _variants(kv).items()
    }
    taken = in_turns(variants, turns=turns)
    runs = {variant: merged(results) for variant, results in taken.items()}
    return LockCosts(runs, ratio_over_turns(taken["hardened"], taken["naive"]))


def _turn(
    take: Callable[[], object],
    give_back: Callable[..., object],
    late_release: Callable[[], str | None],
    *,
    count: int,
    warmup: int,
    seed: int,
) -> Result:
    def take_and_give_back(_: int) -> None:
        give_back(take())

    return experiment(
        take_and_give_back,
        Uniform(1),
        seed,
        arrivals=ClosedLoop(1),
        count=count,
        warmup=warmup,
        check=lambda: int(late_release() is not None),
        progress=False,
    )


def naive_late_release(url: str, prefix: str) -> str | None:
    """What went wrong in a late release of the naive lock; None when B still has its lock."""
    key = f"{prefix}lock:late"
    with gated(url, before="DEL") as client_a, redis.Redis.from_url(url) as client_b:
        lock_a = NaiveLock(client_a, prefix)
        token_a = lock_a.acquire("late", TTL)
        assert token_a is not None, "another run uses this namespace"
        with _stopped(client_a, lambda: lock_a.release("late", token_a)):
            client_b.pexpire(key, 0)
            NaiveLock(client_b, prefix).acquire("late", TTL)
        kept = client_b.delete(key)
    return None if kept else "A deleted B's lock"


def hardened_late_release(url: str, prefix: str) -> str | None:
    """What went wrong in a late release of ``Lock``; None when B still has its lock."""
    lock = Lock("late", TTL)
    with gated(url, before="EVALSHA", nth=2) as client_a, redis.Redis.from_url(url) as client_b:
        a, b = Kv(client_a, prefix=prefix), Kv(client_b, prefix=prefix)
        _load_scripts(b, lock)
        held_a = a.run(lock.try_acquire())
        assert held_a is not None, "another run uses this namespace"
        with _stopped(client_a, lambda: a.run(lock.release(held_a))):
            client_b.pexpire(f"{prefix}lock:{{late}}:held", 0)
            held_b = b.run(lock.try_acquire())
        kept = held_b is not None and b.run(lock.release(held_b))
    return None if kept else "A deleted B's lock"


def _variants(kv: Kv) -> dict[str, tuple[Callable[[], object], Callable[..., object]]]:
    """For each lock: the call that takes the lock, and the call that gives it back."""
    naive, lock = NaiveLock(kv.client, kv.prefix), Lock("cost", TTL)
    return {
        "naive": (
            lambda: naive.acquire("cost", TTL),
            lambda token: naive.release("cost", token),
        ),
        "hardened": (
            lambda: kv.run(lock.try_acquire()),
            lambda held: kv.run(lock.release(held)),
        ),
    }


def _load_scripts(kv: Kv, lock: Lock) -> None:
    held = kv.run(lock.try_acquire())
    if held is not None:
        kv.run(lock.release(held))


@contextmanager
def _stopped(client: GatedRedis, call: Callable[[], object]) -> Iterator[None]:
    """Run ``call`` in a thread. The client's gate stops the thread until the body has ended."""
    thread = Thread(target=call, daemon=True)
    thread.start()
    if not client.gate.reached.wait(AT_MOST):
        raise TimeoutError(f"client A did not reach its gate within {AT_MOST:g} s")
    try:
        yield
    finally:
        client.gate.open()
        thread.join(AT_MOST)
