"""Cancelled on asyncio, once or at every await: what was held is given back, nothing runs on.

anyio and Starlette cancel a task again at each await until it has left the cancelled scope.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from support import twin

from kvlab import (
    AsyncFlagWatcher,
    AsyncKv,
    AutoBatch,
    CacheAside,
    FeatureFlags,
    Held,
    Key,
    Kv,
    Lock,
    Op,
    Wait,
    flow,
)
from kvlab.core.cleanup import insist
from kvlab.errors import ServerUnavailable
from kvlab.instruments.faults.paused import paused
from kvlab.server import engines

MANY = 20
CACHE = CacheAside("c", 60, lease=30)


class Crowd:
    """Tasks that are somewhere inside; ``all_in`` is set when all of them are."""

    def __init__(self) -> None:
        self.inside, self.all_in = 0, asyncio.Event()

    async def stay(self) -> None:
        self.inside += 1
        if self.inside == MANY:
            self.all_in.set()
        await asyncio.Event().wait()


Work = Callable[[AsyncKv, int, Crowd], Awaitable[None]]


async def hold(akv: AsyncKv, i: int, crowd: Crowd) -> None:
    async with akv.hold(Lock(f"l{i}", 30)):
        await crowd.stay()


async def renewed_hold(akv: AsyncKv, i: int, crowd: Crowd) -> None:
    async with akv.hold(Lock(f"l{i}", 30), renew=True):
        await crowd.stay()


async def hold_by_hand(akv: AsyncKv, i: int, crowd: Crowd) -> None:
    lock = Lock(f"l{i}", 30)
    held = await akv.run(lock.try_acquire())
    assert isinstance(held, Held)
    try:
        await crowd.stay()
    finally:
        await akv.run(lock.release(held))


async def fetch(akv: AsyncKv, i: int, crowd: Crowd) -> None:
    await akv.run(CACHE.fetch(i, crowd.stay))


def left(kv: Kv) -> int:
    """Locks and leases that are taken."""
    names = list(kv.client.scan_iter(f"{kv.prefix}*"))
    return sum(name.endswith((b":held", b":lease")) for name in names)


# --- the ways in which a framework cancels -------------------------------------------------


async def by_a_task_group_of_anyio(work: Work, akv: AsyncKv, crowd: Crowd) -> None:
    async with anyio.create_task_group() as group:
        for i in range(MANY):
            group.start_soon(work, akv, i, crowd)
        await crowd.all_in.wait()
        group.cancel_scope.cancel()


async def by_scopes_of_anyio(work: Work, akv: AsyncKv, crowd: Crowd) -> None:
    scopes, tasks = await _scoped(work, akv, crowd)
    for scope in scopes:
        scope.cancel()
    await asyncio.gather(*tasks)


async def _scoped(
    work: Work, akv: AsyncKv, crowd: Crowd
) -> tuple[list[anyio.CancelScope], list[asyncio.Task[None]]]:
    async def scoped(scope: anyio.CancelScope, i: int) -> None:
        with scope:
            await work(akv, i, crowd)

    scopes = [anyio.CancelScope() for _ in range(MANY)]
    tasks = [asyncio.create_task(scoped(scope, i)) for i, scope in enumerate(scopes)]
    await crowd.all_in.wait()
    return scopes, tasks


async def by_cancel_in_each_turn(work: Work, akv: AsyncKv, crowd: Crowd) -> None:
    tasks = [asyncio.create_task(work(akv, i, crowd)) for i in range(MANY)]
    await crowd.all_in.wait()
    while not all(task.done() for task in tasks):
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
    assert all(task.cancelled() for task in tasks)


async def by_a_task_group(work: Work, akv: AsyncKv, crowd: Crowd) -> None:
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            for i in range(MANY):
                group.create_task(work(akv, i, crowd))
            await crowd.all_in.wait()
            raise ValueError


async def by_timeouts(work: Work, akv: AsyncKv, crowd: Crowd) -> None:
    limits: list[asyncio.Timeout] = []

    async def limited(i: int) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                await work(akv, i, crowd)

    tasks = [asyncio.create_task(limited(i)) for i in range(MANY)]
    await crowd.all_in.wait()
    for limit in limits:
        limit.reschedule(0)
    await asyncio.gather(*tasks)


async def by_the_end_of_the_loop(work: Work, akv: AsyncKv, crowd: Crowd) -> None:
    crowd.tasks = [asyncio.create_task(work(akv, i, crowd)) for i in range(MANY)]  # type: ignore[attr-defined]
    await crowd.all_in.wait()


async def by_a_middleware_of_starlette(work: Work, akv: AsyncKv, crowd: Crowd) -> None:
    scopes: list[anyio.CancelScope] = []

    async def endpoint(request: Request) -> None:
        await work(akv, int(request.path_params["i"]), crowd)

    async def limited(request: Request, call_next: Any) -> Any:
        with anyio.fail_after(None) as scope:
            scopes.append(scope)
            return await call_next(request)

    app = Starlette(
        routes=[Route("/{i}", endpoint)],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=limited)],
    )
    tasks = [asyncio.create_task(_request(app, i, asyncio.Event())) for i in range(MANY)]
    await crowd.all_in.wait()
    for scope in scopes:
        scope.deadline = -math.inf
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(problem) for problem in ended} == {TimeoutError}


async def by_browsers_that_leave_a_stream(work: Work, akv: AsyncKv, crowd: Crowd) -> None:
    async def body(i: int) -> AsyncIterator[bytes]:
        yield b"first"
        await work(akv, i, crowd)

    async def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(body(int(request.path_params["i"])))

    app, gone = Starlette(routes=[Route("/{i}", endpoint)]), asyncio.Event()
    tasks = [asyncio.create_task(_request(app, i, gone)) for i in range(MANY)]
    await crowd.all_in.wait()
    gone.set()
    await asyncio.gather(*tasks)


async def _request(app: Starlette, i: int, gone: asyncio.Event) -> None:
    """One request, as uvicorn makes it; the browser leaves when ``gone`` is set."""
    messages = iter([{"type": "http.request", "body": b""}])

    async def receive() -> dict[str, Any]:
        if message := next(messages, None):
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None: ...

    scope = {"type": "http", "method": "GET", "path": f"/{i}", "headers": [], "query_string": b""}
    await app({**scope, "asgi": {"version": "3.0", "spec_version": "2.3"}}, receive, send)


KINDS = [
    by_a_task_group_of_anyio,
    by_scopes_of_anyio,
    by_cancel_in_each_turn,
    by_a_task_group,
    by_timeouts,
    by_the_end_of_the_loop,
    by_a_middleware_of_starlette,
    by_browsers_that_leave_a_stream,
]


def cancelled(kv: Kv, kind: Any, work: Work, *, batching: bool = False) -> int:
    """How many locks and leases stay."""

    async def main() -> None:
        akv = AutoBatch(twin(kv)) if batching else twin(kv)
        await akv.run(Op("SCRIPT", "FLUSH"))  # so that clean-up may take two round trips
        await kind(work, akv, Crowd())
        if kind is not by_the_end_of_the_loop:
            assert asyncio.all_tasks() == {asyncio.current_task()}
            await akv.close()

    asyncio.run(main())
    return left(kv)


@pytest.mark.parametrize("batching", [False, True])
@pytest.mark.parametrize("work", [hold, renewed_hold, fetch])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_stays_taken(kv: Kv, kind: Any, work: Work, batching: bool) -> None:
    assert cancelled(kv, kind, work, batching=batching) == 0


def test_a_release_that_is_not_shielded_stays_undone(kv: Kv) -> None:
    assert cancelled(kv, by_a_task_group_of_anyio, hold_by_hand) == MANY
    assert cancelled(kv.within("once"), by_a_task_group, hold_by_hand) == 0


# --- when ------------------------------------------------------------------------------------


async def _brief_hold(akv: AsyncKv, i: int) -> None:
    async with akv.hold(Lock(f"l{i}", 30)):
        await akv.run(Op("PING"))


async def _brief_fetch(akv: AsyncKv, i: int) -> None:
    async def load() -> int:
        await asyncio.sleep(0)
        return 1

    await akv.run(CACHE.fetch(i, load))


class _Turns(selectors.DefaultSelector):
    """Takes a loop from turn to turn. Of turns that only wait for the server there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.SelectorEventLoop(self)
        self._counts, self._idle = False, False

    async def next(self) -> None:
        self._counts = True
        await asyncio.sleep(0)
        self._counts = False

    def select(self, timeout: float | None = None) -> Any:
        alone = self._counts and len(self.loop._ready) == 1  # type: ignore[attr-defined]
        waits, self._idle = alone and self._idle, alone
        return super().select(0.1 if waits else timeout)


@pytest.mark.parametrize("batching", [False, True])
@pytest.mark.parametrize("work", [_brief_hold, _brief_fetch])
@pytest.mark.parametrize("ending", [False, True])
def test_in_each_turn_of_the_loop(kv: Kv, work: Any, batching: bool, ending: bool) -> None:
    """Cancelled from turn n on until it has left; and, when ``ending``, with the loop."""

    async def main(selector: _Turns, turns: int) -> bool:
        akv = AutoBatch(twin(kv)) if batching else twin(kv)
        scope, began = anyio.CancelScope(), asyncio.Event()

        async def scoped() -> None:
            began.set()
            with scope:
                await work(akv, turns)

        task = asyncio.create_task(scoped())
        await began.wait()
        for _ in range(turns):
            await selector.next()
        ended = task.done()
        scope.cancel()
        if not ending:
            await task
            await akv.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert akv._connections._turns._value == akv._connections.most
        elif turns % 2:  # at the loop's end it cleans up already
            await asyncio.sleep(0)
        return ended

    for turns in range(500):
        selector = _Turns()
        with asyncio.Runner(loop_factory=lambda at=selector: at.loop) as runner:
            done = runner.run(main(selector, turns))
        if done:
            break
        assert left(kv) == 0, turns
    assert turns > 3


async def _turns_until(met: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if met():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


def test_clean_up_does_not_overtake_what_was_sent_before(kv: Kv) -> None:
    """The SET stays on its way until the clean-up waits for it, or has passed it."""

    @flow
    def taking(mark: Key) -> Generator[Any, Any, None]:
        try:
            yield from Op("SET", mark, 1, idempotent=True)
        except BaseException:
            yield from Op("DEL", mark, idempotent=True)
            raise

    async def main() -> Any:
        async with twin(kv) as akv:
            await akv.run(Op("PING"))
            (link,) = akv._connections._idle
            on_its_way, write = list[bytes](), link._transport.write
            link._transport.write = on_its_way.append
            mark = Key("mark")
            task = asyncio.create_task(akv.run(taking(mark)))
            await _turns_until(lambda: bool(on_its_way))
            (batch,) = akv._server.batches._flying  # type: ignore[union-attr]
            task.cancel()
            await _turns_until(lambda: batch.over is not None or task.done())
            write(on_its_way[0])
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await akv._server.settled()
            return await akv.run(Op("GET", mark))

    assert asyncio.run(main()) is None


def test_the_end_of_the_loop_does_not_reach_the_clean_up(kv: Kv) -> None:
    @flow
    def cleaning(op: Op[Any]) -> Generator[Any, Any, None]:
        try:
            yield Wait(1000)
        finally:
            yield from op

    async def main() -> None:
        akv, cleans = twin(kv), asyncio.Event()
        trip = akv._trip

        async def endless_at_first(*what: Any) -> Any:
            if not cleans.is_set():
                cleans.set()
                await asyncio.Event().wait()
            return await trip(*what)

        akv._trip = endless_at_first  # type: ignore[method-assign]
        task = asyncio.create_task(akv.run(cleaning(Op("SET", Key("cleaned"), 1, idempotent=True))))
        await asyncio.sleep(0)
        task.cancel()
        await cleans.wait()

    asyncio.run(main())
    assert kv.run(Op("GET", Key("cleaned"))) == b"1"


async def _cancel_while_it_stops(
    task: asyncio.Task[None], stops: asyncio.Event, go_on: asyncio.Event
) -> None:
    await stops.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait([task])
    assert task.cancelled()


def test_a_close_that_is_cancelled_closes_and_is_cancelled_then(kv: Kv) -> None:
    async def main() -> None:
        closes, go_on, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def on_close() -> None:
            closes.set()
            await go_on.wait()
            closed.set()

        task = asyncio.create_task(AsyncKv(twin(kv).client, on_close=on_close).close())
        await _cancel_while_it_stops(task, closes, go_on)
        assert closed.is_set()

    asyncio.run(main())


async def _stubborn(stops: asyncio.Event, go_on: asyncio.Event) -> None:
    """A task that is under way when it is cancelled."""
    try:
        await asyncio.Event().wait()
    finally:
        stops.set()
        await go_on.wait()


def test_a_cancellation_that_comes_while_a_renewal_ends_is_not_lost(kv: Kv) -> None:
    async def main() -> None:
        stops, go_on, lock = asyncio.Event(), asyncio.Event(), Lock("l", 30)
        async with twin(kv) as akv:

            async def body() -> None:
                hold: Any = akv.hold(lock, renew=True)
                async with hold:
                    hold._renewals.cancel()
                    hold._renewals = asyncio.create_task(_stubborn(stops, go_on))
                    await asyncio.sleep(0)

            task = asyncio.create_task(body())
            await _cancel_while_it_stops(task, stops, go_on)

    asyncio.run(main())
    assert left(kv) == 0


def test_a_cancellation_that_comes_while_a_watcher_ends_is_not_lost(kv: Kv) -> None:
    async def main() -> None:
        stops, go_on = asyncio.Event(), asyncio.Event()
        async with twin(kv) as akv:
            watcher = AsyncFlagWatcher(akv, FeatureFlags("f"))
            watcher._task = asyncio.create_task(_stubborn(stops, go_on))
            await asyncio.sleep(0)
            task = asyncio.create_task(watcher.close())
            await _cancel_while_it_stops(task, stops, go_on)

    asyncio.run(main())


def test_clean_up_that_the_executor_gave_up_is_not_tried_again() -> None:
    op: Op[Any] = Op("PING")
    steps = insist(op)
    assert next(steps) is op
    with pytest.raises(ServerUnavailable):
        steps.throw(ServerUnavailable("gone"))


# --- clean-up that cannot be done -----------------------------------------------------------


@pytest.mark.parametrize("batching", [False, True])
@pytest.mark.parametrize("work", [hold, fetch])
@pytest.mark.parametrize("fate", ["frozen", "dead"])
def test_it_ends_and_is_told(
    work: Work, fate: str, batching: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(own: Any) -> None:
        akv = twin(Kv(own.client(), prefix="t"), timeout=60, deadline=0.2)
        akv = AutoBatch(akv) if batching else akv
        scopes, tasks = await _scoped(work, akv, Crowd())
        if fate == "dead":
            own.kill()
        with paused(own.pid) if fate == "frozen" else contextlib.nullcontext():
            for scope in scopes:
                scope.cancel()
            async with asyncio.timeout(20):
                await asyncio.gather(*tasks)
        await akv.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with engines.start("valkey") as own:
        asyncio.run(main(own))
    told = [record.getMessage() for record in caplog.records if record.name == "kvlab"]
    assert len(told) == len(set(told)) == MANY
