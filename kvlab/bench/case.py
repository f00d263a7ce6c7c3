"""What a module of ``benchmarks/`` declares: cases, each of them one thing beside its peers."""

from __future__ import annotations

import asyncio
import importlib.metadata
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

import hiredis

from kvlab import Kv, Op, connect
from kvlab.core.settings import TIMEOUT
from kvlab.core.transport.connections import packed
from kvlab.core.wire import encode

Measure = Callable[[], Sequence[float]]
"""Makes a few calls and returns the seconds of each. A turn asks each side so many times."""
T = TypeVar("T")

BARE = "a bare socket"
"""The peer that shows how much of a time is the server's and the socket's: ``Bench.bare``."""
CALLS = 3
"""So many calls of one side follow each other: the sides change within milliseconds, so that what
disturbs the machine for longer disturbs both."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side of a row. ``less``: what it does less, which belongs to its time.

    ``package``: the distribution whose version the run keeps.
    """

    measure: Measure
    package: str = ""
    less: str = ""

    @property
    def version(self) -> str:
        """The installed version of the package."""
        return importlib.metadata.version(self.package) if self.package else ""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing, measured by us and by its peers in the same turns.

    ``what``: what is done and on which load, for a reader of the page. ``subject``: who "ours" is.
    ``long``: a measure of seconds; each side makes one in a turn, in one turn of sixteen, and
    there is no warm-up.
    """

    name: str
    what: str
    ours: Measure
    peers: Mapping[str, Peer]
    subject: str = "kvlab"
    long: bool = False


@dataclass
class Bench:
    """What a module gets to make its cases with: a server, a namespace, the ways to measure.

    ``stack`` closes what a module has opened, after the last turn. ``absent``: packages of peers
    that are not installed, by the words that say so.
    """

    url: str
    kv: Kv
    stack: ExitStack
    runner: asyncio.Runner
    short: bool = False
    absent: list[str] = field(default_factory=list)

    @property
    def peer_url(self) -> str:
        """For a peer's client."""
        return fair(self.url)

    def calls(self, call: Callable[[], object]) -> Measure:
        """A few calls one after the other."""

        def measure() -> list[float]:
            times = []
            for _ in range(CALLS):
                began = time.perf_counter()
                call()
                times.append(time.perf_counter() - began)
            return times

        return measure

    def loop(self, call: Callable[[], object], n: int) -> Measure:
        """The mean of ``n`` calls: for calls so short that a reading of the clock counts."""

        def measure() -> list[float]:
            began = time.perf_counter()
            for _ in range(n):
                call()
            return [(time.perf_counter() - began) / n]

        return measure

    def awaited(self, call: Callable[[], Awaitable[object]]) -> Measure:
        """:meth:`calls` of an async call."""

        async def measured() -> list[float]:
            times = []
            for _ in range(CALLS):
                began = time.perf_counter()
                await call()
                times.append(time.perf_counter() - began)
            return times

        return lambda: self.runner.run(measured())

    def packed(self, *ops: Op[Any]) -> bytes:
        """The ops as the server reads them."""
        return packed([encode(op, self.kv.prefix) for op in ops])

    def bare(self) -> Callable[[bytes], Any]:
        """A function that sends packed ops on a socket and returns a reply.

        It is what no client can do without: it packs nothing, decodes nothing and survives nothing.
        """
        connection: Any = self.kv.client.connection_pool.make_connection()
        connection.connect()
        self.stack.callback(connection.disconnect)
        sock, reader = connection._sock, hiredis.Reader()

        def ask(request: bytes) -> Any:
            sock.sendall(request)
            reply = False
            while reply is False:
                reader.feed(sock.recv(65_536))
                reply = reader.gets()
            return reply

        return ask

    def installed(self, make: Callable[[Bench], Iterable[T]]) -> list[T]:
        """What ``make(self)`` gives, or nothing when its package is not installed."""
        try:
            return [*make(self)]
        except ModuleNotFoundError as missing:
            name = missing.name or ""
            if name.partition(".")[0] in ("kvlab", "benchmarks"):
                raise
            self.absent.append(f'{name} is not installed: pip install "kvlab[peers]"')
            return []


def fair(url: str, timeout: float = TIMEOUT) -> str:
    """The URL for a peer's client: with the protocol and the timeouts that kvlab itself uses.

    kvlab speaks RESP2 on connections of its own. redis-py would speak RESP3, which is other work
    for client and server.
    """
    same = {"protocol": 2, "socket_timeout": timeout, "socket_connect_timeout": timeout}
    return f"{url}{'&' if '?' in url else '?'}{urlencode(same)}"


def opened(url: str) -> Kv:
    """An executor in a namespace of this run's own, inside the default prefix.

    A benchmark clears its namespace, and another benchmark may run on the same server. ``client``
    of the executor, which is for the calls by hand, is as :func:`fair` says.
    """
    return connect(fair(url)).within("bench").within(secrets.token_hex(4))


def cleared(kv: Kv) -> None:
    """Remove the namespace of a benchmark, and the keys of peers, who put words before it."""
    for key in kv.client.scan_iter(f"*{kv.prefix}*", 1_000):
        kv.client.unlink(key)
