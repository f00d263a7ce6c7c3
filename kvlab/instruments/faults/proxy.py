"""A network that misbehaves on command: a TCP proxy in front of a server, and a frozen server.

Guarantee: nothing here happens by chance. Each fault is armed by a call that returns when it is in
force; faults count whole commands and replies, not bytes or seconds. What a client sends on its
own when it connects (HELLO, AUTH, CLIENT, SELECT) is passed through and never swallowed.

A swallowed request never ran. A swallowed reply belongs to a command that did run. To the client
the two look the same, which is the point.

Not promised: TLS, or more than about 1,000 connections. ``requests`` is exact for clients that
send a batch in one write; of a batch of many writes a part may be answered before the next is
sent, and is then counted twice. The proxy shares the interpreter with its client and slows each
round trip: compare only runs that all go through one.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.faults.resp import HANDSHAKE, Commands, Replies, is_push

T = TypeVar("T")
Then = Literal["cut", "hang"]


class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to ``target``.

    ``target`` is a redis:// or unix:// URL or a (host, port) pair. Connect clients to ``url``; it
    keeps the user, password and database of the target. Use as a context manager, or ``close()``.
    """

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._open_upstream, self._rest = _target(target)
        self.commands: list[str] = []
        self.requests = 0
        self.swallowed = 0
        self._delay = 0.0
        self._swallow_requests = _Swallow()
        self._swallow_replies = _Swallow()
        self._links: set[_Link] = set()
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

    def reset(self) -> None:
        """Forget what was counted; faults and connections stay."""

        async def forget() -> None:
            self.commands, self.requests, self.swallowed = [], 0, 0

        self._call(forget())

    def delay(self, seconds: float) -> None:
        """Add ``seconds`` to each round trip, half on the way there and half on the way back."""
        self._delay = real("seconds", seconds, 0, 3600) / 2

    def swallow_requests(
        self, n: int, *, only: str | None = None, then: Then = "cut"
    ) -> threading.Event:
        """Drop the next ``n`` commands (``only``: of that name); the server never sees them.

        ``then`` cuts the client's connection, or leaves it hanging. Returns an event that is set
        when all ``n`` are swallowed.
        """
        self._swallow_requests = _Swallow(whole("n", n, 1), only, then)
        return self._swallow_requests.done

    def swallow_replies(
        self, n: int, *, only: str | None = None, then: Then = "cut"
    ) -> threading.Event:
        """Drop the next ``n`` replies (``only``: to commands of that name), after the server ran
        them. As ``swallow_requests`` otherwise."""
        self._swallow_replies = _Swallow(whole("n", n, 1), only, then)
        return self._swallow_replies.done

    def cut(self) -> None:
        """Close every connection now; new ones are accepted."""
        self._call(self._cut())

    def refuse(self) -> None:
        """Refuse new connections; the present ones stay (see ``cut``)."""
        self._call(self._stop_listening())

    def heal(self) -> None:
        """End every fault. Connections that hang stay so until ``cut``."""
        self._delay = 0.0
        self._swallow_requests, self._swallow_replies = _Swallow(), _Swallow()
        self._call(self._listen())

    def close(self) -> None:
        """Cut everything and end the thread. May be called twice."""
        if self._loop.is_closed():
            return
        self._call(self._stop_listening())
        self._call(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.serve(self._open_upstream)
        finally:
            self._links.discard(link)
            link.ended.set()


class _Swallow:
    """How many more to drop, of which name, and what becomes of the connection."""

    def __init__(self, left: int = 0, only: str | None = None, then: Then = "cut") -> None:
        if then not in ("cut", "hang"):
            raise InvalidArgument(f"then must be 'cut' or 'hang', got {then!r}")
        self.left, self.only, self.then = left, only.upper() if only else None, then
        self.done = threading.Event()

    def takes(self, name: str) -> bool:
        if not self.left or name in HANDSHAKE or self.only not in (None, name):
            return False
        self.left -= 1
        return True


class _Link:
    """One client connection and its server connection. Lives in the proxy's loop."""

    def __init__(
        self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._unanswered: deque[str] = deque()
        self._hanging = False
        self._work: asyncio.Future[Any] | None = None
        self.ended = asyncio.Event()

    def close(self) -> None:
        if self._work is not None:
            self._work.cancel()
        self._writer.close()

    async def serve(self, open_upstream: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            server_reader, upstream = await open_upstream()
            there, back = _Pipe(upstream), _Pipe(self._writer)
            self._work = asyncio.ensure_future(
                _first_to_end(
                    self._requests(there), self._replies(server_reader, back), there.pump(),
                    back.pump(),
                )
            )  # fmt: skip
            with suppress(asyncio.CancelledError, OSError):
                await self._work
        except OSError:
            pass  # no server: the client sees its connection closed, as it would without a proxy
        finally:
            for writer in (self._writer, upstream):
                if writer is not None:
                    writer.close()

    async def _requests(self, there: _Pipe) -> None:
        proxy, scanner = self._proxy, Commands()
        while data := await self._reader.read(1 << 16):
            commands = scanner.feed(data)
            if commands and not self._unanswered:
                proxy.requests += 1
            for name, raw in commands:
                if self._hanging:
                    break
                proxy.commands.append(name)
                swallow = proxy._swallow_requests
                if swallow.takes(name):
                    if self._lost(swallow):
                        return
                    break
                self._unanswered.append(name)
                there.put(raw, proxy._delay)

    async def _replies(self, reader: asyncio.StreamReader, back: _Pipe) -> None:
        proxy, scanner = self._proxy, Replies()
        while data := await reader.read(1 << 16):
            for raw in scanner.feed(data):
                if self._hanging:
                    break
                if not is_push(raw) and self._unanswered:
                    name = self._unanswered.popleft()
                    swallow = proxy._swallow_replies
                    if swallow.takes(name):
                        if self._lost(swallow):
                            return
                        break
                back.put(raw, proxy._delay)

    def _lost(self, swallow: _Swallow) -> bool:
        """Count it; True when the connection is to be cut."""
        self._proxy.swallowed += 1
        self._hanging = swallow.then == "hang"
        if not swallow.left:
            swallow.done.set()
        return not self._hanging


class _Pipe:
    """One direction. Bytes leave in order, none before it is due, without slowing the next."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._due: deque[tuple[float, bytes]] = deque()
        self._some = asyncio.Event()

    def put(self, data: bytes, delay: float) -> None:
        if delay or self._due:
            self._due.append((asyncio.get_running_loop().time() + delay, data))
            self._some.set()
        else:
            self._writer.write(data)

    async def pump(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            if (left := self._due[0][0] - loop.time()) > 0:
                await asyncio.sleep(left)
            now, ready = loop.time(), []
            while self._due and self._due[0][0] <= now:
                ready.append(self._due.popleft()[1])
            self._writer.write(b"".join(ready))  # in one piece: a write each would be the cost
            if not self._due:
                self._some.clear()


async def _first_to_end(*work: Coroutine[Any, Any, None]) -> None:
    """Run all; when one ends (or this is cancelled), cancel the others and raise its error."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _target(
    target: str | tuple[str, int],
) -> tuple[Callable[[], Coroutine[Any, Any, Any]], tuple[str, str, str]]:
    if isinstance(target, tuple):
        host, port = target
        return lambda: asyncio.open_connection(host, port), ("", "", "")
    url = urlsplit(target)
    user = url.netloc.rpartition("@")[0]
    user += "@" if user else ""
    if url.scheme == "unix":
        path = unquote(url.path)
        return lambda: asyncio.open_unix_connection(path), (user, "", url.query)
    if url.scheme not in ("redis", "valkey") or not url.hostname:
        raise InvalidArgument(f"target must be redis:// or unix:// or (host, port), got {target!r}")
    name, number = url.hostname, url.port or 6379
    return lambda: asyncio.open_connection(name, number), (user, url.path, url.query)


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Freeze the process ``pid`` (SIGSTOP): it keeps its sockets and answers nothing."""
    os.kill(whole("pid", pid, 2), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
