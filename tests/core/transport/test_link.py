"""The ways to speak on a connection: one contract, the same replies and errors on each."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from support import own_road

from kvlab import AsyncKv, Key, Kv, Op
from kvlab.core.transport import link
from kvlab.core.transport.async_link import AsyncBorrowed, AsyncLink
from kvlab.core.transport.link import Borrowed, Link, is_plain
from kvlab.errors import ServerRefused
from kvlab.instruments.explorer.connections.stepped import NotingConnection, SteppedConnection
from kvlab.instruments.explorer.connections.stepped_async import SteppedAsyncConnection
from kvlab.instruments.faults.client_gate import GatedConnection
from kvlab.load.target.connections import load_client
from kvlab.server.running_server import RunningServer

try:
    import uvloop
except ModuleNotFoundError:
    uvloop = None
ON_UVLOOP = pytest.param(
    "async link, uvloop",
    marks=pytest.mark.skipif(uvloop is None, reason="uvloop has no wheel for this platform"),
)
ROADS: list[Any] = ["link", "borrowed", "async link", "async borrowed", ON_UVLOOP]
IN_PIECES = [*ROADS, "link, byte by byte", "async link, byte by byte"]


class Runner:
    """``Kv`` or ``AsyncKv`` on one of the roads, to be called in one way."""

    def __init__(self, road: str, port: int, **settings: Any) -> None:
        road, _, loop = road.partition(", ")
        self.loop = asyncio.Runner(loop_factory=uvloop.new_event_loop if loop else None)
        self.awaits = road.startswith("async")
        client: Any = (redis.asyncio if self.awaits else redis).Redis(port=port)
        if road.endswith("borrowed"):
            own_road(client)
        self.kv: Any = (AsyncKv if self.awaits else Kv)(client, prefix="p", **settings)

    def __call__(self, *ops: Any, **how: Any) -> Any:
        return self._awaited(self.kv.run(*ops, **how))

    def _awaited(self, value: Any) -> Any:
        async def main() -> Any:
            for _ in range(3):
                await asyncio.sleep(0)  # the loop reads what has come while it stood still
            return await value

        return self.loop.run(main()) if self.awaits else value

    def close(self) -> None:
        self._awaited(self.kv.close())
        self._awaited(self.kv.client.aclose() if self.awaits else self.kv.client.close())
        self.loop.close()


@pytest.fixture(params=ROADS)
def runner(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Runner]]:
    made: list[Runner] = []
    road: str = request.param
    if road.endswith("byte by byte"):
        road, _, _ = road.partition(",")
        received = AsyncLink.data_received

        def by_bytes(self: AsyncLink, data: bytes) -> None:
            for byte in data:
                received(self, bytes([byte]))

        monkeypatch.setattr(AsyncLink, "data_received", by_bytes)
        monkeypatch.setattr(link, "READ", 1)

    def make(port: int, **settings: Any) -> Runner:
        made.append(Runner(road, port, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


# --- the same answers ------------------------------------------------------------------------


class Peer:
    """A server that greets, says ``answer`` once (None: nothing, for ever), then PONG."""

    def __init__(self, answer: bytes | None, *, ends: bool = False) -> None:
        self.answer, self.ends = answer, ends
        self.connections: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            self.threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self.threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while data := _received(connection):
                if greetings := data.count(b"SETINFO"):
                    connection.sendall(b"+OK\r\n" * greetings)
                elif self.answer is not None:
                    answer, self.answer = self.answer, b"+PONG\r\n"
                    ends, self.ends = self.ends, False
                    connection.sendall(answer)
                    if ends:
                        return

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self.listener, *self.connections):
            with suppress(OSError):  # it has ended already
                one.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""


def told(result: Any) -> Any:
    """A result with its errors as text."""
    if isinstance(result, list | tuple):
        return [told(one) for one in result]
    if isinstance(result, ServerRefused):
        return f"refused {result.code}"
    return type(result).__name__ if isinstance(result, Exception) else result


LOST = "OutcomeUnknown"
ANSWERS: dict[str, tuple[bytes, Any]] = {
    "values": (b"$2\r\n\r\n\r\n+OK\r\n:-9223372036854775808\r\n", [b"\r\n", b"OK", -(2**63)]),
    "nothing": (b"$-1\r\n*-1\r\n$0\r\n\r\n", [None, None, b""]),
    "nested": (b"*2\r\n*1\r\n$-1\r\n*0\r\n" + b":1\r\n" * 2, [[[None], []], 1, 1]),
    "a refusal": (b":1\r\n-WRONGTYPE no\r\n:3\r\n", [1, "refused WRONGTYPE", 3]),
    "of a login": (b":1\r\n-NOAUTH no\r\n:3\r\n", [1, "refused NOAUTH", 3]),
    "loading": (b":1\r\n-LOADING wait\r\n:3\r\n", [1, "refused LOADING", 3]),
    "nested refusals": (
        b"*2\r\n:1\r\n-ERR a\r\n*1\r\n-LOADING b\r\n:3\r\n",
        [[1, "ResponseError"], "refused LOADING", 3],
    ),
    "no code": (b":1\r\n-ERR max number of clients reached\r\n:3\r\n", [1, "refused ERR", 3]),
    "no redis": (b":1\r\nHTTP/1.1 400 Bad Request\r\n\r\n", [1, LOST, LOST]),
}


@pytest.mark.parametrize("runner", IN_PIECES, indirect=True)
@pytest.mark.parametrize("name", ANSWERS)
def test_answers(runner: Callable[..., Runner], name: str) -> None:
    answer, expected = ANSWERS[name]
    with Peer(answer) as peer:
        run = runner(peer.port)
        assert told(run(*[Op("ECHO", "x")] * 3, return_exceptions=True)) == expected
        assert run(Op("PING")) == b"PONG"
        assert len(peer.connections) == (2 if LOST in expected else 1)


@pytest.mark.parametrize("runner", IN_PIECES, indirect=True)
@pytest.mark.parametrize("answer", [b"", b":1\r\n", b":1\r\n$5\r\nab", b":1\r\n*2\r\n:1\r\n"])
def test_an_end_in_the_middle(runner: Callable[..., Runner], answer: bytes) -> None:
    with Peer(answer, ends=True) as peer:
        run = runner(peer.port)
        given = told(run(*[Op("ECHO", "x")] * 3, return_exceptions=True))
        assert given == ([1, LOST, LOST] if answer else [LOST] * 3)
        assert run(Op("PING")) == b"PONG"


def test_what_nobody_asked_for_reaches_nobody(runner: Callable[..., Runner]) -> None:
    with Peer(b":1\r\n:2\r\n") as peer:
        run = runner(peer.port)
        assert told(run(Op("ECHO", "x"), Op("ECHO", "x"), return_exceptions=True))[0] == 1
        peer.answer = b"+PONG\r\n+MORE\r\n"
        assert run(Op("PING")) == b"PONG"
        assert run(Op("PING")) == b"PONG"
        assert len(peer.connections) == 2


def test_an_end_while_idle_is_seen_before_anything_is_sent(runner: Callable[..., Runner]) -> None:
    with Peer(b"+PONG\r\n") as peer:
        run = runner(peer.port)
        for count in (1, 2):
            assert run(Op("PING")) == b"PONG"
            assert len(peer.connections) == count
            peer.connections[-1].shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("said", "connections"), [("Protocol error: no", 2), ("no", 1)])
def test_a_connection_that_the_server_will_close_is_not_used_again(
    runner: Callable[..., Runner], said: str, connections: int
) -> None:
    with Peer(f"-ERR {said}\r\n".encode()) as peer:
        run = runner(peer.port)
        assert told(run([Op("ECHO", "x")], return_exceptions=True)) == ["refused ERR"]
        assert run(Op("PING")) == b"PONG"
        assert len(peer.connections) == connections


def test_silence(runner: Callable[..., Runner]) -> None:
    with Peer(None) as peer:
        run = runner(peer.port, timeout=0.1)
        given = run(Op("ECHO", "x"), Op("ECHO", "x"), return_exceptions=True)
        assert told(given) == [LOST] * 2
        assert "no answer came" in str(given[0])
        assert run.kv.outage is not None


def test_a_blocking_op_has_its_own_patience(
    runner: Callable[..., Runner], server: RunningServer
) -> None:
    run = runner(server.port, timeout=0.3)
    assert run(Op("PING")) == b"PONG"
    assert run(Op("BLPOP", Key("none"), 0.4, blocking=0.4)) is None
    assert run(Op("PING")) == b"PONG"
    for op in (Op("BLPOP", Key("none"), 0, blocking=0.01), Op("BLPOP", Key("none"), 0)):
        assert told(run([op], return_exceptions=True)) == [LOST]
        assert run(Op("PING")) == b"PONG"


def test_values_of_many_reads(runner: Callable[..., Runner], server: RunningServer) -> None:
    run, value = runner(server.port), os.urandom(1_000_000)
    assert run(Op("SET", Key("v"), value), Op("GET", Key("v"))) == (b"OK", value)
    assert run([Op("GET", Key("v")), Op("ECHO", "x")]) == [value, b"x"]


@pytest.mark.parametrize("runner", ["async link", ON_UVLOOP], indirect=True)
def test_callers_share_a_connection(runner: Callable[..., Runner], server: RunningServer) -> None:
    run = runner(server.port)

    async def storm() -> list[Any]:
        calls = [asyncio.create_task(run.kv.run(Op("ECHO", i))) for i in range(300)]
        await asyncio.sleep(0)  # all have asked; the batch leaves in the next turn
        for call in calls[::3]:
            call.cancel()
        return await asyncio.gather(*calls, return_exceptions=True)

    for _ in range(3):
        got = run.loop.run(storm())
        assert all(isinstance(one, asyncio.CancelledError) for one in got[::3])
        assert [one for i, one in enumerate(got) if i % 3] == [
            b"%d" % i for i in range(300) if i % 3
        ]
    assert run.kv.round_trips == 3


def test_the_patience_of_a_blocking_op_ends_with_it(kv: Kv) -> None:
    kv.run(Op("BLPOP", Key("none"), 0.01, blocking=60.0))
    (connection,) = kv._connections._idle
    assert connection._sock.gettimeout() == kv.settings.timeout


# --- whose answer is it ----------------------------------------------------------------------


class Interrupting:
    """A socket or a connection of which one method is interrupted."""

    def __init__(self, real: Any, method: str) -> None:
        self._real, self._method = real, method

    def __getattr__(self, name: str) -> Any:
        if name != self._method:
            return getattr(self._real, name)

        def interrupted(*given: Any, **how: Any) -> Any:
            if name.startswith("send"):
                getattr(self._real, name)(*given, **how)
            raise KeyboardInterrupt

        return interrupted


@pytest.mark.parametrize("method", ["sendall", "recv", "send_packed_command", "read_response"])
def test_an_interrupt_at_each_call_drops_the_connection(kv: Kv, method: str) -> None:
    linked = method in ("sendall", "recv")
    with Kv(kv.client if linked else own_road(kv.client), prefix=kv.prefix) as kv:
        kv.run(Op("PING"))
        (connection,) = kv._connections._idle
        place = "_sock" if linked else "connection"
        setattr(connection, place, Interrupting(getattr(connection, place), method))
        with pytest.raises(KeyboardInterrupt):
            kv.run(Op("ECHO", "old"))
        assert not connection.is_connected
        assert kv._connections._idle == []
        assert kv.run(Op("ECHO", "new")) == b"new"


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from kvlab import Key, Op, connect
with connect(sys.argv[1], prefix="green") as kv:
    kv.clear()
    waiting = gevent.spawn(kv.run, Op("BLPOP", Key("q"), 0, blocking=30))
    def count(n):
        return [kv.run(Op("INCR", Key(f"n{n}"))) for _ in range(10)]
    greens = [gevent.spawn(count, n) for n in range(20)]
    gevent.joinall(greens)
    assert all(green.value == list(range(1, 11)) for green in greens)
    kv.run(Op("RPUSH", Key("q"), "x"))
    assert waiting.get()[1] == b"x"
    print(type(kv._connections._idle[0]).__name__)
"""


def test_greenlets_share_it(server: RunningServer) -> None:
    # Locust patches the sockets: it costs a process, and every load test hangs on it.
    script = [sys.executable, "-c", GREENLETS, server.url]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.returncode) == ("Link\n", 0), ended.stderr


def test_without_poll(kv: Kv) -> None:
    """As under eventlet."""
    kv.run(Op("PING"))
    (connection,) = kv._connections._idle
    connection._poll = None
    assert kv.run(Op("PING")) == b"PONG"
    assert kv._connections._idle == [connection]
    connection._sock.shutdown(socket.SHUT_RDWR)
    assert kv.run(Op("PING")) == b"PONG"


# --- which connections take which road ---------------------------------------------------------


def sentinel_client(module: Any) -> Any:
    return module.Sentinel([("127.0.0.1", 1)]).master_for("primary")


class Quiet(redis.Connection):
    """A subclass that sends and reads as its base does."""

    def repr_pieces(self) -> Any:
        return []


def of_class(kind: type) -> redis.Redis:
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=kind))


@pytest.mark.parametrize(
    ("client", "road"),
    [
        (redis.Redis(), Link),
        (redis.Redis(ssl=True), Link),
        (redis.Redis(unix_socket_path="/tmp/s"), Link),
        (redis.Redis(protocol=3, decode_responses=True), Link),
        (sentinel_client(redis.sentinel), Link),
        (of_class(Quiet), Link),
        (own_road(redis.Redis()), Borrowed),
        (fakeredis.FakeRedis(), Borrowed),
        (load_client("redis://localhost", retry=None), Borrowed),  # type: ignore[arg-type]
        (redis.asyncio.Redis(), AsyncLink),
        (redis.asyncio.Redis(ssl=True), AsyncLink),
        (redis.asyncio.Redis(unix_socket_path="/tmp/s"), AsyncLink),
        (sentinel_client(redis.asyncio.sentinel), AsyncLink),
        (own_road(redis.asyncio.Redis()), AsyncBorrowed),
        (fakeredis.FakeAsyncRedis(), AsyncBorrowed),
    ],
)
def test_a_class_that_is_not_known_keeps_its_own_methods(client: Any, road: type) -> None:
    awaited = isinstance(client, redis.asyncio.Redis)
    made = (AsyncKv if awaited else Kv)(client)._connections._make()
    assert type(made) is road


@pytest.mark.parametrize("kind", [NotingConnection, SteppedConnection, GatedConnection])
def test_the_instruments_see_each_send(kind: type) -> None:
    assert not is_plain(partial(kind), redis.Connection)


def test_the_async_explorer_sees_each_send() -> None:
    assert not is_plain(partial(SteppedAsyncConnection), redis.asyncio.Connection)


def test_a_parser_of_the_callers_own_is_asked() -> None:
    assert is_plain(partial(redis.Connection, port=1), redis.Connection)
    own = partial(redis.Connection, parser_class=object)
    assert not is_plain(own, redis.Connection)
