"""A lock on several nodes, as the Redlock algorithm describes it, in its smallest form.

A node is a client and a key. On real servers each client has a server of its own. In an exploration
one server stands for all nodes, with a key for each; no command uses two of the keys. A node whose
clock jumps ahead, or that restarts without its data, is then a key whose TTL ends too early.

What is left out: the timeout of a node that does not answer, the allowance for clock drift, and the
retry after a random time. None of them changes the runs of the chapter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from kvlab.instruments import step

FIVE = ("A:door", "B:door", "C:door", "D:door", "E:door")
"""The keys that stand for five nodes in an exploration."""
Node = tuple[Any, str]
"""A redis-py client, and the key of the lock on its server."""

TTL = 10  # seconds
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0"""


def acquire(nodes: Sequence[Node], token: str) -> float | None:
    """The seconds for which a majority of the nodes has given the lock; None if it has not."""
    began = time.monotonic()
    votes = 0
    for client, key in nodes:
        votes += bool(client.set(key, token, nx=True, ex=TTL))
    left = TTL - (time.monotonic() - began)
    if votes > len(nodes) / 2 and left > 0:
        return left
    release(nodes, token)
    return None


def release(nodes: Sequence[Node], token: str) -> None:
    """Give the lock back on the nodes that gave it for this token."""
    for client, key in nodes:
        client.eval(_RELEASE, 1, key, token)


def holder(token: str, pause: float = 0, names: Sequence[str] = FIVE) -> Callable[[Any], None]:
    """A client: acquires on the nodes, stands still for ``pause`` seconds, enters and leaves."""

    def enter_and_leave(kv: Any) -> None:
        step("comes", f"the way of {token}")  # so that its clock is read when it moves
        if acquire([(kv, name) for name in names], token) is None:
            return
        if pause:
            time.sleep(pause)
        step("enters", "the room")
        step("leaves", "the room")

    return enter_and_leave
