"""Chapter 09's three functions: found broken, found whole, by ``explore`` alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from kvlab.instruments import Violated, World, explore, replay, step
from kvlab.instruments.explorer.connections.redis_clients import KvRedis

TEXT = {"decode_responses": True}


# --- get, or create ---

drawn = itertools.count()


def get_or_create(kv: KvRedis) -> str:
    token = kv.get("token")
    if token is None:
        token = f"token {next(drawn)}"
        kv.set("token", token, ex=3600)
    return str(token)


def set_then_get(kv: KvRedis) -> Any:
    kv.set("token", f"token {next(drawn)}", nx=True, ex=3600)
    return kv.get("token")


def one_command(kv: KvRedis) -> Any:
    mine = f"token {next(drawn)}"
    return kv.set("token", mine, nx=True, get=True, ex=3600) or mine


def who_has_a_token_has_the_token(world: World) -> bool:
    tokens = {result for result in world.results if isinstance(result, str)}
    return tokens <= {world.kv.get("token")}


def everybody_has_a_token(world: World) -> bool:
    return None not in world.results


def test_get_or_create_makes_two_tokens() -> None:
    question: dict[str, Any] = {"invariant": who_has_a_token_has_the_token, "client_options": TEXT}
    story = explore([get_or_create] * 2, **question)
    assert (story.violations, story.schedules) == (4, 6)
    with pytest.raises(Violated, match="GET token → nil"):
        assert replay("0 1 1 0", [get_or_create] * 2, **question)
    assert replay("0 1 1 0", [set_then_get] * 2, **question)
    assert explore([set_then_get] * 2, **question)


def test_set_then_get_loses_the_token_to_its_ttl() -> None:
    question: dict[str, Any] = {"invariant": everybody_has_a_token, "client_options": TEXT}
    story = explore([set_then_get] * 2, expiries=True, **question)
    assert story.schedule is not None
    assert "e:token" in story.schedule
    assert explore([one_command] * 2, expiries=True, **question)


def test_one_command_makes_one_token_whatever_is_lost() -> None:
    assert explore(
        [one_command] * 2,
        invariant=who_has_a_token_has_the_token,
        client_options=TEXT,
        crashes=True,
        lost_replies=True,
        lost_requests=True,
        max_faults=2,
    )


# --- the last coupon ---

SELL = """
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 'sold out' end
redis.call('DECR', KEYS[1])
return 'sold'
"""
SELL_ONCE = """
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 'sold' end
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 'sold out' end
redis.call('DECR', KEYS[1])
redis.call('SADD', KEYS[2], ARGV[1])
return 'sold'
"""


def get_then_decr(kv: KvRedis) -> str:
    if int(kv.get("stock") or 0) > 0:
        kv.decr("stock")
        return "sold"
    return "sold out"


def give_back(kv: KvRedis) -> str:
    if kv.decr("stock") >= 0:
        return "sold"
    kv.incr("stock")
    return "sold out"


def in_a_script(kv: KvRedis) -> Any:
    return kv.eval(SELL, 1, "stock")


def once_for(order: str) -> Callable[[KvRedis], Any]:
    return lambda kv: kv.eval(SELL_ONCE, 2, "stock", "buyers", order)


def not_oversold(world: World) -> bool:
    return world.results.count("sold") <= 1 and int(world.kv.get("stock") or 0) >= 0


def none_missing(world: World) -> bool:
    return world.results.count("sold") + int(world.kv.get("stock") or 0) == 1


COUPONS: dict[str, Any] = {"setup": lambda kv: kv.set("stock", 1), "client_options": TEXT}


def test_get_then_decr_sells_the_last_one_twice() -> None:
    story = explore([get_then_decr] * 2, invariant=not_oversold, **COUPONS)
    assert (story.violations, story.schedules) == (4, 6)


def test_a_crash_keeps_what_was_to_be_given_back() -> None:
    assert explore([give_back] * 3, invariant=not_oversold, **COUPONS)
    story = explore([give_back] * 2, invariant=not_oversold, crashes=True, **COUPONS)
    assert story.schedule == "0 1 x1"
    assert explore([in_a_script] * 3, invariant=not_oversold, crashes=True, **COUPONS)


def test_a_script_that_is_sent_again_takes_another_coupon() -> None:
    story = explore([in_a_script], invariant=none_missing, lost_replies=True, **COUPONS)
    assert story.schedule == "r0 0"
    clients = [once_for("ann's"), once_for("bob's")]
    assert explore(
        clients,
        invariant=none_missing,
        lost_replies=True,
        lost_requests=True,
        max_faults=2,
        **COUPONS,
    )


# --- a queue ---

mails: list[str] = []


def one_job(kv: KvRedis) -> None:
    mails.clear()
    kv.lpush("jobs", "a")


def send(job: str) -> None:
    step(f"mail {job}", "mail service")
    mails.append(job)


def pop(kv: KvRedis) -> None:
    if job := kv.rpop("jobs"):
        send(str(job))


def move(kv: KvRedis) -> None:
    if job := kv.lmove("jobs", "working", "RIGHT", "LEFT"):
        send(job)
        kv.lrem("working", 1, job)


def reap_all(kv: KvRedis) -> None:
    kv.lmove("working", "jobs", "RIGHT", "RIGHT")
    move(kv)


def worker(kv: KvRedis, me: str = "w1") -> None:
    kv.set(f"alive:{me}", 1, ex=30)
    if job := kv.lmove("jobs", f"working:{me}", "RIGHT", "LEFT"):
        send(job)
        kv.lrem(f"working:{me}", 1, job)


def reap_in_two_steps(kv: KvRedis) -> None:
    if not kv.exists("alive:w1"):
        kv.lmove("working:w1", "jobs", "RIGHT", "RIGHT")


REAP = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('LMOVE', KEYS[2], KEYS[3], 'RIGHT', 'RIGHT')
end
"""


def reap_in_one(kv: KvRedis) -> None:
    kv.eval(REAP, 3, "alive:w1", "working:w1", "jobs")


def sent_once(world: World) -> bool:
    return mails == ["a"]


def in_the_end(world: World) -> bool:
    world.kv.delete("alive:w1")
    reap_in_one(world.kv)
    worker(world.kv, "w2")
    faulty = any(step.kind != "go" for step in world.trace)
    return set(mails) == {"a"} and (len(mails) == 1 or faulty)


QUEUE: dict[str, Any] = {"setup": one_job, "client_options": TEXT}


@pytest.mark.parametrize(("program", "broken"), [(pop, 4), (move, 4)])
def test_a_crash_takes_the_job_along(program: Any, broken: int) -> None:
    assert explore([program] * 2, invariant=sent_once, **QUEUE)
    story = explore([program] * 2, invariant=sent_once, crashes=True, **QUEUE)
    assert (story.violations, story.schedule) == (broken, "0 x0 1")


def test_a_reaper_that_does_not_know_who_is_dead_does_the_job_twice() -> None:
    assert not explore([move, reap_all], invariant=sent_once, **QUEUE).holds


def test_a_reaper_that_looks_then_takes_does_the_job_twice() -> None:
    def reap_and_work(reap: Callable[[KvRedis], None]) -> Callable[[KvRedis], None]:
        return lambda kv: (reap(kv), worker(kv, "w2"))[0]

    broken = explore([worker, reap_in_two_steps], invariant=in_the_end, **QUEUE)
    assert not broken.holds
    assert explore([worker, reap_and_work(reap_in_one)], invariant=in_the_end, **QUEUE)


def test_no_job_is_lost_and_only_a_fault_does_one_twice() -> None:
    assert explore(
        [worker, reap_in_one],
        invariant=in_the_end,
        crashes=True,
        expiries=True,
        max_faults=2,
        **QUEUE,
    )


def test_nothing_makes_it_once_whatever_happens() -> None:
    story = explore(
        [worker], invariant=lambda w: in_the_end(w) and len(mails) == 1, crashes=True, **QUEUE
    )
    assert story.schedule == "0 0 0 x0"
