"""A cluster under load while slots move, a replica takes over on request, and a primary is killed.

``python -m benchmarks.studies.cluster_load`` [--decisions 200000] [--adds 100000]. A private
cluster of three primaries and three replicas; closed loop; four threads, each with its own lists
of ops.

The judge counts, for each limiter key, what was admitted, and for each member of a board the adds
that have an ``op_id`` and were sent again until one of them was answered:

* While slots move and after a failover on request nothing is lost: admissions are exactly the
  limit, and scores are exactly the adds.
* After kill -9 the replica may lack the last writes (replication does not wait): then a limiter may
  admit again, and a score may lack adds, on the killed node's slots and nowhere else. More than its
  adds no score ever has.
* The control beside each: GET, compare, INCR, and GET, add, SET, on the same cluster in the same
  run. They must break.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from kvlab import FixedWindow, Key, Kv, Leaderboard, Op
from kvlab.errors import KvlabError, Outage
from kvlab.server import engines
from kvlab.server.running_cluster import RunningCluster

THREADS = 4
LIST = 50
KEYS = 60
BOARDS = 60
NAIVE_LIMIT = 5


@dataclass
class Load:
    """What the threads saw."""

    kv: Kv
    admitted: Counter[int] = field(default_factory=Counter)
    naive_admitted: Counter[int] = field(default_factory=Counter)
    added: Counter[int] = field(default_factory=Counter)
    naive_added: int = 0
    again: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def limiter(self, limit: int) -> FixedWindow:
        return FixedWindow("load", limit=limit, window=86_400)

    def decide(self, limit: int, draw: random.Random) -> None:
        keys = [draw.randrange(KEYS) for _ in range(LIST)]
        found = answered(self, [self.limiter(limit).hit(key) for key in keys])
        with self.lock:
            self.admitted.update(k for k, d in zip(keys, found, strict=True) if d.allowed)

    def add(self, ids: itertools.count[int], draw: random.Random) -> None:
        boards = [draw.randrange(BOARDS) for _ in range(LIST)]
        ops = [board(b).submit("m", 1, "add", op_id=next(ids)) for b in boards]
        answered(self, ops)
        with self.lock:
            self.added.update(boards)


def board(number: int) -> Leaderboard:
    return Leaderboard(f"b{number}", op_horizon=3_600)


def answered(load: Load, ops: list[Op[Any]]) -> list[Any]:
    """The answers; an op without one is sent again, the same op."""
    results = load.kv.run(ops, return_exceptions=True)
    for i, result in enumerate(results):
        while isinstance(result, Exception):
            if not isinstance(result, Outage):
                raise result
            load.again += 1
            (result,) = load.kv.run([ops[i]], return_exceptions=True)
        results[i] = result
    return results


THINKS = 0.002
"""Seconds between what a naive client reads and what it writes: so that others come between."""


def naive(load: Load) -> None:
    """The tutorial's limiter and counter: what was read may be old when the write comes."""
    number = load.naive_added // (4 * NAIVE_LIMIT)
    key = Key(f"naive:{number}")  # a new key when the last one is full
    try:
        if int(load.kv.run(Op("GET", key)) or 0) < NAIVE_LIMIT:
            time.sleep(THINKS)
            load.kv.run(Op("INCR", key))
            with load.lock:
                load.naive_admitted[number] += 1
        total = Key("naive:total")
        before = int(load.kv.run(Op("GET", total)) or 0)
        time.sleep(THINKS)
        load.kv.run(Op("SET", total, before + 1))
        with load.lock:
            load.naive_added += 1
    except KvlabError:
        pass  # counted neither here nor there


def reshard(cluster: RunningCluster, stop: threading.Event, moved: list[int]) -> None:
    """Move one slot after the other, with its keys, from the first primary to the second."""
    source, target = (node.client() for node in cluster.nodes[:2])
    ids = [str(node.execute_command("CLUSTER MYID").decode()) for node in (source, target)]
    for slot in range(5_000):
        if stop.is_set():
            return
        target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
        source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
        while keys := source.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            where = ("127.0.0.1", cluster.nodes[1].port, "", 0, 5_000)
            source.execute_command("MIGRATE", *where, "KEYS", *keys)
        for node in (target, source):
            node.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
        moved.append(slot)


def phase(load: Load, decisions: int, adds: int, limit: int, ids: itertools.count[int]) -> float:
    """Seconds for the phase's share of the load, spread over the threads."""

    def work(seed: int) -> None:
        draw = random.Random(seed)
        jobs: list[Callable[[], None]] = [lambda: load.decide(limit, draw)] * (
            decisions // LIST // THREADS
        ) + [lambda: load.add(ids, draw)] * (adds // LIST // THREADS)
        draw.shuffle(jobs)
        for job in jobs:
            job()
            naive(load)

    began = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(work, next(ids)) for _ in range(THREADS)]:
            done.result()
    return time.monotonic() - began


def judged(load: Load, limit: int, killed: Callable[[Key], bool]) -> tuple[str, bool]:
    """What was found, and whether it is within the promise; ``killed``: whether a key was lost."""
    over = {k: n - limit for k, n in load.admitted.items() if n > limit}
    scores = {b: load.kv.run(board(b).rank("m")) for b in load.added}
    missing = {b: load.added[b] - int(s.score if s else 0) for b, s in scores.items()}
    elsewhere = [k for k in over if not killed(load.limiter(limit).hit(k).keys[0])]
    elsewhere += [b for b, n in missing.items() if n and not killed(board(b).top(1).keys[0])]
    lost = sum(n for n in missing.values() if n > 0)
    twice = -sum(n for n in missing.values() if n < 0)
    said = f"{sum(over.values())} admitted beyond the limits; {lost} adds missing, {twice} twice"
    return f"{said}; outside the killed node's slots {len(elsewhere)}", not elsewhere and not twice


def broken(load: Load) -> tuple[str, bool]:
    """What the control did, and whether both of its promises broke."""
    excess = sum(max(0, n - NAIVE_LIMIT) for n in load.naive_admitted.values())
    lost = load.naive_added - int(load.kv.run(Op("GET", Key("naive:total"))) or 0)
    said = f"naive: {excess} admitted beyond the limits, {lost} of {load.naive_added} adds lost"
    return said, excess > 0 and lost > 0


def run(decisions: int, adds: int) -> tuple[list[str], bool, bool]:
    """The lines to print, whether the promise held, and whether the control broke."""
    limit = max(1, decisions // KEYS // 4)
    ids, lines, moved, stop = itertools.count(1), list[str](), list[int](), threading.Event()
    with tempfile.TemporaryDirectory() as home:
        cluster = RunningCluster(engines.find("valkey"), Path(home), node_timeout=1.0)
        try:
            with cluster.client() as client, Kv(client, prefix="load", deadline=20) as kv:
                load = Load(kv)
                mover = threading.Thread(target=reshard, args=(cluster, stop, moved))
                mover.start()
                took = phase(load, decisions // 2, adds // 2, limit, ids)
                stop.set()
                mover.join()
                lines.append(f"{took:.1f} s while {len(moved)} slots moved")
                cluster.nodes[5].client().execute_command("CLUSTER FAILOVER")
                took = phase(load, decisions // 4, adds // 4, limit, ids)
                lines.append(f"{took:.1f} s with a failover on request")
                found, exact = judged(load, limit, lambda _: False)
                lines.append(found)
                control, broke = broken(load)
                port = cluster.nodes[1].port
                at: Any = client.nodes_manager.initialize() or client.nodes_manager.slots_cache
                gone = {slot for slot, nodes in at.items() if nodes[0].port == port}
                killer = threading.Timer(0.2, cluster.nodes[1].kill)
                killer.start()
                recovered = threading.Thread(target=_recovery, args=(kv, gone, killer, lines))
                recovered.start()
                took = phase(load, decisions // 4, adds // 4, limit, ids)
                recovered.join()
                lines.append(f"{took:.1f} s with a primary's kill -9; ops sent again: {load.again}")
                found, held = judged(load, limit, lambda k: key_slot(kv.name(k).encode()) in gone)
                return [*lines, found, control], exact and held, broke
        finally:
            cluster.kill()


def _recovery(kv: Kv, slots: set[int], killer: threading.Timer, lines: list[str]) -> None:
    key = next(k for k in map(str, itertools.count()) if key_slot(f"load:{k}".encode()) in slots)
    killer.join()
    began = time.monotonic()
    while True:
        try:
            kv.run(Op("SET", Key(key), 1))
        except (KvlabError, redis.RedisError):
            time.sleep(0.01)
        else:
            break
    lines.append(
        f"the killed primary's slots answered again after {time.monotonic() - began:.2f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--decisions", type=int, default=200_000)
    parser.add_argument("--adds", type=int, default=100_000)
    asked = parser.parse_args()
    lines, held, broke = run(asked.decisions, asked.adds)
    print("\n".join(lines))
    print(
        f"{'HOLDS' if held else 'BROKEN'}; the control {'breaks' if broke else 'HOLDS: no proof'}"
    )
    return 0 if held and broke else 1


if __name__ == "__main__":
    sys.exit(main())
