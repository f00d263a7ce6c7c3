"""Who waits for a node that dies goes on with its replica: flag watchers, and waiters for a lock.

One cluster; each way of losing a primary takes another of its three.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from support import twin

from kvlab import AsyncFlagWatcher, AsyncKv, FeatureFlags, FlagWatcher, Kv, Lock, Op
from kvlab.server import engines
from kvlab.server.running_cluster import PRIMARIES, RunningCluster
from kvlab.server.running_server import RunningServer

TIMEOUT = 0.5
PATIENCE = 20.0
"""Seconds, of which all but a few are for a busy machine; below ``MAX_BLOCK``."""
LONG = 600.0
SHORT = 3.0


WAYS = ["killed", "asked", "frozen"]
Cluster = Callable[[int], RunningCluster]


@pytest.fixture(scope="module")
def with_primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that has not lost its primary of that number yet."""
    engine = engines.find("valkey")
    if engine.missing:
        pytest.skip(f"engine cluster is absent: {engine.missing}")
    lost = set(range(PRIMARIES))
    running: list[RunningCluster] = []

    def get(number: int) -> RunningCluster:
        if number in lost:
            for one in running:
                one.kill()
            home = tmp_path_factory.mktemp("mortal")
            running[:] = [RunningCluster(engine, home, node_timeout=0.5)]
            lost.clear()
        lost.add(number)
        return running[0]

    yield get
    for one in running:
        one.kill()


class Scene:
    """Flags and two locks that live on one primary; clients of their own for everybody."""

    def __init__(self, cluster: RunningCluster, number: int, ends: ExitStack) -> None:
        self.primary, self.replica = cluster.nodes[number], cluster.nodes[number + PRIMARIES]
        self._cluster, self._ends = cluster, ends
        self.kv = self.client()
        self.flags = FeatureFlags(self._here(lambda name: FeatureFlags(name).values))
        self.locks = [self.lock(name) for name in ("a", "b")]

    def client(self) -> Kv:
        client = self._ends.enter_context(self._cluster.client())
        kv = Kv(client, prefix="wake", timeout=TIMEOUT, deadline=30)
        return self._ends.enter_context(kv)

    def lock(self, stem: str, ttl: float = LONG) -> Lock:
        return Lock(self._here(lambda name: Lock(name, ttl).try_acquire().keys[0], stem), ttl)

    def _here(self, key_of: Callable[[str], Any], stem: str = "f") -> str:
        port = self.primary.port
        for i in itertools.count():
            key = self.kv.name(key_of(f"{stem}{i}"))
            node: Any = self.kv.client.get_node_from_key(key)  # type: ignore[attr-defined]
            if node.port == port:
                return f"{stem}{i}"
        raise AssertionError

    def replicated(self) -> None:
        """Everything that was written so far is at the replica too."""
        with self.primary.client() as direct:
            direct.set(self.kv.name(self.flags.values) + ":mark", 1)
            assert direct.wait(1, 10_000) == 1

    def lose(self, how: str) -> None:
        self.replicated()
        if how == "killed":
            self.primary.kill()
        elif how == "frozen":
            self.primary.pause()
        else:
            with self.replica.client() as direct:
                direct.execute_command("CLUSTER FAILOVER")


def until(met: Callable[[], bool]) -> None:
    """Wait until something that must come has come."""
    never = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        with contextlib.suppress(redis.RedisError):
            if met():
                return
        never.wait(0.01)
    raise AssertionError("did not come")


def blocked(node: RunningServer) -> int:
    with node.client(socket_timeout=1) as direct:
        return int(direct.info("clients")["blocked_clients"])


class OnALoop:
    """An event loop that a thread turns."""

    def __init__(self, ends: ExitStack) -> None:
        self._loop, self._ends = asyncio.new_event_loop(), ends
        turning = threading.Thread(target=self._loop.run_forever)
        turning.start()
        ends.callback(self._loop.close)
        ends.callback(turning.join)
        ends.callback(self._loop.call_soon_threadsafe, self._loop.stop)

    def client(self, kv: Kv) -> AsyncKv:
        async def made() -> AsyncKv:
            return twin(kv, timeout=TIMEOUT, deadline=30)

        akv: AsyncKv = self.do(made())
        self._ends.callback(lambda: self.do(akv.close()))
        return akv

    def start(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def do(self, work: Any) -> Any:
        return self.start(work).result(PATIENCE)


class Polling(FlagWatcher):
    """A watcher that nobody tells of changes, as behind HTTP."""

    def _subscribed(self, _: Any) -> bool:
        return False


@pytest.fixture
def scene(with_primary: Cluster, how: str) -> Iterator[Scene]:
    number = WAYS.index(how)
    with ExitStack() as ends:
        yield Scene(with_primary(number), number, ends)


@pytest.mark.parametrize("how", WAYS)
def test_watchers_and_waiters_go_on(scene: Scene, how: str) -> None:
    kv, flags = scene.kv, scene.flags
    with ExitStack() as ends:
        resync = 0.2 if how == "frozen" else LONG  # what is dead is noticed without it
        watcher = ends.enter_context(FlagWatcher(scene.client(), flags, resync=resync))
        often = threading.Event()
        polling = Polling(scene.client(), flags, wait=lambda _: often.wait(0.05))
        ends.enter_context(polling)
        loop = OnALoop(ends)
        akv, another = loop.client(kv), loop.client(kv)
        loop.do(akv.run(flags.read_all()))  # so that it knows where the channel is
        watching = loop.do(_entered(AsyncFlagWatcher(akv, flags, resync=resync)))
        ends.callback(lambda: loop.do(watching.close()))
        kv.run(flags.set("x", False))
        assert watcher.wait_for(1, PATIENCE)
        assert polling.wait_for(1, PATIENCE)
        assert loop.do(watching.wait_for(1, PATIENCE))
        if how != "frozen":  # with a resync as short, a busy machine may have sent one elsewhere
            until(lambda: kv.run(Op("PUBSUB", "NUMSUB", flags.changes))[1] == 2)

        ttl = SHORT if how == "frozen" else LONG
        locks = [scene.lock(stem, ttl) for stem in ("a", "b")]
        held = kv.run(*(lock.try_acquire() for lock in locks))
        waiter = _Waiter(scene.client(), locks[0])
        ends.callback(waiter.join)
        awaiter = loop.start(another.run(locks[1].acquire(LONG)))
        until(lambda: blocked(scene.primary) == 2)

        scene.lose(how)
        assert kv.run(flags.read_all(strict=True)).version == 1  # from the replica
        assert kv.run(flags.set("x", True)) == 2
        assert watcher.wait_for(2, PATIENCE)
        assert polling.wait_for(2, PATIENCE)
        assert loop.do(watching.wait_for(2, PATIENCE))
        if how != "frozen":  # nothing wakes who waits on a frozen node, but the end of the TTL
            until(lambda: blocked(scene.replica) == 2)
            assert all(kv.run(*(lock.release(h) for lock, h in zip(locks, held, strict=True))))
        waiter.join()
        fences = [waiter.result.fence, awaiter.result(PATIENCE).fence]
        assert all(new > old.fence for new, old in zip(fences, held, strict=True))
        kv.run(flags.set("x", False))
        assert watcher.wait_for(3, PATIENCE)
        assert loop.do(watching.wait_for(3, PATIENCE))
        if how == "frozen":
            scene.primary.kill()


async def _entered(watcher: AsyncFlagWatcher) -> AsyncFlagWatcher:
    return await watcher.__aenter__()


class _Waiter(threading.Thread):
    """Waits for a lock."""

    result: Any = None

    def __init__(self, kv: Kv, lock: Lock) -> None:
        super().__init__()
        self._kv, self._lock = kv, lock
        self.start()

    def run(self) -> None:
        self.result = self._kv.run(self._lock.acquire(LONG))

    def join(self, timeout: float | None = PATIENCE) -> None:
        super().join(timeout)
        assert not self.is_alive()
