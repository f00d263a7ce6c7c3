"""URLs that name several servers, and a primary behind a real Sentinel."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import kvlab
from kvlab import Key, Op
from kvlab.core.server_url import server_url
from kvlab.core.transport.members import members
from kvlab.errors import InvalidArgument, KvlabError, RemoteNotAllowed, ServerUnavailable
from kvlab.server import engines
from kvlab.server.guarded_process import Guarded
from kvlab.server.running_cluster import RunningCluster
from kvlab.server.running_server import RunningServer, free_port

ELSEWHERE = "192.0.2.1"
"""An address of a network that exists in examples alone."""


@contextlib.contextmanager
def sentinel(watched: str, directory: Path) -> Iterator[int]:
    """A real Sentinel; its port."""
    port = free_port()
    conf = directory / "sentinel.conf"
    conf.write_text(f"port {port}\nsentinel monitor {watched}\n")
    binary = engines.find("valkey").command
    assert binary is not None
    command = (*binary, str(conf), "--sentinel")
    watcher = Guarded(command, log=directory / "log", directory=directory)
    try:
        with redis.Redis(port=port) as asked:
            for _ in range(500):
                with contextlib.suppress(redis.ConnectionError):
                    if asked.ping():
                        break
        yield port
    finally:
        watcher.end()


def hang_up_on_all(listening: socket.socket, heard: list[int]) -> None:
    with contextlib.suppress(OSError):  # it was shut down
        while True:
            connection, (_, port) = listening.accept()
            heard.append(port)
            connection.close()


def test_what_they_say() -> None:
    found = members("valkeys+sentinel://ann:p%40ss@127.0.0.1,[::1]:7/orders/2?sentinel_password=x")
    assert found is not None
    assert (found.kind, found.tls, found.service, found.database) == ("sentinel", True, "orders", 2)
    assert found.addresses == (("127.0.0.1", 26379), ("::1", 7))
    assert (found.user, found.password, found.of_sentinels) == ("ann", "p@ss", {"password": "x"})
    assert "p@ss" not in repr(found)
    assert members("redis://127.0.0.1:6379") is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+cluster://127.0.0.1:1/3", "database 0 alone"),
        ("redis+cluster://127.0.0.1:1?x=1", "unknown behind the [?]: x"),
        ("redis+cluster://127.0.0.1:1?ssl_ca_certs=/ca.pem", "ssl_ca_certs needs TLS"),
        ("redis+sentinel://127.0.0.1:1/orders?ssl_keyfile=k", "ssl_keyfile needs TLS"),
        ("rediss+cluster://127.0.0.1:1?ssl_cert_reqs=perhaps", "option of TLS is wrong"),
        ("rediss+cluster://127.0.0.1:1?ssl_ca_certs=/no/ca.pem", "no file: '/no/ca.pem'"),
        ("redis+cluster://127.0.0.1:one", "HOST:PORT"),
        ("redis+cluster://cache..example", "HOST:PORT"),
        ("redis+cluster://", "HOST:PORT"),
        ("redis+sentinel://127.0.0.1:1", "name of the service is missing"),
        ("redis+sentinel://127.0.0.1:1/orders/x", "must be a number"),
        ("redis+sentinel://127.0.0.1:1/orders?db=1", "unknown behind the [?]: db"),
    ],
)
def test_what_makes_no_sense_is_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        kvlab.connect(url)


@pytest.mark.parametrize("password", ["secret/1", "1/secret", "secret?1", "1?secret", "1/2/secret"])
@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
def test_no_message_shows_a_password_without_its_escapes(kind: str, password: str) -> None:
    url = f"redis+{kind}://ann:{password}@127.0.0.1:1/orders"
    with pytest.raises(InvalidArgument) as raised:
        kvlab.connect(url, allow_remote=True)
    assert "secret" not in str(raised.value)


def test_one_server_is_not_several() -> None:
    for url in ("cluster:", "redis+cluster://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/s"):
        with pytest.raises(InvalidArgument, match="one server is needed here"):
            server_url(url)


def test_each_of_them_must_be_here_or_allowed() -> None:
    with pytest.raises(RemoteNotAllowed, match=r"10\.1\.1\.1"):
        kvlab.connect("redis+cluster://127.0.0.1:1,10.1.1.1:1")


async def run_on(url: str, allow_remote: bool, asynchronous: bool) -> None:
    settings = {"allow_remote": allow_remote, "timeout": 0.2, "deadline": 0.2}
    if asynchronous:
        async with await kvlab.aconnect(url, **settings) as akv:
            await akv.run(Op("GET", Key("k")))
    else:
        with kvlab.connect(url, **settings) as kv:
            kv.run(Op("GET", Key("k")))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_so_must_be_what_they_name(asynchronous: bool, tmp_path: Path) -> None:
    announced = {"cluster-enabled": "yes", "cluster-announce-ip": ELSEWHERE}
    with engines.start("valkey", options=announced) as node, node.client() as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        with sentinel(f"orders {ELSEWHERE} 6379 1", tmp_path) as port:
            for url in (
                f"redis+cluster://127.0.0.1:{node.port}",
                f"redis+sentinel://127.0.0.1:{port}/orders",
            ):
                with pytest.raises(RemoteNotAllowed, match=ELSEWHERE):
                    asyncio.run(run_on(url, False, asynchronous))
                with pytest.raises(KvlabError) as control:
                    asyncio.run(run_on(url, True, asynchronous))
                assert not isinstance(control.value, RemoteNotAllowed)


def test_a_cluster_by_its_url(cluster: RunningCluster, server: RunningServer) -> None:
    dead = f"127.0.0.1:{free_port()}"
    with kvlab.connect(f"redis+cluster://{dead},{cluster.url.partition('://')[2]}") as kv:
        assert kv.run(Op("ECHO", "x")) == b"x"
    with pytest.raises(ServerUnavailable):
        kvlab.connect(f"redis+cluster://{dead}")
    with pytest.raises(InvalidArgument, match="no cluster"):
        kvlab.connect(f"redis+cluster://127.0.0.1:{server.port}")


def test_silent_sentinels_are_named_in_few_words() -> None:
    ports = [free_port(), free_port()]
    url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/orders"

    async def run() -> None:
        async with await kvlab.aconnect(url, deadline=0.1) as akv:
            await akv.run(Op("PING"))

    for ask in (
        lambda: kvlab.connect(url, deadline=0.1).run(Op("PING")),
        lambda: asyncio.run(run()),
    ):
        with pytest.raises(ServerUnavailable, match="'orders'") as raised:
            ask()
        said = str(raised.value)
        assert all(f"127.0.0.1:{port} " in said for port in ports)
        assert "<" not in said
        assert len(said) < 250


def test_a_primary_behind_a_sentinel(server: RunningServer, tmp_path: Path) -> None:
    with sentinel(f"orders 127.0.0.1 {server.port} 1", tmp_path) as port:
        with kvlab.connect(f"redis+sentinel://127.0.0.1:{port}/orders/3", prefix="s") as kv:
            assert kv.run(Op("SET", Key("k"), 1, "EX", 60)) == b"OK"
            assert "orders" in repr(kv)
        with server.client(db=3) as direct:
            assert direct.get("s:k") == b"1"
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            calls = threading.Thread(target=hang_up_on_all, args=(deaf, heard := list[int]()))
            calls.start()
            both = f"127.0.0.1:{deaf.getsockname()[1]},127.0.0.1:{port}"
            with kvlab.connect(f"redis+sentinel://{both}/orders/3", prefix="s") as kv:
                assert kv.run(Op("GET", Key("k"))) == b"1"
            deaf.shutdown(socket.SHUT_RDWR)
            calls.join()
        assert len(heard) == 1  # a dead Sentinel is asked once
        other = kvlab.connect(f"redis+sentinel://127.0.0.1:{port}/other", deadline=0.1)
        with other, pytest.raises(KvlabError, match="other"):
            other.run(Op("PING"))
