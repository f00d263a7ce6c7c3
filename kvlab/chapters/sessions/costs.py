"""What a session costs: the commands of each call, memory, and latency beside undone log-outs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from timeit import repeat
from typing import Any

import pandas as pd

from kvlab import Kv, NaiveSessions
from kvlab.chapters.sessions.races import HardenedSessions
from kvlab.core.checks import whole
from kvlab.instruments.faults.client_gate import GatedRedis, gated
from kvlab.instruments.measure.comparison import Comparison, compare
from kvlab.instruments.measure.experiment import experiment
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.turns import in_turns, merged
from kvlab.instruments.measure.workload import ClosedLoop, Uniform

VARIANTS: dict[str, Callable[[Any, str], Any]] = {
    "naive": lambda client, prefix: NaiveSessions(client, prefix=prefix),
    "hardened": HardenedSessions,
}
CALLS = ("create", "read", "update", "destroy")


def commands(url: str, prefix: str) -> pd.DataFrame:
    """The commands that each call sends; each command is one round trip.

    Columns ``op``, ``variant``, ``commands`` and ``round_trips``. Every call runs once before and
    is not counted, so that connections are open and scripts are loaded.
    """
    rows = []
    for variant, make in VARIANTS.items():
        with gated(url, before="nothing") as client:
            sessions = make(client, prefix)
            _commands_of_calls(sessions, client)
            for op, sent in _commands_of_calls(sessions, client).items():
                rows.append((op, variant, " → ".join(sent), len(sent)))
    return pd.DataFrame(rows, columns=["op", "variant", "commands", "round_trips"])


def _commands_of_calls(sessions: Any, client: GatedRedis) -> dict[str, list[str]]:
    """The client's gate lists what the client sends."""
    sent, sid = {}, ""
    for op in CALLS:
        before = len(client.gate.commands)
        if op == "create":
            sid = sessions.create(7)
        else:
            getattr(sessions, op)(sid)
        sent[op] = client.gate.commands[before:]
    return sent


def memory(kv: Kv, sizes: Sequence[int]) -> pd.DataFrame:
    """Bytes of a user's only session (``MEMORY USAGE``) by the size of its data in bytes.

    Columns ``size``, ``variant`` and ``bytes``. Clears the namespace of ``kv``.
    """
    rows = []
    for size in sizes:
        for variant, make in VARIANTS.items():
            kv.clear()
            sessions = make(kv.client, kv.prefix)
            sessions.update(sessions.create(7), cart="x" * size)
            (key,) = kv.client.scan_iter(f"{kv.prefix}*")
            rows.append((f"{size:,}", variant, kv.client.memory_usage(key, samples=0)))
    return pd.DataFrame(rows, columns=["size", "variant", "bytes"])


@dataclass(frozen=True, slots=True)
class Logins:
    """A run of requests with log-outs.

    ``reads``: the latency of the reads; its ``violations`` are ids that still worked at the end
    although their user had logged out. ``logged_out``: how many ids that were.
    """

    reads: Result
    logged_out: int


def latency_with_log_outs(
    kv: Kv, *, users: int, turns: int, count: int, seed: int
) -> dict[str, Logins]:
    """The two stores in turns: a turn is ``count`` requests of four clients in a closed loop.

    A turn has 50 requests of warm-up. A first turn is not counted.
    """
    turn = partial(_turn, kv, users=users, count=count, seed=seed)
    taken = in_turns({variant: partial(turn, variant) for variant in VARIANTS}, turns=turns)
    return {
        variant: Logins(merged([run.reads for run in runs]), sum(run.logged_out for run in runs))
        for variant, runs in taken.items()
    }


def _turn(kv: Kv, variant: str, *, users: int, count: int, seed: int) -> Logins:
    sessions = VARIANTS[variant](kv.client, kv.prefix)
    request, logged_out = requests(sessions, users=users, seed=seed)

    def undone() -> int:
        return sum(sessions.read(sid) is not None for sid in logged_out)

    result = experiment(
        request,
        Uniform(users),
        seed,
        arrivals=ClosedLoop(4),
        count=count,
        warmup=50,
        check=undone,
        progress=False,
    )
    return Logins(replace(result, outcomes={"read": result.outcomes["read"]}), len(logged_out))


def requests(sessions: Any, *, users: int, seed: int) -> tuple[Callable[[int], str], set[str]]:
    """The requests of ``users``, as a subject of an experiment; the ids that were logged out.

    Of 100 requests about 70 read, 27 update, and 3 log the user out and in again. The set grows
    with each log-out: none of its ids may work any more. Outcomes are the names of the calls.
    """
    draw = random.Random(seed)
    logged_out: set[str] = set()
    ids = [sessions.create(user) for user in range(whole("users", users, 1))]

    def request(user: int) -> str:
        sid = ids[user]
        call: str = draw.choices(("read", "update", "destroy"), (70, 27, 3))[0]
        if call == "destroy":
            ids[user] = sessions.create(user)
            logged_out.add(sid)
        getattr(sessions, call)(sid)
        return call

    return request, logged_out


def compare_reads(kv: Kv, *, turns: int = 15) -> Comparison:
    """The hardened over the naive median of 60 reads by one client, measured in turns."""
    hardened = _median_read(HardenedSessions(kv.client, kv.prefix))
    naive = _median_read(NaiveSessions(kv.client, prefix=kv.prefix))
    return compare(hardened, naive, turns=turns)


def _median_read(sessions: Any) -> Callable[[], float]:
    sid = sessions.create(7)
    return lambda: median(repeat(lambda: sessions.read(sid), number=1, repeat=60))
