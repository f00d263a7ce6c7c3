"""Connections that die and servers that fall silent: how many calls fail until all is well again.

Each test runs on threads, on asyncio, and on asyncio in batches. Clocks are set, never waited for.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

from kvlab import AsyncKv, AutoBatch, Key, Kv, Op, Script
from kvlab.core.executors.requests import LONGEST_PAUSE as LONGEST_RETRY_PAUSE
from kvlab.core.transport.async_pool import adone
from kvlab.core.transport.health import BELIEVED, LONGEST_PAUSE, Downtime
from kvlab.core.transport.pool import done
from kvlab.errors import OutcomeUnknown, ServerRefused, ServerUnavailable
from kvlab.instruments.faults.paused import paused
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server import engines
from kvlab.server.running_server import RunningServer

COUNT = Script("count", "redis.call('GET', KEYS[1]) return redis.call('INCR', KEYS[1])")
INCR: Op[int] = Op("INCR", Key("n"), decode=int)
GET: Op[bytes | None] = Op("GET", Key("n"), idempotent=True)
OPEN = Op("INCR", Key("n"), decode=int, fallback=lambda _: -1)
PING: Op[bytes] = Op("PING")
TIMEOUT = 0.25
LONGER = 0.6  # where a PING must be answered in time, on a busy machine too


class Way:
    """An executor of one kind, on a clock that a test sets; ``run`` is the same for each kind."""

    def __init__(self, kind: str, make: Callable[[Any], Any], **settings: Any) -> None:
        self.kind, self.now = kind, 100.0
        self.loop = asyncio.new_event_loop()
        self.on_sleep: Callable[[], object] = lambda: None
        settings = {"prefix": "recovery", "timeout": TIMEOUT, "clock": lambda: self.now} | settings
        self.client = make(redis if kind == "threads" else redis.asyncio)
        self.kv: Any
        if kind == "threads":
            self.kv = Kv(self.client, sleep=self._sleep, **settings)
        else:
            self.kv = AsyncKv(self.client, sleep=self._asleep, **settings)
        if kind == "batches":
            self.kv = AutoBatch(self.kv)
        pool, self.made = self.kv._connections, list[Any]()
        pool._make = functools.partial(self._make, pool._make)

    def _make(self, make: Callable[[], Any]) -> Any:
        self.made.append(make())
        return self.made[-1]

    @property
    def open(self) -> int:
        """How many connections are open."""
        return sum(connection.is_connected for connection in self.made)

    @property
    def unanswered_hello(self) -> int:
        """How many of its two CLIENT commands redis-py sends before it waits for an answer."""
        return 1 if self.kind == "threads" else 2

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()

    async def _asleep(self, seconds: float) -> None:
        self._sleep(seconds)

    def run(self, *ops: Any, **how: Any) -> Any:
        if self.kind == "threads":
            return self.kv.run(*ops, **how)

        async def main() -> Any:
            for _ in range(3):
                await asyncio.sleep(0)  # the loop reads what has come while it stood still
            async with asyncio.timeout(30):  # what hangs for ever must fail
                return await self.kv.run(*ops, **how)

        return self.loop.run_until_complete(main())

    def at_once(self, op: Op[Any], count: int) -> list[Any]:
        """What as many callers get at the same time, each error as a value."""
        if self.kind == "threads":
            return in_threads(count, lambda: attempt(self.run, op))

        async def main() -> list[Any]:
            calls = (self.kv.run(op) for _ in range(count))
            return await asyncio.gather(*calls, return_exceptions=True)

        return self.loop.run_until_complete(main())

    def take(self) -> Any:
        """A connection out of the pool."""
        return self._done(self.kv._connections.get())

    def give_back(self, connection: Any) -> None:
        self._done(self.kv._connections.put(connection, complete=True))

    def fill(self, count: int) -> None:
        """Have that many idle connections."""
        for connection in [self.take() for _ in range(count)]:
            self.give_back(connection)

    def drop(self) -> None:
        """Close the idle connections."""
        doubt = self.kv._connections.doubt()
        done(doubt) if self.kind == "threads" else self._done(adone(doubt))

    def _done(self, what: Any) -> Any:
        return self.loop.run_until_complete(what) if asyncio.iscoroutine(what) else what

    def free_turns(self) -> int:
        turns = self.kv._connections._turns
        return int(turns.qsize() if self.kind == "threads" else turns._value)

    def failures(self, op: Op[Any], count: int = 20) -> list[type]:
        """The errors of that many calls, one after the other."""
        results = [attempt(self.run, op) for _ in range(count)]
        return [type(r) for r in results if isinstance(r, Exception)]

    def close(self) -> None:
        if self.kind == "threads":
            self.kv.close()
            self.client.close()
        else:
            self.loop.run_until_complete(self.kv.close())
            self.loop.run_until_complete(self.client.aclose())
        self.loop.close()


def attempt(run: Callable[..., Any], *args: Any) -> Any:
    try:
        return run(*args)
    except Exception as problem:
        return problem


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    results: list[Any] = []
    start = threading.Barrier(count)

    def one() -> None:
        start.wait()
        results.append(work())

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


Ways = Callable[..., Way]


@pytest.fixture(params=["threads", "asyncio", "batches"])
def way(request: pytest.FixtureRequest) -> Iterator[Ways]:
    """Makes executors: on a port, or with a client that ``make`` makes of redis-py's module."""
    made: list[Way] = []

    def make(port: int = 0, make: Any = None, *, client: Any = None, **settings: Any) -> Way:
        options = {"max_connections": 20} | (client or {})
        made.append(
            Way(request.param, make or (lambda r: r.Redis(port=port, **options)), **settings)
        )
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def _own() -> Iterator[RunningServer]:
    with engines.start("valkey") as server:
        yield server


@pytest.fixture
def own(_own: RunningServer) -> RunningServer:
    """A server that a test may freeze or demote, empty."""
    with _own.client() as direct:
        direct.flushall()
    return _own


@pytest.fixture
def proxy(own: RunningServer) -> Iterator[Proxy]:
    with Proxy(own.url) as proxy:
        yield proxy


# --- a silent server -----------------------------------------------------------------------


def test_a_frozen_server_costs_once(way: Ways, own: RunningServer, proxy: Proxy) -> None:
    calls = way(proxy.port)
    assert calls.run(INCR) == 1
    assert calls.kv.outage is None
    with paused(own.pid):
        with pytest.raises(OutcomeUnknown):
            calls.run(INCR)
        outage = calls.kv.outage
        assert isinstance(outage, Downtime)
        assert outage.since == 100 - TIMEOUT
        assert outage.next_try == 100 + 4 * TIMEOUT
        assert "TimeoutError" in outage.reason
        assert calls.kv.within("part").outage is outage
        calls.now = 100.99
        assert [calls.run(OPEN) for _ in range(20)] == [-1] * 20
        with pytest.raises(ServerUnavailable, match=r"nothing was sent: no answer for 1.24 s"):
            calls.run(GET)
        calls.now = outage.next_try
        assert calls.failures(GET, 5) == [ServerUnavailable] * 5
        assert calls.kv.outage.next_try == calls.now + 4 * TIMEOUT
        assert calls.kv.outage.since == outage.since
    _until_it_has_answered(proxy)
    assert calls.run(INCR) == 3  # the late answer was enough: no pause had to pass
    assert calls.kv.outage is None
    # Two connections that were answered, and two tries: after the silence, and one of the five.
    assert proxy.commands.count("CLIENT") <= 2 * 2 + 2 * calls.unanswered_hello
    assert (proxy.commands.count("INCR"), proxy.commands.count("GET")) == (3, 0)


def _until_it_has_answered(proxy: Proxy) -> None:
    """All that it had received before, through the proxy: each PING is one more turn of both."""
    with socket.create_connection(("127.0.0.1", proxy.port)) as beside:
        for _ in range(3):
            beside.sendall(b"*1\r\n$4\r\nPING\r\n")
            assert beside.recv(100) == b"+PONG\r\n"


def test_one_call_tries_at_a_time(way: Ways, own: RunningServer, proxy: Proxy) -> None:
    calls = way(proxy.port)
    calls.run(PING)
    with paused(own.pid):
        assert calls.failures(GET, 1) == [OutcomeUnknown]
        assert calls.now == 100  # no retry of a server that is known to be silent
        calls.now = calls.kv.outage.next_try
        failed = calls.at_once(INCR, 12)
        assert [type(f) for f in failed] == [ServerUnavailable] * 12
    _until_it_has_answered(proxy)
    assert calls.run(INCR) == 1
    assert proxy.commands.count("CLIENT") <= 2 * 2 + 2 * calls.unanswered_hello
    assert calls.free_turns() == 20


@pytest.mark.parametrize("way", ["threads", "asyncio"], indirect=True)
def test_a_try_that_is_interrupted_is_followed_by_another(
    way: Ways, own: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt if calls.kind == "threads" else asyncio.CancelledError

    calls = way(own.port)
    calls.run(PING)
    with paused(own.pid):
        calls.failures(INCR, 1)
        calls.now += 4 * TIMEOUT
        with monkeypatch.context() as patch:
            patch.setattr(calls.kv._connections, "_connected", interrupt)
            # On asyncio what is cancelled is the task of a batch, as at the end of the loop.
            with pytest.raises((KeyboardInterrupt, ServerUnavailable)):
                calls.run(INCR)
        with pytest.raises(ServerUnavailable, match="next try is in 1 s at most"):
            calls.run(INCR)
        monkeypatch.setattr(calls.kv._health, "witness", None)  # no late answer helps
    calls.now += 4 * TIMEOUT
    connection = calls.take()
    assert calls.kv.outage is None  # at once, though the call that tries may block for long
    calls.give_back(connection)
    assert calls.free_turns() == 20


def test_a_silent_connection_that_ends_is_an_answer(
    way: Ways, own: RunningServer, proxy: Proxy
) -> None:
    calls = way(proxy.port)
    calls.run(PING)
    with paused(own.pid):
        assert calls.failures(INCR, 1) == [OutcomeUnknown]
        proxy.cut()
    assert calls.run(PING) == b"PONG"  # no pause had to pass


def test_what_refuses_every_new_connection_is_not_silent(
    way: Ways, own: RunningServer, proxy: Proxy
) -> None:
    with own.client() as direct:
        calls = way(proxy.port)
        calls.run(PING)
        proxy.swallow_replies(1, then="hang")
        direct.config_set("requirepass", "new")
        try:
            assert calls.failures(INCR, 2) == [OutcomeUnknown, ServerRefused]
            assert calls.kv.outage is None
        finally:
            direct.config_set("requirepass", "")
    assert calls.run(INCR) == 2
    assert calls.open == 1


def test_a_silent_server_gets_no_op_to_run_later(
    way: Ways, own: RunningServer, proxy: Proxy
) -> None:
    """Though it can be connected to: this client says nothing when it connects."""
    calls = way(proxy.port, client={"driver_info": None})
    calls.run(PING)
    with paused(own.pid):
        assert calls.failures(INCR, 1) == [OutcomeUnknown]
        calls.now += 4 * TIMEOUT
        assert calls.failures(INCR, 3) == [ServerUnavailable] * 3
        assert calls.open == 1  # the one that was silent, whose late answer counts
    _until_it_has_answered(proxy)
    assert calls.run(INCR) == 2
    assert calls.kv.outage is None


def test_an_outage_outlives_its_event_loop(own: RunningServer) -> None:
    now = 100.0
    client = redis.asyncio.Redis(port=own.port)
    akv = AsyncKv(client, prefix="recovery", timeout=TIMEOUT, clock=lambda: now)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the first loop leaves its sockets open
        with ExitStack() as frozen:

            async def freeze() -> None:
                await akv.run(PING)
                frozen.enter_context(paused(own.pid))
                with pytest.raises(OutcomeUnknown):
                    await akv.run(INCR)

            asyncio.run(freeze())
            with pytest.raises(ServerUnavailable, match="next try"):
                asyncio.run(akv.run(INCR))
        now += 4 * TIMEOUT
        assert asyncio.run(akv.run(INCR)) == 2
        assert akv.outage is None
        asyncio.run(akv.close())
        gc.collect()


def test_pauses_have_a_limit(way: Ways) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:  # connects, and never says anything
        calls = way(nobody.getsockname()[1], timeout=0.05)
        health = calls.kv._health
        for timeout, pause in ((0.05, 0.2), (2, LONGEST_PAUSE), (30, 30)):
            health.timeout = timeout
            health.failed(calls.now, TimeoutError())
            assert calls.kv.outage.pause == pytest.approx(pause)
        assert calls.failures(INCR, 3) == [ServerUnavailable] * 3


def test_what_is_refused_quickly_is_tried_by_each_call(way: Ways) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        calls = way(closed.getsockname()[1])
        assert calls.failures(INCR, 3) == [ServerUnavailable] * 3
        assert (calls.kv.outage.since, calls.kv.outage.pause) == (100, 0)
        assert calls.kv.outage.next_try == calls.now
        for took, pause in ((0.12, 0), (TIMEOUT / 2, 2 * TIMEOUT)):
            calls.kv._health.failed(calls.now - took, ConnectionError())
            assert calls.kv.outage.pause == pause


def test_a_connection_that_hangs_alone_is_no_outage(way: Ways, own: RunningServer) -> None:
    calls = way(own.port, timeout=LONGER)
    slow = Op("BLPOP", Key("none"), 0)  # a caller's own: it says nowhere that it blocks
    assert calls.failures(slow, 1) == [OutcomeUnknown]
    assert calls.kv.outage is None
    assert calls.run(INCR) == 1
    assert calls.open == 1


@pytest.mark.parametrize("way", ["asyncio"], indirect=True)
def test_a_caller_that_is_cancelled_while_it_connects_leaves_nothing_open(way: Ways) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        calls = way(nobody.getsockname()[1], timeout=30, client={"driver_info": None})
        calls.kv._health.failed(calls.now, TimeoutError())
        calls.now = calls.kv.outage.next_try

        async def main() -> None:
            call = asyncio.create_task(calls.kv.run(INCR))
            while not calls.open:  # noqa: ASYNC110
                await asyncio.sleep(0)
            for _ in range(5):  # it waits for the answer to its PING
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])

        calls.loop.run_until_complete(main())
        assert (calls.open, calls.free_turns()) == (0, 20)


# --- dead connections ----------------------------------------------------------------------


def test_of_twelve_that_were_cut_off_one_call_fails_or_none(way: Ways, proxy: Proxy) -> None:
    calls = way(proxy.port, timeout=LONGER)
    calls.fill(12)
    proxy.blackhole()
    assert calls.failures(INCR) == [OutcomeUnknown]
    calls.fill(12)
    proxy.blackhole()
    assert calls.failures(GET) == []
    assert calls.kv.outage is None


def test_a_connection_that_was_idle_for_long_is_asked_first(way: Ways, proxy: Proxy) -> None:
    calls = way(proxy.port, client={"health_check_interval": 30}, timeout=LONGER)
    calls.fill(12)
    proxy.reset()
    calls.now += 29.9
    calls.run(INCR)
    assert proxy.commands == ["INCR"]
    calls.now += 30
    calls.run(INCR)
    assert proxy.commands == ["INCR", "PING", "INCR"]
    proxy.blackhole()
    calls.now += 30
    pool, waits = calls.kv._connections, list[float]()
    ping = pool._ping

    def noted(connection: Any, wait: float) -> Any:
        waits.append(wait)
        return ping(connection, wait)

    pool._ping = noted
    assert calls.failures(INCR) == []
    assert calls.kv.outage is None
    assert waits == [LONGER / 2]  # one PING without an answer, for all twelve:
    assert calls.open == 1  # its siblings were closed


# --- a server that is no primary any more --------------------------------------------------


@pytest.fixture
def moved(own: RunningServer, server: RunningServer, proxy: Proxy) -> Iterator[Callable[[], None]]:
    """Demotes the server behind the proxy, and lets new connections reach another one."""
    with own.client() as old, server.client() as new:

        def demote(move: bool = True) -> None:
            if move:
                new.delete("recovery:n", "recovery:m")
                proxy.move(server.url)
            old.replicaof("127.0.0.1", 1)

        yield demote
        old.replicaof("NO", "ONE")


ATOMIC = {"atomic": True}


def test_twelve_connections_to_a_demoted_primary_fail_no_call(
    way: Ways, proxy: Proxy, moved: Callable[..., None]
) -> None:
    calls = way(proxy.port, timeout=LONGER)
    calls.fill(12)
    in_use = calls.take()
    moved()
    assert [calls.run(INCR) for _ in range(20)] == list(range(1, 21))
    assert calls.kv._health._believed_until <= calls.now  # the new one has refused nothing
    assert in_use.is_connected
    calls.give_back(in_use)
    assert not in_use.is_connected


@pytest.mark.parametrize("ops", [(INCR, GET), (Op(COUNT, Key("n")), GET)])
@pytest.mark.parametrize("how", [{}, ATOMIC])
def test_a_refused_batch_is_retried_and_nothing_runs_twice(
    way: Ways, proxy: Proxy, moved: Callable[..., None], ops: Any, how: Any
) -> None:
    calls = way(proxy.port)
    calls.run(Op("SET", Key("n"), 41))
    moved()
    counted, read = calls.run(*ops, **how)
    assert counted == 1
    # A read that the old server answered is not asked again, but for a transaction.
    assert read in ((b"1",) if how else (b"1", b"41"))
    assert calls.run(GET) == b"1"


def test_a_blocked_caller_moves_too(
    way: Ways, own: RunningServer, proxy: Proxy, moved: Callable[..., None], kv: Kv
) -> None:
    calls = way(proxy.port)
    pop = Op("BLPOP", Key("m"), 10, blocking=10.0)
    waiting = threading.Thread(target=lambda: popped.append(attempt(calls.run, pop)))
    popped: list[Any] = []
    waiting.start()
    with own.client() as direct:
        while not direct.info("clients")["blocked_clients"]:
            pass
        moved()
    with Kv(kv.client, prefix="recovery") as there:
        there.run(Op("RPUSH", Key("m"), "x"))
    waiting.join()
    assert popped == [[b"recovery:m", b"x"]]


def test_a_server_that_refuses_by_itself_is_believed_for_a_while(
    way: Ways, proxy: Proxy, moved: Callable[..., None]
) -> None:
    calls = way(proxy.port)
    calls.fill(12)
    moved(move=False)
    proxy.reset()
    assert set(map(str, calls.failures(INCR))) <= {"<class 'kvlab.errors.CannotServe'>"}
    assert proxy.commands.count("INCR") == 21  # one was retried, on one new connection
    hello = proxy.commands.count("CLIENT")
    calls.now += BELIEVED
    calls.failures(INCR)
    assert proxy.commands.count("INCR") == 21 + 21
    assert proxy.commands.count("CLIENT") == 2 * hello


# --- a Sentinel ----------------------------------------------------------------------------


def _sentinel(module: Any, address: Callable[[], tuple[str, int]]) -> Any:
    """A client of a Sentinel that answers ``address()``."""
    sentinel = module.sentinel.Sentinel([])
    if module is redis:
        sentinel.discover_master = lambda _: address()
    else:

        async def discover(_: str) -> tuple[str, int]:
            return address()

        sentinel.discover_master = discover
    return sentinel.master_for("mine")


@pytest.mark.parametrize("ops", [(GET,), (GET, INCR)])
def test_a_failover_is_waited_for(way: Ways, server: RunningServer, ops: Any) -> None:
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        primary = [dead.getsockname()]
        calls = way(make=lambda module: _sentinel(module, lambda: primary[0]), deadline=1.0)
        waits: list[float] = []

        def fail_over() -> None:
            waits.append(calls.now)
            if len(waits) == 10:
                primary[0] = ("127.0.0.1", server.port)

        calls.on_sleep = fail_over
        waiting = Op("BLPOP", Key("list"), 1, blocking=1)
        assert calls.failures(waiting, 1) == [ServerUnavailable]  # it may have missed its wake-up
        assert waits == []
        calls.run(*ops)
        assert len(waits) == 10
        assert calls.kv.outage is None
        primary[0] = dead.getsockname()
        calls.on_sleep = lambda: None
        calls.drop()
        began = calls.now
        assert calls.failures(GET, 1) == [ServerUnavailable]
        assert calls.now - began == pytest.approx(1.0, abs=LONGEST_RETRY_PAUSE)
        assert calls.failures(GET, 1) == [ServerUnavailable]  # the outage is older than deadline
        assert calls.now - began == pytest.approx(1.0, abs=LONGEST_RETRY_PAUSE)


def test_a_primary_that_a_sentinel_demoted_fails_no_call(
    way: Ways, own: RunningServer, server: RunningServer, moved: Callable[..., None]
) -> None:
    primary = [("127.0.0.1", own.port)]
    calls = way(make=lambda module: _sentinel(module, lambda: primary[0]))
    calls.fill(5)
    moved()
    primary[0] = ("127.0.0.1", server.port)
    assert [calls.run(INCR) for _ in range(5)] == [1, 2, 3, 4, 5]


# --- turns ---------------------------------------------------------------------------------


def test_failed_connects_take_no_turn(way: Ways) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        calls = way(closed.getsockname()[1])
        assert calls.failures(INCR, 25) == [ServerUnavailable] * 25
        assert calls.free_turns() == 20
        blocking = Op("BLPOP", Key("q"), 1, blocking=1.0)
        assert calls.failures(blocking, 25) == [ServerUnavailable] * 25
        assert calls.free_turns() == 20


def test_refused_connects_take_no_turn_though_their_errors_are_kept(
    way: Ways, own: RunningServer
) -> None:
    calls = way(own.port, client={"password": "wrong", "username": "nobody"})
    kept = [attempt(calls.run, INCR) for _ in range(25)]
    assert {type(k) for k in kept} == {ServerRefused}
    assert calls.kv.outage is None  # a refusal is an answer
    assert calls.free_turns() == 20


def test_an_interrupt_at_any_line_loses_no_turn(server: RunningServer) -> None:
    with server.client(max_connections=2) as client, Kv(client, prefix="recovery") as kv:
        watched = ("core/transport/pool.py", "core/executors/client.py", "core/transport/link.py")
        kv.run(PING)
        for nth in range(1, 500):
            if not _interrupted(lambda: kv.run(Op("ECHO", "old")), watched, nth):
                break
            if kv._connections._turns.qsize() < 2:
                gc.collect(1)  # a lost connection may be part of a circle
            assert kv._connections._turns.qsize() == 2
            assert kv.run(Op("ECHO", nth)) == str(nth).encode()
        assert nth > 30


def _interrupted(work: Callable[[], Any], files: tuple[str, ...], nth: int) -> bool:
    """Whether Ctrl-C came: at the nth line, call or return in these files."""
    left = nth

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(files):
            return None
        if event != "exception" and frame.f_code.co_name != "__del__":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False
