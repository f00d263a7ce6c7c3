"""Connections that a client makes itself are steps of this client, with ``own_connections``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

import kvlab
from kvlab.instruments import World, explore, replay
from kvlab.instruments.explorer.clients.leftovers import Refused
from kvlab.server.running_server import RunningServer

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

NOWHERE = "redis://:secret@nowhere.invalid:1/3"


def add(own: Any) -> None:
    own.set("n", int(own.get("n") or 0) + 1)


async def add_async(own: Any) -> None:
    await own.set("n", int(await own.get("n") or 0) + 1)


def from_url(_: Any) -> None:
    add(redis.from_url(NOWHERE))


def from_arguments(_: Any) -> None:
    add(redis.Redis(host="nowhere.invalid", ssl=True, username="ann", password="secret"))


def from_a_blocking_pool(_: Any) -> None:
    add(redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(NOWHERE)))


def from_a_class(_: Any) -> None:
    class Mine(redis.Connection):
        pass

    add(redis.Redis(connection_pool=redis.ConnectionPool(Mine, host="nowhere.invalid")))


async def on_asyncio(_: Any) -> None:
    await add_async(redis.asyncio.from_url(NOWHERE))


async def in_a_thread(_: Any) -> None:
    await asyncio.to_thread(from_url, None)


def two_are_right(world: World) -> bool:
    return world.kv.get("n") == b"2"


@pytest.mark.parametrize(
    "client",
    [from_url, from_arguments, from_a_blocking_pool, from_a_class, on_asyncio, in_a_thread],
)
def test_a_library_that_connects_itself_just_works(client: Callable[[Any], Any]) -> None:
    found = explore([client, client], invariant=two_are_right, own_connections=True)
    given = explore([add, add], invariant=two_are_right)
    assert (found.violations, found.schedules) == (given.violations, given.schedules) == (4, 6)
    assert found.schedule is not None
    assert str(found.shortest) == str(given.shortest)
    again = replay(found.schedule, [client, client], invariant=two_are_right, own_connections=True)
    assert str(again.shortest) == str(found.shortest)


@pytest.mark.parametrize("options", [{"reduce": True}, {"processes": 2}], ids=str)
def test_every_way_of_searching_sees_them(options: dict[str, Any]) -> None:
    story = explore([from_url] * 2, invariant=two_are_right, own_connections=True, **options)
    assert story.violations


def retrying(_: Any) -> None:
    add(redis.Redis(host="nowhere.invalid"))


async def retrying_on_asyncio(_: Any) -> None:
    await add_async(redis.asyncio.Redis(host="nowhere.invalid"))


@pytest.mark.parametrize(("own", "given"), [(retrying, add), (retrying_on_asyncio, add_async)])
def test_faults_reach_them_and_retries_do_not_wait(own: Any, given: Any) -> None:
    faults = {"crashes": True, "lost_replies": True}
    by_own = explore([own] * 2, invariant=two_are_right, own_connections=True, **faults)
    by_given = explore([given] * 2, invariant=two_are_right, **faults)
    assert by_own.faults == by_given.faults
    assert (by_own.schedules, by_own.broken) == (by_given.schedules, by_given.broken)
    assert not by_own.waits


def test_an_executor_of_kvlab_is_refused_since_it_speaks_past_redis_py() -> None:
    def client(_: Any) -> None:
        with kvlab.connect("redis://127.0.0.1:1") as kv:
            kv.run(kvlab.FixedWindow("api", limit=1, window=60).hit("ann"))

    with pytest.raises(Refused, match="an executor of kvlab's own"):
        explore([client, from_url], own_connections=True)


def test_a_pool_that_clients_share_opened_before_and_works_after(server: RunningServer) -> None:
    with redis.from_url(server.url) as shared:
        shared.set("n", 7)

        def client(_: Any) -> None:
            add(shared)

        story = explore(
            [client, on_asyncio],
            setup=lambda _: shared.set("n", 0),
            invariant=lambda _: shared.get("n") == b"2",
            own_connections=True,
        )
        assert (story.violations, story.schedules) == (4, 6)
        assert shared.get("n") == b"7"
        shared.delete("n")


def test_a_thread_that_connects_is_refused_in_one_sentence(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def helped(kv: Any) -> None:
        thread = threading.Thread(target=from_url, args=(kv,))
        thread.start()
        thread.join()

    with pytest.raises(Refused, match="a client started a thread that uses the server: a cl"):
        explore([from_url, helped], own_connections=True, progress=False)
    assert not capfd.readouterr().err


def test_an_event_loop_inside_a_plain_function_is_refused() -> None:
    def loops(kv: Any) -> None:
        asyncio.run(on_asyncio(kv))

    with pytest.raises(Refused, match="runs an event loop of its own: give explore the async"):
        explore([from_url, loops], own_connections=True)
