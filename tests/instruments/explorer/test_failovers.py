"""A failover loses the last writes: every number of them, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from math import comb
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.errors import InvalidArgument, OutcomeUnknown
from kvlab.instruments import Faults, explore, replay
from kvlab.server.running_server import RunningServer

TEXT = {"decode_responses": True}
NO_RETRY: dict[str, Any] = {"client_options": {"retry": Retry(NoBackoff(), 0)}}


def writer(name: str, count: int) -> Callable[[Any], None]:
    def write(kv: Any) -> None:
        for number in range(count):
            kv.set(f"{name}{number}", 1)

    return write


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_one_client_can_lose_each_number_of_its_writes_before_each_step(count: int) -> None:
    story = explore([writer("a", count)], failovers=True)
    assert story.holds
    assert story.schedules == 1 + count * (count - 1)


def orders(one: int, other: int) -> int:
    """Of two clients with so many writes, without a fault and with one failover.

    A client that has not ended finds its connection closed, or else it has one step more, in which
    its request is lost.
    """
    found = comb(one + other, one)
    for i in range(one + 1):
        for j in range(other + 1):
            ways = product({one - i, one - i + (i < one)}, {other - j, other - j + (j < other)})
            after = sum(comb(a + b, a) for a, b in ways) if (i, j) != (one, other) else 0
            found += comb(i + j, i) * (i + j) * after
    return found


@pytest.mark.parametrize(("one", "other"), [(1, 1), (2, 1), (2, 2)])
def test_two_clients_by_arithmetic(one: int, other: int) -> None:
    story = explore([writer("a", one), writer("b", other)], failovers=True)
    assert story.holds
    assert story.schedules == orders(one, other)


def test_what_is_left_is_a_prefix_and_every_prefix_comes() -> None:
    """A MULTI and a script are one write each; what setup wrote is not lost."""
    seen = set()

    def writes(kv: Any) -> None:
        kv.rpush("log", "a")
        kv.pipeline().rpush("log", "b").rpush("log", "c").execute()
        kv.eval("redis.call('RPUSH', KEYS[1], 'd') redis.call('RPUSH', KEYS[1], 'e')", 1, "log")

    def looks(kv: Any) -> str:
        writes(kv)
        return "".join(kv.lrange("log", 0, -1))

    def is_a_prefix(world: Any) -> bool:
        lost = [step.label for step in world.trace if step.kind == "fail over"]
        if len(world.trace) and world.trace[-2].kind == "lose request" and lost:
            seen.add(world.results[0])
        return True

    explore([looks], setup=lambda kv: kv.rpush("log", "0"), failovers=True, invariant=is_a_prefix,
            client_options=TEXT)  # fmt: skip
    assert seen == {"0", "0a", "0abc"}


def test_time_is_not_taken_back() -> None:
    """A TTL that has ended has ended on the replica too."""

    def client(kv: Any) -> Any:
        kv.set("lease", 1, ex=10)
        kv.get("lease")
        kv.set("other", 1)
        return kv.get("lease")

    def stays_away(world: Any) -> bool:
        kinds = [step.kind for step in world.trace]
        if "expire" in kinds and "fail over" in kinds[kinds.index("expire") :]:
            return world.results[0] is None
        return True

    assert explore([client], failovers=True, expiries=True, max_faults=2, invariant=stays_away)


def test_an_acknowledged_write_is_gone_and_the_run_can_be_replayed() -> None:
    def sets_then_gets(kv: Any) -> Any:
        kv.set("a", 1)
        return kv.get("a")

    def is_there(world: Any) -> bool:
        return world.results == ["1"]

    asked: dict[str, Any] = {"invariant": is_there, "client_options": TEXT}
    story = explore([sets_then_gets], failovers=True, **asked)
    assert (story.violations, story.schedules, story.faults["failovers"]) == (2, 3, 2)
    again = replay("0 p1 q0 0", [sets_then_gets], **asked)
    assert not again.holds
    assert "is replaced by a replica without the last write" in str(again)
    assert "GET a, and the request is lost" in str(again)
    with pytest.raises(InvalidArgument, match="possible"):
        replay("0 p2", [sets_then_gets], **asked)


def test_a_client_that_does_not_retry_gets_an_error_that_is_excused() -> None:
    def client(kv: Any) -> None:
        kv.set("a", 1)
        kv.set("b", 1)

    story = explore([client], failovers=True, **NO_RETRY)
    assert story.holds
    assert story.excused == {"ConnectionError": 1}
    assert OutcomeUnknown.__name__ not in story.excused


def test_a_client_that_waits_in_the_server_waits_on_the_next_one() -> None:
    def takes(kv: Any) -> Any:
        return kv.blpop("jobs", 5)

    def puts(kv: Any) -> None:
        kv.set("first", 1)
        kv.rpush("jobs", "a")

    story = explore([takes, puts], failovers=True, invariant=lambda world: True)
    assert story.complete
    assert story.holds
    assert story.faults["failovers"]


@pytest.mark.parametrize("way", [{"reduce": True}, {"processes": 2}])
def test_every_way_to_search_finds_the_same(way: dict[str, Any]) -> None:
    def adds(kv: Any) -> int:
        kv.incr("n")
        return int(kv.incr("n"))

    def all_counted(world: Any) -> bool:
        return int(world.kv.get("n") or 0) == 4

    clients, asked = [adds, adds], {"invariant": all_counted, "failovers": True}
    plain, other = explore(clients, **asked), explore(clients, **asked, **way)
    assert plain.violations
    assert set(plain.broken) == set(other.broken)
    if "processes" in way:
        assert (other.schedules, other.violations) == (plain.schedules, plain.violations)


def test_two_writes_do_not_commute_when_the_last_can_be_lost() -> None:
    """Different keys: without failovers one order stands for both."""
    left = set()

    def which(world: Any) -> bool:
        if [step.kind for step in world.trace][2:3] == ["fail over"]:
            left.add((world.kv.exists("a0"), world.kv.exists("b0")))
        return True

    def then_looks(write: Callable[[Any], None]) -> Callable[[Any], None]:
        def client(kv: Any) -> None:
            write(kv)
            kv.get("x")

        return client

    clients = [then_looks(writer("a", 1)), then_looks(writer("b", 1))]
    explore(clients, failovers=True, reduce=True, invariant=which)
    assert {(1, 0), (0, 1), (0, 0)} <= left


@pytest.mark.parametrize("where", [{"engine": "fakeredis"}, {"url": "redis://127.0.0.1:1/0"}])
def test_only_a_private_server_with_a_log_can_fail_over(where: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="failovers must be False"):
        explore([writer("a", 1)], failovers=True, **where)  # type: ignore[arg-type]


def test_an_old_server_is_refused_in_one_sentence(running: Callable[[str], RunningServer]) -> None:
    running("redis-6.2")  # skips where it is absent
    with pytest.raises(InvalidArgument, match="Redis 7 or later"):
        explore([writer("a", 1)], faults=Faults(failovers=True), engine="redis-6.2")


def sets_and_waits(kv: Any) -> str:
    if kv.pipeline(transaction=False).set("before", 1).wait(1, 100).execute()[1] < 1:
        return "nobody knows"
    kv.set("after", 1)
    with suppress(redis.ConnectionError):
        kv.get("a failover may come before this step too")
    return "written"


async def sets_and_waits_async(kv: Any) -> str:
    said = await kv.pipeline(transaction=False).set("before", 1).wait(1, 100).execute()
    if said[1] < 1:
        return "nobody knows"
    await kv.set("after", 1)
    with suppress(redis.ConnectionError):
        await kv.get("a failover may come before this step too")
    return "written"


def does_not_look_at_the_answer(kv: Any) -> str:
    kv.pipeline(transaction=False).set("before", 1).wait(1, 100).execute()
    with suppress(redis.ConnectionError):
        kv.get("a failover may come before this step too")
    return "written"


def waits_later(kv: Any) -> str:
    kv.set("before", 1)
    return "written" if kv.wait(1, 100) else "nobody knows"


def before_is_kept(world: Any) -> bool:
    """what was written before the WAIT is there, if the client got every answer"""
    return world.results != ["written"] or world.kv.get("before") == b"1"


def after_is_kept(world: Any) -> bool:
    """what was written after the WAIT is there, if the client got every answer"""
    return world.results != ["written"] or world.kv.get("after") == b"1"


@pytest.mark.parametrize("client", [sets_and_waits, sets_and_waits_async])
def test_what_wait_has_confirmed_is_not_lost_and_what_comes_after_it_is(client: Any) -> None:
    kept = explore([client], invariant=before_is_kept, failovers=True, max_faults=2, **NO_RETRY)
    assert kept.faults["failovers"]
    assert kept.holds
    assert explore([client], invariant=after_is_kept, failovers=True, **NO_RETRY).violations


def test_a_wait_in_vain_confirms_nothing_and_is_a_fault_of_its_own() -> None:
    asked: dict[str, Any] = {"invariant": before_is_kept, **NO_RETRY}
    assert explore([does_not_look_at_the_answer], failovers=True, **asked)
    story = explore([does_not_look_at_the_answer], failovers=True, max_faults=2, **asked)
    assert story.schedule == "w0 p1 0"
    assert "SET before 1; WAIT 1 100 → OK, 0: no replica has got it" in str(story)
    assert not replay("w0 p1 0", [does_not_look_at_the_answer], **asked).holds


def test_a_wait_that_comes_later_has_perhaps_a_new_connection_and_confirms_nothing() -> None:
    story = explore([waits_later], invariant=before_is_kept, failovers=True, **NO_RETRY)
    assert story.schedule == "0 p1 0"
    assert "WAIT 1 100 → 1" in str(story)


def sets_once_and_waits(kv: Any) -> str:
    """The retry of redis-py writes nothing, on a connection that has written nothing."""
    kv.pipeline(transaction=False).set("before", 1, nx=True).wait(1, 100).execute()
    kv.get("a failover may come before this step too")
    return "written"


def test_a_wait_whose_answer_is_lost_confirms_nothing() -> None:
    """What lost the answer may have cut the WAIT short."""
    assert not replay("r0 0 p1 0", [sets_once_and_waits], invariant=before_is_kept).holds
    with pytest.raises(InvalidArgument, match="possible"):  # the control: with its answer
        replay("0 p1 0", [sets_once_and_waits])


def test_a_ttl_that_ended_takes_only_a_key_with_a_ttl() -> None:
    """The TTL was that of the lost write: on the replica the key has an older value without one."""

    def client(kv: Any) -> Any:
        kv.set("k", "a")
        kv.set("k", "b", ex=10)
        time.sleep(20)
        kv.get("x")
        return kv.get("k")

    def older_value_lives(world: Any) -> bool:
        lost = [step.label for step in world.trace if step.kind == "fail over"]
        after_the_sleep = [step.label for step in world.trace[:4]][2:3] == ["sleeps 20 s"]
        if lost == ["is replaced by a replica without the last write"] and after_the_sleep:
            return world.results == ["a"]
        return True

    story = explore([client], failovers=True, invariant=older_value_lives, client_options=TEXT)
    assert story.holds
    assert story.faults["failovers"]


def test_time_brings_the_older_ttl_nearer_to_its_end_and_not_the_lost_one() -> None:
    """Of two TTLs the replica has got the longer one, which runs on."""
    left = set()

    def client(kv: Any) -> Any:
        kv.set("k", "a", ex=1000)
        kv.set("k", "b", ex=10)
        time.sleep(20)
        kv.get("x")
        return kv.get("k"), kv.ttl("k")

    def note(world: Any) -> bool:
        if [step.label[:6] for step in world.trace[2:4]] == ["sleeps", "is rep"]:
            left.add((world.trace[3].label[-13:], world.results[0]))
        return True

    explore([client], failovers=True, invariant=note, client_options=TEXT)
    assert left == {("he last write", ("a", 980)), ("last 2 writes", (None, -2))}


def test_what_a_gather_has_sent_is_noted_when_the_server_has_done_it() -> None:
    async def client(kv: Any) -> int:
        await asyncio.gather(kv.set("a", 1), kv.set("b", 1))
        return 1

    stories = [explore([client], failovers=True) for _ in range(3)]
    assert {story.schedules for story in stories} == {stories[0].schedules}
    assert stories[0].faults["failovers"]


def test_another_database_is_followed_and_left() -> None:
    left = set()

    def client(kv: Any) -> Any:
        kv.set("t", 1, ex=50)
        kv.execute_command("SELECT", 3)
        kv.set("a", 1)
        kv.set("b", 1)
        looks = kv.pipeline(transaction=False).execute_command("SELECT", 3).exists("a").exists("b")
        return tuple(looks.execute_command("SELECT", 0).exists("t").execute())

    def note(world: Any) -> bool:
        if [step.kind for step in world.trace[4:6]] == ["expire", "fail over"]:
            left.add(world.results[0])
        return True

    explore([client], failovers=True, expiries=True, max_faults=2, invariant=note)
    assert left == {(True, 1, 0, True, 0), (True, 0, 0, True, 0)}


@pytest.mark.parametrize("replace", [False, True])
def test_a_function_that_was_loaded_by_the_lost_write_is_gone(replace: bool) -> None:
    library = "#!lua name=l\nredis.register_function('f', function() return 1 end)"

    def client(kv: Any) -> Any:
        kv.function_load(library, replace=replace)
        try:
            return kv.fcall("f", 0)
        except redis.ResponseError as problem:
            return str(problem)

    story = explore([client], failovers=True, invariant=lambda world: world.results == [1])
    assert story.violations == 2
    assert "not found" in str(story)
