"""A local snapshot of the flags that follows the server: part of ``kvlab.feature_flags``.

Guarantee: ``snapshot`` always answers at once: with the declared defaults before the first read,
then with the last read that succeeded. A watcher subscribes first, and reads after the server has
confirmed, so it misses no change. Each message makes it read all flags again, so a lost or
reordered message costs time, never truth. It also reads every ``resync`` seconds, and then sends a
PING on its subscription. It makes a lost connection again after 0.1 s to 5 s.

A server that comes back empty means the declared defaults, with a lower version.

A watcher has one connection of its own, with its executor's timeout and without redis-py's
retries. It reads through the executor: one round trip per change and per resync.

A fork leaves the thread in the parent. In a child, such as a worker of a preloaded app, the first
look at a ``FlagWatcher`` starts a thread of the child's own: that look still gets the flags of
before the fork, and ``stale_since`` says so until the thread has read. An ``AsyncFlagWatcher``
belongs to the parent's event loop: in a child its ``error`` says so, until ``async with`` begins
it again.

Not promised: that two watchers change at the same instant; that a silent network loss is noticed
before ``resync`` and ``timeout`` have passed. Behind HTTP (``kvlab.rest``) nobody is told of a
change: there a watcher reads every ``POLL`` seconds, or every ``resync`` if that is shorter.
"""

from __future__ import annotations

import functools
import os
import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from redis.exceptions import ResponseError

from kvlab.core.checks import function, instance, seconds, whole
from kvlab.core.executors.client import Kv
from kvlab.core.executors.connect import new_connection
from kvlab.errors import NotOverHttp
from kvlab.feature_flags.flags import FeatureFlags
from kvlab.feature_flags.watched import POLL, RESYNC, Watched


@dataclass(eq=False)
class _Follower:
    """What belongs to one process: the thread, and what it shares with the callers."""

    thread: threading.Thread
    news: threading.Condition = field(default_factory=threading.Condition)
    closing: threading.Event = field(default_factory=threading.Event)
    connection: Any = None


class FlagWatcher(Watched):
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
        super().__init__(instance("kv", kv, Kv, "a Kv"), flags, resync, jitter)
        self._kv = kv
        self._make = functools.partial(new_connection, kv, flags.changes)
        self._wait = None if wait is None else function("wait", wait)
        self._followers: dict[int, _Follower] = {}
        self._closed = False
        self._look()

    def _look(self) -> None:
        self._follower()

    def _follower(self) -> _Follower:
        """The follower of this process, which is started at the first look."""
        process = os.getpid()
        if (known := self._followers.get(process)) is not None:
            return known
        name = f"flags {self.flags.name}"
        mine = _Follower(threading.Thread(target=self._watch, name=name, daemon=True))
        # No lock: a fork could copy it taken.
        if (first := self._followers.setdefault(process, mine)) is mine and not self._closed:
            self._stale_since = self._read_at if self._stale_since is None else self._stale_since
            mine.thread.start()
        return first

    def wait_until(self, met: Callable[[FlagWatcher], object], timeout: float = 5.0) -> bool:
        """Wait at most ``timeout`` seconds until ``met(watcher)`` is true; False when it is not."""
        timeout = seconds("timeout", timeout, 0)
        function("met", met)
        news = self._follower().news
        with news:
            return bool(news.wait_for(lambda: met(self), timeout))

    def wait_for(self, version: int, timeout: float = 5.0) -> bool:
        """Wait at most ``timeout`` seconds for that version or a later one; False without it."""
        version = whole("version", version, 0)
        return self.wait_until(lambda watcher: watcher.snapshot.version >= version, timeout)

    def close(self) -> None:
        """End the thread and its connection; the snapshot stays. Harmless when repeated."""
        self._closed = True
        if (here := self._followers.get(os.getpid())) is None:
            return  # forked, and never looked at
        here.closing.set()
        sock = getattr(here.connection, "_sock", None)
        if sock is not None:
            with suppress(OSError):  # closed already
                # Ends the thread's read. Not by TLS's own shutdown, which is not for threads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        if here.thread.ident is not None:
            here.thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self) -> None:
        here = self._followers[os.getpid()]
        while not here.closing.is_set():
            try:
                self._follow(here)
            except Exception as problem:
                if here.closing.is_set():
                    break
                with here.news:
                    pause = self._lost(problem)
                    here.news.notify_all()
                (self._wait or here.closing.wait)(pause)

    def _follow(self, here: _Follower) -> None:
        connection = here.connection = self._make(self._failures)
        try:
            pushed = self._subscribed(connection)
            while not here.closing.is_set():
                snapshot = self._kv.run(self.flags.read_all(strict=True))
                with here.news:
                    self._learned(snapshot)
                    here.news.notify_all()
                if pushed:
                    self._await_message(connection)
                else:
                    (self._wait or here.closing.wait)(min(self.resync, POLL))
        finally:
            connection.disconnect()

    def _subscribed(self, connection: Any) -> bool:
        """Whether changes are told; a store behind HTTP tells nobody."""
        try:
            connection.connect()
            connection.send_command("SUBSCRIBE", self._channel)
            connection.read_response()
        except NotOverHttp:
            connection.disconnect()
            return False
        return True

    def _await_message(self, connection: Any) -> None:
        """Return when the flags have to be read again."""
        if not connection.can_read(timeout=self.resync):
            connection.send_command("PING")
            with suppress(ResponseError):  # an answer too: Redis without its disk refuses PING
                while connection.read_response()[0] != b"pong":
                    pass
        while connection.can_read(timeout=0):  # a burst of messages is one reason
            connection.read_response()
