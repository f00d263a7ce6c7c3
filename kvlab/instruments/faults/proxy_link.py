"""One connection through the proxy: what is forwarded, delayed, swallowed and counted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from kvlab.core.checks import one_of, text
from kvlab.instruments.faults.resp import HANDSHAKE, Command, Commands, Replies, is_push

Then = Literal["cut", "hang"]
Delay = Callable[[Command], float]
"""The seconds by which a command is held."""
Watch = Callable[[Command, float, float], object]
"""Gets a command and the Unix times at which it arrived and its reply left."""
OpenUpstream = Callable[[], Coroutine[Any, Any, Any]]


class Swallow:
    """How many more commands or replies to drop, of which name, and what then happens."""

    def __init__(self, left: int = 0, only: str | None = None, then: Then = "cut") -> None:
        one_of("then", then, ("cut", "hang"))
        self.left, self.then = left, then
        self.only = None if only is None else text("only", only).upper()
        self.done = threading.Event()

    def takes(self, name: str) -> bool:
        if not self.left or name in HANDSHAKE or self.only not in (None, name):
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class Traffic:
    """The faults that are in force for every connection of a proxy, and what was counted.

    ``delay``: seconds for each direction; ``hold``: more seconds for each command.
    """

    delay: float = 0.0
    hold: Delay | None = None
    watch: Watch | None = None
    swallow_requests: Swallow = field(default_factory=Swallow)
    swallow_replies: Swallow = field(default_factory=Swallow)
    commands: list[str] = field(default_factory=list)
    requests: int = 0
    swallowed: int = 0


class Link:
    """One client connection and its server connection, in the proxy's event loop."""

    def __init__(
        self, traffic: Traffic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._traffic, self._reader, self._writer = traffic, reader, writer
        self._unanswered: deque[tuple[Command, float]] = deque()
        self.hanging = False
        self._work: asyncio.Future[Any] | None = None
        self.ended = asyncio.Event()

    def close(self) -> None:
        if self._work is not None:
            self._work.cancel()
        self._writer.close()

    async def serve(self, open_upstream: OpenUpstream) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            server_reader, upstream = await open_upstream()
            there, back = Pipe(upstream), Pipe(self._writer)
            self._work = asyncio.ensure_future(
                _first_to_end(
                    partial(self._requests, there),
                    partial(self._replies, server_reader, back),
                    there.pump,
                    back.pump,
                )
            )
            with suppress(asyncio.CancelledError, OSError):
                await self._work
        except OSError:
            pass  # no server: the client sees its connection closed, as it would without a proxy
        finally:
            for writer in (self._writer, upstream):
                if writer is not None:
                    writer.close()

    async def _requests(self, there: Pipe) -> None:
        traffic, scanner = self._traffic, Commands()
        while data := await self._reader.read(1 << 16):
            commands = scanner.feed(data)
            if commands and not self._unanswered:
                traffic.requests += 1
            for command in commands:
                if self.hanging:
                    break
                name, arrived = command.name, time.time()
                traffic.commands.append(name)
                swallow = traffic.swallow_requests
                if swallow.takes(name):
                    if self._lost(swallow):
                        return
                    break
                self._unanswered.append((command, arrived))
                held = 0.0 if traffic.hold is None else traffic.hold(command)
                there.put(command.raw, traffic.delay + held)

    async def _replies(self, reader: asyncio.StreamReader, back: Pipe) -> None:
        traffic, scanner = self._traffic, Replies()
        while data := await reader.read(1 << 16):
            for raw in scanner.feed(data):
                if self.hanging:
                    break
                if not is_push(raw) and self._unanswered:
                    command, arrived = self._unanswered.popleft()
                    swallow = traffic.swallow_replies
                    if swallow.takes(command.name):
                        if self._lost(swallow):
                            return
                        break
                    if traffic.watch is not None:
                        traffic.watch(command, arrived, time.time() + traffic.delay)
                back.put(raw, traffic.delay)

    def _lost(self, swallow: Swallow) -> bool:
        """Count a loss; True when the connection is to be cut."""
        self._traffic.swallowed += 1
        self.hanging = swallow.then == "hang"
        if not swallow.left:
            swallow.done.set()
        return not self.hanging


class Pipe:
    """One direction. Bytes leave in order, each after its delay; delays do not add up."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._filled = asyncio.Event()

    def put(self, data: bytes, delay: float) -> None:
        if self._writer.is_closing():
            return  # the other end is gone; asyncio would complain of the fifth loss
        if delay or self._waiting:
            self._waiting.append((asyncio.get_running_loop().time() + delay, data))
            self._filled.set()
        else:
            self._writer.write(data)

    async def pump(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._filled.wait()
            if (left := self._waiting[0][0] - loop.time()) > 0:
                await asyncio.sleep(left)
            now, ready = loop.time(), []
            while self._waiting and self._waiting[0][0] <= now:
                ready.append(self._waiting.popleft()[1])
            self._writer.write(b"".join(ready))  # one write: many would be slow
            if not self._waiting:
                self._filled.clear()


async def _first_to_end(*work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run all; when one ends, or the caller is cancelled, cancel the others and raise its error."""
    tasks = [asyncio.ensure_future(begin()) for begin in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
