"""The client programs of an exploration, kept from run to run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kvlab.errors import KvlabError
from kvlab.instruments.explorer.run.clients import stepped, stepped_async
from kvlab.instruments.explorer.run.lanes import Clock, Lane
from kvlab.instruments.explorer.run.stepping import Settle, loop_of


class Actor:
    """One client program, its lane, and the connections it keeps from run to run."""

    def __init__(
        self,
        number: int,
        program: Callable[[Any], Any],
        url: str,
        settle: Settle,
        options: Mapping[str, Any],
    ) -> None:
        self.lane = Lane(number)
        self._program, self._url, self._settle, self._options = program, url, settle, options
        self._runner: asyncio.Runner | None = None
        self._is_async = inspect.iscoroutinefunction(program)
        self._client: Any = None

    def begin(self, clock: Clock, *, jumps: bool) -> None:
        self.lane.begin(self._perform, clock, jumps=jumps)

    def _perform(self) -> Any:
        if self._is_async:
            if self._runner is None:
                self._runner = asyncio.Runner(loop_factory=lambda: loop_of(self.lane, self._settle))
            return self._runner.run(self._perform_async())
        if self._client is None:
            self._client = stepped(self._url, self.lane, self._settle, **self._options)
        value = self._program(self._client)
        if inspect.iscoroutine(value):
            value.close()
            raise KvlabError(
                f"client {self.lane.number} is async: give the async function itself, or an async "
                "def, not a lambda"
            )
        return value

    async def _perform_async(self) -> Any:
        if self._client is None:
            self._client = stepped_async(self._url, self.lane, self._settle, **self._options)
        try:
            return await self._program(self._client)
        finally:  # as asyncio.run() does
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def drop(self) -> None:
        """Close its connections, as the end of its process would."""
        self.lane.misuse = None
        self.lane.begin(self._close, Clock(), jumps=False)
        self.lane.kill()

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
        """Whatever it is doing, stop; its thread is gone afterwards."""
        self.lane.kill()
        if not self.lane.hung:
            self.drop()
        self.lane.end()
