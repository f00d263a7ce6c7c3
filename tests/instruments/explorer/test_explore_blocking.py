"""Commands that block, sleeps, deadlocks: time passes only when somebody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from kvlab import Lock
from kvlab.instruments import Violated, World, explore, replay
from kvlab.instruments.explorer.run.steps import UNFINISHED
from kvlab.instruments.faults.client_gate import ClientCrashed

STREAM = {"s": "$"}


def push(kv: Any) -> Any:
    return kv.rpush("q", "e")


def of_list(timeout: float) -> Callable[[Any], Any]:
    return lambda kv: kv.blpop("q", timeout)


WAITS: dict[str, tuple[Callable[[Any, float], Any], Any]] = {
    "BLPOP": (lambda kv, wait: kv.blpop("q", wait), (b"q", b"e")),
    "BRPOP": (lambda kv, wait: kv.brpop("q", wait), (b"q", b"e")),
    "BLMOVE": (lambda kv, wait: kv.blmove("q", "to", wait, "LEFT", "RIGHT"), b"e"),
    "BRPOPLPUSH": (lambda kv, wait: kv.brpoplpush("q", "to", wait), b"e"),
    "BLMPOP": (lambda kv, wait: kv.blmpop(wait, 1, "q", direction="LEFT"), [b"q", [b"e"]]),
    "BZPOPMIN": (lambda kv, wait: kv.bzpopmin("z", wait), (b"z", b"e", 1.0)),
    "BZPOPMAX": (lambda kv, wait: kv.bzpopmax("z", wait), (b"z", b"e", 1.0)),
    "BZMPOP": (lambda kv, wait: kv.bzmpop(wait, 1, ["z"], min=True), [b"z", [[b"e", b"1"]]]),
    "XREAD": (
        lambda kv, wait: kv.xread(STREAM, block=int(wait * 1000)),
        [[b"s", [(b"1-1", {b"f": b"e"})]]],
    ),
    "XREADGROUP": (
        lambda kv, wait: kv.xreadgroup("g", "me", {"s": ">"}, block=int(wait * 1000)),
        [[b"s", [(b"1-1", {b"f": b"e"})]]],
    ),
}


def group(kv: Any) -> Any:
    return kv.xgroup_create("s", "g", mkstream=True)


def of(
    way: str, wait: Callable[[Any, float], Any], seconds: float, then: Any = lambda found: found
) -> Any:
    async def awaits(kv: Any) -> Any:
        return then(await wait(kv, seconds))

    return awaits if way == "async" else lambda kv: then(wait(kv, seconds))


def supply(kv: Any) -> None:
    pipe = kv.pipeline()
    pipe.rpush("q", "e").zadd("z", {"e": 1}).xadd("s", {"f": "e"}, id="1-1")
    pipe.execute()


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("name", WAITS)
def test_a_waiter_is_served_or_woken_or_its_time_is_up(name: str, way: str) -> None:
    wait, found = WAITS[name]
    answers = []

    def invariant(world: World) -> bool:
        answers.append(world.results[0])
        return True

    # For ever: the supply comes first, or wakes the waiter (XREAD from $ misses an earlier one).
    story = explore([of(way, wait, 0), supply], setup=group, invariant=invariant)
    if name == "XREAD":
        assert story.broken == {"deadlock: client 0 waits at XREAD for ever": 1}
        assert answers == [found]
    else:
        assert story
        assert answers == [found, found]
    assert story.schedules == 2

    # For two seconds, alone: nobody else can go on, so the time is up, at once for us.
    answers.clear()
    began = time.perf_counter()
    alone = of(way, wait, 2, lambda reply: (reply, time.monotonic())[0])
    story = explore([alone], setup=group, invariant=invariant)
    assert story
    assert story.schedules == 1
    assert not answers[0]
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_what_is_there_already_is_taken_at_once(way: str, protocol: int) -> None:
    several = [wait for name, (wait, _) in WAITS.items() if name != "XREAD"]

    def all_there(kv: Any) -> None:
        group(kv)
        for _ in several:
            kv.pipeline().rpush("q", "e").zadd("z", {"e": 1}).xadd("s", {"f": "e"}).execute()

    async def takes(kv: Any) -> None:
        for wait in several:
            assert await wait(kv, 0)
            await kv.zadd("z", {"e": 1})

    def takes_sync(kv: Any) -> None:
        for wait in several:
            assert wait(kv, 0)
            kv.zadd("z", {"e": 1})

    client = takes if way == "async" else takes_sync
    story = explore([client], setup=all_there, client_options={"protocol": protocol})
    assert story
    assert story.schedules == 1


@pytest.mark.parametrize("way", ["sync", "async"])
def test_wait_waits_for_replicas(way: str) -> None:
    wait = lambda kv, seconds: kv.wait(1, int(seconds * 1000))  # noqa: E731
    story = explore([of(way, wait, 20)], invariant=lambda world: world.results == [0])
    assert story
    assert explore([of(way, wait, 0)]).broken == {"deadlock: client 0 waits at WAIT for ever": 1}
    assert explore([lambda kv: kv.wait(0, 0)])


@pytest.mark.parametrize("timeout", ["soon", "-1", "nan", "inf"])
def test_a_timeout_that_is_none_gets_the_server_s_error(timeout: str) -> None:
    story = explore([lambda kv: kv.execute_command("BLPOP", "q", timeout)])
    (said,) = story.broken
    assert "client 0 raised ResponseError: timeout is " in said


def test_a_message_is_not_the_reply_that_a_client_waits_for() -> None:
    def waits(kv: Any) -> Any:
        kv.execute_command("CLIENT", "TRACKING", "ON")
        kv.get("n")
        return kv.blpop("q", 0)

    def supplies(kv: Any) -> None:
        kv.set("n", 1)  # which tells the client that waits
        kv.rpush("q", "e")

    story = explore([waits, supplies], client_options={"protocol": 3})
    assert story, "an invalidation made the client read on, and hang"


def test_time_outs_that_need_not_be_are_asked_for() -> None:
    def outcomes(**options: Any) -> set[str]:
        seen = set()
        assert explore(
            [of_list(5), push], invariant=lambda w: seen.add(repr(w.results[0])) or True, **options
        )
        return seen

    assert outcomes() == {"(b'q', b'e')"}
    assert outcomes(expiries=True) == {"(b'q', b'e')", "None"}


def test_a_deadlock_names_who_waits_for_what() -> None:
    def takes(first: str, second: str) -> Callable[[Any], None]:
        def client(kv: Any) -> None:
            kv.blpop(first, 0)
            kv.blpop(second, 0)
            kv.rpush(first, "free")
            kv.rpush(second, "free")

        return client

    seen: list[World] = []
    story = explore(
        [takes("a", "b"), takes("b", "a")],
        setup=lambda kv: (kv.rpush("a", "free"), kv.rpush("b", "free")),
        invariant=lambda world: seen.append(world) or True,
    )
    assert list(story.broken) == [
        "deadlock: client 0 waits at BLPOP for ever and client 1 waits at BLPOP for ever"
    ]
    assert story.shortest is not None
    # Four steps: either takes its own, then each asks for the other's.
    assert len(story.schedule.split()) == 4  # type: ignore[union-attr]
    assert story.shortest.results == (UNFINISHED, UNFINISHED)
    assert "client 0 did not end" in str(story)
    assert seen, "the control: some orders end"
    # The only runs that end are those where one has taken both before the other takes any.
    assert all(world.results == [None, None] for world in seen)


def test_the_first_to_wait_is_the_first_to_be_served() -> None:
    def two_come(kv: Any) -> None:
        kv.rpush("q", "1")
        kv.rpush("q", "2")

    def invariant(world: World) -> bool:
        blocked = [e.client for e in world.trace if e.commands and e.commands[0][0] == b"BLPOP"]
        order = list(dict.fromkeys(blocked))
        return [world.results[n] for n in order] == [(b"q", b"1"), (b"q", b"2")]

    story = explore([of_list(0), of_list(0), two_come], invariant=invariant)
    assert story
    assert story.violations == 0


def test_two_that_wait_at_the_same_time_wait_it_once() -> None:
    def waits(key: str, seconds: float) -> Callable[[Any], float]:
        def client(kv: Any) -> float:
            began = time.monotonic()
            kv.blpop(key, seconds)
            return time.monotonic() - began

        return client

    def invariant(world: World) -> None:
        assert world.results == pytest.approx([50, 50], abs=0.01)
        assert min(world.results) > 50  # no server ends a wait at once
        assert 40 <= world.kv.ttl("b") <= 50
        return True

    setup = lambda kv: kv.set("b", 1, ex=100)  # noqa: E731
    assert explore([waits("p", 50), waits("q", 50)], setup=setup, invariant=invariant)


def test_a_sleep_passes_for_everybody_and_for_every_ttl() -> None:
    def sleeps(kv: Any) -> tuple[float, float]:
        kv.set("short", 1, ex=5)
        kv.set("long", 1, ex=100)
        began, today = time.monotonic(), time.time()
        time.sleep(30)
        return time.monotonic() - began, time.time() - today

    def invariant(world: World) -> bool:
        kv = world.kv
        return (
            world.results[0] == pytest.approx((30, 30))
            and not kv.exists("short")
            and 60 < kv.ttl("long") <= 70
        )

    began = time.perf_counter()
    assert explore([sleeps], invariant=invariant)
    assert time.perf_counter() - began < 30


def test_a_sleep_may_end_a_ttl_to_the_millisecond() -> None:
    # 0.4 ms past the whole TTL of one of these keys: what is left of that one is -0, as Lua has it.
    def sleeps(kv: Any) -> None:
        pipe = kv.pipeline()
        for milliseconds in range(20_000, 20_050):
            pipe.set(f"k{milliseconds}", 1, px=milliseconds)
        pipe.execute()
        time.sleep(20.0004)

    assert explore([sleeps], invariant=lambda w: w.kv.dbsize() < 50)


def test_time_stands_still_for_those_who_do_not_sleep() -> None:
    def looks(kv: Any) -> tuple[float, ...]:
        before = time.time(), time.monotonic(), time.time_ns()
        kv.get("a")
        after = time.time(), time.monotonic(), time.time_ns()
        return tuple(b - a for a, b in zip(before, after, strict=True))

    story = explore([looks, looks], invariant=lambda w: w.results == [(0, 0, 0)] * 2)
    assert story
    assert story.schedules == 2


def polled(left: int, asleep: bool, may_wake: bool) -> int:
    """Runs of ``polls`` beside ``counts``, worked out without a server."""
    runs = polled(left - 1, asleep, True) if left else 0
    if not asleep:
        runs += 1 if left == 0 else polled(left, True, may_wake)
    elif may_wake or left == 0:
        runs += polled(left, False, False)
    return runs


def test_a_poller_wakes_once_between_the_steps_of_others() -> None:
    def polls(kv: Any) -> int:
        tries = 1
        while kv.get("n") != b"2":
            time.sleep(0.1)
            tries += 1
        return tries

    def counts(kv: Any) -> None:
        kv.incr("n")
        kv.incr("n")

    story = explore([polls, counts])
    assert story
    assert story.schedules == polled(2, asleep=False, may_wake=True)


def test_a_sleep_can_end_before_anybody_else_moves() -> None:
    def holds_too_long(kv: Any) -> None:
        kv.set("lock", "a", nx=True, ex=2)
        time.sleep(5)
        kv.get("data")

    def takes(kv: Any) -> bool:
        return bool(kv.set("lock", "b", nx=True, ex=2))

    seen = set()
    story = explore([holds_too_long, takes], invariant=lambda w: seen.add(w.results[1]) or True)
    assert story
    assert story.schedules == 4  # before it has the lock, while it sleeps, when it woke, at last
    assert seen == {True, False}


def test_a_poller_that_waits_in_vain_runs_into_max_steps() -> None:
    def polls(kv: Any) -> None:
        while not kv.get("never"):
            time.sleep(1)

    story = explore([polls], max_steps=10)
    assert story.undecided == {"no end after 10 steps (max_steps)": 1}
    assert (story.verdict, story.holds, story.violations) == ("undecided", False, 0)
    assert story.summary == "undecided in the only schedule"
    with pytest.raises(Violated, match="to decide it, allow more max_steps"):
        bool(story)
    assert replay(story.schedule or "", [polls], max_steps=10).verdict == "undecided"


def test_a_poll_that_a_ttl_ends_is_not_broken() -> None:
    """A bound on the steps says nothing about the client."""

    def holds(kv: Any) -> None:
        kv.set("lock", 1, ex=3)

    def polls(kv: Any) -> None:
        while kv.exists("lock"):
            time.sleep(0.5)

    many, few = (explore([holds, polls], max_steps=most) for most in (30, 8))
    assert (many.verdict, many.complete) == ("holds", True)
    assert few.verdict == "undecided"
    assert not few.broken


@pytest.mark.parametrize(("ttl", "polls_made"), [(3000, 300), (2500, 250), (1230, 123)])
def test_real_time_takes_nothing_from_a_ttl(ttl: int, polls_made: int) -> None:
    """Each turn of a poll takes real time too: it was 290 to 294 turns for 3 s."""

    def polls(kv: Any) -> int:
        turns = 0
        while kv.exists("lock"):
            time.sleep(0.01)
            turns += 1
        return turns

    story = explore([polls], setup=lambda kv: kv.set("lock", 1, px=ttl), max_steps=2000,
                    invariant=lambda w: w.results == [polls_made])  # fmt: skip
    assert story


def test_the_sleep_of_one_client_ends_the_ttl_of_another_only_with_expiries() -> None:
    def holds(kv: Any) -> bool:
        kv.set("lock", "a", ex=5)
        kv.get("data")
        return bool(kv.delete("lock"))

    def sleeps(kv: Any) -> None:
        kv.get("data")
        time.sleep(10)
        kv.get("data")

    clients = [holds, sleeps]
    assert explore(clients, invariant=lambda w: w.results[0])
    assert explore(clients, invariant=lambda w: w.results[0], expiries=True).violations


def test_a_sleep_ends_the_ttl_of_a_client_that_has_gone() -> None:
    def crashes(kv: Any) -> None:
        kv.set("lock", "a", ex=5)
        kv.get("data")

    def waits(kv: Any) -> bool:
        for _ in range(3):
            if kv.set("lock", "b", nx=True, ex=5):
                return True
            time.sleep(5)
        return False

    assert explore([crashes, waits], crashes=True, invariant=lambda w: w.results[1] is not False)


def test_a_run_that_breaks_is_shown_before_one_that_does_not_end() -> None:
    def polls(kv: Any) -> None:
        while not kv.get("flag"):
            time.sleep(1)

    def sets(kv: Any) -> None:
        kv.incr("n")
        kv.set("flag", 1)

    story = explore([polls, sets], invariant=lambda w: w.results != [None, None], crashes=True,
                    max_steps=9)  # fmt: skip
    assert story.verdict == "broken"
    assert story.undecided
    assert story.shortest is not None
    assert story.shortest.problem is not None


def test_a_crashed_waiter_takes_nothing_with_it_unless_it_was_served() -> None:
    ends = set()

    def invariant(world: World) -> bool:
        crashed = isinstance(world.results[0], ClientCrashed)
        ends.add((crashed, world.kv.llen("q")))
        return True

    assert explore([of_list(0), push], invariant=invariant, crashes=True, reduce=False).holds
    assert ends == {(False, 0), (True, 0), (True, 1)}
    full, ends = ends, set()
    assert explore([of_list(0), push], invariant=invariant, crashes=True, reduce=True).holds
    assert ends == full


def test_the_lock_wakes_its_waiter() -> None:
    lock = Lock("door", ttl=30)

    def enters(kv: Any) -> bool:
        held = kv.run(lock.acquire(wait=10))
        if held is None:
            return False
        return bool(kv.run(lock.release(held)))

    story = explore([enters, enters], invariant=lambda w: w.results == [True, True])
    assert story
    assert story.schedules > 2


def test_a_wait_is_over_before_a_later_push() -> None:
    def pushes(kv: Any) -> None:
        kv.get("a")
        time.sleep(10)
        kv.rpush("q", "late")

    def in_time(world: World) -> bool:
        return world.trace[0].client != 0 or world.results[0] is None

    assert explore([lambda kv: kv.blpop("q", timeout=1), pushes], invariant=in_time)


def test_a_stream_may_be_named_block() -> None:
    def reads(kv: Any) -> Any:
        return kv.xread({"block": "0-0"})

    assert explore([reads], invariant=lambda w: w.results == [[]] or w.results == [{}])
