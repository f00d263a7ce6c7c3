"""Everything that goes wrong in a soak, each fault for as long as a ``with`` block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import redis

from kvlab.instruments.faults.proxy import Proxy
from kvlab.server.running_server import RunningServer

OPTIONS = {
    # A killed server loses no write that it has answered.
    "appendonly": "yes",
    "appendfsync": "no",
    "busy-reply-threshold": "20",
}
"""The options of the server."""
_SWALLOWED = 20


@dataclass(frozen=True, slots=True)
class Target:
    """A private server, and the proxy through which everybody reaches the server."""

    server: RunningServer
    proxy: Proxy

    def config(self, name: str, value: str) -> None:
        self.ask("CONFIG", "SET", name, value)

    def ask(self, *command: str) -> Any:
        with self.server.client() as client:
            return client.execute_command(*command)


Fault = Callable[[Target], Iterator[None]]


def _lost(what: str, then: str) -> Fault:
    def fault(target: Target) -> Iterator[None]:
        getattr(target.proxy, f"swallow_{what}")(_SWALLOWED, then=then)
        yield
        target.proxy.heal()
        target.proxy.cut()  # what hangs would hang for ever

    return fault


def _set(name: str, value: str, usual: str) -> Fault:
    def fault(target: Target) -> Iterator[None]:
        target.config(name, value)
        yield
        target.config(name, usual)

    return fault


def _reset(target: Target) -> Iterator[None]:
    target.proxy.cut()
    yield


def _cut_off(target: Target) -> Iterator[None]:
    target.proxy.blackhole()
    yield
    target.proxy.cut()


def _refused(target: Target) -> Iterator[None]:
    target.proxy.refuse()
    target.proxy.cut()
    yield
    target.proxy.heal()


def _slow(target: Target) -> Iterator[None]:
    target.proxy.delay(0.05)
    yield
    target.proxy.heal()


def _frozen(target: Target) -> Iterator[None]:
    target.server.pause()
    yield
    target.server.resume()


def _killed(target: Target) -> Iterator[None]:
    target.server.kill()
    yield
    target.server.restart()


def _restarted(target: Target) -> Iterator[None]:
    with suppress(redis.ConnectionError), target.server.client() as client:
        client.shutdown(nosave=True)
    yield
    target.server.restart()


def _demoted(target: Target) -> Iterator[None]:
    target.ask("REPLICAOF", "127.0.0.1", "1")
    yield
    target.ask("REPLICAOF", "NO", "ONE")


def _without_primary(target: Target) -> Iterator[None]:
    target.config("replica-serve-stale-data", "no")
    yield from _demoted(target)
    target.config("replica-serve-stale-data", "yes")


def _busy(target: Target) -> Iterator[None]:
    def endless() -> None:
        with suppress(redis.RedisError):
            target.ask("EVAL", "while true do end", "0")

    script = threading.Thread(target=endless, daemon=True)
    script.start()
    yield
    while script.is_alive():
        with suppress(redis.ResponseError):  # it has not begun, or it has ended
            target.ask("SCRIPT", "KILL")
        script.join(0.02)


def _forgetful(target: Target) -> Iterator[None]:
    target.ask("SCRIPT", "FLUSH")
    yield


def _hung_up(target: Target) -> Iterator[None]:
    target.ask("CLIENT", "KILL", "TYPE", "normal")
    yield


FAULTS: dict[str, Fault] = {
    "replies lost": _lost("replies", "cut"),
    "requests lost": _lost("requests", "cut"),
    "replies hang": _lost("replies", "hang"),
    "requests hang": _lost("requests", "hang"),
    "connections reset": _reset,
    "connections cut off": _cut_off,
    "connections refused": _refused,
    "slow network": _slow,
    "frozen": _frozen,
    "kill -9": _killed,
    "restart": _restarted,
    "READONLY": _demoted,
    "MASTERDOWN": _without_primary,
    "OOM": _set("maxmemory", "1", "0"),
    "NOREPLICAS": _set("min-replicas-to-write", "1", "0"),
    "BUSY": _busy,
    "SCRIPT FLUSH": _forgetful,
    "CLIENT KILL": _hung_up,
}


@contextmanager
def inflicted(kind: str, target: Target) -> Iterator[None]:
    """The fault is in force inside the block, and healed after it."""
    steps = FAULTS[kind](target)
    next(steps)
    try:
        yield
    finally:
        next(steps, None)
