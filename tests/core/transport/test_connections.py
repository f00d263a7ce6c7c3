"""Whatever client an executor is given: the same replies, and the client as it was."""

from __future__ import annotations

import asyncio
import copy
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from support import own_road

from kvlab import AsyncKv, FixedWindow, Key, Kv, Op, aconnect, connect
from kvlab.core.server_url import server_url
from kvlab.core.transport.connections import patience
from kvlab.core.transport.health import Health
from kvlab.core.transport.pool import Connections
from kvlab.errors import InvalidArgument, RemoteNotAllowed, ServerRefused, ServerUnavailable
from kvlab.server import engines
from kvlab.server.running_server import RunningServer, free_port

# --- the same raw replies whatever the client ----------------------------------------------

OPS: list[tuple[Op[Any], Any]] = [
    (Op("HSET", Key("h"), "f", "ü", "g", b"\xff"), 2),
    (Op("HGETALL", Key("h")), [b"f", "ü".encode(), b"g", b"\xff"]),
    (Op("ZADD", Key("z"), 1.5, "a", 2, "b"), 2),
    (Op("ZRANGE", Key("z"), 0, -1, "WITHSCORES"), [b"a", b"1.5", b"b", b"2"]),
    (Op("ZSCORE", Key("z"), "a"), b"1.5"),
    (Op("SADD", Key("s"), "x"), 1),
    (Op("SMEMBERS", Key("s")), [b"x"]),
    (Op("SET", Key("k"), "old"), b"OK"),
    (Op("SET", Key("k"), "new", "NX", "GET"), b"old"),
    (Op("GET", Key("none")), None),
    (Op("INCRBYFLOAT", Key("x"), 0.5), b"0.5"),
    (Op("EXISTS", Key("k")), 1),
    (Op("MGET", Key("k"), Key("none")), [b"old", None]),
    (Op("EVAL", "return {1, 'a', {false}}", 0), [1, b"a", [None]]),
    (Op("SET", Key("k"), "v", "PX", 100_000), b"OK"),
]


def check(client: redis.Redis) -> None:
    before = snapshot(client)
    with Kv(client, prefix="same") as kv:
        kv.clear()
        for op, expected in OPS:
            assert kv.run(op) == expected, str(op)
        kv.clear()
        assert kv.run([op for op, _ in OPS]) == [expected for _, expected in OPS]
        kv.clear()
        assert list(kv.run(*(op for op, _ in OPS), atomic=True)) == [e for _, e in OPS]
        with pytest.raises(ServerRefused):
            kv.run(Op("INCR", Key("k")))
        kv.clear()
    assert snapshot(client) == before


async def acheck(client: redis.asyncio.Redis) -> None:
    before = snapshot(client)
    async with AsyncKv(client, prefix="same") as akv:
        await akv.clear()
        for op, expected in OPS:
            assert await akv.run(op) == expected, str(op)
        await akv.clear()
    assert snapshot(client) == before
    await client.aclose()


def snapshot(client: Any) -> Any:
    """What of a client an executor could have changed."""
    pool = client.connection_pool
    retry = pool.connection_kwargs.get("retry")
    return (
        {k: v for k, v in pool.connection_kwargs.items() if k != "retry"},
        pool.connection_class,
        pool.max_connections,
        dict(client.response_callbacks),
        retry and (retry._retries, copy.copy(retry._supported_errors)),
        client.get_encoder().decode_responses if hasattr(client, "get_encoder") else None,
    )


KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "decoding": {"decode_responses": True},
    "resp2": {"protocol": 2},
    "resp3": {"protocol": 3, "decode_responses": True},
    "latin": {"encoding": "latin-1", "encoding_errors": "replace"},
    "health": {"health_check_interval": 1},
    "named": {"client_name": "mine", "db": 3},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_client_gives_the_same_replies(server: RunningServer, kind: str) -> None:
    retry = Retry(ExponentialBackoff(), 7)
    with server.client(**KINDS[kind], retry=retry) as client:
        check(client)
    asyncio.run(acheck(redis.asyncio.Redis(port=server.port, **KINDS[kind])))


def test_a_blocking_pool_of_one(server: RunningServer) -> None:
    pool = redis.BlockingConnectionPool(max_connections=1, port=server.port)
    with redis.Redis.from_pool(pool) as client:
        check(client)
    apool = redis.asyncio.BlockingConnectionPool(max_connections=1, port=server.port)
    asyncio.run(acheck(redis.asyncio.Redis.from_pool(apool)))


def test_fakeredis_in_this_process() -> None:
    check(fakeredis.FakeRedis(decode_responses=True))
    asyncio.run(acheck(fakeredis.FakeAsyncRedis()))


def test_a_unix_socket() -> None:
    with TemporaryDirectory(dir="/tmp", prefix="kvlab-core-") as folder:  # short, as sockets need
        path = f"{folder}/s"
        with engines.start("valkey", options={"unixsocket": path}):
            with redis.Redis(unix_socket_path=path) as client:
                check(client)
            with connect(f"unix://{path}") as kv:
                assert kv.run(Op("PING")) == b"PONG"
                assert path in repr(kv)
            asyncio.run(acheck(redis.asyncio.Redis(unix_socket_path=path)))


@pytest.fixture(scope="module")
def tls(of_tls: dict[str, str]) -> Iterator[tuple[int, str]]:
    """A server that speaks TLS, and the certificate to trust."""
    port = free_port()
    try:
        with engines.start("redis", options={**of_tls, "tls-port": str(port)}):
            yield port, of_tls["tls-ca-cert-file"]
    except ServerUnavailable as problem:
        pytest.skip(f"redis-server on PATH was built without TLS: {problem}")


def test_tls(tls: tuple[int, str]) -> None:
    port, trusted = tls
    with redis.Redis(port=port, ssl=True, ssl_ca_certs=trusted) as client:
        check(client)
        check(own_road(client))
    client = redis.asyncio.Redis(port=port, ssl=True, ssl_ca_certs=trusted)
    asyncio.run(acheck(client))
    client = redis.asyncio.Redis(port=port, ssl=True, ssl_ca_certs=trusted)
    asyncio.run(acheck(own_road(client)))
    with connect(f"rediss://localhost:{port}?ssl_ca_certs={trusted}") as kv:
        assert kv.run(Op("PING")) == b"PONG"
    untrusting = connect(f"rediss://localhost:{port}")
    with untrusting, pytest.raises(ServerUnavailable, match=r"(?i)certificate"):
        untrusting.run(Op("PING"))


@pytest.fixture
def sentinel(tmp_path: Path, running: Any) -> Iterator[int]:
    """The port of a Sentinel that watches the session's Redis."""
    binary, master = shutil.which("redis-server"), running("redis")
    assert binary is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
        f"sentinel monitor mine 127.0.0.1 {master.port} 1\n"
    )
    child = subprocess.Popen([binary, str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port, retry=Retry(ExponentialBackoff(0.05, 0.005), 200)) as probe_it:
            probe_it.ping()
        yield port
    finally:
        child.kill()
        child.wait()


def test_sentinel(sentinel: int) -> None:
    client = redis.sentinel.Sentinel([("127.0.0.1", sentinel)]).master_for("mine")
    with client:
        check(client)
        assert repr(Kv(client)) == "Kv(mine, prefix='kvlab:')"

    async def main() -> None:
        found = redis.asyncio.sentinel.Sentinel([("127.0.0.1", sentinel)])
        await acheck(found.master_for("mine"))
        for each in found.sentinels:
            await each.aclose()

    asyncio.run(main())


# --- clients that will not do --------------------------------------------------------------


def test_a_client_of_the_wrong_kind_is_refused() -> None:
    with redis.Redis() as client:
        with pytest.raises(InvalidArgument, match="must be an async redis-py client"):
            AsyncKv(client)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="must be a sync redis-py client"):
            Kv(redis.asyncio.Redis())  # type: ignore[arg-type]
        for wrong in (None, "redis://localhost", object(), redis.RedisCluster.__new__):
            with pytest.raises(InvalidArgument, match="connection pool"):
                Kv(wrong)  # type: ignore[arg-type]


def test_a_cluster_client_is_refused() -> None:
    cluster = redis.RedisCluster.__new__(redis.RedisCluster)  # connecting needs a cluster
    assert not hasattr(cluster, "connection_pool")
    assert not hasattr(redis.asyncio.RedisCluster, "connection_pool")


def test_no_setting_that_retries_or_asks_for_health_is_taken_over(server: RunningServer) -> None:
    retry = Retry(ExponentialBackoff(), 9)
    errors = [redis.TimeoutError]
    with server.client(retry=retry, retry_on_error=errors, health_check_interval=5) as client:
        connection = Kv(client)._connections.get().connection
        assert connection.retry._retries == 0
        assert connection.health_check_interval == 0
        assert (connection.socket_timeout, connection.protocol) == (2.0, 2)
        assert client.connection_pool.connection_kwargs["retry"]._retries == 9
        connection.disconnect()


def test_the_hello_is_text(server: RunningServer) -> None:
    """hiredis ends the process when it packs a number while a signal is pending."""
    with server.client(db=3) as client, Kv(client) as kv:
        assert kv._connections.get().connection.db == "3"


# --- the pool ------------------------------------------------------------------------------


def test_when_all_connections_are_busy_nothing_is_sent(server: RunningServer) -> None:
    client = server.client(max_connections=1)
    with client, Kv(client, deadline=0.05) as kv:
        kept = kv._connections.get()
        with pytest.raises(ServerUnavailable, match="all 1 connections busy"):
            kv.run(Op("PING"))
        kv._connections.put(kept, complete=True)
        assert kv.run(Op("PING")) == b"PONG"

    async def main() -> None:
        aclient = redis.asyncio.Redis(port=server.port, max_connections=1)
        async with AsyncKv(aclient) as akv:  # calls share it
            await asyncio.gather(*(akv.run(Op("ECHO", "x" * i)) for i in range(1_500)))
            assert len(akv._connections._idle) == 1
        async with own_road(aclient), AsyncKv(aclient, deadline=0.05) as akv:
            kept = await akv._connections.get()
            async with asyncio.timeout(30):
                with pytest.raises(ServerUnavailable, match="all 1 connections busy"):
                    await akv.run(Op("PING"))
            await akv._connections.put(kept, complete=True)
            assert await akv.run(Op("PING")) == b"PONG"

    asyncio.run(main())


def test_a_silent_connection_that_turns_out_to_be_broken_ends_the_outage(
    server: RunningServer,
) -> None:
    class Broken:
        is_connected = True

        def has_news(self) -> bool:
            raise ConnectionError

        def disconnect(self) -> None: ...

    with server.client() as client, Kv(client) as kv:
        kv._health.failed(kv.clock(), TimeoutError())
        kv._health.witness = Broken()
        assert kv.run(Op("PING")) == b"PONG"  # no pause had to pass


def test_an_idle_connection_that_another_thread_took_first_is_replaced(
    server: RunningServer,
) -> None:
    class Robbed(list[Any]):
        def pop(self, *_: Any) -> Any:
            self.clear()
            return super().pop()

    with server.client() as client, Kv(client) as kv:
        kv.run(Op("PING"))
        kv._connections._idle = Robbed(kv._connections._idle)
        assert kv.run(Op("PING")) == b"PONG"


def test_threads_never_have_more_connections_than_the_client_may() -> None:
    class Counted:
        here, most, lock = 0, 0, threading.Lock()

        def connect(self, timeout: float) -> None: ...
        def has_news(self) -> bool:
            return False

        def disconnect(self) -> None: ...

    pool, start = Connections(Counted, 3, 10, Health(time.monotonic, 1)), threading.Barrier(8)

    def work() -> None:
        start.wait()
        for _ in range(200):
            connection = pool.get()
            with Counted.lock:
                Counted.here += 1
                Counted.most = max(Counted.most, Counted.here)
            with Counted.lock:
                Counted.here -= 1
            pool.put(connection, complete=True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= Counted.most <= 3
    assert len(pool._idle) <= 3


def test_a_pool_said_to_be_endless_costs_nothing() -> None:
    with redis.Redis(max_connections=2**31) as client:
        assert Kv(client)._connections._turns.qsize() < 5000


def test_patience() -> None:
    assert patience(float("inf"), 2) is None
    assert patience(30, 2) == 32
    assert patience(None, 2) == 2


# --- where the server is -------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://LOCALHOST:6379/0",
        "redis://127.0.0.1:1/3?protocol=3",
        "redis://127.9.8.7",
        "redis://[::1]:6379",
        "rediss://localhost",
        "unix:///tmp/s?db=1",
        "redis://user:p%40ss@localhost/1",
        "redis://",
    ],
)
def test_this_machine_needs_no_yes(url: str) -> None:
    assert server_url(url, None) == url
    connect(url).close()


REMOTE = [
    "redis://example.com",
    "redis://10.0.0.1",
    "redis://0.0.0.0",
    "rediss://user:hunter2@db.example.com:6380/0",
    "redis://localhost.example.com",
    "redis://[2001:db8::1]",
    "redis://?host=example.com",
    "redis://127.0.0.1@example.com",
]


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("valkey://localhost:1/2", "redis://localhost:1/2"),
        ("valkeys://user:p%40ss@127.0.0.1", "rediss://user:p%40ss@127.0.0.1"),
        ("valkey://", "redis://"),
    ],
)
def test_a_url_may_name_valkey(given: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_url(given) == url
    monkeypatch.setenv("KVLAB_URL", given)
    assert server_url() == url


@pytest.mark.parametrize(
    ("client", "where"),
    [
        (redis.Redis.from_url("redis://"), "localhost:6379"),
        (redis.Redis.from_url("redis://[::1]:3"), "[::1]:3"),
        (redis.Redis.from_url("unix:///tmp/s"), "/tmp/s"),
        (redis.Redis(unix_socket_path="/tmp/s"), "/tmp/s"),
        (redis.sentinel.Sentinel([("127.0.0.1", 1)]).master_for("primary"), "primary"),
        (fakeredis.FakeRedis(), "fakeredis"),
        (redis.asyncio.Redis.from_url("rediss://h"), "h:6379"),
    ],
)
def test_an_executor_says_where_its_server_is(client: Any, where: str) -> None:
    kind = AsyncKv if isinstance(client, redis.asyncio.Redis) else Kv
    assert kind(client).where == where


@pytest.mark.parametrize("url", REMOTE)
def test_another_machine_needs_an_explicit_yes(url: str, monkeypatch: Any) -> None:
    monkeypatch.delenv("KVLAB_ALLOW_REMOTE", raising=False)
    with pytest.raises(RemoteNotAllowed, match="is not this machine") as refused:
        server_url(url, None)
    assert "hunter2" not in str(refused.value)
    assert server_url(url, True) == url
    monkeypatch.setenv("KVLAB_ALLOW_REMOTE", "1")
    assert server_url(url, None) == url
    with pytest.raises(RemoteNotAllowed):
        server_url(url, False)
    monkeypatch.setenv("KVLAB_ALLOW_REMOTE", "0")
    with pytest.raises(RemoteNotAllowed):
        server_url(url, None)


BAD = [
    "http://sesame@localhost",
    "localhost:6379",
    "sesame",
    "sesame:x@localhost:6379",
    "//:sesame@localhost",
    "redis://:sesame/x@localhost:6379",
    "redis://:x#sesame@localhost",
    "redis://localhost:sesame",
    "redis://localhost:99999",
    "redis://localhost/sesame",
    "redis://localhost/1/2",
    "redis://localhost?db=sesame",
    "redis://localhost?sesame=1",
    "redis://localhost?open=sesame",
    "redis://localhost?max_connections=-1&password=sesame",
    "redis://[::1",
]


@pytest.mark.parametrize("url", BAD)
def test_a_bad_url_is_refused_and_never_repeated(url: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        server_url(url, None)
    shown = f"{refused.value} {refused.value.__cause__}"
    assert "sesame" not in shown
    with pytest.raises(InvalidArgument):
        connect(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:abc", ["a port must be a number"]),
        ("redis+cluster://127.0.0.1:abc", ["HOST:PORT, with a port up to 65535"]),
        ("foo", ["redis://", "rediss://", "valkey://", "unix://", "https://", "cluster:"]),
        ("redis+sentinal://h/s", ["redis+cluster://", "redis+sentinel://"]),
        ("redis://cache..example", ["no host can have such a name"]),
        ("rediss://127.0.0.1?ssl_ca_certs=/no/ca", ["ssl_ca_certs names no file: '/no/ca'"]),
    ],
)
def test_what_is_wrong_with_the_environment_is_named(
    url: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVLAB_URL", url)
    with pytest.raises(InvalidArgument) as refused:
        connect()
    said = str(refused.value)
    assert said.startswith("environment variable KVLAB_URL: ")
    assert [word for word in words if word not in said] == []


def test_a_client_whose_host_cannot_exist_meets_an_outage() -> None:
    """An empty part of a name comes from an empty variable; redis-py's two clients differ there."""
    fails = FixedWindow("api", 1, 60, outage="open").hit("x")
    how: dict[str, Any] = {"timeout": 0.2, "deadline": 0.05}

    async def main() -> None:
        async with AsyncKv(redis.asyncio.Redis(host="cache..example"), **how) as akv:
            assert (await akv.run(fails)).allowed
            with pytest.raises(ServerUnavailable, match="nothing was sent"):
                await akv.run(Op("PING"))

    with Kv(redis.Redis(host="cache..example"), **how) as kv:
        assert kv.run(fails).allowed
        with pytest.raises(ServerUnavailable, match="nothing was sent"):
            kv.run(Op("PING"))
    asyncio.run(main())


def test_the_environment_names_the_server(server: RunningServer, monkeypatch: Any) -> None:
    monkeypatch.setenv("KVLAB_URL", server.url)
    with connect() as kv:
        assert kv.where.endswith(str(server.port))
        assert kv.run(Op("PING")) == b"PONG"

    async def main() -> None:
        async with await aconnect() as akv:
            assert await akv.run(Op("PING")) == b"PONG"

    asyncio.run(main())
    monkeypatch.setenv("KVLAB_URL", "redis://example.com")
    with pytest.raises(RemoteNotAllowed):
        connect()


def test_without_a_url_the_embedded_server_answers(monkeypatch: Any) -> None:
    from kvlab.server import embedded as server

    monkeypatch.delenv("KVLAB_URL", raising=False)
    with ExitStack() as stack:
        folder = TemporaryDirectory(dir="/tmp", prefix="kvlab-core-", ignore_cleanup_errors=True)
        directory = stack.enter_context(folder)
        monkeypatch.setenv("KVLAB_RUNTIME_DIR", directory)
        stack.callback(server.leave)
        with connect() as kv:
            assert kv.run(Op("PING")) == b"PONG"
            assert directory in kv.where
