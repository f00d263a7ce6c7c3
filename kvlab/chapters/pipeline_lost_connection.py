"""Batches that are cut midway, and replies that nobody reads.

Guarantee: each function forces one schedule and returns when the server is known to have done its
part. ``deaths_in_turns`` gives all variants the same number of dying clients; the variants take
turns, and the first turn is thrown away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import redis

from kvlab.core.client import Kv
from kvlab.core.op import Op
from kvlab.errors import KvlabError
from kvlab.instruments.faults.client_gate import ClientCrashed, gated
from kvlab.instruments.measure.comparison import Comparison, ratio_over_turns
from kvlab.instruments.measure.experiment import experiment
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.turns import in_turns, merged
from kvlab.instruments.measure.workload import ClosedLoop, Uniform

Work = Callable[[redis.Redis], object]
Batch = Sequence[Op[Any]]

_POLLS = 10_000


class NotObserved(KvlabError):
    """The server did not come to the state that was waited for."""


def cut_midway(url: str, command: str, nth: int, work: Work) -> list[str]:
    """``work(client)`` with a client that dies before its ``nth`` ``command``.

    1. client: sends what comes before the command, and dies
    2. server: reads, sees the end of the connection, forgets the client

    Returns, after step 2, the names of the commands that left. The server has read them all if they
    are at most 16 kB together, its one read; of more, a part may be lost with the connection, which
    a client that dies with unread replies resets.
    """
    name = f"dies-before-{nth}-{command}"
    client = gated(url, command, nth=nth, crash=True, client_name=name)
    try:
        work(client)
    except ClientCrashed:
        _until(url, lambda admin: not _listed(admin, name), f"{name} to be gone")
        return client.gate.commands
    raise NotObserved(f"the work ended before {command} number {nth}")


@dataclass(frozen=True, slots=True)
class Told:
    """What happened, step by step, and how many counters the cut batch had changed."""

    steps: tuple[str, ...]
    applied: int


def cut_and_repeated(kv: Kv, url: str, command: str, nth: int, work: Work, pattern: str) -> Told:
    """``cut_midway``; then the same work by a client that lives.

    ``work`` adds 1 to each of its counters; ``pattern`` finds their keys.
    """
    sent = cut_midway(url, command, nth, work)
    first = counters(kv, pattern)
    work(kv.client)
    again = counters(kv, pattern)
    begun = "MULTI and " if "MULTI" in sent else ""
    return Told(
        (
            f"client: {begun}{sent.count(command)} {command} leave; it dies before the next",
            f"server: has applied {len(first)} of {len(again)}",
            "client: is started again, repeats the batch, gets no error",
            f"server: {again.count(1)} counters say 1, {again.count(2)} say 2",
        ),
        len(first),
    )


def counters(kv: Kv, pattern: str) -> list[int]:
    """The values of all counters whose key, after the prefix, matches ``pattern``."""
    keys = list(kv.client.scan_iter(match=kv.prefix + pattern, count=1000))
    return [int(value or 0) for value in kv.client.mget(keys)] if keys else []


def held_back(url: str, command: str, work: Work) -> int:
    """Bytes of replies that the server keeps for a client that has read the first one only.

    1. client: sends; reads the reply to its first ``command``, and stops
    2. server: answers all it was sent; what the sockets cannot take stays in its memory
    3. client: reads on

    Returns what was kept after step 2. Raises what ``work(client)`` raises.
    """
    name = f"stops-after-{command}"
    client = gated(url, after=command, client_name=name)
    problems: list[Exception] = []

    def do() -> None:
        try:
            work(client)
        except Exception as problem:
            problems.append(problem)

    thread = threading.Thread(target=do)
    thread.start()
    seen: list[tuple[int, int]] = []

    def settled(admin: redis.Redis) -> bool:
        seen.extend((int(c["omem"]), int(c["qbuf"])) for c in _listed(admin, name))
        return len(seen) >= 3 and len(set(seen[-3:])) == 1 and seen[-1][1] == 0

    try:
        if not client.gate.reached.wait(10):
            raise NotObserved(f"no reply to {command} came")
        _until(url, settled, "the server to have answered")
    finally:
        client.gate.open()
        thread.join()
    for problem in problems:
        raise problem
    return seen[-1][0]


@dataclass(frozen=True, slots=True)
class Deaths:
    """``runs``: the batches that were not cut; ``prices``: their median time over the first way's.

    A run's violations are batches of which some keys exist and some do not, out of ``died``.
    """

    runs: dict[str, Result]
    prices: dict[str, Comparison]
    died: int


def deaths_in_turns(
    kv: Kv,
    url: str,
    make: Callable[[], Batch],
    ways: Mapping[str, tuple[str, Callable[[Kv, Batch], object]]],
    *,
    turns: int,
    batches: int = 40,
    every: int = 20,
) -> Deaths:
    """Send ``make()`` again and again in each way; every ``every``-th client dies halfway.

    ``ways``: name → (the command before which to die, how to send). Each op of a batch must write
    one new key. Closed loop of one.
    """

    def one(name: str) -> Result:
        command, send = ways[name]
        sent: list[Batch] = []

        def batch(_: int) -> str:
            ops = make()
            sent.append(ops)
            if len(sent) % every:
                send(kv, ops)
                return "done"
            half = len(ops) // 2 + 1
            cut_midway(url, command, half, lambda client: send(Kv(client, prefix=kv.prefix), ops))
            return "died"

        def in_part() -> int:
            there = kv.run([Op("EXISTS", *(op.keys[0] for op in b), decode=int) for b in sent])
            return sum(0 < n < len(b) for n, b in zip(there, sent, strict=True))

        run = experiment(
            batch, Uniform(1), 1, arrivals=ClosedLoop(1), count=batches, check=in_part, kv=kv,
            name=name, progress=False,
        )  # fmt: skip
        return replace(run, outcomes={"done": run.outcomes["done"]})

    taken = in_turns({name: partial(one, name) for name in ways}, turns=turns)
    first = taken[next(iter(ways))]
    return Deaths(
        {name: merged(runs) for name, runs in taken.items()},
        {name: ratio_over_turns(runs, first) for name, runs in taken.items()},
        turns * (batches // every),
    )


def _listed(admin: redis.Redis, name: str) -> list[dict[str, Any]]:
    return [c for c in admin.client_list() if c["name"] == name]


def _until(url: str, true: Callable[[redis.Redis], bool], what: str) -> None:
    with redis.Redis.from_url(url) as admin:
        for _ in range(_POLLS):
            if true(admin):
                return
    raise NotObserved(f"waited in vain for {what}")
