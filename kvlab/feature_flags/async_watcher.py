"""The flag watcher for asyncio; ``kvlab.feature_flags.watcher`` says what both promise."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

from redis.exceptions import ResponseError

from kvlab.core.checks import function, instance, seconds, whole
from kvlab.core.cleanup import ended
from kvlab.core.executors.async_client import AsyncKv
from kvlab.core.executors.connect import new_connection
from kvlab.errors import KvlabError, NotOverHttp
from kvlab.feature_flags.flags import FeatureFlags
from kvlab.feature_flags.watched import POLL, RESYNC, Watched


class _Forked(KvlabError):
    """The watcher was left in the parent."""


class AsyncFlagWatcher(Watched):
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
        super().__init__(instance("akv", akv, AsyncKv, "an AsyncKv"), flags, resync, jitter)
        self._akv = akv
        self._make = functools.partial(new_connection, akv, flags.changes)
        self._wait = function("wait", wait)
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._process = os.getpid()

    def _look(self) -> None:
        if self._process != os.getpid() and not isinstance(self._error, _Forked):
            if self._stale_since is None:
                self._stale_since = self._read_at
            self._lost(_Forked("this process was forked: begin the watcher in its event loop"))

    async def wait_until(
        self, met: Callable[[AsyncFlagWatcher], object], timeout: float = 5.0
    ) -> bool:
        """See :meth:`FlagWatcher.wait_until`."""
        timeout = seconds("timeout", timeout, 0)
        function("met", met)
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: bool(met(self)))
        except TimeoutError:
            return False
        return True

    async def wait_for(self, version: int, timeout: float = 5.0) -> bool:
        """See :meth:`FlagWatcher.wait_for`."""
        version = whole("version", version, 0)
        return await self.wait_until(lambda watcher: watcher.snapshot.version >= version, timeout)

    async def close(self) -> None:
        """See :meth:`FlagWatcher.close`."""
        if self._task is not None:
            self._task.cancel()
            if cancelled := await ended(self._task):
                raise cancelled

    async def __aenter__(self) -> Self:
        if self._process != os.getpid():
            self._process, self._news = os.getpid(), asyncio.Condition()
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
        connection = self._make(self._failures)
        try:
            pushed = await self._subscribed(connection)
            while True:
                snapshot = await self._akv.run(self.flags.read_all(strict=True))
                async with self._news:
                    self._learned(snapshot)
                    self._news.notify_all()
                if pushed:
                    await self._await_message(connection)
                else:
                    await self._wait(min(self.resync, POLL))
        finally:
            await connection.disconnect(nowait=True)

    async def _subscribed(self, connection: Any) -> bool:
        try:
            await connection.connect()
            await connection.send_command("SUBSCRIBE", self._channel)
            await connection.read_response()
        except NotOverHttp:
            await connection.disconnect(nowait=True)
            return False
        return True

    async def _await_message(self, connection: Any) -> None:
        try:
            async with asyncio.timeout(self.resync):
                await connection.read_response(timeout=math.inf, disconnect_on_error=False)
        except TimeoutError:
            await connection.send_command("PING")
            with suppress(ResponseError):  # see FlagWatcher
                while (await connection.read_response())[0] != b"pong":
                    pass
        while await connection.can_read():
            await connection.read_response()
