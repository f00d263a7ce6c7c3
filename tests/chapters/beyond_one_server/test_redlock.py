"""Redlock in its smallest form: right without a fault, and what one clock or one pause does."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import redis

from kvlab.chapters.beyond_one_server import redlock
from kvlab.instruments import World, explore, replay
from kvlab.server import engines

THREE = ("A:door", "B:door", "C:door")
PEOPLE = {name: redlock.holder(name, names=THREE) for name in ("ann", "bob")}


def one_inside(world: World) -> bool:
    return world.most_inside("enters", "leaves") <= 1


def test_a_majority_is_right_in_every_order_and_wrong_after_one_ttl_that_ends_early() -> None:
    assert explore(PEOPLE, invariant=one_inside, reduce=True)
    jumped = "0 0 0 e:A:door 1 1 1 1 1 0 0 0 1"
    assert not replay(jumped, PEOPLE, invariant=one_inside).holds


def test_a_pause_after_the_look_at_the_clock_lets_two_in() -> None:
    sleepy = PEOPLE | {"ann": redlock.holder("ann", pause=11, names=THREE)}
    assert not replay("0 0 0 0 0 1 1 1 1 1 0 0", sleepy, invariant=one_inside).holds


def test_a_pause_inside_of_acquire_is_noticed_and_everything_is_given_back() -> None:
    class Late(redis.Redis):
        def set(self, *args: Any, **kwargs: Any) -> Any:
            answer = super().set(*args, **kwargs)
            time.sleep(11)
            return answer

    def client(kv: Any) -> Any:
        late = Late(connection_pool=kv.connection_pool)
        nodes = [(kv, "A:door"), (late, "B:door"), (kv, "C:door")]
        return redlock.acquire(nodes, "ann"), kv.keys("*")

    story = explore([client], invariant=lambda world: world.results == [(None, [])])
    assert story.holds
    assert story.schedules == 1


def test_on_real_nodes_one_that_has_forgotten_gives_the_lock_to_two() -> None:
    with ExitStack() as ends:
        servers = [ends.enter_context(engines.start("valkey")) for _ in range(3)]
        nodes = [(ends.enter_context(server.client()), "door") for server in servers]
        assert redlock.acquire(nodes[:2], "ann")
        assert redlock.acquire(nodes, "bob") is None
        nodes[0][0].flushall()
        assert redlock.acquire(nodes, "bob")
        assert [client.get(key) for client, key in nodes] == [b"bob", b"ann", b"bob"]
