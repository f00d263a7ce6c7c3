"""A local snapshot of the flags that follows the server: part of ``kvlab.feature_flags``.

Guarantee: ``snapshot`` always answers at once: with the declared defaults before the first read,
then with the last read that succeeded. A watcher subscribes first, and reads after the server has
confirmed, so it misses no change. Each message makes it read all flags again, so a lost or
reordered message costs time, never truth. It also reads every ``resync`` seconds, and then sends a
PING on its subscription. It makes a lost connection again after 0.1 s to 5 s.

A server that comes back empty means the declared defaults, with a lower version.

A watcher has one connection of its own, with its executor's timeout and without redis-py's
retries. It reads through the executor: one round trip per change and per resync.

Not promised: that two watchers change at the same instant; that a silent network loss is noticed
before ``resync`` and ``timeout`` have passed; a thread that survives a fork (make the watcher in
the worker).
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.core.async_client import AsyncKv
from kvlab.core.checks import seconds
from kvlab.core.cleanup import ended
from kvlab.core.client import Kv
from kvlab.core.connections import own_connection
from kvlab.feature_flags import FeatureFlags, FlagSnapshot

log = logging.getLogger("kvlab.flags")

RESYNC = 30.0
"""A watcher reads at least every this many seconds, without a message too."""


class _Watched:
    """The common part of both watchers: the snapshot, and how a read that fails is recorded."""

    def __init__(
        self, kv: Kv | AsyncKv, flags: FeatureFlags, resync: float, jitter: Callable[[], float]
    ) -> None:
        self.flags = flags
        # A socket's own timeout ends at 24 days.
        self.resync = seconds("resync", resync, high=86_400)
        self.snapshot: FlagSnapshot = flags.declared
        """The flags of the last read that succeeded."""
        self.error: Exception | None = None
        """The last failure; None while the watcher follows the server."""
        self.stale_since: float | None = kv.clock()
        """The time on the executor's clock since which it may have missed changes, or None."""
        self._clock = kv.clock
        self._channel = kv.name(flags.changes)
        self._jitter = jitter
        self._failures = 0

    def _learned(self, snapshot: FlagSnapshot) -> None:
        if snapshot.unreadable and snapshot.unreadable != self.snapshot.unreadable:
            log.warning("flags %r: unreadable: %s", self.flags.name, dict(snapshot.unreadable))
        if self.error is not None:
            log.info("flags %r: follows again, version %d", self.flags.name, snapshot.version)
        self.snapshot = snapshot
        self.error = self.stale_since = None
        self._failures = 0

    def _lost(self, problem: Exception) -> float:
        """Record the failure; the pause before the next try, in seconds."""
        if self.error is None:
            cause = f"{type(problem).__name__}: {problem}"
            log.warning("flags %r: cannot follow the server: %s", self.flags.name, cause)
        self.error = problem
        if self.stale_since is None:
            self.stale_since = self._clock()
        longest = min(5.0, 0.1 * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return longest * (0.5 + self._jitter() / 2)  # so that not all watchers reconnect at once


class FlagWatcher(_Watched):
    """A thread that keeps ``snapshot`` up to date; ``close()`` or ``with`` ends it.

    ``with FlagWatcher(kv, flags) as watcher: watcher.snapshot.is_enabled("x", user)``: no round
    trip. ``wait`` (pauses for some seconds) and ``jitter`` (draws from [0, 1)) are for tests.
    """

    def __init__(
        self,
        kv: Kv,
        flags: FeatureFlags,
        *,
        resync: float = RESYNC,
        wait: Callable[[float], object] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(kv, flags, resync, jitter)
        self._kv = kv
        self._make = own_connection(
            kv.client, kv.settings.timeout, Retry(NoBackoff(), 0), awaited=False
        )
        self._connection: Any = None
        self._closing = threading.Event()
        self._wait = wait or self._closing.wait
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._watch, name=f"flags {flags.name}", daemon=True)
        self._thread.start()

    def wait_until(self, met: Callable[[FlagWatcher], object], timeout: float = 5.0) -> bool:
        """Wait at most ``timeout`` seconds until ``met(watcher)`` is true; False when it is not."""
        timeout = seconds("timeout", timeout, 0)
        with self._news:
            return bool(self._news.wait_for(lambda: met(self), timeout))

    def wait_for(self, version: int, timeout: float = 5.0) -> bool:
        """Wait at most ``timeout`` seconds for that version or a later one; False without it."""
        return self.wait_until(lambda watcher: watcher.snapshot.version >= version, timeout)

    def close(self) -> None:
        """End the thread and its connection; the snapshot stays. Harmless when repeated."""
        self._closing.set()
        sock = getattr(self._connection, "_sock", None)
        if sock is not None:
            with suppress(OSError):  # closed already
                # Ends the thread's read. Not by TLS's own shutdown, which is not for threads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                self._follow()
            except Exception as problem:
                if self._closing.is_set():
                    break
                with self._news:
                    pause = self._lost(problem)
                    self._news.notify_all()
                self._wait(pause)

    def _follow(self) -> None:
        connection = self._connection = self._make()
        try:
            connection.connect()
            connection.send_command("SUBSCRIBE", self._channel)
            connection.read_response()
            while not self._closing.is_set():
                snapshot = self._kv.run(self.flags.read_all(strict=True))
                with self._news:
                    self._learned(snapshot)
                    self._news.notify_all()
                self._await_message(connection)
        finally:
            connection.disconnect()

    def _await_message(self, connection: Any) -> None:
        """Return when the flags have to be read again."""
        if not connection.can_read(timeout=self.resync):
            connection.send_command("PING")
            while connection.read_response()[0] != b"pong":
                pass
        while connection.can_read(timeout=0):  # a burst of messages is one reason
            connection.read_response()


class AsyncFlagWatcher(_Watched):
    """:class:`FlagWatcher` for asyncio, by a task: ``async with AsyncFlagWatcher(akv, flags)``."""

    def __init__(
        self,
        akv: AsyncKv,
        flags: FeatureFlags,
        *,
        resync: float = RESYNC,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(akv, flags, resync, jitter)
        self._akv = akv
        retry = AsyncRetry(NoBackoff(), 0)
        self._make = own_connection(akv.client, akv.settings.timeout, retry, awaited=True)
        self._wait = wait
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def wait_until(
        self, met: Callable[[AsyncFlagWatcher], object], timeout: float = 5.0
    ) -> bool:
        """See :meth:`FlagWatcher.wait_until`."""
        timeout = seconds("timeout", timeout, 0)
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: bool(met(self)))
        except TimeoutError:
            return False
        return True

    async def wait_for(self, version: int, timeout: float = 5.0) -> bool:
        """See :meth:`FlagWatcher.wait_for`."""
        return await self.wait_until(lambda watcher: watcher.snapshot.version >= version, timeout)

    async def close(self) -> None:
        """See :meth:`FlagWatcher.close`."""
        if self._task is not None:
            self._task.cancel()
            if cancelled := await ended(self._task):
                raise cancelled

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _watch(self) -> None:
        while True:
            try:
                await self._follow()
            except Exception as problem:
                async with self._news:
                    pause = self._lost(problem)
                    self._news.notify_all()
                await self._wait(pause)

    async def _follow(self) -> None:
        connection = self._make()
        try:
            await connection.connect()
            await connection.send_command("SUBSCRIBE", self._channel)
            await connection.read_response()
            while True:
                snapshot = await self._akv.run(self.flags.read_all(strict=True))
                async with self._news:
                    self._learned(snapshot)
                    self._news.notify_all()
                await self._await_message(connection)
        finally:
            await connection.disconnect(nowait=True)

    async def _await_message(self, connection: Any) -> None:
        try:
            async with asyncio.timeout(self.resync):
                await connection.read_response(timeout=math.inf, disconnect_on_error=False)
        except TimeoutError:
            await connection.send_command("PING")
            while (await connection.read_response())[0] != b"pong":
                pass
        while await connection.can_read():
            await connection.read_response()
