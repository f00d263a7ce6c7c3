"""What the explorer assumes, seen on real servers: a replica gets a MULTI, or a script, whole.

The stream to the replica is cut between two writes, and then the replica is promoted.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from kvlab.server import engines
from kvlab.server.running_server import RunningServer

QUICK = {"repl-diskless-sync": "no", "repl-diskless-load": "swapdb", "hz": "500"}
SCRIPT = "redis.call('SET', KEYS[1], 1) return redis.call('SET', KEYS[2], 1)"


class Link:
    """Forwards one connection to ``server``; after ``cut(n)`` only n more bytes come back."""

    def __init__(self, server: RunningServer) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._up = socket.create_connection((server.host, server.port))
        self._left: int | None = None
        self.ended = threading.Event()
        threading.Thread(target=self._forward, daemon=True).start()

    def cut(self, after: int) -> None:
        self._left = after

    def _forward(self) -> None:
        down, _ = self._listener.accept()
        threading.Thread(target=self._pump, args=(down, self._up), daemon=True).start()
        while data := self._up.recv(65536):
            part = data if self._left is None else data[: self._left]
            down.sendall(part)
            if self._left is not None:
                self._left -= len(part)
                if self._left == 0:
                    break
        for end in (down, self._up, self._listener):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.ended.set()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RunningServer, redis.Redis, redis.Redis]]:
    with (
        engines.start("valkey", options=QUICK) as first,
        engines.start("valkey", options=QUICK) as second,
        first.client() as primary,
        second.client() as replica,
    ):
        yield first, primary, replica


def has_all(primary: Any, replica: Any) -> bool:
    here, there = primary.info("replication"), replica.info("replication")
    offsets = here["master_repl_offset"], there["slave_repl_offset"]
    return there["master_link_status"] == "up" and offsets[0] == offsets[1]


def in_a_multi(kv: Any) -> None:
    kv.pipeline().set("x", 1).set("y", 1).execute()


def in_a_script(kv: Any) -> None:
    kv.eval(SCRIPT, 2, "x", "y")


def one_by_one(kv: Any) -> None:
    kv.set("x", 1)
    kv.set("y", 1)


@pytest.mark.parametrize(
    ("write", "cut", "kept"),
    [(in_a_multi, 80, (0, 0)), (in_a_script, 80, (0, 0)), (one_by_one, 65, (1, 0))],
)
def test_a_cut_between_two_writes(
    write: Callable[[Any], None],
    cut: int,
    kept: tuple[int, int],
    servers: tuple[RunningServer, redis.Redis, redis.Redis],
) -> None:
    """The cut is after ``SET x`` and before the end of ``SET y``: the last row shows that."""
    first, primary, replica = servers
    primary.flushall()
    link = Link(first)
    replica.replicaof("127.0.0.1", str(link.port))
    until = time.monotonic() + 20
    while not has_all(primary, replica) and time.monotonic() < until:
        time.sleep(0.002)
    link.cut(cut)
    write(primary)
    assert link.ended.wait(20)
    replica.replicaof("NO", "ONE")
    assert (replica.exists("x"), replica.exists("y")) == kept
