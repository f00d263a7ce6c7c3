from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.errors import InvalidArgument
from kvlab.instruments.faults.paused import paused
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.faults.resp import Commands, Replies, value_end
from kvlab.server.running_server import RunningServer


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(url) as proxy:
        yield proxy


def client_of(proxy: Proxy, retries: int = 0, **options: object) -> redis.Redis:
    retry = Retry(NoBackoff(), retries)
    client = redis.Redis.from_url(proxy.url, decode_responses=True, retry=retry, **options)
    client.ping()
    proxy.reset()
    return client


def test_counts_round_trips_and_names(proxy: Proxy) -> None:
    client = client_of(proxy)
    client.incr("a")
    client.pipeline(transaction=False).get("a").get("b").execute()
    client.pipeline().set("c", 1).execute()
    assert proxy.requests == 3
    assert proxy.commands == ["INCRBY", "GET", "GET", "MULTI", "SET", "EXEC"]


def test_big_values_and_nested_replies_pass_whole(proxy: Proxy, direct: redis.Redis) -> None:
    client = client_of(proxy)
    value = "x\r\n" * 200_000
    client.set("big", value)
    assert client.get("big") == value
    client.hset("h", mapping={str(i): i for i in range(500)})
    assert client.hgetall("h") == direct.hgetall("h")
    client.zadd("z", {"a": 1.5})
    assert client.zrange("z", 0, -1, withscores=True) == [("a", 1.5)]
    assert proxy.requests == 6


def test_a_lost_request_never_ran(proxy: Proxy, direct: redis.Redis) -> None:
    client = client_of(proxy)
    done = proxy.swallow_requests(1)
    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    assert done.is_set()
    assert direct.get("n") is None


def test_a_lost_reply_did_run(proxy: Proxy, direct: redis.Redis) -> None:
    client = client_of(proxy)
    done = proxy.swallow_replies(1)
    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    assert done.is_set()
    assert direct.get("n") == "1"
    assert client.incr("n") == 2  # the next one passes


def test_every_first_reply_lost_doubles_a_retried_counter(
    proxy: Proxy, direct: redis.Redis
) -> None:
    client = client_of(proxy, retries=3)
    for _ in range(20):
        proxy.swallow_replies(1, only="incrby")
        client.incr("n")
    assert direct.get("n") == "40"
    assert proxy.swallowed == 20


def test_the_handshake_of_a_new_connection_is_not_swallowed(
    proxy: Proxy, direct: redis.Redis
) -> None:
    client = client_of(proxy, retries=3)
    proxy.swallow_replies(2)
    client.incr("n")
    assert direct.get("n") == "3"  # two lost, the third answered


def test_a_batch_in_two_writes_is_one_round_trip(proxy: Proxy, direct: redis.Redis) -> None:
    pid = direct.info("server")["process_id"]
    with socket.create_connection(("127.0.0.1", proxy.port)) as wire:
        with paused(pid):  # so that no answer can come between the two writes
            for sent in (1, 2):
                wire.sendall(b"PING\r\n")
                until(lambda sent=sent: len(proxy.commands) == sent)
        answers = b""
        while len(answers) < 14:
            answers += wire.recv(100)
        assert proxy.requests == 1
        wire.sendall(b"PING\r\n")
        assert wire.recv(100)
        assert proxy.requests == 2


def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError("it never came true")


def test_only_the_named_command_is_lost(proxy: Proxy, direct: redis.Redis) -> None:
    client = client_of(proxy)
    proxy.swallow_replies(1, only="SET")
    assert client.get("k") is None
    with pytest.raises(redis.ConnectionError):
        client.set("k", 1)


def test_a_hanging_connection_hangs_until_it_is_cut(proxy: Proxy, direct: redis.Redis) -> None:
    client = client_of(proxy, socket_timeout=20)
    done = proxy.swallow_replies(1, then="hang")
    with ThreadPoolExecutor(1) as thread:
        work = thread.submit(client.incr, "n")
        assert done.wait(10)
        assert not work.done()
        proxy.cut()
        with pytest.raises(redis.ConnectionError):
            work.result(10)
    assert direct.get("n") == "1"


def test_a_cut_in_the_middle_of_a_pipeline(proxy: Proxy, direct: redis.Redis) -> None:
    client = client_of(proxy)
    proxy.swallow_requests(1, only="DECRBY")
    pipe = client.pipeline(transaction=False)
    pipe.incr("n").incr("n").decr("n").incr("n")
    with pytest.raises(redis.ConnectionError):
        pipe.execute()
    assert proxy.commands == ["INCRBY", "INCRBY", "DECRBY"]


def test_refuse_and_heal(proxy: Proxy) -> None:
    client = client_of(proxy)
    url = proxy.url
    proxy.refuse()
    client.ping()  # an open connection is left alone
    proxy.cut()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    proxy.heal()
    assert proxy.url == url
    assert client.ping()


def test_heal_disarms(proxy: Proxy) -> None:
    client = client_of(proxy)
    proxy.swallow_replies(5)
    proxy.swallow_requests(5)
    proxy.heal()
    assert client.incr("n") == 1


def test_delay_keeps_order_and_does_not_add_up(proxy: Proxy) -> None:
    client = client_of(proxy)
    proxy.delay(0.02)
    before = time.perf_counter()
    pipe = client.pipeline(transaction=False)
    for _ in range(50):
        pipe.incr("n")
    assert pipe.execute() == list(range(1, 51))
    assert time.perf_counter() - before >= 0.02  # a lower bound only: nobody is timed
    assert proxy.requests == 1


def test_a_command_is_held_by_what_it_is_and_its_times_are_told(proxy: Proxy) -> None:
    client, seen = client_of(proxy), []
    proxy.watch(lambda command, arrived, left: seen.append((command.name, left - arrived)))
    proxy.hold(lambda command: 0.02 * (b"slow" in command.raw))
    assert (client.incr("quick"), client.incr("slow")) == (1, 1)
    (quick, _), (slow, took) = seen[-2:]
    assert (quick, slow) == ("INCRBY", "INCRBY")
    assert took >= 0.02  # a lower bound only: nobody is timed
    proxy.heal()
    client.incr("slow")
    assert len(seen) >= 3


def test_no_server_behind_it() -> None:
    with Proxy(("127.0.0.1", 1)) as proxy, pytest.raises(redis.ConnectionError):
        client_of(proxy)


def test_a_blackhole_swallows_the_present_connections_alone(proxy: Proxy) -> None:
    old, new = client_of(proxy, socket_timeout=0.05), client_of(proxy)
    new.connection_pool.disconnect()
    proxy.blackhole()
    with pytest.raises(redis.TimeoutError):
        old.incr("a")
    assert new.incr("a") == 1


def test_a_moved_target_gets_the_new_connections_alone(
    proxy: Proxy, direct: redis.Redis, running: Callable[[str], RunningServer]
) -> None:
    stays = client_of(proxy)
    there = running("redis-6.2")
    proxy.move(there.url)
    goes = client_of(proxy)
    assert (stays.info()["tcp_port"], goes.info()["tcp_port"]) == (
        direct.info()["tcp_port"],
        there.port,
    )


def test_url_keeps_user_and_database() -> None:
    with Proxy("redis://me:secret@127.0.0.1:7/3") as proxy:
        assert proxy.url == f"redis://me:secret@127.0.0.1:{proxy.port}/3"
    proxy.close()
    assert "kvlab" not in {t.name for t in threading.enumerate()}


@pytest.mark.parametrize("target", ["rediss://h:1", "http://h", "redis://"])
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(InvalidArgument, match="redis://"):
        Proxy(target)


def test_arguments_are_checked(proxy: Proxy) -> None:
    for wrong in (
        lambda: proxy.delay(-1),
        lambda: proxy.swallow_replies(0),
        lambda: proxy.swallow_replies(1, then="explode"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidArgument):
            wrong()


def test_a_paused_process_stands_still_and_goes_on() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        with paused(child.pid):
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            assert psutil.Process(child.pid).status() == psutil.STATUS_STOPPED
        os.waitid(os.P_PID, child.pid, os.WCONTINUED | os.WNOWAIT)
        child.communicate(b"\n")
        assert child.returncode == 0


WIRE = [
    b"+OK\r\n", b"$-1\r\n", b"$0\r\n\r\n", b"$3\r\na\r\n\r\n", b"*-1\r\n", b"*0\r\n", b"_\r\n",
    b"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", b"%1\r\n+a\r\n%1\r\n+b\r\n:2\r\n", b"~1\r\n,1.5\r\n",
    b">2\r\n+message\r\n$1\r\nx\r\n", b"|1\r\n+k\r\n+v\r\n:1\r\n", b"=7\r\ntxt:abc\r\n",
    b"-ERR no\r\n", b"#t\r\n", b"(123\r\n",
]  # fmt: skip


def test_replies_are_cut_whole_at_any_split() -> None:
    stream = b"".join(WIRE)
    for size in (1, 2, 3, 7, len(stream)):
        scanner = Replies()
        found = [r for i in range(0, len(stream), size) for r in scanner.feed(stream[i : i + size])]
        assert found == WIRE
    for raw in WIRE:
        assert value_end(raw[:-1], 0) == -1


def test_commands_are_cut_whole_at_any_split() -> None:
    stream = b"*2\r\n$3\r\nget\r\n$5\r\n*1\r\n$\r\nPING\r\n*1\r\n$4\r\nEXEC\r\n"
    for size in (1, 5, len(stream)):
        scanner = Commands()
        pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
        found = [c for piece in pieces for c in scanner.feed(piece)]
        assert [c.name for c in found] == ["GET", "PING", "EXEC"]
        assert b"".join(c.raw for c in found) == stream
