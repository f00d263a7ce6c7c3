"""The explorer against programs whose runs and verdicts are known by arithmetic.

n clients of k commands each have (n·k)! / k!ⁿ orders.
"""

from __future__ import annotations

import functools
import math
import os
import secrets
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis

from kvlab import CacheAside, Key, Lock, Op
from kvlab.errors import InvalidArgument, ServerUnavailable
from kvlab.instruments import Story, Violated, World, explore, replay, step
from kvlab.instruments.explorer.clients.leftovers import Refused
from kvlab.instruments.explorer.timeline.shapes import Text
from kvlab.rate_limiting import NaiveSlidingWindow
from kvlab.server import engines


def counts(times: int, key: str = "n") -> Callable[[Any], None]:
    def client(kv: Any) -> None:
        for _ in range(times):
            kv.incr(key)

    return client


def lost_update(kv: Any) -> None:
    found = int(kv.get("n") or 0)
    kv.set("n", found + 1)


def slides(kv: Any) -> bool:
    return NaiveSlidingWindow(kv, limit=1).check("ann")


def at_most_one(world: World) -> bool:
    return sum(world.results) <= 1


# --- counts ---


@pytest.mark.parametrize("sizes", [(1,), (4,), (1, 1), (2, 2), (3, 3), (1, 2, 3), (1, 1, 1, 1)])
def test_every_order_is_made_once(sizes: tuple[int, ...]) -> None:
    seen = set()

    def invariant(world: World) -> bool:
        seen.add(tuple(step.client for step in world.trace))
        return world.kv.get("n") == str(sum(sizes)).encode()

    story = explore([counts(size) for size in sizes], invariant=invariant)
    assert story
    orders = math.factorial(sum(sizes)) // math.prod(map(math.factorial, sizes))
    assert story.schedules == len(seen) == orders


def test_a_lost_update() -> None:
    # Of the 6 orders of G S and G' S' two keep both updates: one client all before the other.
    story = explore([lost_update] * 2, invariant=lambda w: w.kv.get("n") == b"2")
    assert (story.violations, story.schedules) == (4, 6)
    assert story.complete
    assert not story.holds


def test_three_clients_and_a_lost_update() -> None:
    # 6! / 2!³ = 90 orders; only the 3! serial ones keep all three.
    story = explore([lost_update] * 3, invariant=lambda w: w.kv.get("n") == b"3")
    assert (story.violations, story.schedules) == (84, 90)


def test_the_sliding_window_of_the_tutorial() -> None:
    # Z C A E, or Z C where it is denied. Both are admitted when both count before either adds:
    # Z C Z' C' (6 orders), then A E A' E' (6). Else the later stops after its ZCOUNT, which is
    # after the other's ZADD: 2 · 9 orders.
    story = explore([slides] * 2, invariant=at_most_one)
    assert (story.violations, story.schedules) == (36, 54)
    assert explore([slides] * 2, invariant=at_most_one, reduce=True).violations > 0


def test_a_pipeline_and_a_transaction_are_one_step() -> None:
    def several(kv: Any, *, transaction: bool) -> list[Any]:
        return list(kv.pipeline(transaction=transaction).incr("n").incr("n").incr("n").execute())

    for transaction in (True, False):
        client = functools.partial(several, transaction=transaction)
        story = explore(
            [client, client], invariant=lambda w: sorted(w.results) == [[1, 2, 3], [4, 5, 6]]
        )
        assert story
        assert story.schedules == 2


def test_a_local_step_is_a_step() -> None:
    row = 0

    def reset(_: Any) -> None:
        nonlocal row
        row = 0

    def adds(kv: Any) -> None:
        nonlocal row
        step("SELECT n")
        found = row
        step("UPDATE n")
        row = found + 1

    story = explore([adds] * 2, setup=reset, invariant=lambda _: row == 2)
    assert (story.violations, story.schedules) == (4, 6)


def test_no_command_no_choice() -> None:
    story = explore([lambda kv: 1, counts(1)], invariant=lambda w: False, max_schedules=5)
    assert story.schedules == 1


def test_a_client_that_sends_nothing_has_not_been_tried() -> None:
    with pytest.raises(InvalidArgument, match="job sent nothing in any run"):
        explore({"job": lambda kv: 1, "other": counts(1)})


def test_setup_runs_on_an_empty_database_before_each_run() -> None:
    found: list[int] = []

    def setup(kv: Any) -> None:
        found.append(kv.dbsize())
        kv.run(Op("SET", Key("n"), 5))

    story = explore(
        [counts(1, "kv:n")] * 2, setup=setup, invariant=lambda w: w.results == [None] * 2
    )
    assert story
    assert story.schedules == 2
    assert set(found) == {0}


# --- ops and flows ---


def test_ops_and_flows_run_under_one_prefix() -> None:
    cache, lock = CacheAside("users", ttl=60, jitter=0, early=0), Lock("door", ttl=30)
    loads: list[str] = []

    def load() -> str:
        step("SELECT", reads=True)
        loads.append("1")
        return "row"

    story = explore(
        [lambda kv: kv.run(cache.fetch("1", load))] * 2,
        setup=lambda kv: loads.clear(),
        invariant=lambda w: w.results == ["row"] * 2 and len(loads) == 1,
    )
    assert story
    inside: list[int] = []

    def enters(kv: Any) -> None:
        held = kv.run(lock.acquire(wait=5))
        inside.append(1)
        step("work", reads=True)
        inside.pop()
        kv.run(lock.release(held))

    def all_kept(world: World) -> bool:
        return all(key.startswith(b"kv:") for key in world.kv.keys("*"))

    assert explore([enters] * 2, setup=lambda kv: inside.clear(), invariant=all_kept)


# --- what it says ---


def broken_by(invariant: Any) -> str:
    story = explore([counts(1)], invariant=invariant)
    (why,) = story.broken
    return why


def all_in_order(world: World) -> bool:
    return False


def with_a_docstring(world: World) -> bool:
    """nobody waits twice

    And more, which is left out."""
    return False


def asserting(world: World) -> bool:
    assert world.results == [1], "the first is alone"
    return True


def asserting_without_words(world: World) -> bool:
    if world.results != [1]:
        raise AssertionError
    return True


def forgetful(world: World) -> None:
    assert world.results == [None]


class Checks:
    """what an object says"""

    def __call__(self, world: World) -> bool:
        return False


@pytest.mark.parametrize(
    ("invariant", "words"),
    [
        (all_in_order, "not true: all in order"),
        (with_a_docstring, "not true: nobody waits twice"),
        (asserting_without_words, "not true: asserting without words"),
        (forgetful, "not true: forgetful (it answered None; return True when all is well)"),
        (Checks(), "not true: what an object says"),
        (functools.partial(all_in_order), "not true: all in order"),
        (
            lambda w: w.results == [1] and w.kv is None,
            "not true: w.results == [1] and w.kv is None",
        ),
    ],
)
def test_the_words_of_an_invariant(invariant: Any, words: str) -> None:
    assert broken_by(invariant) == words


def test_an_assertions_own_words_come_first() -> None:
    assert broken_by(asserting) == "the first is alone"


def test_the_words_are_those_of_this_lambda_not_of_the_first_in_its_line() -> None:
    story = explore([lambda kv: kv.get("a"), lambda kv: 1], invariant=lambda w: w.results == [2])
    assert list(story.broken) == ["not true: w.results == [2]"]


def test_each_way_to_break_is_counted() -> None:
    def invariant(world: World) -> bool:
        order = "".join(str(step.client) for step in world.trace)
        assert order not in ("0011", "1100"), f"{order} is serial"
        assert order == "0101", "it is mixed"
        return True

    story = explore([counts(2)] * 2, invariant=invariant)
    assert story.broken == {"0011 is serial": 1, "1100 is serial": 1, "it is mixed": 3}
    assert story.violations == 5


def test_a_client_that_raises_breaks_the_story_only_in_some_orders() -> None:
    def divides(kv: Any) -> float:
        return 1 / int(kv.incr("n") - 1)

    story = explore({"divider": divides, "other": counts(1)})
    line = divides.__code__.co_firstlineno + 1
    said = f"divider raised ZeroDivisionError: division by zero (in divides, line {line})"
    assert story.broken == {said: 1}
    assert story.schedule == "0 1"


def test_a_redis_error_without_a_fault_breaks_the_story() -> None:
    story = explore([lambda kv: kv.lpush("n", 1)], setup=lambda kv: kv.set("n", 1))
    (why,) = story.broken
    assert why.startswith("client 0 raised ResponseError: WRONGTYPE")


def test_truth_is_more_than_not_broken() -> None:
    whole = explore([counts(2)] * 2)
    assert whole
    assert str(whole) == whole.summary == "holds in all of 6 schedules"
    assert whole.shortest is whole.schedule is None
    assert str(explore([counts(1)])) == "holds in the only schedule"

    broken = explore([lost_update] * 2, invariant=lambda w: w.kv.get("n") == b"2")
    with pytest.raises(Violated, match="broken in 4 of 6 schedules"):
        bool(broken)
    assert issubclass(Violated, AssertionError)


@pytest.mark.parametrize("bound", [{"max_schedules": 2}, {"max_seconds": 1e-9}], ids=str)
def test_what_was_left_out_is_said(bound: dict[str, Any]) -> None:
    story = explore([counts(2)] * 2, **bound)
    made = bound.get("max_schedules", 1)
    assert story.holds
    assert not story.complete
    assert story.schedules == made
    assert made < story.at_least <= 6
    with pytest.raises(Violated, match="not complete: allow more max_schedules"):
        bool(story)


def test_a_search_that_is_cut_has_made_the_likely_runs() -> None:
    """Depth first, the first 100 runs differ in their last steps alone."""

    def begins_with_a_race(kv: Any) -> None:
        lost_update(kv)
        for _ in range(6):
            kv.get("other")

    story = explore([begins_with_a_race] * 2, invariant=lambda w: w.kv.get("n") == b"2",
                    max_schedules=100)  # fmt: skip
    assert (story.complete, story.verdict) == (False, "broken")


def test_what_polling_costs_is_said_where_it_matters() -> None:
    def polls(kv: Any) -> None:
        for _ in range(4):
            if kv.set("lock", 1, nx=True):
                return
            time.sleep(1)

    three = {"ann": lambda kv: kv.get("lock"), "bob": polls, "cy": polls}
    cut = explore(three, max_schedules=2)
    (said,) = (note for note in cut.notes if note.startswith("polling"))
    assert said.startswith("polling: cy waits 4 times in one run, and each wait multiplies the ru")
    with pytest.raises(Violated, match="polling: cy waits 4 times"):
        assert cut
    assert not explore({"bob": polls, "cy": polls}).notes


def test_mutual_exclusion_is_asked_for_by_two_steps() -> None:
    def holder(kv: Any) -> None:
        if kv.set("lock", 1, nx=True, ex=9):
            step("enters", "the room")
            step("leaves", "the room")
            kv.delete("lock")

    def alone(world: World) -> bool:
        return world.most_inside("enters", "leaves") <= 1

    for reduce in (False, True):
        assert explore([holder] * 2, invariant=alone, reduce=reduce)
        broken = explore([holder] * 2, invariant=alone, reduce=reduce, expiries=True)
        assert broken.violations
        # the lock of a client that crashed in the room is free for the next
        crashed = explore([holder] * 2, invariant=alone, reduce=reduce, crashes=True)
        assert crashed.faults["crashes"]
        assert crashed


def test_a_bound_that_is_just_enough_is_complete() -> None:
    assert explore([counts(2)] * 2, max_schedules=6)


# --- the shortest run, and its replay ---


def test_the_shortest_run_replays_as_itself() -> None:
    story = explore([slides] * 2, invariant=at_most_one)
    assert story.schedule == "0 0 1 1 1 1 0 0"
    again = replay(story.schedule, [slides] * 2, invariant=at_most_one)
    assert again.schedule == story.schedule
    assert again.broken == {"not true: at most one": 1}
    assert [step.commands[0][0] for step in again.shortest.trace] == [
        step.commands[0][0]
        for step in story.shortest.trace  # type: ignore[union-attr]
    ]


def test_a_replay_shows_a_run_that_holds() -> None:
    story = replay("0 0 1 1", [lost_update] * 2, invariant=lambda w: w.kv.get("n") == b"2")
    assert story
    assert story.schedules == 1
    assert story.shortest is not None
    assert story.shortest.verdict == "holds"


def test_a_schedule_may_stop_early() -> None:
    story = replay("1", [counts(2)] * 2)
    assert story.schedule == "1 0 0 1"
    assert replay("0", [counts(2)] * 2).schedule == "0 0 1 1"


def test_a_long_schedule_is_cut_where_it_goes_on_by_itself() -> None:
    long = [counts(50), counts(1)]
    story = replay("0 1 " + "0 " * 49, long)
    assert story.schedule == "0 1"
    assert len(story.shortest.trace) == 51  # type: ignore[union-attr]
    assert len(replay(story.schedule, long).shortest.trace) == 51  # type: ignore[union-attr]


def test_names_are_those_of_the_mapping() -> None:
    story = explore(
        {"reader": lost_update, "writer": lost_update}, invariant=lambda w: w.kv.get("n") == b"2"
    )
    assert story.shortest is not None
    assert story.shortest.names == ("reader", "writer")
    assert "1 reader  GET n" in str(story)
    assert "2 writer  GET n" in str(story)
    texts = [s.words for s in story.shortest.diagram().shapes if isinstance(s, Text)]
    assert {"reader", "writer"} <= set(texts)


# --- where it runs ---


@pytest.fixture(params=["valkey", "redis-6.2", "redis", "fakeredis"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if missing := engines.find(name).missing:
        pytest.skip(f"engine {name} is absent: {missing}")
    return name


def test_every_engine_tells_the_same_story(engine: str) -> None:
    if engine != "fakeredis":  # which is slow
        story = explore([slides] * 2, invariant=at_most_one, engine=engine)
        assert (story.violations, story.schedules) == (36, 54)
    story = explore(
        [lost_update] * 2, invariant=lambda w: w.kv.get("n") == b"2", engine=engine, reduce=True
    )
    # fakeredis does not describe its commands, so that none commute
    assert (story.violations, story.schedules) == ((4, 6) if engine == "fakeredis" else (2, 4))


def test_without_valkey_the_first_engine_that_is_here_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(engines._FINDERS, "valkey", lambda: engines._absent("valkey", "no wheel"))  # type: ignore[attr-defined]
    question: Any = {"invariant": lambda w: w.kv.get("n") == b"2"}
    story = explore([lost_update] * 2, **question)
    assert story.settings is not None
    assert story.settings.engine == engines.first() != "valkey"
    assert not replay(story.schedule, [lost_update] * 2, **question).holds
    with pytest.raises(ServerUnavailable, match="engine valkey is not here: no wheel"):
        explore([lost_update] * 2, engine="valkey", **question)


def test_faults_and_waits_on_every_engine(engine: str) -> None:
    def waits(kv: Any) -> Any:
        return kv.blpop("q", 5)

    def pushes(kv: Any) -> None:
        kv.set("k", 1, ex=100)
        kv.rpush("q", "e")

    if engine == "fakeredis":
        with pytest.raises(Refused, match="BLPOP cannot be explored on fakeredis"):
            explore([waits, pushes], engine=engine)
        return
    seen = set()
    story = explore(
        [waits, pushes],
        crashes=True,
        lost_replies=True,
        expiries=True,
        engine=engine,
        invariant=lambda w: seen.add(w.kv.exists("k")) or True,
    )
    assert story
    assert seen == {0, 1}


def test_options_of_the_client_reach_every_client() -> None:
    def reads(kv: Any) -> Any:
        return kv.get("n")

    def is_text(world: World) -> bool:
        return world.results == ["5", "5"] and world.kv.get("n") == "5"

    story = explore(
        [reads] * 2,
        setup=lambda kv: kv.set("n", 5),
        invariant=is_text,
        client_options={"decode_responses": True},
        expiries=True,
        crashes=True,
    )
    assert story
    assert "GET n → 5" in str(replay("0 1", [reads] * 2, setup=lambda kv: kv.set("n", 5)).shortest)


def test_the_wall_clock_is_left_alone_outside_the_clients() -> None:
    began = time.monotonic()
    clocks = []

    def client(kv: Any) -> float:
        time.sleep(1000)
        return time.monotonic()

    explore([client], invariant=lambda w: clocks.append((w.results[0], time.monotonic())) or True)
    (inside, outside), *_ = clocks
    assert inside > began + 1000
    assert outside < began + 1000


def test_a_story_is_what_it_was_made_of() -> None:
    story = Story(schedules=3, at_least=5, complete=False, seconds=0.1)
    assert story.holds
    assert story.summary == "held in 3 schedules (of at least 5)"
    assert story._repr_png_() is None


def test_only_redis_errors_of_a_fault_are_accepted() -> None:
    def fails(kv: Any) -> None:
        kv.incr("n")
        try:
            kv.incr("n")
        except redis.ConnectionError:
            raise ValueError("not of redis-py") from None

    place = f" (in fails, line {fails.__code__.co_firstlineno + 5})"
    story = explore(
        [fails],
        lost_replies=True,
        client_options={"retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0)},
    )
    assert story.broken == {"client 0 raised ValueError: not of redis-py" + place: 1}
    assert story.schedules == 3


# --- chance ---


def test_chance_is_the_same_in_every_run_and_another_for_each_client() -> None:
    def draws(kv: Any) -> tuple[Any, ...]:
        kv.get("a")
        return os.urandom(8), secrets.token_hex(), uuid.uuid4()

    seen = []
    story = explore([draws, draws], invariant=lambda w: seen.append(tuple(w.results)) or True)
    assert story
    assert len(seen) == 2
    assert len(set(seen)) == 1
    first, second = seen[0]
    assert not set(first) & set(second)
    assert len({secrets.token_hex() for _ in range(2)}) == 2


def test_random_names_of_keys_can_expire() -> None:
    def enters(kv: Any) -> bool:
        held = kv.run(Lock("door", ttl=30).try_acquire())
        return held is not None and kv.run(Lock("door", ttl=30).release(held))

    assert explore([enters] * 2, expiries=True)
