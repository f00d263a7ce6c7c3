"""A network that fails on command: a TCP proxy in front of a server.

Guarantee: nothing happens by chance. A call switches each fault on and returns when the fault is in
force. Faults count whole commands and replies, not bytes or seconds. The commands that a client
sends by itself when it connects (HELLO, AUTH, CLIENT, SELECT) are forwarded and never swallowed.

A swallowed request never ran. A swallowed reply belongs to a command that did run. The client sees
no difference between the two.

    with Proxy("redis://127.0.0.1:6379") as proxy, kvlab.connect(proxy.url) as kv:
        proxy.swallow_replies(1, only="INCRBY")

Not promised: TLS, or more than about 1,000 connections. ``requests`` is exact for clients that
send a batch in one write. Of a batch of many writes, the server may answer a part before the client
sends the next part; the batch is then counted twice. The proxy shares the interpreter with its
client and slows each round trip: compare only runs through one proxy.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from kvlab.core.checks import real, shown, text, whole
from kvlab.core.server_url import redis_url
from kvlab.errors import InvalidArgument
from kvlab.instruments.faults.proxy_link import (
    Delay,
    Link,
    OpenUpstream,
    Swallow,
    Then,
    Traffic,
    Watch,
)

T = TypeVar("T")


class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to ``target``.

    ``target`` is a redis:// or unix:// URL or a (host, port) pair. Connect clients to ``url``; it
    keeps the user, password and database of the target. Use as a context manager, or ``close()``.
    """

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._open_upstream, self._rest = _target(target)
        self._traffic = Traffic()
        self._links: set[Link] = set()
        self._server: asyncio.Server | None = None
        # asyncio's epoll rounds timeouts up to whole milliseconds; select() does not
        precise = selectors.SelectSelector() if sys.platform == "linux" else None
        self._loop = asyncio.SelectorEventLoop(precise)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self._call(self._listen())

    @property
    def url(self) -> str:
        """Where clients connect."""
        user, path, query = self._rest
        return urlunsplit(("redis", f"{user}127.0.0.1:{self.port}", path, query, ""))

    @property
    def commands(self) -> list[str]:
        """The names of the commands that clients sent, in order."""
        return self._traffic.commands

    @property
    def requests(self) -> int:
        """How often clients sent something when no reply was outstanding: round trips."""
        return self._traffic.requests

    @property
    def swallowed(self) -> int:
        """Requests and replies that were swallowed."""
        return self._traffic.swallowed

    def reset(self) -> None:
        """Forget what was counted; faults and connections stay."""

        async def forget() -> None:
            traffic = self._traffic
            traffic.commands, traffic.requests, traffic.swallowed = [], 0, 0

        self._call(forget())

    def trips(self, call: Callable[[], object]) -> tuple[int, int]:
        """Call twice, and count the second call: its round trips, and its commands.

        The first call connects, and loads scripts.
        """
        call()
        self.reset()
        call()
        return self.requests, len(self.commands)

    def delay(self, seconds: float) -> None:
        """Add ``seconds`` to each round trip, half in each direction."""
        self._traffic.delay = real("seconds", seconds, 0, 3600) / 2

    def hold(self, delay: Delay) -> None:
        """Hold each command for the seconds that ``delay`` draws, before the server gets it.

        ``delay`` gets the command, its name and its bytes, in the proxy's thread.
        """
        self._traffic.hold = delay

    def watch(self, seen: Watch) -> None:
        """Call ``seen(command, arrived, left)`` for each reply, Unix seconds, in our thread."""
        self._traffic.watch = seen

    def swallow_requests(
        self, n: int, *, only: str | None = None, then: Then = "cut"
    ) -> threading.Event:
        """Drop the next ``n`` commands (``only``: of that name); the server never receives them.

        ``then``: "cut" closes the client's connection, "hang" leaves it without an answer. Returns
        an event that is set when all ``n`` are swallowed.
        """
        self._traffic.swallow_requests = Swallow(whole("n", n, 1), only, then)
        return self._traffic.swallow_requests.done

    def swallow_replies(
        self, n: int, *, only: str | None = None, then: Then = "cut"
    ) -> threading.Event:
        """Drop the next ``n`` replies (``only``: to commands of that name).

        The server has run their commands. Otherwise as ``swallow_requests``.
        """
        self._traffic.swallow_replies = Swallow(whole("n", n, 1), only, then)
        return self._traffic.swallow_replies.done

    def cut(self) -> None:
        """Close every connection now; new ones are accepted."""
        self._call(self._cut())

    def blackhole(self) -> None:
        """Let every present connection hang, without a word to either end; new ones work."""

        async def hang() -> None:
            for link in self._links:
                link.hanging = True

        self._call(hang())

    def move(self, target: str | tuple[str, int]) -> None:
        """Forward new connections to ``target``; the present ones stay where they are."""
        self._open_upstream, _ = _target(target)

    def refuse(self) -> None:
        """Refuse new connections; the present ones stay (see ``cut``)."""
        self._call(self._stop_listening())

    def heal(self) -> None:
        """End every fault. Connections that hang keep hanging until ``cut``."""
        traffic = self._traffic
        traffic.delay, traffic.hold = 0.0, None
        traffic.swallow_requests, traffic.swallow_replies = Swallow(), Swallow()
        self._call(self._listen())

    def close(self) -> None:
        """Cut every connection and end the thread. May be called twice."""
        if self._loop.is_closed():
            return
        self._call(self._stop_listening())
        self._call(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)  # the socket is closed in the loop's next turn

    async def _cut(self) -> None:
        links = list(self._links)
        for link in links:
            link.close()
        await asyncio.gather(*(link.ended.wait() for link in links))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self._traffic, reader, writer)
        self._links.add(link)
        try:
            await link.serve(self._open_upstream)
        finally:
            self._links.discard(link)
            link.ended.set()


def _target(
    target: str | tuple[str, int],
) -> tuple[OpenUpstream, tuple[str, str, str]]:
    if isinstance(target, tuple) and len(target) == 2:
        host, port = (
            text("the host of target", target[0]),
            whole("the port of target", target[1], 1, 65535),
        )
        return lambda: asyncio.open_connection(host, port), ("", "", "")
    if not isinstance(target, str):
        raise _no_target(target)
    url = urlsplit(redis_url(target))
    user = url.netloc.rpartition("@")[0]
    user += "@" if user else ""
    if url.scheme == "unix":
        path = unquote(url.path)
        return lambda: asyncio.open_unix_connection(path), (user, "", url.query)
    if url.scheme != "redis" or not url.hostname:
        raise _no_target(target)
    name, number = url.hostname, url.port or 6379
    return lambda: asyncio.open_connection(name, number), (user, url.path, url.query)


def _no_target(target: object) -> InvalidArgument:
    kinds = "a redis:// or unix:// URL or (host, port)"
    return InvalidArgument(f"target must be {kinds}, not {shown(target)}")
