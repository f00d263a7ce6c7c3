"""Clients that are coroutines: their loop's time is the lane's, their tasks end with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from kvlab import AutoBatch, CacheAside, FixedWindow, Key, Lock, Op
from kvlab.instruments import World, explore
from kvlab.instruments.faults.client_gate import ClientCrashed


async def lost_update(kv: Any) -> None:
    found = int(await kv.get("n") or 0)
    await kv.set("n", found + 1)


def test_a_lost_update_is_found_as_among_threads() -> None:
    story = explore([lost_update] * 2, invariant=lambda w: w.kv.get("n") == b"2")
    assert (story.violations, story.schedules) == (4, 6)


def test_sync_and_async_clients_together() -> None:
    def sync(kv: Any) -> None:
        kv.set("n", int(kv.get("n") or 0) + 1)

    story = explore([lost_update, sync], invariant=lambda w: w.kv.get("n") == b"2")
    assert (story.violations, story.schedules) == (4, 6)


def test_commands_of_one_gather_go_in_their_order() -> None:
    # Each has a connection of its own, made in the first run, and after each crash.
    async def client(kv: Any) -> list[int]:
        return await asyncio.gather(kv.incr("a"), kv.incr("b"), kv.incr("a"))

    story = explore([client] * 2)
    assert story
    assert story.schedules == 20  # three steps each
    orders = []
    story = explore([client], crashes=True, invariant=lambda w: orders.append(sent(w)) or True)
    assert story
    assert story.schedules == 3
    assert orders == [["a", "b", "a"], ["a", "b"], ["a"]]


def sent(world: World) -> list[str]:
    return [e.commands[0][1].decode() for e in world.trace if e.kind == "go"]


def test_a_new_connection_takes_no_time_from_the_other_tasks() -> None:
    async def one(kv: Any, key: str) -> None:
        await kv.incr(key)
        await kv.incr(key)

    async def client(kv: Any) -> None:
        await asyncio.gather(one(kv, "a"), one(kv, "b"))

    orders = []
    story = explore([client], crashes=True, invariant=lambda w: orders.append(sent(w)) or True)
    assert story
    # After a crash the connections are new: in the second to the fourth run.
    assert orders == [["a", "b", "a", "b"], ["a", "b", "a"], ["a", "b"], ["a"]]
    assert explore([client], crashes=True, lost_replies=True, lost_requests=True)


def test_sleeps_and_time_outs_take_no_time_and_end_in_order() -> None:
    async def client(kv: Any) -> str:
        try:
            async with asyncio.timeout(60):
                await asyncio.sleep(3600)
        except TimeoutError:
            return f"gave up, and found {await kv.get('n')}"
        return "slept"

    story = explore([client], invariant=lambda w: w.results == ["gave up, and found None"])
    assert story
    assert story.schedules == 1


def test_a_task_that_nobody_waits_for_ends_with_its_client() -> None:
    cancelled = 0

    async def forgets(kv: Any) -> None:
        async def later() -> None:
            nonlocal cancelled
            try:
                await asyncio.sleep(10)
                await kv.incr("late")
            except asyncio.CancelledError:
                cancelled += 1
                raise

        task = asyncio.create_task(later())
        await kv.get("a")
        assert not task.done()

    story = explore([forgets, lost_update], invariant=lambda w: not w.kv.exists("late"))
    assert story
    assert story.schedules == 3
    assert cancelled >= 3


def test_ops_flows_and_batches() -> None:
    limiter, lock = FixedWindow("api", limit=1, window=60), Lock("door", ttl=30)
    cache = CacheAside("users", ttl=60, jitter=0, early=0)

    async def hits(kv: Any) -> bool:
        return bool((await kv.run(limiter.hit("ann"))).allowed)

    assert explore([hits, hits], invariant=lambda w: sum(w.results) == 1)

    async def enters(kv: Any) -> bool:
        held = await kv.run(lock.acquire(wait=5))
        return held is not None and await kv.run(lock.release(held))

    assert explore([enters, enters], invariant=lambda w: w.results == [True, True])

    loads = 0

    async def load() -> str:
        nonlocal loads
        loads += 1
        return "row"

    def reset(_: Any) -> None:
        nonlocal loads
        loads = 0

    async def fetches(kv: Any) -> Any:
        return await kv.run(cache.fetch("1", load))

    assert explore(
        [fetches, fetches], setup=reset, invariant=lambda w: (w.results, loads) == (["row"] * 2, 1)
    )

    async def batches(kv: Any) -> list[int]:
        batch = AutoBatch(kv.kv)
        count = Op("INCR", Key("n"))
        return await asyncio.gather(batch.run(count), batch.run(count))

    story = explore([batches, batches], invariant=lambda w: sorted(w.results) == [[1, 2], [3, 4]])
    assert story
    assert story.schedules == 2  # one write each


def test_a_crash_is_a_crash_whatever_the_program_makes_of_it() -> None:
    async def gathers(kv: Any) -> Any:
        return await asyncio.gather(kv.get("a"), kv.get("b"), return_exceptions=True)

    async def groups(kv: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(kv.get("a"))
            group.create_task(kv.get("b"))

    def swallows(kv: Any) -> str:
        try:
            kv.get("a")
            kv.get("b")
        except BaseException:
            return "carries on"
        return "done"

    seen: list[Any] = []
    for client in (gathers, groups, swallows):
        seen.clear()
        assert explore([client], crashes=True, invariant=lambda w: seen.append(w.results) or True)
        assert [type(result) is ClientCrashed for (result,) in seen] == [False, True]


@pytest.mark.parametrize("retries", [0, 1])
def test_errors_in_a_group_are_those_of_their_fault(retries: int) -> None:
    async def groups(kv: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(kv.incr("a"))
            group.create_task(kv.incr("b"))

    retry = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), retries)
    seen = set()
    story = explore(
        [groups],
        lost_replies=True,
        client_options={"retry": retry},
        invariant=lambda w: seen.add(type(w.results[0]).__name__) or True,
    )
    assert story
    assert seen == ({"NoneType", "ExceptionGroup"} if retries == 0 else {"NoneType"})
