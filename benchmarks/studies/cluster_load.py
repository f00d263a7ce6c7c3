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
  run, by two clients that both read before one of them writes. They must break.
"""

from __future__ import annotations

import argparse
import functools
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
NAIVE_CLIENTS = 2
ROUNDS_A_WINDOW = NAIVE_LIMIT // NAIVE_CLIENTS + 1  # the last of them goes over the limit


@dataclass
class Load:
    """What the threads saw."""

    kv: Kv
    admitted: Counter[int] = field(default_factory=Counter)
    naive_admitted: Counter[int] = field(default_factory=Counter)
    added: Counter[int] = field(default_factory=Counter)
    naive_added: int = 0
    naive_rounds: int = 0
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


def naive(load: Load, rounds: range, both: threading.Barrier) -> None:
    """The tutorial's limiter and counter, by one of two clients. In each round both have read
    before one of them writes."""
    for number in rounds:
        window = number // ROUNDS_A_WINDOW
        hits, total = Key(f"naive:{window}"), Key("naive:total")
        found = [read_number(load.kv, key) for key in (hits, total)]
        both.wait()
        if found[0] is not None and found[0] < NAIVE_LIMIT and written(load.kv, Op("INCR", hits)):
            with load.lock:
                load.naive_admitted[window] += 1
        if found[1] is not None and written(load.kv, Op("SET", total, found[1] + 1)):
            with load.lock:
                load.naive_added += 1
        both.wait()


def read_number(kv: Kv, key: Key) -> int | None:
    """None while the cluster does not answer."""
    try:
        return int(kv.run(Op("GET", key)) or 0)
    except Outage:
        return None


def written(kv: Kv, op: Op[Any]) -> bool:
    """Whether the cluster has said so."""
    try:
        kv.run(op)
    except Outage:
        return False
    return True


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


def phase(
    load: Load,
    decisions: int,
    adds: int,
    limit: int,
    ids: itertools.count[int],
    halfway: Callable[[], object],
) -> float:
    """Seconds for the phase's share of the load, spread over the threads; the control beside it.

    When half of the jobs are done, one of the threads calls ``halfway``."""
    rounds = range(load.naive_rounds, load.naive_rounds + (decisions + adds) // LIST)
    load.naive_rounds = rounds.stop
    both = threading.Barrier(NAIVE_CLIENTS)
    lists = (decisions // LIST // THREADS, adds // LIST // THREADS)  # of each thread
    jobs_begun = itertools.count()

    def work(seed: int) -> None:
        draw = random.Random(seed)
        jobs: list[Callable[[], None]] = [lambda: load.decide(limit, draw)] * lists[0]
        jobs += [lambda: load.add(ids, draw)] * lists[1]
        draw.shuffle(jobs)
        for job in jobs:
            if next(jobs_begun) == sum(lists) * THREADS // 2:
                halfway()
            job()

    began = time.monotonic()
    with ThreadPoolExecutor(THREADS + NAIVE_CLIENTS) as pool:
        control = [pool.submit(naive, load, rounds, both) for _ in range(NAIVE_CLIENTS)]
        for done in [pool.submit(work, next(ids)) for _ in range(THREADS)] + control:
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
                took = phase(load, decisions // 2, adds // 2, limit, ids, lambda: None)
                stop.set()
                mover.join()
                lines.append(f"{took:.1f} s while {len(moved)} slots moved")
                replica = cluster.nodes[5].client()
                fail_over = functools.partial(replica.execute_command, "CLUSTER FAILOVER")
                took = phase(load, decisions // 4, adds // 4, limit, ids, fail_over)
                lines.append(f"{took:.1f} s with a failover on request")
                found, exact = judged(load, limit, lambda _: False)
                lines.append(found)
                control, broke = broken(load)
                port = cluster.nodes[1].port
                at: Any = client.nodes_manager.initialize() or client.nodes_manager.slots_cache
                gone = {slot for slot, nodes in at.items() if nodes[0].port == port}
                recovery = threading.Thread(target=_recovery, args=(kv, gone, lines))

                def kill() -> None:
                    cluster.nodes[1].kill()
                    recovery.start()

                took = phase(load, decisions // 4, adds // 4, limit, ids, kill)
                recovery.join()
                lines.append(f"{took:.1f} s with a primary's kill -9; ops sent again: {load.again}")
                found, held = judged(load, limit, lambda k: key_slot(kv.name(k).encode()) in gone)
                return [*lines, found, control], exact and held, broke
        finally:
            cluster.kill()


def _recovery(kv: Kv, slots: set[int], lines: list[str]) -> None:
    key = next(k for k in map(str, itertools.count()) if key_slot(f"load:{k}".encode()) in slots)
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
