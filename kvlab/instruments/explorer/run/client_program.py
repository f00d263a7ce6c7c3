"""A client program with its thread and its connections, kept from run to run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kvlab.errors import KvlabError
from kvlab.instruments.explorer.clients.client_thread import ClientThread
from kvlab.instruments.explorer.clients.clock import RunClock
from kvlab.instruments.explorer.connections.redis_clients import stepped, stepped_async
from kvlab.instruments.explorer.connections.server_side import ServerSide
from kvlab.instruments.explorer.connections.stepped_async import event_loop_of


class ClientProgram:
    """Runs the program in its ``thread``, again in each run, on connections that stay open."""

    def __init__(
        self,
        number: int,
        program: Callable[[Any], Any],
        server: ServerSide,
        options: Mapping[str, Any],
    ) -> None:
        self.thread = ClientThread(number)
        self._program, self._server, self._options = program, server, options
        self._runner: asyncio.Runner | None = None
        self._is_async = inspect.iscoroutinefunction(program)
        self._client: Any = None

    def begin(self, clock: RunClock, *, jumps: bool) -> None:
        self.thread.begin(self._perform, clock, jumps=jumps)

    def _perform(self) -> Any:
        if self._is_async:
            if self._runner is None:
                self._runner = asyncio.Runner(
                    loop_factory=lambda: event_loop_of(self.thread, self._server)
                )
            return self._runner.run(self._perform_async())
        if self._client is None:
            self._client = stepped(self._server, self.thread, **self._options)
            self.thread.random_again()
        self._client.kv.round_trips = 0
        try:
            value = self._program(self._client)
        finally:
            for connection in self._own():
                connection.disconnect()
        if inspect.iscoroutine(value):
            value.close()
            raise KvlabError(
                f"client {self.thread.number} is async: give the async function itself, or an "
                "async def, not a lambda"
            )
        return value

    async def _perform_async(self) -> Any:
        if self._client is None:
            self._client = stepped_async(self._server, self.thread, **self._options)
            self.thread.random_again()
        self._client.kv.round_trips = 0
        try:
            return await self._program(self._client)
        finally:  # as asyncio.run() does
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            for connection in self._own():
                closing = connection.disconnect(nowait=True)
                if inspect.isawaitable(closing):
                    await closing

    def _own(self) -> Iterator[Any]:
        """The connections that the program has made itself; each is taken from the set."""
        while self.thread.own_connections:
            yield self.thread.own_connections.pop()

    def drop(self) -> None:
        """Close the connections, as the end of a process would."""
        self.thread.misuse = None
        self.thread.begin(self._close, RunClock(), jumps=False)
        self.thread.kill()
        self.thread.unclean.clear()

    def _close(self) -> None:
        client, self._client = self._client, None
        if self._runner is not None:
            runner, self._runner = self._runner, None
            try:
                if client is not None:
                    runner.run(client.kv.close())
                    runner.run(client.aclose())
                    runner.run(client.connection_pool.disconnect())
            finally:
                runner.close()
        elif client is not None:
            client.kv.close()
            client.connection_pool.disconnect()

    def end(self) -> None:
        """Stop the program wherever it is, close its connections and end its thread."""
        self.thread.kill()
        if not self.thread.hung:
            self.drop()
        self.thread.end()
