"""The engines of the matrix: found or explained, private, gone with the one who started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis

from kvlab.errors import InvalidArgument, ServerUnavailable
from kvlab.server import engines, running_server

ROOT = Path(__file__).parents[2]
ALL = engines.engines()


@pytest.fixture(params=list(ALL))
def present(request: pytest.FixtureRequest) -> str:
    engine = ALL[request.param]
    if engine.missing is not None:
        pytest.skip(f"{engine.name}: {engine.missing}")
    return engine.name


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.005)


def test_every_engine_is_present_or_says_why_not() -> None:
    assert list(ALL) == ["valkey", "redis-6.2", "redis", "fakeredis"]
    for engine in ALL.values():
        assert (engine.command is None) != (engine.missing is None)


def test_an_engine_that_is_not_on_path_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert engines.find("redis").missing == "no redis-server on PATH"
    with pytest.raises(ServerUnavailable, match="no redis-server on PATH"), engines.start("redis"):
        pass


def test_without_any_engine_the_doctor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not engines.find(engines.first()).missing
    for name in ALL:
        monkeypatch.setitem(engines._FINDERS, name, lambda: engines._absent("any", "taken away"))  # type: ignore[attr-defined]
    with pytest.raises(ServerUnavailable, match="kvlab doctor says what to do"):
        engines.first()


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="'memcached'"), engines.start("memcached"):
        pass


def test_a_private_server_serves_and_ends_with_its_block(present: str) -> None:
    with engines.start(present) as server, server.client() as client:
        pid = server.pid
        assert client.set("k", "v")
        with redis.Redis.from_url(server.url) as other:
            assert other.get("k") == b"v"
        assert server.version[0].isdigit()
    assert not psutil.pid_exists(pid)


def test_the_version_is_the_servers_own_word() -> None:
    with engines.start("valkey") as server, server.client() as client:
        info = client.info("server")
        assert server.version == info["valkey_version"]
        assert server.version != info["redis_version"]
        assert running_server.identify(client) == ("valkey", server.version)


def test_restart_after_kill_is_empty_and_on_the_same_port(present: str) -> None:
    with engines.start(present) as server:
        with server.client() as client:
            client.set("k", "v")
        port, pid = server.port, server.pid
        server.kill()
        assert not psutil.pid_exists(pid)
        with pytest.raises(ServerUnavailable, match="was killed"):
            _ = server.pid
        server.restart()
        assert server.port == port
        with server.client() as client:
            assert client.get("k") is None


def test_a_paused_server_answers_nothing_until_resumed(present: str) -> None:
    with engines.start(present) as server, server.client() as client:
        client.ping()
        server.pause()
        impatient = server.client(socket_timeout=0.1, retry=None)
        with impatient, pytest.raises(redis.TimeoutError):
            impatient.ping()
        server.resume()
        assert client.ping()


def test_a_paused_server_can_be_ended() -> None:
    with engines.start("valkey") as server:
        pid = server.pid
        server.pause()
    assert not psutil.pid_exists(pid)


def test_options_and_environment_reach_the_server() -> None:
    options = {"maxmemory": "12mb", "requirepass": "s3 cret"}
    with engines.start("valkey", options=options) as server, server.client() as client:
        assert client.config_get("maxmemory") == {"maxmemory": "12582912"}
    with engines.start("fakeredis", env={"KVLAB_SEEN": "yes"}) as server:
        assert psutil.Process(server.pid).environ()["KVLAB_SEEN"] == "yes"


def test_a_server_that_refuses_its_options_shows_its_log() -> None:
    with (
        pytest.raises(ServerUnavailable, match="no-such-option"),
        engines.start("valkey", options={"no-such-option": "1"}),
    ):
        pass


def test_a_slow_reader_gets_all_of_a_large_reply(present: str) -> None:
    """The reply is far larger than every buffer on its way."""
    size = 30_000_000
    with engines.start(present) as server, server.client() as client:
        client.set("large", b"x" * size)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.settimeout(30)
            slow.connect(("127.0.0.1", server.port))
            slow.sendall(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n")
            got = 0
            while got < size and (piece := slow.recv(1 << 20)):
                got += len(piece)
    assert got >= size


def test_fakeredis_takes_no_options() -> None:
    with pytest.raises(InvalidArgument), engines.start("fakeredis", options={"maxmemory": "1mb"}):
        pass


def test_a_lost_race_for_the_port_is_run_again(
    present: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engines.start("valkey") as first:
        free = running_server.free_port
        offered = iter([first.port])
        monkeypatch.setattr(running_server, "free_port", lambda: next(offered, None) or free())
        with engines.start(present) as second:
            assert second.port != first.port
            with second.client() as client:
                assert client.ping()


def test_a_server_ends_with_the_process_that_started_it(present: str) -> None:
    code = (
        "import sys\nfrom kvlab.server import engines\n"
        f"with engines.start({present!r}) as s:\n    print(s.pid, flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as owner:
        assert owner.stdout
        pid = int(owner.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(owner.pid, signal.SIGKILL)
    wait_gone(pid)
