"""Calls under a name, on threads and on asyncio: no caller waits for itself or in vain."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest

from kvlab.core.calls import AsyncCalls, Calls
from kvlab.errors import LoadsItself


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each gets on a thread of its own, an error as a value; None if it never ends."""
    results: list[Any] = [None] * len(calls)

    def one(number: int) -> None:
        try:
            results[number] = calls[number]()
        except Exception as problem:
            results[number] = problem

    threads = [threading.Thread(target=one, args=(n,), daemon=True) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return results


def test_a_call_that_joins_itself_is_told() -> None:
    calls, acalls = Calls(), AsyncCalls()

    async def inner() -> Any:
        return await acalls.run("n", inner, join=True)

    async def main() -> None:
        async with asyncio.timeout(10):
            await inner()

    (told,) = at_once(lambda: calls.run("n", lambda: calls.run("n", list, join=True), join=True))
    assert isinstance(told, LoadsItself)
    with pytest.raises(LoadsItself):
        asyncio.run(main())


def test_an_error_that_looks_like_a_cancellation_is_shared_like_any_other() -> None:
    calls, joined = Calls(), threading.Event()
    runs: list[int] = []

    def fail() -> None:
        runs.append(1)
        assert joined.wait(10)
        raise CancelledError("of something else")

    def first() -> None:
        calls.run("n", fail, join=True)

    def second() -> None:
        while not runs:
            pass
        (future,) = calls._joined.values()
        future.result = lambda: (joined.set(), type(future).result(future))[1]  # type: ignore
        first()

    assert [type(r) for r in at_once(first, second)] == [CancelledError] * 2
    assert len(runs) == 1


def test_a_failure_reaches_those_who_wait_for_that_name_and_nobody_else() -> None:
    calls = Calls()
    mine, others = calls.waiter("n"), calls.waiter("other")
    with pytest.raises(ZeroDivisionError):
        calls.run("n", lambda: 1 // 0, join=True)
    assert isinstance(mine.failure, ZeroDivisionError)
    assert others.failure is None


def test_a_failure_that_nobody_else_waits_for_is_no_complaint_of_asyncio() -> None:
    async def fail() -> None:
        raise LookupError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
        with pytest.raises(LookupError):
            await AsyncCalls().run("n", fail, join=True)
        gc.collect()

    complaints: list[Any] = []
    asyncio.run(main())
    assert complaints == []


def test_when_the_caller_that_calls_is_cancelled_another_one_calls() -> None:
    async def main() -> None:
        calls, begun = AsyncCalls(), asyncio.Event()

        async def endless() -> None:
            begun.set()
            await asyncio.Event().wait()

        async def quick() -> str:
            return "done"

        first = asyncio.create_task(calls.run("n", endless, join=True))
        await begun.wait()
        second = asyncio.create_task(calls.run("n", quick, join=True))
        await asyncio.sleep(0)
        first.cancel()
        async with asyncio.timeout(10):
            assert await second == "done"

    asyncio.run(main())
