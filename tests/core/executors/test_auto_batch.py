"""AutoBatch: whatever happens on the way, each reply reaches its own caller or nobody."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support import own_road, twin

from kvlab import (
    AsyncKv,
    AutoBatch,
    Call,
    FixedWindow,
    Key,
    Kv,
    Op,
    Script,
    aconnect,
    flow,
    together,
)
from kvlab.core.transport.async_pool import AsyncConnections
from kvlab.core.wire import RoundTrip
from kvlab.errors import (
    BatchFailed,
    Closed,
    InvalidArgument,
    OutcomeUnknown,
    ServerRefused,
    ServerUnavailable,
)
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server.running_server import RunningServer

ADD = Script("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
FULL = Script("full", "return redis.error_reply('OOM no memory')")


def echo(text: object, **how: Any) -> Op[str]:
    return Op("ECHO", str(text), decode=bytes.decode, **how)


@pytest.fixture(autouse=True)
def nothing_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio reports lost tasks and unseen exceptions by its logger, late at times."""
    with caplog.at_level(logging.WARNING, logger="asyncio"):
        yield
        gc.collect()
    said = [*caplog.get_records("call"), *caplog.records]
    assert [r.getMessage() for r in said if r.name == "asyncio"] == []


@asynccontextmanager
async def batching(kv: Kv, **limits: int) -> AsyncIterator[AutoBatch]:
    async with twin(kv) as akv, AutoBatch(akv, **limits) as auto:
        yield auto
    assert len(asyncio.all_tasks()) == 1, "a task is left"


@asynccontextmanager
async def proxied(kv: Kv, **settings: Any) -> AsyncIterator[tuple[AutoBatch, Proxy]]:
    names = {"max_batch", "max_waiting", "in_flight"} & settings.keys()
    limits = {name: settings.pop(name) for name in names}
    address = kv.client.connection_pool.connection_kwargs
    with Proxy((address["host"], address["port"])) as proxy:
        akv = await aconnect(proxy.url, prefix=kv.prefix, **settings)
        async with akv, AutoBatch(akv, **limits) as auto:
            await auto.run(Op("PING"))
            proxy.reset()
            yield auto, proxy


def test_the_awaits_of_one_tick_are_one_round_trip(kv: Kv) -> None:
    async def main() -> None:
        async with proxied(kv) as (auto, proxy):
            before = auto.round_trips
            got = await asyncio.gather(*(auto.run(echo(i)) for i in range(500)))
            assert got == [str(i) for i in range(500)]
            assert (auto.round_trips - before, proxy.requests) == (1, 1)
            # control: an executor whose client has a send of its own
            async with AsyncKv(own_road(auto.client), prefix=auto.prefix) as plain:
                await asyncio.gather(*(plain.run(echo(i)) for i in range(50)))
                assert plain.round_trips == 50

    asyncio.run(main())


def test_batches_are_bounded_and_calls_do_not_part(kv: Kv) -> None:
    async def main() -> None:
        trips: list[int] = []
        akv = twin(kv, trace=lambda trip: trips.append(len(trip.ops)))
        async with akv, AutoBatch(akv, max_batch=10, in_flight=1) as auto:
            await asyncio.gather(*(auto.run(echo(i)) for i in range(25)))
            assert trips == [10, 10, 5]
            trips.clear()
            await asyncio.gather(*(auto.run(*(echo(i),) * 4) for i in range(3)))
            assert trips == [8, 4]
            trips.clear()
            assert len(await auto.run(*map(echo, range(25)))) == 25
            assert trips == [25]
            trips.clear()
            assert len(await auto.run(list(map(echo, range(1100))))) == 1100
            assert trips == [500, 500, 100]

    asyncio.run(main())


def test_run_takes_what_akv_takes(kv: Kv) -> None:
    @flow
    def twice(key: Key) -> Any:
        value = yield from Op("INCR", key)
        pair = yield from together(Op("INCR", key), Op("GET", key))
        return value, *pair

    async def main() -> None:
        async with batching(kv) as auto:
            same: list[Callable[[AsyncKv], Awaitable[Any]]] = [
                lambda x: x.run(echo(1)),
                lambda x: x.run(echo(1), echo(2)),
                lambda x: x.run([]),
                lambda x: x.run([echo(1)]),
                lambda x: x.run(echo(1), return_exceptions=True),
                lambda x: x.run(Op("SET", Key("n"), 5), Op("INCR", Key("n")), atomic=True),
                lambda x: x.run(twice(Key("n"))),
                lambda x: x.run(Op("BLPOP", Key("q"), 0.01, blocking=0.01)),
                lambda x: x.run(FixedWindow("f", limit=1, window=60).forget("ip")),
            ]
            async with twin(kv) as plain:
                for ask in same:
                    expected = await ask(plain)
                    await plain.clear()
                    assert await ask(auto) == expected
                    await auto.clear()
            with pytest.raises(InvalidArgument):
                await auto.run(Op("GET", Key("a")), Op("BLPOP", Key("q"), 0, blocking=math.inf))
            part = auto.within("part")
            assert isinstance(part, AutoBatch)
            assert await part.run(Op("SET", Key("a"), 1)) == b"OK"
            assert kv.run(Op("EXISTS", Key("part:a"))) == 1
            await part.close()

    asyncio.run(main())


def test_the_flows_of_one_tick_share_their_round_trips(kv: Kv) -> None:
    @flow
    def three_steps(i: int) -> Any:
        for step in range(3):
            assert (yield from echo(f"{i} {step}")) == f"{i} {step}"
        return i

    async def main() -> None:
        async with batching(kv) as auto:
            assert await asyncio.gather(*(auto.run(three_steps(i)) for i in range(100))) == list(
                range(100)
            )
            assert auto.round_trips == 3

    asyncio.run(main())


def test_an_error_is_its_callers_own(kv: Kv) -> None:
    kv.run(Op("SET", Key("text"), "x"))

    def refuse(_: object) -> str:
        raise ValueError("mine")

    async def main() -> None:
        async with batching(kv) as auto:
            got = await asyncio.gather(
                auto.run(echo(0)),
                auto.run(Op("INCR", Key("text"))),
                auto.run(Op("ECHO", "z", decode=refuse)),
                auto.run(echo(1), Op("INCR", Key("text"))),
                auto.run(echo(2)),
                return_exceptions=True,
            )
            kinds = [type(g) for g in got]
            assert kinds == [str, ServerRefused, ValueError, BatchFailed, str]
            assert (got[0], got[-1]) == ("0", "2")
            assert auto.round_trips == 1

    asyncio.run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("where", ["decode", "fallback", "loader", "trace"])
def test_an_interrupt_is_its_callers_own(kv: Kv, kind: type[BaseException], where: str) -> None:
    def interrupt(*_: object) -> str:
        raise kind

    @flow
    def loading(first: str) -> Generator[Any, Any, str]:
        yield from echo(first)
        return (yield from Call(interrupt))

    stopped: dict[str, Any] = {
        "decode": Op("ECHO", "x", decode=interrupt),
        "fallback": Op(FULL, Key("n"), fallback=interrupt),
        "loader": loading("x"),
        "trace": echo("x"),
    }

    async def main() -> list[Any]:
        async def caught(call: Awaitable[Any]) -> Any:
            try:
                return await call
            except BaseException as problem:
                return type(problem)

        tracing = {"trace": interrupt} if where == "trace" else {}
        async with twin(kv, **tracing) as akv, AutoBatch(akv) as auto:
            neighbour = auto.run(echo(2), Op(ADD, Key("n"), 1))
            calls = [auto.run(echo(1)), auto.run(stopped[where]), neighbour]
            return await asyncio.gather(*map(caught, calls))

    kv.run(Op("SCRIPT", "FLUSH"))  # so that a neighbour travels twice
    others = [kind] * 2 if where == "trace" else ["1", ("2", 1)]  # the hook is everybody's
    assert asyncio.run(main()) == [others[0], kind, others[1]]


def test_scripts_forgotten_on_the_way_run_once_each(kv: Kv) -> None:
    async def main() -> None:
        async with batching(kv) as auto:

            async def add(i: int) -> list[int]:
                return [await auto.run(Op(ADD, Key(f"n{i}"), 1, decode=int)) for _ in range(5)]

            async def forget() -> None:
                for _ in range(5):
                    await auto.run(Op("SCRIPT", "FLUSH"))

            *counted, _ = await asyncio.gather(*map(add, range(100)), forget())
            assert counted == [[1, 2, 3, 4, 5]] * 100

    asyncio.run(main())


def test_a_lost_reply_is_everybodys_own_unknown(kv: Kv) -> None:
    async def main() -> None:
        async with proxied(kv) as (auto, proxy):
            proxy.swallow_replies(1, only="INCR")
            calls = [auto.run(echo(0)), *(auto.run(Op("INCR", Key("n"))) for _ in range(9))]
            calls += [auto.run(echo(i, idempotent=True)) for i in range(5)]
            calls += [auto.run(Op("INCR", Key("m"), fallback=lambda _: "gone"))]
            first, *rest = await asyncio.gather(*calls, return_exceptions=True)
            assert first == "0"  # it came before the cut
            assert all(type(r) is OutcomeUnknown for r in rest[:9])
            assert len({id(r) for r in rest[:9]}) == 9
            assert rest[9:] == ["0", "1", "2", "3", "4", "gone"]
            assert kv.run(Op("GET", Key("n"))) == b"9"  # all ran, none twice

    asyncio.run(main())


def test_a_dead_server_is_told_to_each_at_once(kv: Kv) -> None:
    async def main() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            akv = await aconnect(f"redis://127.0.0.1:{closed.getsockname()[1]}")
            async with akv, AutoBatch(akv) as auto:
                got = await asyncio.gather(
                    *(auto.run(echo(i, idempotent=True)) for i in range(20)),
                    return_exceptions=True,
                )
                assert all(type(g) is ServerUnavailable for g in got)
                assert len({id(g) for g in got}) == 20
                with pytest.raises(ServerUnavailable):
                    await auto.run(echo(0), echo(1))
                with_fallback = Op("GET", Key("k"), fallback=lambda _: "default")
                assert await auto.run(with_fallback) == "default"

    asyncio.run(main())


def test_a_callers_own_order_is_kept(kv: Kv) -> None:
    async def user(auto: AutoBatch, i: int) -> None:
        for n in range(10):
            assert await auto.run(Op("RPUSH", Key(f"list{i}"), n)) == n + 1

    async def main() -> None:
        async with batching(kv, max_batch=7, in_flight=4) as auto:
            await asyncio.gather(*(user(auto, i) for i in range(50)))
            lists = await auto.run([Op("LRANGE", Key(f"list{i}"), 0, -1) for i in range(50)])
            assert lists == [[b"%d" % n for n in range(10)]] * 50
            n, got = await auto.run(Op("INCR", Key("n")), Op("GET", Key("n")))
            assert (n, got) == (1, b"1")

    asyncio.run(main())


def test_200_cancellations_at_every_point(kv: Kv) -> None:
    """A caller is cancelled after 0, 1, 2 … turns of the loop, amid others that go on."""

    async def main() -> None:
        async with batching(kv, max_batch=16, in_flight=2) as auto:

            async def go_on(i: int) -> None:
                for n in range(10):
                    assert await auto.run(echo(f"{i} {n}")) == f"{i} {n}"

            async def is_cancelled(i: int) -> str:
                key = Key(f"done{i}")
                value = await auto.run(Op("SET", key, i), echo(f"cancelled {i}"))
                assert value == (b"OK", f"cancelled {i}")
                return "finished"

            async def cancel(task: asyncio.Task[str], turns: int) -> None:
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()

            stay = [asyncio.create_task(go_on(i)) for i in range(20)]
            leave = [asyncio.create_task(is_cancelled(i)) for i in range(200)]
            cancel_all = [cancel(task, i % 50) for i, task in enumerate(leave)]
            *_, ended = await asyncio.gather(
                *stay, *cancel_all, asyncio.gather(*leave, return_exceptions=True)
            )
            cancelled = sum(isinstance(e, asyncio.CancelledError) for e in ended)
            assert cancelled + ended.count("finished") == 200
            assert cancelled >= 4  # those of turn 0 were
            assert await auto.run(echo("after")) == "after"

    asyncio.run(main())


def test_what_was_sent_stays_sent_and_what_waited_is_not(kv: Kv) -> None:
    async def main() -> None:
        async with proxied(kv, in_flight=1) as (auto, proxy):
            proxy.delay(0.05)
            sent = asyncio.create_task(auto.run(Op("INCR", Key("sent"))))
            while not proxy.commands:  # noqa: ASYNC110  (the proxy lives in another thread)
                await asyncio.sleep(0)
            waiting = asyncio.create_task(auto.run(Op("INCR", Key("waiting"))))
            await asyncio.sleep(0)
            sent.cancel()
            waiting.cancel()
            await asyncio.wait([sent, waiting])
            await auto.run(echo("the next batch"))
        assert kv.run(Op("GET", Key("sent")), Op("GET", Key("waiting"))) == (b"1", None)

    asyncio.run(main())


def test_when_all_leave_as_the_connection_is_ready_nothing_is_sent(
    kv: Kv, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers: list[asyncio.Task[Any]] = []
    get = AsyncConnections.get

    async def late(*given: Any, **how: Any) -> Any:
        connection = await get(*given, **how)
        for caller in callers:
            caller.cancel()
        return connection

    async def main() -> None:
        trips: list[RoundTrip] = []
        async with twin(kv, trace=trips.append) as akv:
            monkeypatch.setattr(AsyncConnections, "get", late)
            callers.extend(asyncio.create_task(akv.run(echo(i))) for i in range(2))
            await asyncio.wait(callers)
            assert all(caller.cancelled() for caller in callers)
            callers.clear()
            assert await akv.run(echo("after")) == "after"
        assert [len(trip.ops) for trip in trips] == [akv.round_trips] == [1]

    asyncio.run(main())


def test_a_thousand_users_get_their_own(kv: Kv) -> None:
    async def user(auto: AutoBatch, i: int) -> int:
        draw = random.Random(i)
        total = 0
        for n in range(5):
            step = draw.randrange(1, 1000)
            total += step
            key = Key(f"u{i}")
            match draw.randrange(3):
                case 0:
                    assert await auto.run(Op("INCRBY", key, step)) == total
                case 1:
                    assert await auto.run(Op(ADD, key, step), echo(f"{i} {n}")) == (
                        total,
                        f"{i} {n}",
                    )
                case _:
                    got = await auto.run([echo(n), Op("INCRBY", key, step), Op("GET", key)])
                    assert got == [str(n), total, b"%d" % total]
        return total

    async def main() -> None:
        async with batching(kv, max_batch=100, max_waiting=300) as auto:
            totals = await asyncio.gather(*(user(auto, i) for i in range(1000)))
            stored = await auto.run([Op("GET", Key(f"u{i}"), decode=int) for i in range(1000)])
            assert stored == totals

    asyncio.run(main())


def test_close_waits_for_what_a_cancelled_caller_sent(kv: Kv) -> None:
    async def main() -> None:
        async with proxied(kv) as (auto, proxy):
            proxy.delay(0.05)
            sent = asyncio.create_task(auto.run(Op("INCR", Key("sent"))))
            while not proxy.commands:  # noqa: ASYNC110  (the proxy lives in another thread)
                await asyncio.sleep(0)
            sent.cancel()
            await asyncio.wait([sent])
            await auto.close()
            assert len(asyncio.all_tasks()) == 1
            assert kv.run(Op("GET", Key("sent"))) == b"1"

    asyncio.run(main())


@pytest.mark.parametrize("op", [echo, lambda i: Op(Script("new", f"return '{i}'"))])
def test_a_full_queue_makes_callers_wait_and_loses_none(
    kv: Kv, op: Callable[[int], Op[Any]]
) -> None:
    """Also when each op comes back to be sent again: the server knows none of these scripts."""

    async def main() -> None:
        async with batching(kv, max_batch=3, max_waiting=5, in_flight=1) as auto:
            longest = 0

            async def call(i: int) -> bool:
                nonlocal longest
                result = await auto.run(op(i))
                longest = max(longest, len(auto._server.batches._waiting))
                return result in (str(i), b"%d" % i)

            async with asyncio.timeout(30):
                assert all(await asyncio.gather(*map(call, range(200))))
            assert longest <= 5

    asyncio.run(main())


def test_a_part_has_the_limits_of_the_whole(kv: Kv) -> None:
    async def main() -> None:
        limits = {"max_batch": 3, "max_waiting": 5, "in_flight": 1}
        async with batching(kv, **limits) as auto, auto.within("part") as part:
            assert {name: getattr(part, name) for name in limits} == limits

    asyncio.run(main())


def test_callers_whose_connection_is_refused_get_an_error_each(server: RunningServer) -> None:
    async def main() -> None:
        akv = await aconnect(f"redis://nobody:wrong@127.0.0.1:{server.port}")
        async with akv, AutoBatch(akv) as auto:
            calls = (auto.run(echo(i)) for i in range(2))
            errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {ServerRefused}
        assert errors[0] is not errors[1]

    asyncio.run(main())


def test_a_script_that_must_be_sent_again_does_not_wait_behind_others(kv: Kv) -> None:
    """Its first round trip took longer than the deadline."""
    now = 0.0

    def late(_: object) -> None:
        nonlocal now
        now += 10

    async def main() -> None:
        akv = twin(kv, clock=lambda: now, deadline=5.0, trace=late)
        async with akv, AutoBatch(akv) as auto:
            assert await auto.run(Op(Script("late", "return 'not known before'"))) is not None
        assert now == 20

    asyncio.run(main())


def test_sending_again_ends_with_the_deadline(kv: Kv) -> None:
    async def main() -> None:
        async with proxied(kv, deadline=0.1) as (auto, proxy):
            proxy.swallow_replies(10_000, only="GET")
            async with asyncio.timeout(20):
                with pytest.raises(OutcomeUnknown):
                    await auto.run(Op("GET", Key("k"), idempotent=True))
            assert 1 < proxy.swallowed < 10_000

    asyncio.run(main())


def test_an_atomic_batch_stays_atomic(kv: Kv) -> None:
    async def main() -> None:
        async with proxied(kv) as (auto, proxy):
            both = Op("SET", Key("n"), 5), Op("INCR", Key("n"))
            assert await auto.run(*both, atomic=True) == (b"OK", 6)
            assert proxy.commands == ["MULTI", "SET", "INCR", "EXEC"]

    asyncio.run(main())


def test_waiting_ends_with_the_deadline_and_nothing_was_sent(kv: Kv) -> None:
    async def main() -> None:
        limits = {"max_batch": 1, "max_waiting": 1, "in_flight": 1}
        async with proxied(kv, timeout=0.4, deadline=0.1, **limits) as (auto, proxy):
            proxy.swallow_requests(1, only="INCR", then="hang")
            calls = [auto.run(Op("INCR", Key("n"))) for _ in range(4)]
            calls += [auto.run(Op("INCR", Key("n"), fallback=lambda _: "default"))]
            calls += [auto.run(Op("INCR", Key("n")), Op("INCR", Key("n")))]
            hung, *rest = await asyncio.gather(*calls, return_exceptions=True)
            assert type(hung) is OutcomeUnknown
            assert [type(r) for r in rest[:3]] == [ServerUnavailable] * 3
            assert rest[3] == "default"
            assert type(rest[4]) is ServerUnavailable
            assert kv.run(Op("GET", Key("n"))) is None

    asyncio.run(main())


@pytest.mark.parametrize(("waited", "sent"), [(5.0, True), (5.001, False)])
def test_a_call_may_wait_for_the_deadline_and_not_longer(kv: Kv, waited: float, sent: bool) -> None:
    """In the queue, or for a place in the queue; the clock stands still until it is set."""

    async def main() -> None:
        now, released = 0.0, asyncio.Event()
        akv = twin(kv, clock=lambda: now, deadline=5.0)
        async with akv, AutoBatch(akv, max_batch=1, max_waiting=1, in_flight=2) as auto:
            outside: list[Any] = []
            trip = auto._connections.trip

            async def held(*what: Any, **how: Any) -> Any:
                outside.append(what)
                await released.wait()
                return await trip(*what, **how)

            auto._connections.trip = held  # type: ignore[method-assign]
            calls = [asyncio.create_task(auto.run(echo(i))) for i in range(6)]
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(outside) == 2  # as many batches as may be in flight
            now = waited
            released.set()
            got = await asyncio.gather(*calls, return_exceptions=True)
            assert got[:2] == ["0", "1"]
            if sent:
                assert got[2:] == ["2", "3", "4", "5"]
            else:
                assert [type(g) for g in got[2:]] == [ServerUnavailable] * 4
                assert "waited 5 s behind others" in str(got[2])

    asyncio.run(main())


def test_close_drains_and_then_refuses(kv: Kv) -> None:
    async def main() -> None:
        async with twin(kv) as akv:
            auto = AutoBatch(akv, max_batch=2, in_flight=1)
            calls = [asyncio.create_task(auto.run(echo(i))) for i in range(20)]
            await asyncio.sleep(0)
            closing = asyncio.create_task(auto.close())
            await asyncio.sleep(0)
            with pytest.raises(Closed, match="AutoBatch"):  # though others are still served
                await auto.run(echo("too late"))
            await asyncio.gather(closing, auto.close())
            assert [call.result() for call in calls] == [str(i) for i in range(20)]
            with pytest.raises(Closed):
                await auto.run(echo(0))
            await auto.close()
            assert await akv.run(echo("akv goes on")) == "akv goes on"
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_it_serves_one_loop_after_another(kv: Kv) -> None:
    auto = AutoBatch(twin(kv), max_waiting=1)

    async def crowd() -> None:
        assert await asyncio.gather(*(auto.run(echo(i)) for i in range(5))) == list("01234")
        asyncio.create_task(auto.run(echo("cut off")))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(crowd())
    asyncio.run(crowd())
    asyncio.run(auto.close())


def test_a_trace_hook_that_fails_is_heard(kv: Kv) -> None:
    def trace(_: object) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with twin(kv, trace=trace) as akv, AutoBatch(akv) as auto:
            with pytest.raises(ZeroDivisionError):
                await auto.run(echo(1))

    asyncio.run(main())


@pytest.mark.parametrize("name", ["max_batch", "max_waiting", "in_flight"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "9", None])
def test_limits_are_positive_integers(kv: Kv, name: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=name):
        AutoBatch(twin(kv), **{name: value})
