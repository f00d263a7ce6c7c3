"""Chapter 9: a job that waits once, and a coupon that is asked for twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvlab.instruments.explorer.run.steps import World
from kvlab.instruments.explorer.story import Story
from kvlab.workshop.exercises.exercise import TEXT, Exercise, Explore, data, promise

# --- the short one: enqueue_once(kv, job) ---


def _puts(enqueue_once: Any, *jobs: str) -> Callable[[Any], None]:
    def puts(kv: Any) -> None:
        for job in jobs:
            enqueue_once(kv, job)

    return puts


@promise("each job waits", "different jobs are all in the list, each once")
def each_waits(enqueue_once: Any, explore: Explore) -> Story:
    def all_there(world: World) -> bool:
        jobs = data(world).lrange("jobs", 0, -1)
        assert sorted(jobs) == ["a", "b"], f"a, b and b again were put, and the list has {jobs}"
        return True

    return explore(
        {"Ann": _puts(enqueue_once, "a", "b", "b")}, invariant=all_there, client_options=TEXT
    )


@promise("two clients at once", "in every order the job waits once")
def two_at_once(enqueue_once: Any, explore: Explore) -> Story:
    def once(world: World) -> bool:
        jobs = data(world).lrange("jobs", 0, -1)
        assert jobs == ["a"], f"two clients put the job a, and the list has {jobs}"
        return True

    return explore(
        {"Ann": _puts(enqueue_once, "a"), "Bob": _puts(enqueue_once, "a")},
        invariant=once,
        client_options=TEXT,
    )


@promise("a job that was taken", "may be put again")
def put_again(enqueue_once: Any, explore: Explore) -> Story:
    def puts_takes_puts(kv: Any) -> None:
        enqueue_once(kv, "a")
        kv.rpop("jobs")
        enqueue_once(kv, "a")

    def waits(world: World) -> bool:
        jobs = data(world).lrange("jobs", 0, -1)
        assert jobs == ["a"], f"a was taken and put again, and the list has {jobs}"
        return True

    return explore({"Ann": puts_takes_puts}, invariant=waits, client_options=TEXT)


@promise("a crash", "after a crash and a second attempt the job waits once")
def crash(enqueue_once: Any, explore: Explore) -> Story:
    def once(world: World) -> bool:
        jobs = data(world).lrange("jobs", 0, -1)
        if None in world.results:  # one of the two has ended
            assert jobs == ["a"], f"an attempt crashed, the other ended, and the list has {jobs}"
        return True

    def puts(kv: Any) -> None:
        enqueue_once(kv, "a")

    return explore(
        {"first": puts, "again": puts}, invariant=once, crashes=True, client_options=TEXT
    )


# --- the long one: sell(kv, order) ---


def _buys(sell: Any, order: str) -> Callable[[Any], Any]:
    return lambda kv: sell(kv, order)


def _coupons(count: int) -> Callable[[Any], object]:
    return lambda kv: kv.set("stock", count)


def _two_customers(sell: Any, explore: Explore, **faults: bool) -> Story:
    def none_missing(world: World) -> bool:
        sold, left = world.results.count("sold"), int(data(world).get("stock"))
        assert left >= 0, f"the stock is {left}: more coupons were taken than there are"
        assert sold + left <= 1, f"{sold} sold, {left} left, 1 at first"
        if all(isinstance(answer, str) for answer in world.results):  # nobody crashed
            assert sold + left == 1, f"{sold} sold, {left} left, 1 at first"
        return True

    return explore(
        {"ann": _buys(sell, "ann's"), "bob": _buys(sell, "bob's")},
        setup=_coupons(1),
        invariant=none_missing,
        client_options=TEXT,
        **faults,
    )


@promise("the last coupon", "two customers and one coupon: one is sold, in every order")
def last_coupon(sell: Any, explore: Explore) -> Story:
    return _two_customers(sell, explore)


@promise("a crash", "wherever a customer crashes, no coupon is sold twice")
def customer_crashes(sell: Any, explore: Explore) -> Story:
    return _two_customers(sell, explore, crashes=True)


@promise("a lost reply", "redis-py retries, and the order takes one coupon")
def reply_lost(sell: Any, explore: Explore) -> Story:
    return _two_customers(sell, explore, lost_replies=True)


@promise("a double click", "the same order gets the same coupon, and not another one")
def double_click(sell: Any, explore: Explore) -> Story:
    def same_coupon(world: World) -> bool:
        taken = 2 - int(data(world).get("stock"))
        assert world.results == ["sold", "sold"], f"one order, two answers: {world.results}"
        assert taken == 1, f"one order took {taken} coupons"
        return True

    return explore(
        {"ann": _buys(sell, "ann's"), "ann, again": _buys(sell, "ann's")},
        setup=_coupons(2),
        invariant=same_coupon,
        client_options=TEXT,
    )


@promise("a crash and a second try", "after a crash the same order still ends with one coupon")
def tries_again(sell: Any, explore: Explore) -> Story:
    def one_coupon(world: World) -> bool:
        taken = 2 - int(data(world).get("stock"))
        if "sold" in world.results:
            assert taken == 1, f"the order was answered with sold, and it took {taken} coupons"
        assert "sold out" not in world.results, "two coupons, one order, and it is sold out"
        return True

    return explore(
        {"ann": _buys(sell, "ann's"), "ann, again": _buys(sell, "ann's")},
        setup=_coupons(2),
        invariant=one_coupon,
        crashes=True,
        client_options=TEXT,
    )


EXERCISES = (
    Exercise(
        number="09-short",
        function="enqueue_once",
        title="a job that waits once",
        minutes=10,
        hints=(
            "Between looking into the list and pushing, another client can push.",
            "A second key that remembers jobs must be cleaned when a job is taken. Can the list "
            "itself answer?",
            "In a script: if not redis.call('LPOS', KEYS[1], ARGV[1]) then redis.call('LPUSH', "
            "KEYS[1], ARGV[1]) end.",
        ),
        promises=(each_waits, two_at_once, put_again, crash),
    ),
    Exercise(
        number="09",
        function="sell",
        title="the coupon that is asked for twice",
        minutes=20,
        hints=(
            "How can the server know that an order has bought already?",
            "A set of the buyers, changed in the same step as the stock.",
            "In a script with the keys stock and buyers: SISMEMBER → 'sold'; stock <= 0 → 'sold "
            "out'; DECR and SADD → 'sold'.",
        ),
        promises=(last_coupon, customer_crashes, reply_lost, double_click, tries_again),
    ),
)
