"""FlagWatcher: told of each change, and right again after everything that can be lost."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio
from support import twin

from kvlab import (
    AsyncFlagWatcher,
    AsyncKv,
    FeatureFlags,
    Flag,
    FlagWatcher,
    Kv,
    NaiveFlags,
    Op,
    connect,
)
from kvlab.errors import InvalidArgument, OutcomeUnknown, ServerRefused
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server import engines
from kvlab.server.running_server import RunningServer

FLAGS = FeatureFlags(defaults={"on": True, "off": False})


def in_touch(watcher: Any) -> bool:
    return watcher.stale_since is None


class Pause:
    """In place of waiting: remembers how long, and holds the watcher until it is let go."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.reached = threading.Event()
        self.go = threading.Event()

    def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self.reached.set()
        assert self.go.wait(10)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.name.startswith("flags")]
    assert left == []


def test_it_learns_each_change_by_being_told(kv: Kv) -> None:
    with FlagWatcher(kv, FLAGS, resync=3600) as watcher:
        assert watcher.wait_until(in_touch)
        assert (watcher.snapshot.version, watcher.snapshot.is_enabled("on")) == (0, True)
        for version in range(1, 6):
            kv.run(FLAGS.set("n", Flag(version)))
            assert watcher.wait_for(version)
            assert watcher.snapshot.flags["n"] == Flag(version)
        before = kv.round_trips
        assert not any(watcher.snapshot.is_enabled("off") for _ in range(1000))
        assert kv.round_trips == before
    kv.run(FLAGS.set("n", Flag(50)))
    assert watcher.snapshot.version == 5  # it answers after close, and no longer follows
    watcher.close()


def test_no_change_falls_between_reading_and_subscribing(kv: Kv) -> None:
    """The change comes right before the first reading: it is read, or else told."""
    versions = []

    class Racing(Kv):
        def run(self, *ops: Any, **how: Any) -> Any:
            if threading.current_thread().name.startswith("flags") and not versions:
                versions.append(kv.run(FLAGS.set("raced", True)))
                result = super().run(*ops, **how)
                versions.append(kv.run(FLAGS.set("raced", False)))  # after it was read
                return result
            return super().run(*ops, **how)

    with Racing(kv.client, prefix=kv.prefix) as racing, FlagWatcher(racing, FLAGS) as watcher:
        assert watcher.wait_for(2)
        assert versions == [1, 2]
        assert watcher.snapshot.is_enabled("raced") is False


def test_a_killed_connection_is_made_again_and_nothing_is_missed(kv: Kv) -> None:
    pause = Pause()
    with FlagWatcher(kv, FLAGS, resync=3600, wait=pause, jitter=lambda: 1.0) as watcher:
        assert watcher.wait_until(in_touch)
        kv.client.client_kill_filter(_type="pubsub")
        assert pause.reached.wait(10)
        assert watcher.error is not None
        assert watcher.stale_since is not None
        kv.run(FLAGS.set("missed", True))  # nobody is subscribed
        assert watcher.snapshot.version == 0
        pause.go.set()
        assert watcher.wait_for(1)
        assert (watcher.error, watcher.stale_since) == (None, None)
        kv.run(FLAGS.set("told", True))
        assert watcher.wait_for(2)
        kv.run(Op("HSET", FLAGS.values, "", 9))  # nobody is told; the next connection reads it
        kv.client.client_kill_filter(_type="pubsub")
        assert watcher.wait_for(9)
        assert pause.asked == [0.1, 0.1]  # each outage starts with a short pause


def test_a_reading_that_fails_changes_nothing(kv: Kv, server: RunningServer) -> None:
    """The subscription lives, the reading does not: the defaults must not take over."""
    pause = Pause()
    kv.run(FLAGS.set("on", False))
    with (
        Proxy(server.url) as proxy,
        connect(proxy.url, prefix=kv.prefix, deadline=0.05) as through,
        FlagWatcher(through, FLAGS, resync=3600, wait=pause) as watcher,
    ):
        assert watcher.wait_for(1)
        proxy.swallow_replies(10_000, only="HGETALL")
        kv.run(FLAGS.set("x", True))
        assert pause.reached.wait(10)
        assert isinstance(watcher.error, OutcomeUnknown)
        assert watcher.snapshot.version == 1
        assert not watcher.snapshot.is_enabled("on")
        proxy.heal()
        pause.go.set()
        assert watcher.wait_for(2)


def test_a_lost_message_is_healed_by_the_next(kv: Kv) -> None:
    with FlagWatcher(kv, FLAGS, resync=3600) as watcher:
        assert watcher.wait_until(in_touch)
        kv.run(Op("HSET", FLAGS.values, "silent", "true", "", 1))  # a commit nobody was told of
        kv.run(FLAGS.set("loud", True))
        assert watcher.wait_for(2)
        assert watcher.snapshot.is_enabled("silent")


@pytest.mark.parametrize("resync", [0, True, float("nan"), 86_401])
def test_a_resync_that_no_socket_can_wait_for_is_refused(kv: Kv, resync: float) -> None:
    with pytest.raises(InvalidArgument, match="resync"):
        FlagWatcher(kv, FLAGS, resync=resync).close()


def test_a_lost_message_is_healed_by_the_resync(kv: Kv) -> None:
    with FlagWatcher(kv, FLAGS, resync=0.05) as watcher:
        assert watcher.wait_until(in_touch)
        kv.run(Op("HSET", FLAGS.values, "silent", "true", "", 1))
        assert watcher.wait_for(1)
        assert watcher.snapshot.is_enabled("silent")
        kv.run(FLAGS.set("told", True))  # the subscription outlives the resync
        assert watcher.wait_for(2)


class Silent:
    """A subscription on which nothing comes; remembers for how long it was listened to."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def can_read(self, timeout: float) -> bool:
        self.waits.append(timeout)
        return False

    def send_command(self, *_: str) -> None: ...

    def read_response(self) -> list[bytes]:
        return [b"pong", b""]


def test_without_a_word_it_reads_every_thirty_seconds(kv: Kv) -> None:
    silent = Silent()
    with FlagWatcher(kv, FLAGS) as watcher:
        watcher._await_message(silent)
    assert silent.waits == [30, 0]


class Burst:
    """A subscription with a message to read, and three more behind it."""

    def __init__(self) -> None:
        self.left = 4

    async def can_read(self) -> bool:
        return self.left > 0

    async def read_response(self, **_: Any) -> None:
        self.left -= 1


def test_a_burst_of_messages_is_one_reason_to_read_on_asyncio(kv: Kv) -> None:
    async def main() -> None:
        burst = Burst()
        async with twin(kv) as akv:
            await AsyncFlagWatcher(akv, FLAGS)._await_message(burst)
        assert burst.left == 0

    asyncio.run(main())


def test_its_end_closes_its_connection(kv: Kv) -> None:
    with FlagWatcher(kv, FLAGS) as watcher:
        assert watcher.wait_until(in_touch)
        connection = watcher._follower().connection
    assert not connection.is_connected

    async def main() -> None:
        async with twin(kv) as akv:
            awatcher = AsyncFlagWatcher(akv, FLAGS)
            connection = awatcher._make()
            awatcher._make = lambda *_: connection  # type: ignore[assignment]
            async with awatcher:
                assert await awatcher.wait_until(in_touch)
            assert not connection.is_connected

    asyncio.run(main())


def test_without_a_word_it_reads_every_thirty_seconds_on_asyncio(kv: Kv) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        time = loop.time
        async with twin(kv) as akv, AsyncFlagWatcher(akv, FLAGS) as watcher:
            assert await watcher.wait_until(in_touch)
            kv.run(Op("HSET", FLAGS.values, "", 1))  # nobody is told
            loop.time = lambda: time() + 31  # type: ignore[method-assign]
            assert await watcher.wait_for(1)

    asyncio.run(main())


def test_a_swallowed_message_and_a_hanging_connection_are_noticed(
    kv: Kv, server: RunningServer
) -> None:
    with (
        Proxy(server.url) as proxy,
        connect(proxy.url, prefix=kv.prefix, timeout=0.3) as through,
        FlagWatcher(through, FLAGS, resync=0.2, wait=lambda _: None) as watcher,
    ):
        assert watcher.wait_until(in_touch)
        hung = proxy.swallow_requests(1, only="PING", then="hang")  # from here on: silence
        assert hung.wait(10)
        kv.run(FLAGS.set("x", True))
        assert watcher.wait_for(1)
        assert watcher.snapshot.is_enabled("x")


def test_a_dead_server_leaves_the_last_snapshot_and_the_tries_slow_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pause = Pause()
    pause.go.set()
    tries = threading.Semaphore(0)

    def wait(seconds: float) -> None:
        pause(seconds)
        tries.release()

    with engines.start("valkey") as own, connect(own.url, prefix="t") as kv:
        kv.run(FLAGS.set("x", Flag(30)))
        with FlagWatcher(kv, FLAGS, wait=wait, jitter=lambda: 1.0) as watcher:
            assert watcher.wait_for(1)
            before = watcher.snapshot
            with caplog.at_level(logging.INFO, logger="kvlab.flags"):
                own.kill()
                assert tries.acquire(timeout=10)
                since = watcher.stale_since
                for _ in range(7):
                    assert tries.acquire(timeout=10)
                assert watcher.stale_since == since
            assert watcher.snapshot is before
            assert pause.asked[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
            assert [r.levelname for r in caplog.records] == ["WARNING"]  # once, not at each try
            # The server comes back empty: it is the truth, and means the declared defaults.
            own.restart()
            assert watcher.wait_until(in_touch)
            assert watcher.snapshot == FLAGS.declared
            assert kv.run(FLAGS.set("x", True)) == 1
            assert watcher.wait_until(lambda w: w.snapshot.flags.get("x") == Flag(100))


def test_watchers_do_not_come_back_all_at_once(kv: Kv) -> None:
    for drawn, pause in ((0.0, 0.05), (0.5, 0.075)):
        with FlagWatcher(kv, FLAGS, jitter=lambda drawn=drawn: drawn) as watcher:
            assert watcher.wait_until(in_touch)
            assert watcher._lost(OutcomeUnknown("lost")) == pytest.approx(pause)


def test_it_starts_without_a_server_and_answers_the_defaults() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with connect(f"redis://127.0.0.1:{closed.getsockname()[1]}") as kv:
            pause = Pause()
            with FlagWatcher(kv, FLAGS, wait=pause) as watcher:
                assert watcher.snapshot.is_enabled("on")
                assert pause.reached.wait(10)
                assert watcher.error is not None
                assert not watcher.wait_for(1, timeout=0)
                pause.go.set()


def test_a_key_it_cannot_read_is_an_error_until_it_is_put_right(kv: Kv) -> None:
    pause = Pause()
    kv.run(Op("SET", FLAGS.values, "text"))
    with FlagWatcher(kv, FLAGS, wait=pause) as watcher:
        assert pause.reached.wait(10)
        assert isinstance(watcher.error, ServerRefused)
        assert watcher.snapshot.is_enabled("on")
        kv.run(Op("DEL", FLAGS.values), FLAGS.set("x", True), atomic=True)
        pause.go.set()
        assert watcher.wait_for(1)


def test_what_cannot_be_read_is_reported_once(kv: Kv, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="kvlab.flags"):
        kv.run(Op("HSET", FLAGS.values, "on", "corrupt"))
        with FlagWatcher(kv, FLAGS) as watcher:
            for version in (1, 2, 3):
                kv.run(FLAGS.set("x", True))
                assert watcher.wait_for(version)
            assert watcher.snapshot.is_enabled("on")
    assert ["corrupt" in r.getMessage() for r in caplog.records] == [True]


def test_the_channel_carries_the_prefix(kv: Kv) -> None:
    a, b = kv.within("a"), kv.within("b")
    with a, b, FlagWatcher(a, FLAGS, resync=3600) as watcher:
        assert watcher.wait_until(in_touch)
        b.run(FLAGS.set("x", True))
        a.run(FLAGS.set("x", Flag(5)))
        assert watcher.wait_for(1)
        assert watcher.snapshot.flags["x"] == Flag(5)


def test_naive_asks_the_server_each_time(kv: Kv, server: RunningServer) -> None:
    with Proxy(server.url) as proxy, connect(proxy.url, prefix=kv.prefix) as through:
        naive = NaiveFlags(through.client, prefix=kv.prefix)
        naive.set_flag("x", True)
        with FlagWatcher(through, FLAGS) as watcher:
            assert watcher.wait_until(in_touch)
            proxy.reset()
            for _ in range(100):
                naive.get_flag("x")
                watcher.snapshot.is_enabled("on", 7)
            assert proxy.requests == 100


@pytest.mark.parametrize("resync", [0, -1, True, float("nan"), float("inf"), "30"])
def test_resync_is_positive_seconds(kv: Kv, resync: Any) -> None:
    with pytest.raises(InvalidArgument, match="resync"):
        FlagWatcher(kv, FLAGS, resync=resync)


def test_closing_interrupts_whatever_it_does(kv: Kv) -> None:
    for _ in range(20):
        FlagWatcher(kv, FLAGS, resync=3600).close()
    watcher = FlagWatcher(kv, FLAGS, resync=3600)
    assert watcher.wait_until(in_touch)
    watcher.close()
    for _ in range(10_000):  # the server sees the end a moment later
        if kv.run(Op("PUBSUB", "NUMSUB", FLAGS.changes))[1] == 0:
            return
    raise AssertionError("a subscription is left")


def test_a_refused_ping_is_an_answer_on_asyncio(
    kv: Kv, server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The states of ``tests/test_outages.py`` try it on threads: without its disk Redis refuses."""
    who = {"username": "still", "password": "x"}
    everything = {"keys": ["*"], "channels": ["*"], "commands": ["+@all", "-ping"]}
    kv.client.acl_setuser("still", enabled=True, passwords=["+x"], **everything)

    async def main() -> None:
        client = redis.asyncio.Redis(port=server.port, **who)  # type: ignore[arg-type]
        async with (
            client,
            AsyncKv(client, prefix=kv.prefix) as akv,
            AsyncFlagWatcher(akv, FLAGS, resync=0.01) as watcher,
        ):
            assert await watcher.wait_until(lambda _: akv.round_trips > 4)

    try:
        asyncio.run(main())
    finally:
        kv.client.acl_deluser("still")
    assert "cannot follow" not in caplog.text


def test_on_asyncio(kv: Kv) -> None:
    async def main() -> None:
        pauses = []

        async def wait(seconds: float) -> None:
            pauses.append(seconds)

        async with twin(kv) as akv:
            async with AsyncFlagWatcher(akv, FLAGS, resync=3600, wait=wait) as watcher:
                assert watcher.snapshot.is_enabled("on")
                assert await watcher.wait_until(in_touch)
                await akv.run(FLAGS.set("x", True))
                assert await watcher.wait_for(1)
                await akv.run(Op("HSET", FLAGS.values, "silent", "true", "", 2))
                await akv.run(Op("CLIENT", "KILL", "TYPE", "pubsub"))
                assert await watcher.wait_for(2)
                assert watcher.snapshot.is_enabled("silent")
                assert len(pauses) == 1
                await akv.run(*(FLAGS.set("n", Flag(n)) for n in range(20)))
                assert await watcher.wait_for(22)
                assert not await watcher.wait_for(99, timeout=0.01)
            async with AsyncFlagWatcher(akv, FLAGS, resync=0.05) as watcher:
                assert await watcher.wait_for(22)
                await akv.run(Op("HSET", FLAGS.values, "", 23))
                assert await watcher.wait_for(23)
                await akv.run(FLAGS.set("x", False))
                assert await watcher.wait_for(24)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main(), debug=True)
