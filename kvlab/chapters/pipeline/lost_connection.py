"""Batches whose client dies while it sends them.

Guarantee: each function forces one schedule, and returns when the server is known to have done its
part. Client names are unique, so that two notebooks on one server do not take each other's client.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from kvlab import Kv
from kvlab.errors import KvlabError
from kvlab.instruments.faults.client_gate import ClientCrashed, gated

Work = Callable[[redis.Redis], object]

AT_MOST = 30.0
"""Seconds to wait until the server reaches a state."""


class NotObserved(KvlabError):
    """The server did not reach the expected state in time."""


@dataclass(frozen=True, slots=True)
class CutBatch:
    """A batch that was cut and then repeated: what happened step by step.

    ``applied``: how many counters the cut batch had changed.
    """

    steps: tuple[str, ...]
    applied: int

    def __str__(self) -> str:
        return "\n".join(f"{number}. {step}" for number, step in enumerate(self.steps, start=1))


def cut_midway(url: str, command: str, nth: int, work: Work) -> list[str]:
    """``work(client)`` with a client that dies before its ``nth`` ``command``.

    1. client: sends what comes before the command, and dies
    2. server: reads, sees the end of the connection, forgets the client

    Returns, after step 2, the names of the commands that left. The server has read all of them if
    they are at most 16 kB together, the size of one read. Of more, a part may be lost with the
    connection: a client that dies with unread replies resets its connection.
    """
    name = f"dies-before-{nth}-{command}-{secrets.token_hex(4)}"
    client = gated(url, command, nth=nth, crash=True, client_name=name)
    try:
        work(client)
    except ClientCrashed:
        wait_for_server(url, lambda admin: not clients_named(admin, name), f"{name} to be gone")
        return client.gate.commands
    raise NotObserved(f"the work ended before {command} number {nth}")


def cut_and_repeated(
    kv: Kv, url: str, command: str, nth: int, work: Work, pattern: str
) -> CutBatch:
    """``cut_midway``; then the same work by a client that lives.

    ``work`` adds 1 to each of its counters; ``pattern`` finds their keys.
    """
    sent = cut_midway(url, command, nth, work)
    first = counters(kv, pattern)
    work(kv.client)
    both = counters(kv, pattern)
    begun = "MULTI and " if "MULTI" in sent else ""
    steps = (
        f"client: sends {begun}{sent.count(command)} {command}, then crashes",
        f"server: has applied {len(first)} of {len(both)}",
        "client: starts again, repeats the batch, and gets no error",
        f"server: {both.count(1)} counters are 1, {both.count(2)} are 2",
    )
    return CutBatch(steps, len(first))


def counters(kv: Kv, pattern: str) -> list[int]:
    """The values of all counters whose key, after the prefix, matches ``pattern``."""
    keys = list(kv.client.scan_iter(match=kv.prefix + pattern, count=1000))
    return [int(value or 0) for value in kv.client.mget(keys)] if keys else []


def clients_named(admin: redis.Redis, name: str) -> list[dict[str, Any]]:
    """The rows of CLIENT LIST with this name."""
    return [row for row in admin.client_list() if row["name"] == name]


def wait_for_server(url: str, met: Callable[[redis.Redis], bool], what: str) -> None:
    """Ask the server until ``met``; :class:`NotObserved` after ``AT_MOST`` seconds."""
    deadline = time.monotonic() + AT_MOST
    with redis.Redis.from_url(url) as admin:
        while not met(admin):
            if time.monotonic() > deadline:
                raise NotObserved(f"waited {AT_MOST:g} s for {what}, without success")
