"""AsyncKv: the same results and errors, and whatever cancellation can do to it."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from redis._parsers import _AsyncHiredisParser
from support import twin
from test_client import COUNT, Scripted, get, incr, loaded, nested, pop, twice

from kvlab import AsyncKv, Call, Key, Kv, Now, Op, Wait, aconnect, flow
from kvlab.core.transport.async_pool import adone
from kvlab.errors import (
    BatchFailed,
    CannotServe,
    Closed,
    InvalidArgument,
    OutcomeUnknown,
    ServerRefused,
    ServerUnavailable,
)
from kvlab.instruments.faults.paused import paused
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server import engines
from kvlab.server.running_server import RunningServer


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[[Kv], None]:
    """Run a test on an ``AsyncKv`` with the namespace of ``kv``."""

    def run(kv: Kv) -> None:
        async def main() -> None:
            async with _client(kv) as akv:
                await test(akv)

        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@asynccontextmanager
async def _client(kv: Kv, **settings: Any) -> AsyncIterator[AsyncKv]:
    async with twin(kv, **settings) as akv:
        yield akv
        await akv.client.aclose()


async def turns(count: int = 9) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- the same as Kv ------------------------------------------------------------------------


@asynchronous
async def test_results(akv: AsyncKv) -> None:
    await akv.run(Op("SET", Key("text"), "x"))
    assert await akv.run(incr()) == 1
    assert await akv.run(incr(), incr()) == (2, 3)
    assert await akv.run([]) == []
    assert await akv.run([incr("m") for _ in range(1200)]) == list(range(1, 1201))
    with pytest.raises(BatchFailed) as failed:
        await akv.run(incr(), incr("text"), get("text"))
    assert [type(r) for r in failed.value.results] == [int, ServerRefused, bytes]
    assert await akv.run(incr(), incr(), atomic=True) == (5, 6)
    before = akv.round_trips
    assert await akv.run(nested("k")) == [(1, 2), (3, 4), (5,), (6, 7), ()]
    assert akv.round_trips == before + 5
    with pytest.raises(InvalidArgument):
        await akv.run(None)
    assert await akv.within("inner").run(incr()) == 1
    assert await akv.clear() == 5


@asynchronous
async def test_a_missing_script_is_loaded_and_its_neighbours_run_once(akv: AsyncKv) -> None:
    await akv.run(Op("SCRIPT", "FLUSH"))
    before = akv.round_trips
    assert await akv.run(incr("o"), Op(COUNT, Key("n")), incr("o")) == (1, 1, 2)
    assert akv.round_trips == before + 2
    await akv.run(Op("SCRIPT", "FLUSH"))
    assert await akv.run(incr("o"), Op(COUNT, Key("n")), atomic=True) == (3, 2)


def test_lost_replies(kv: Kv, server: RunningServer) -> None:
    async def main() -> None:
        async def at_once(_: float) -> None: ...

        with Proxy(server.url) as proxy:
            client = redis.asyncio.Redis(port=proxy.port)
            async with AsyncKv(client, prefix=kv.prefix, timeout=10, sleep=at_once) as far:
                await far.run(Op("PING"))
                proxy.swallow_replies(1)
                with pytest.raises(OutcomeUnknown):
                    await far.run(incr())
                proxy.swallow_replies(2, only="GET")
                assert await far.run(get()) == b"1"
                assert proxy.commands.count("GET") == 3
                proxy.swallow_replies(1, only="APPEND")
                marker = Op("APPEND", Key("log"), "x")
                some = await far.run(*[incr()] * 9, marker, incr(), return_exceptions=True)
                assert some[:9] == tuple(range(2, 11))
                assert [type(r) for r in some[9:]] == [OutcomeUnknown] * 2
            await client.aclose()

    asyncio.run(main())


def test_killed_and_frozen_servers() -> None:
    async def main(own: RunningServer) -> None:
        async with await aconnect(own.url, timeout=0.2) as akv:
            assert await akv.run(incr()) == 1
            own.restart()
            await turns()
            assert await akv.run(incr()) == 1  # the old connection was not used
            with paused(own.pid):
                with pytest.raises(OutcomeUnknown, match="TimeoutError"):
                    await akv.run(incr())
                with pytest.raises(ServerUnavailable):  # accepted by the kernel, greeted by nobody
                    await akv.run(incr())
            own.kill()
            await turns()
            with pytest.raises(ServerUnavailable):
                await akv.run(incr())

    with engines.start("valkey") as own:
        asyncio.run(main(own))


def test_a_loading_server(kv: Kv) -> None:
    async def main(url: str) -> None:
        async with await aconnect(url) as akv:
            with pytest.raises(CannotServe, match="LOADING"):
                await akv.run(incr(), incr())
            first, second = await akv.run(incr(), incr(), return_exceptions=True)
            assert (first, second.code) == (1, "NOAUTH")

    loading = b"-LOADING loading\r\n"
    with Scripted(loading * 2, b":1\r\n-NOAUTH Authentication required.\r\n") as server:
        asyncio.run(main(server.url))


def test_a_wrong_password_is_tried_once() -> None:
    async def main(proxy: Proxy) -> None:
        async with await aconnect(f"redis://:wrong@127.0.0.1:{proxy.port}") as akv:
            with pytest.raises(ServerRefused) as refused:
                await akv.run(get())
            assert refused.value.code == "WRONGPASS"
        assert proxy.commands.count("AUTH") == 1

    with engines.start("valkey", options={"requirepass": "right"}) as own, Proxy(own.url) as proxy:
        asyncio.run(main(proxy))


def test_one_executor_serves_a_second_event_loop(kv: Kv) -> None:
    akv = twin(kv)
    assert asyncio.run(akv.run(incr())) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the first loop left its socket open
        assert asyncio.run(akv.run(incr())) == 2
        asyncio.run(akv.close())
        gc.collect()


@asynchronous
async def test_a_closed_executor_says_so(akv: AsyncKv) -> None:
    await akv.run(incr())
    await akv.close()
    await akv.close()
    with pytest.raises(Closed):
        await akv.run(incr())


# --- cancellation --------------------------------------------------------------------------


async def _stop_after(steps: int, work: Awaitable[Any]) -> bool:
    """Cancel ``work`` after so many turns of the loop; whether it was still running."""
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        if task.done():
            break
        await asyncio.sleep(0)
    was_running = task.cancel()
    await asyncio.wait([task])
    return was_running and task.cancelled()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_cancelled_run_never_leaves_its_answer_to_the_next(kv: Kv, fresh: bool) -> None:
    old, many = Op("ECHO", "old"), [Op("ECHO", "old")] * 20

    async def main() -> None:
        client = redis.asyncio.Redis(port=kv.client.connection_pool.connection_kwargs["port"])
        async with client, AsyncKv(client, prefix=kv.prefix) as akv:
            akv._connections.most = 1  # each next caller meets the connection, if it is kept
            cancelled = 0
            for i in range(200):
                if fresh:
                    await adone(akv._connections.close())
                    akv._connections.closed = False
                work = [akv.run(old), akv.run(*many), akv.run(many), akv.run(*many, atomic=True)]
                chosen = work.pop(i % 4)
                for unused in work:
                    unused.close()
                cancelled += await _stop_after(1 + i // 4 % (10 if fresh else 3), chosen)
                assert await akv.run(Op("ECHO", i)) == str(i).encode()
                assert await akv.run(Op("ECHO", "a"), Op("ECHO", "b")) == (b"a", b"b")
            assert cancelled >= (20 if fresh else 68)  # after one turn none has ended

    asyncio.run(main())


@asynchronous
async def test_every_await_point_of_a_trip(akv: AsyncKv) -> None:
    akv._connections.most = 1
    for step in range(1, 200):
        await adone(akv._connections.close())
        akv._connections.closed = False
        stopped = CancelledAt(step, akv.run(Op("ECHO", "old"), Op("ECHO", "old")))
        await stopped
        if not stopped.thrown:
            assert step > 1
            break
        assert await akv.run(Op("ECHO", step)) == str(step).encode()
    else:
        raise AssertionError("it never ran to its end")


class CancelledAt:
    """Awaits a coroutine and cancels it at its nth suspension."""

    def __init__(self, nth: int, coroutine: Any) -> None:
        self.nth, self.coroutine, self.thrown = nth, coroutine, False

    def __await__(self) -> Generator[Any, Any, None]:
        inner, suspensions, task = self.coroutine.__await__(), 0, asyncio.current_task()
        assert task is not None
        try:
            waiting_for = inner.send(None)
            while True:
                suspensions += 1
                if suspensions == self.nth:
                    self.thrown = task.cancel()
                try:
                    value = yield waiting_for
                except asyncio.CancelledError as cancelled:
                    task.uncancel()
                    waiting_for = inner.throw(cancelled)
                else:
                    waiting_for = inner.send(value)
        except (StopIteration, asyncio.CancelledError):
            return


@asynchronous
async def test_cancelled_waiters_give_back_their_turn(akv: AsyncKv) -> None:
    akv._connections.most = 1
    for steps in range(12):
        tasks = [asyncio.ensure_future(akv.run(Op("ECHO", i))) for i in range(10)]
        await turns(steps)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == [str(i).encode() for i in range(1, 10, 2)]
    assert await akv.run(incr()) == 1


@asynchronous
async def test_a_thousand_concurrent_callers_get_their_own_replies(akv: AsyncKv) -> None:
    before = akv.round_trips
    results = await asyncio.gather(*(akv.run(Op("ECHO", i)) for i in range(1000)))
    assert results == [str(i).encode() for i in range(1000)]
    assert akv.round_trips == before + 2  # of 500 ops at most


@asynchronous
async def test_a_cancelled_flow_cleans_up(akv: AsyncKv) -> None:
    reached = asyncio.Event()

    async def forever() -> None:
        reached.set()
        await asyncio.Event().wait()

    @flow
    def holding(name: str) -> Generator[Any, Any, None]:
        yield from incr(name)
        try:
            yield Call(forever)
        finally:
            yield from Op("DEL", Key(name))
            yield from incr("cleaned")

    task = asyncio.ensure_future(akv.run(holding("held")))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await akv.run(get("held"), get("cleaned")) == (None, b"1")


@asynchronous
async def test_loaders_may_be_async_and_time_is_the_drivers(akv: AsyncKv) -> None:
    async def load(x: int) -> int:
        await asyncio.sleep(0)
        return x * 2

    @flow
    def asking(x: int) -> Generator[Any, Any, tuple[int, int, float]]:
        began = yield from Now()
        yield from Wait(3600)
        one = yield from Call(load, (x,))
        two = yield from Call(lambda: 7)
        return one, two, (yield from Now()) - began

    class Clock:
        now = 0.0

        async def sleep(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    async with AsyncKv(
        akv.client, prefix=akv.prefix, clock=lambda: clock.now, sleep=clock.sleep
    ) as timed:
        assert await timed.run(asking(3)) == (6, 7, 3600.0)
    assert await akv.run(twice("n")) == (1, 2)


# --- share ---------------------------------------------------------------------------------


class Loader:
    """Counts its calls; each waits until it is let go on."""

    def __init__(self) -> None:
        self.calls, self.go = 0, asyncio.Event()

    async def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        await self.go.wait()
        return number


@asynchronous
async def test_share_makes_one_call_of_many(akv: AsyncKv) -> None:
    load = Loader()
    tasks = [asyncio.ensure_future(akv.run(loaded(load))) for _ in range(50)]
    await turns()
    load.go.set()
    assert await asyncio.gather(*tasks) == [1] * 50
    assert await akv.run(loaded(load)) == 2
    assert akv._shared._joined == {}


@asynchronous
async def test_when_the_leader_is_cancelled_a_follower_takes_over(akv: AsyncKv) -> None:
    load = Loader()
    leader, *followers = (asyncio.ensure_future(akv.run(loaded(load))) for _ in range(5))
    await turns()
    leader.cancel()
    await turns(9)
    assert (load.calls, leader.cancelled()) == (2, True)
    followers[0].cancel()  # the new leader, too
    followers[1].cancel()  # and one that only waits
    await turns(9)
    load.go.set()
    assert await asyncio.gather(*followers[2:]) == [3, 3]
    assert load.calls == 3


@asynchronous
async def test_all_cancelled_at_once_nobody_calls_again(akv: AsyncKv) -> None:
    load = Loader()
    tasks = [asyncio.ensure_future(akv.run(loaded(load))) for _ in range(5)]
    await turns()
    for task in tasks:
        task.cancel()
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert [type(d) for d in done] == [asyncio.CancelledError] * 5
    assert (load.calls, akv._shared._joined) == (1, {})


@asynchronous
async def test_a_shared_failure_reaches_all(akv: AsyncKv) -> None:
    gate = asyncio.Event()

    async def load() -> int:
        await gate.wait()
        raise ValueError("no")

    tasks = [asyncio.ensure_future(akv.run(loaded(load))) for _ in range(5)]
    await turns()
    gate.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(d) for d in done] == [ValueError] * 5


# --- blocking ------------------------------------------------------------------------------


def test_blocking_ops(kv: Kv, server: RunningServer) -> None:
    async def main() -> None:
        client = redis.asyncio.Redis(port=server.port, max_connections=1)
        async with client, AsyncKv(client, prefix=kv.prefix, timeout=0.5) as akv:
            waiting = asyncio.ensure_future(akv.run(pop("q", 0, blocking=float("inf"))))
            while b"cmd=blpop" not in await akv.run(Op("CLIENT", "LIST")):
                pass  # the pool's one connection is free
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            while b"cmd=blpop" in await akv.run(Op("CLIENT", "LIST")):
                pass  # the server notices that it went away
            await akv.run(Op("RPUSH", Key("q"), "x"))
            popped = await akv.run(pop("q", 0, blocking=float("inf")))
            assert popped == [akv.name(Key("q")).encode(), b"x"]
            assert await akv.run(pop("q", 0.6, blocking=0.6)) is None
            with pytest.raises(OutcomeUnknown):
                await akv.run(pop("q", 0, blocking=0.05))
            with pytest.raises(InvalidArgument, match="blocking"):
                await akv.run(incr(), pop("q", 0, blocking=1))

    asyncio.run(main())


@pytest.mark.parametrize("options", [{}, {"parser_class": _AsyncHiredisParser}])  # both links
def test_each_reply_of_a_batch_has_its_own_timeout(options: dict[str, Any]) -> None:
    """The replies come 24 s apart, by a clock that the server moves; the timeout is 30 s."""

    async def main() -> None:
        loop, skipped = asyncio.get_running_loop(), 0.0
        time = loop.time
        loop.time = lambda: time() + skipped  # type: ignore[method-assign]

        async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal skipped
            await reader.read(1000)
            for _ in range(4):
                skipped += 24
                writer.write(b"+PONG\r\n")
                await asyncio.sleep(0.02)
            writer.close()

        there = await asyncio.start_server(server, "127.0.0.1", 0)
        port = there.sockets[0].getsockname()[1]
        client = redis.asyncio.Redis(port=port, driver_info=None)
        client.connection_pool.connection_kwargs |= options
        async with client, AsyncKv(client, timeout=30) as akv:
            assert await akv.run(*[Op("PING")] * 4) == (b"PONG",) * 4
        there.close()

    asyncio.run(main())
