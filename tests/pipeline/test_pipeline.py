"""Batches in the code: the seed's faults forced, and the same schedule held."""

from __future__ import annotations

import pytest
import redis

from kvlab import Key, Kv, NaivePipeline, Op, connect
from kvlab.errors import BatchFailed, InvalidArgument, ServerRefused
from kvlab.instruments.faults.client_gate import ClientCrashed, GatedRedis, gated
from kvlab.instruments.faults.proxy import Proxy
from kvlab.pipeline import add_to_counters, dashboard
from kvlab.server.running_server import RunningServer

COUNTERS = {f"c{i}": 1 for i in range(1000)}


def until_gone(admin: redis.Redis, crashed: GatedRedis) -> None:
    """The server has read all that the crashed client had sent once it no longer lists it."""
    name = crashed.connection_pool.connection_kwargs["client_name"]
    for _ in range(10_000):
        if all(c["name"] != name for c in admin.client_list()):
            return
    raise AssertionError(f"{name} is still connected")


def applied(kv: Kv) -> int:
    return sum(1 for _ in kv.client.scan_iter(match=kv.prefix + "*", count=1000))


def dying(server: RunningServer, before: str) -> GatedRedis:
    return gated(server.url, before, nth=155, crash=True, client_name="dying")


def test_naive_counters_cut_midway_are_applied_in_part(kv: Kv, server: RunningServer) -> None:
    client = dying(server, "INCRBY")
    with pytest.raises(ClientCrashed):
        NaivePipeline(client, prefix=kv.prefix).batch_update_counters(COUNTERS)
    until_gone(kv.client, client)
    assert applied(kv) == 154


def test_a_plain_batch_is_cut_just_the_same(kv: Kv, server: RunningServer) -> None:
    client = dying(server, "EVALSHA")
    kv.run(add_to_counters("g", {"warm": 1}))  # the script is loaded
    with pytest.raises(ClientCrashed), Kv(client, prefix=kv.prefix) as crashing:
        crashing.run(add_to_counters("g", COUNTERS))
    until_gone(kv.client, client)
    assert applied(kv) - 1 == 154


def test_atomic_counters_cut_midway_are_not_applied(kv: Kv, server: RunningServer) -> None:
    client = dying(server, "EVAL")
    with pytest.raises(ClientCrashed), Kv(client, prefix=kv.prefix) as crashing:
        crashing.run(add_to_counters("g", COUNTERS), atomic=True)
    until_gone(kv.client, client)
    assert applied(kv) == 0
    assert kv.run(add_to_counters("g", COUNTERS), atomic=True) == [1] * 1000


def test_a_list_travels_in_chunks_and_a_tuple_does_not(server: RunningServer) -> None:
    with Proxy(server.url) as proxy, connect(proxy.url, prefix="chunks") as kv:
        kv.run(Op("PING"))
        before = kv.round_trips
        assert kv.run([Op("ECHO", str(i)) for i in range(1200)])[-1] == b"1199"
        assert kv.round_trips - before == 3
        proxy.reset()
        kv.run(*(Op("ECHO", str(i)) for i in range(1200)))
        assert proxy.requests == 1


def test_dashboard_is_one_round_trip_and_the_seeds_answer(any_kv: Kv) -> None:
    kv = any_kv
    ada = "user:{7}:"
    kv.run(
        Op("SET", Key(ada + "profile"), "p"),
        Op("ZADD", Key(ada + "notifications"), *(x for i in range(9) for x in (i, f"n{i}"))),
        Op("HSET", Key(ada + "stats"), "wins", 3),
    )
    before = kv.round_trips
    profile, settings, news, stats = kv.run(*dashboard(7))
    assert kv.round_trips - before == 1
    assert (profile, settings, stats) == (b"p", None, {b"wins": b"3"})
    assert news == [b"n8", b"n7", b"n6", b"n5", b"n4"]
    naive = NaivePipeline(kv.client, prefix=kv.prefix).dashboard("{7}")  # type: ignore[arg-type]
    assert list(naive.values()) == [profile, settings, news, stats]


def test_one_failing_op_fails_alone(any_kv: Kv) -> None:
    any_kv.run(Op("SET", Key("counters:{g}:b"), "not a number"))
    with pytest.raises(BatchFailed) as failed:
        any_kv.run(add_to_counters("g", {"a": 1, "b": 1, "c": 1}))
    first, second, third = failed.value.results
    assert (first, third) == (1, 1)
    assert isinstance(second, ServerRefused)


def test_counters_live_from_their_first_addition_on(any_kv: Kv) -> None:
    kv = any_kv
    (op,) = add_to_counters("g", {"a": 2}, ttl=60)
    assert kv.run(op) == 2
    kv.run(Op("PEXPIRE", op.keys[0], 30_000))
    assert kv.run(op) == 4
    assert 0 < kv.run(Op("PTTL", op.keys[0])) <= 30_000  # the second addition prolonged nothing
    kv.run(Op("PERSIST", op.keys[0]))
    kv.run(op)
    assert 0 < kv.run(Op("PTTL", op.keys[0])) <= 60_000  # one without a TTL is healed


def test_a_counter_of_64_bits_comes_back_to_the_digit(any_kv: Kv) -> None:
    beyond = 2**53 + 1  # what Lua's numbers cannot hold
    assert any_kv.run(add_to_counters("g", {"a": beyond, "b": -beyond})) == [beyond, -beyond]
    assert any_kv.run(add_to_counters("g", {"a": 2**63 - 1 - beyond})) == [2**63 - 1]


def test_text_that_would_break_a_key_or_a_command() -> None:
    names = ["a", "a\0", "a\n", "{a}", "x" * 10_000_000, "\ud800", "~", ""]
    ops = add_to_counters("{g}:", dict.fromkeys(names, 1))
    assert len({op.keys[0].name for op in ops}) == len(names)
    assert all(len(op.keys[0].name) < 250 for op in ops)
    assert all(op.keys[0].name.count("{") == 1 for op in ops)


@pytest.mark.parametrize("increment", [True, 1.5, "1", None, 2**63, -(2**63) - 1])
def test_increments_are_integers_of_64_bits(increment: object) -> None:
    with pytest.raises(InvalidArgument, match="increment of 'a'"):
        add_to_counters("g", {"a": increment})  # type: ignore[dict-item]


@pytest.mark.parametrize("ttl", [0, -1, True, float("nan"), float("inf"), "60"])
def test_a_ttl_is_positive_seconds(ttl: object) -> None:
    with pytest.raises(InvalidArgument, match="ttl"):
        add_to_counters("g", {"a": 1}, ttl=ttl)  # type: ignore[arg-type]
