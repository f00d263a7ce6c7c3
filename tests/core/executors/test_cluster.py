"""Ops on a real cluster: what is sent to which node, and what holds while slots and nodes move."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.cluster import LoadBalancingStrategy
from redis.crc import key_slot

from benchmarks.studies import cluster_load
from kvlab import AsyncKv, AutoBatch, FixedWindow, Key, Kv, Op
from kvlab.core.executors.chunks import CHUNK
from kvlab.errors import (
    BatchFailed,
    CannotServe,
    InvalidArgument,
    OutcomeUnknown,
)
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server import engines
from kvlab.server.running_cluster import RunningCluster


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"cluster{abs(hash(request.node.name)) % 10**8}"


@pytest.fixture
def kv(cluster: RunningCluster, prefix: str) -> Iterator[Kv]:
    with cluster.client() as client, Kv(client, prefix=prefix) as made:
        yield made
        made.clear()


def names_by_node(kv: Kv, each: int) -> list[list[str]]:
    """Names of keys for each primary, by what the executor knows."""
    found: dict[Any, list[str]] = {}
    for i in range(10_000):
        place = kv._router.place(Op("GET", Key(f"k{i}")))  # type: ignore[union-attr]
        found.setdefault(place, []).append(f"k{i}")
        if len(found) == 3 and all(len(names) >= each for names in found.values()):
            break
    return [names[:each] for names in found.values()]


def increments(names: list[list[str]]) -> list[Op[int]]:
    return [Op("INCR", Key(name), decode=int) for group in names for name in group]


class Slot:
    """A slot that is moved by hand, as a resharding does: from its node to the next one."""

    def __init__(self, cluster: RunningCluster, name: str) -> None:
        self.number = key_slot(name.encode())
        with cluster.client() as client:
            source: Any = client.get_node_from_key(name)
            ids = {n.port: n.client().execute_command("CLUSTER MYID") for n in cluster.nodes}
            target = next(node for node in client.get_primaries() if node.port != source.port)
        at = {node.port: node for node in cluster.nodes}
        self.source, self.target = at[source.port].client(), at[target.port].client()
        self._others = [at[n.port].client() for n in client.get_primaries()]
        self._target_port = target.port
        self._ids = ids[source.port].decode(), ids[target.port].decode()

    def begin(self) -> None:
        source, target = self._ids
        self.target.execute_command("CLUSTER SETSLOT", self.number, "IMPORTING", source)
        self.source.execute_command("CLUSTER SETSLOT", self.number, "MIGRATING", target)

    def end(self) -> None:
        keys: Any = self.source.execute_command("CLUSTER GETKEYSINSLOT", self.number, 100)
        if keys:
            where = ("127.0.0.1", self._target_port, "", 0, 1000)
            self.source.execute_command("MIGRATE", *where, "KEYS", *keys)
        for node in (self.target, self.source, *self._others):
            node.execute_command("CLUSTER SETSLOT", self.number, "NODE", self._ids[1])


@pytest.fixture
def proxied(cluster: RunningCluster) -> Iterator[tuple[Callable[..., Any], list[Proxy]]]:
    """Makes clients whose three primaries are each behind a proxy, and those proxies."""
    with ExitStack() as ends:
        proxies = {
            n.port: ends.enter_context(Proxy(("127.0.0.1", n.port))) for n in cluster.primaries
        }

        def remap(address: tuple[str, int]) -> tuple[str, int]:
            behind = proxies.get(address[1])
            return ("127.0.0.1", behind.port) if behind else address

        def make(kind: Any = redis.RedisCluster) -> Any:
            return kind(host="127.0.0.1", port=cluster.nodes[0].port, address_remap=remap)

        yield make, [*proxies.values()]


def all_at_once(proxies: list[Proxy]) -> None:
    """Let no node have its command until each node is about to get one."""
    met = threading.Barrier(len(proxies))

    def hold(command: Any) -> float:
        if command.name.startswith("INCR"):
            met.wait(10)
        return 0.0

    for proxy in proxies:
        proxy.hold(hold)


def test_a_batch_is_one_round_trip_to_each_node_at_the_same_time(
    proxied: tuple[Callable[..., Any], list[Proxy]], prefix: str
) -> None:
    make, proxies = proxied
    with make() as client, Kv(client, prefix=prefix) as kv:
        batch = increments(names_by_node(kv, 1))
        kv.run(*batch)
        for proxy in proxies:
            proxy.reset()
        all_at_once(proxies)
        before = kv.round_trips
        assert kv.run(*batch) == (2, 2, 2)
        assert kv.round_trips - before == 3
        assert [proxy.requests for proxy in proxies] == [1, 1, 1]
        kv.clear()


def test_so_is_a_batch_on_asyncio(
    proxied: tuple[Callable[..., Any], list[Proxy]], prefix: str, kv: Kv
) -> None:
    make, proxies = proxied
    names = names_by_node(kv, 1)

    async def main() -> None:
        async with make(redis.asyncio.RedisCluster) as client:
            async with AsyncKv(client, prefix=prefix) as akv:
                assert await akv.run(*increments(names)) == (1, 1, 1)
                for proxy in proxies:
                    proxy.reset()
                all_at_once(proxies)
                assert await akv.run(*increments(names)) == (2, 2, 2)
                assert [proxy.requests for proxy in proxies] == [1, 1, 1]
                for proxy in proxies:
                    proxy.heal()
                ops = increments(names_by_node(kv, 20))
                before = akv.round_trips
                await asyncio.gather(*map(akv.run, ops))
                assert akv.round_trips - before == 3  # of one turn, to each node
            async with AutoBatch(akv, max_batch=10) as auto:
                assert sum(await asyncio.gather(*map(auto.run, ops))) == 60 * 2 + 3 * 2
                assert auto.round_trips >= 6

    asyncio.run(main())


def test_a_list_is_chunked_by_node(kv: Kv) -> None:
    first, second, third = names_by_node(kv, 30)
    mixed = itertools.zip_longest(first * 40, second * 20, third * 2)  # 1200, 600 and 60 ops
    names = [name for group in mixed for name in group if name]
    before = kv.round_trips
    results = kv.run(increments([names]))
    assert kv.round_trips - before == 3 + 2 + 1
    assert CHUNK == 500
    seen: Counter[str] = Counter()
    for name, result in zip(names, results, strict=True):
        seen[name] += 1
        assert result == seen[name]


def test_atomic_over_two_slots_is_refused_before_anything_is_sent(kv: Kv) -> None:
    a, b = Op("INCR", Key("user:{7}:a")), Op("INCR", Key("b"))
    before = kv.round_trips
    with pytest.raises(InvalidArgument) as refused:
        kv.run(a, b, atomic=True)
    said = str(refused.value)
    assert f"'{kv.prefix}user:{{7}}:a' (hash tag '7')" in said
    assert f"'{kv.prefix}b' (without a hash tag)" in said
    with pytest.raises(InvalidArgument, match="an op must lie in one hash slot"):
        kv.run(Op("MGET", Key("a"), Key("b")))
    for of_a_node in (Op("DBSIZE"), Op("CONFIG SET", "maxmemory", 0), Op("acl", "LIST")):
        with pytest.raises(InvalidArgument, match="one node of the cluster only"):
            kv.run(of_a_node)
    assert kv.round_trips == before
    assert kv.run(a, Op("ECHO", "x"), Op("INCR", Key("{7}")), atomic=True) == (1, b"x", 1)


@pytest.mark.parametrize("greets", [True, False])
def test_what_the_client_does_on_each_connection_is_done_on_ours_too(
    cluster: RunningCluster, prefix: str, greets: bool
) -> None:
    """And not READONLY, which a client that reads from replicas sends: such reads may be old."""
    answers: list[Any] = []

    def greet(connection: Any) -> None:
        connection.send_command("ECHO", "hello")
        answers.append(connection.read_response())

    how: dict[str, Any] = {"client_name": prefix, "redis_connect_func": greet if greets else None}
    how["load_balancing_strategy"] = LoadBalancingStrategy.ROUND_ROBIN  # also from replicas
    with cluster.client(**how) as client, Kv(client, prefix=prefix) as kv:
        answers.clear()
        kv.run(*increments(names_by_node(kv, 1)))
        assert answers == [b"hello"] * (3 if greets else 0)
        for node in cluster.primaries:
            with node.client() as direct:
                lines = str(direct.execute_command(b"CLIENT", "LIST").decode()).splitlines()
            (ours,) = (line for line in lines if f"name={prefix} " in line and "resp=2" in line)
            assert "flags=N" in ours
        kv.clear()


def test_each_node_gets_a_script_that_it_lacks(kv: Kv) -> None:
    limiter = FixedWindow("each", limit=5, window=600)
    kv.client.script_flush()
    ids = range(30)
    assert {d.remaining for d in kv.run(*map(limiter.hit, ids))} == {4}  # type: ignore[arg-type]
    assert {d.remaining for d in kv.run(*map(limiter.hit, ids))} == {3}  # type: ignore[arg-type]
    assert kv.clear() == 30
    assert kv.clear() == 0


def test_a_slot_that_has_moved_is_followed_and_learnt(cluster: RunningCluster, kv: Kv) -> None:
    names = names_by_node(kv, 3)
    batch = increments(names)
    slot = Slot(cluster, kv.name(Key(names[0][0])))
    slot.begin()
    slot.end()
    assert kv.run(*batch) == (1,) * 9
    before = kv.round_trips
    assert kv.run(*batch) == (2,) * 9
    assert kv.round_trips - before == 3


@pytest.mark.parametrize("atomic", [False, True])
def test_a_slot_that_is_moving_is_asked_for(cluster: RunningCluster, kv: Kv, atomic: bool) -> None:
    key = Key("moving")
    slot = Slot(cluster, kv.name(key))
    slot.begin()
    assert kv.run(Op("INCR", key), Op("INCR", key), atomic=atomic) == (1, 2)
    assert slot.source.execute_command("CLUSTER COUNTKEYSINSLOT", slot.number) == 0
    assert slot.target.execute_command("CLUSTER COUNTKEYSINSLOT", slot.number) == 1
    slot.end()
    assert kv.run(Op("INCR", key), Op("INCR", key), atomic=atomic) == (3, 4)


def test_keys_that_are_apart_are_waited_for(cluster: RunningCluster, prefix: str) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        slot.end()

    with cluster.client() as client, Kv(client, prefix=prefix, sleep=sleep) as kv:
        both: Op[Any] = Op("MGET", Key("{apart}1"), Key("{apart}2"))
        kv.run(Op("SET", Key("{apart}1"), "here"))
        slot = Slot(cluster, kv.name(Key("{apart}1")))
        slot.begin()
        assert kv.run(both) == [b"here", None]
        assert len(pauses) == 1
        kv.clear()


def test_keys_that_stay_apart_are_waited_for_until_the_deadline(
    cluster: RunningCluster, prefix: str
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    how: dict[str, Any] = {"prefix": prefix, "clock": lambda: now[0], "sleep": sleep}
    with cluster.client() as client, Kv(client, deadline=0.1, **how) as kv:
        both: Op[Any] = Op("MGET", Key("{stay}1"), Key("{stay}2"))
        kv.run(Op("SET", Key("{stay}1"), "here"))
        slot = Slot(cluster, kv.name(Key("{stay}1")))
        slot.begin()
        for _ in range(2):  # the second one does not wait
            with pytest.raises(CannotServe) as refused:
                kv.run(both)
            assert refused.value.code == "TRYAGAIN"
            assert 0.05 < now[0] < 0.1
        slot.end()
        assert kv.run(both) == [b"here", None]
        kv.clear()


@pytest.fixture
def mortal(tmp_path: Any) -> Iterator[RunningCluster]:
    engine = engines.find("valkey")
    if engine.missing:
        pytest.skip(f"engine cluster is absent: {engine.missing}")
    running = RunningCluster(engine, tmp_path, node_timeout=0.5)
    yield running
    running.kill()


def test_a_node_that_dies_fails_its_own_ops_alone_until_its_replica_takes_over(
    mortal: RunningCluster,
) -> None:
    with mortal.client() as client, Kv(client, prefix="dies", timeout=0.5, deadline=30) as kv:
        names = names_by_node(kv, 1)
        frozen = next(n for n in mortal.primaries if n.port == _port_of(kv, names[0][0]))
        kv.run(*increments(names))
        frozen.pause()
        with pytest.raises(BatchFailed) as failed:
            kv.run(*increments(names))
        assert isinstance(failed.value.results[0], OutcomeUnknown)
        assert failed.value.results[1:] == [2, 2]
        frozen.kill()
        kinds = {type(r) for r in kv.run(increments(names), return_exceptions=True)[1:]}
        assert kinds == {int}
        assert kv.run(Op("SET", Key(names[0][0]), 7, idempotent=True)) == b"OK"  # the replica
        assert kv.run(*increments(names))[0] == 8
        assert kv.outage is None


def test_nothing_is_lost_but_what_a_failover_loses() -> None:
    """What ``benchmarks.studies.cluster_load`` does in large."""
    if missing := engines.find("valkey").missing:
        pytest.skip(f"engine cluster is absent: {missing}")
    lines, held, control_broke = cluster_load.run(decisions=4_000, adds=2_000)
    assert held, lines
    assert control_broke, lines


def _port_of(kv: Kv, name: str) -> int:
    return kv._router.place(Op("GET", Key(name)))[1]  # type: ignore[union-attr]
