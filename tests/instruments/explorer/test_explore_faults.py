"""Each fault at each point where it can happen, counted; and what its client sees of it.

A client of k commands, alone: one run without a fault, k − 1 with a crash (before its second to its
last command), k with a lost reply, k with a lost request, k with a flush.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from kvlab.errors import PeriodClosed
from kvlab.instruments import ALL_FAULTS, Faults, World, explore, replay
from kvlab.instruments.faults.client_gate import ClientCrashed
from kvlab.rate_limiting import NaiveFixedWindow

NO_RETRY = {"retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0)}


def counts(times: int) -> Callable[[Any], int]:
    def client(kv: Any) -> int:
        for _ in range(times):
            last: int = kv.incr("n")
        return last

    return client


def runs(clients: list[Callable[[Any], Any]], **options: Any) -> tuple[int, set[int]]:
    """How many, and the counter's values at their ends."""
    found: set[int] = set()
    story = explore(
        clients, invariant=lambda w: found.add(int(w.kv.get("n") or 0)) or True, **options
    )
    assert story, story
    return story.schedules, found


# --- counts ---


@pytest.mark.parametrize("k", [1, 2, 4])
def test_one_client_and_one_fault(k: int) -> None:
    client = [counts(k)]
    assert runs(client) == (1, {k})
    assert runs(client, crashes=True) == (1 + k - 1, set(range(1, k + 1)))
    # It sends again what got no answer: a lost reply counts twice, a lost request once.
    assert runs(client, lost_replies=True) == (1 + k, {k, k + 1})
    assert runs(client, lost_requests=True) == (1 + k, {k})
    assert runs(client, script_flushes=True) == (1 + k, {k})
    assert runs(client, crashes=True, lost_replies=True, lost_requests=True)[0] == 1 + k - 1 + 2 * k


def test_faults_as_one_value_are_the_same_faults() -> None:
    client = [counts(2)]
    everything = {
        "crashes": True, "lost_replies": True, "lost_requests": True,
        "expiries": True, "script_flushes": True,
    }  # fmt: skip
    assert runs(client, faults=ALL_FAULTS) == runs(client, **everything)
    assert runs(client, faults=Faults(crashes=True)) == runs(client, crashes=True)


def test_faults_and_the_short_arguments_add_up() -> None:
    client = [counts(2)]
    both = runs(client, crashes=True, lost_replies=True)
    assert runs(client, faults=Faults(crashes=True), lost_replies=True) == both
    jumps = Faults(clock_jumps=[60]) | Faults(clock_jumps=[60, -60])
    assert (jumps | Faults(expiries=True)) == Faults(clock_jumps=(60.0, -60.0), expiries=True)


def test_two_clients_and_a_crash() -> None:
    # Without: 4! / 2!² = 6. With: the crash is one step of its client after the first, so that
    # there are as many orders as without it, for either client: 6 + 2 · 6.
    assert runs([counts(2)] * 2, crashes=True) == (18, {3, 4})


@pytest.mark.parametrize(("faults", "made"), [(1, 3), (2, 6), (3, 10)])
def test_so_many_faults_at_most(faults: int, made: int) -> None:
    # Each try of two commands is answered or not: f lost replies before two answers, in f + 1 ways.
    found = runs([counts(2)], lost_replies=True, max_faults=faults)
    assert found == (made, set(range(2, 2 + faults + 1)))


def test_no_faults_asked_for_means_none() -> None:
    def invariant(world: World) -> bool:
        return all(step.kind == "go" for step in world.trace)

    assert explore([counts(2)] * 2, invariant=invariant)


# --- crashes ---


def test_a_crashed_client_sends_nothing_more() -> None:
    def cleans_up(kv: Any) -> None:
        kv.set("lock", 1)
        try:
            kv.incr("n")
        finally:
            kv.delete("lock")

    left = []

    def invariant(world: World) -> bool:
        (result,) = world.results
        assert isinstance(result, ClientCrashed) == (world.trace[-1].kind == "crash")
        left.append((world.kv.exists("lock"), world.kv.get("n")))
        return True

    assert explore([cleans_up], crashes=True, invariant=invariant)
    assert left == [(0, b"1"), (1, b"1"), (1, None)]


def test_the_fixed_window_of_the_tutorial_is_left_without_a_ttl() -> None:
    def checks(kv: Any) -> bool:
        return NaiveFixedWindow(kv, limit=1).check("ann")

    def has_a_ttl(world: World) -> bool:
        return bool(world.kv.ttl("ratelimit:ann") > 0)

    assert explore([checks], invariant=has_a_ttl)
    story = explore([checks], invariant=has_a_ttl, crashes=True)
    assert story.broken == {"not true: has a ttl": 1}
    assert story.schedule == "0 x0"
    assert replay("0 x0", [checks], invariant=has_a_ttl).violations == 1


# --- lost replies and requests ---


def test_without_retries_the_error_reaches_the_client() -> None:
    seen = []

    def invariant(world: World) -> bool:
        seen.append((type(world.results[0]).__name__, world.kv.get("n")))
        return True

    options: dict[str, Any] = {"client_options": NO_RETRY, "invariant": invariant}
    assert explore([counts(1)], lost_replies=True, lost_requests=True, **options)
    assert seen == [("int", b"1"), ("ConnectionError", b"1"), ("ConnectionError", None)]


def test_a_lost_reply_of_a_pipeline_and_of_a_transaction() -> None:
    for transaction in (True, False):

        def adds(kv: Any, transaction: bool = transaction) -> list[int]:
            return list(kv.pipeline(transaction=transaction).incr("n").incr("n").execute())

        ends = runs([adds], lost_replies=True, lost_requests=True, client_options=NO_RETRY)
        assert ends == (3, {0, 2})


def test_an_error_reply_can_be_lost_as_well() -> None:
    def fails(kv: Any) -> str:
        try:
            kv.lpush("n", 1)
        except redis.ResponseError:
            return "failed"
        return "succeeded"

    story = explore(
        [fails],
        lost_replies=True,
        setup=lambda kv: kv.set("n", 1),
        invariant=lambda w: w.results == ["failed"],
    )
    assert story
    assert story.schedules == 2


# --- expiries, clocks ---


def test_only_keys_with_a_ttl_expire() -> None:
    def writes(kv: Any) -> tuple[Any, Any]:
        kv.set("for ever", 1)
        kv.set("with: ttl", 1, ex=100)
        return kv.get("for ever"), kv.get("with: ttl")

    seen = []
    story = explore([writes], expiries=True, invariant=lambda w: seen.append(w.results[0]) or True)
    assert story
    assert seen == [(b"1", b"1"), (b"1", None), (b"1", None)]  # never, before either GET
    tokens = explore([writes], expiries=True, invariant=lambda w: w.results[0][1]).schedule
    assert tokens == "0 0 0 e:with:%20ttl 0"
    assert replay(tokens, [writes], invariant=lambda w: w.results[0][1]).violations == 1


def test_a_client_that_looks_at_its_clock_may_find_it_has_jumped() -> None:
    def looks(kv: Any) -> tuple[int, int]:
        began = time.time()
        first = time.time()
        kv.get("a")
        return round(first - began), round(time.time() - began)

    seen = []
    options: dict[str, Any] = {"clock_jumps": [3600, -60]}
    story = explore([looks], invariant=lambda w: seen.append(w.results[0]) or True, **options)
    assert story
    # Never; before the third look, the second, the first; by either amount.
    assert sorted(seen) == sorted(
        [(0, 0), (0, 3600), (0, -60), (3600, 3600), (-60, -60), (0, 0), (0, 0)]
    )
    # Of two looks in a row the second: the schedule says which.
    story = explore([looks], invariant=lambda w: w.results[0][0] >= 0, **options)
    assert story.schedule == "l0 j0:1 0"
    again = replay(story.schedule, [looks], invariant=lambda w: w.results[0][0] >= 0, **options)
    assert (again.violations, again.schedule) == (1, story.schedule)


def test_a_look_is_no_step_that_a_crash_could_follow() -> None:
    def looks(kv: Any) -> None:
        time.time()
        kv.incr("n")

    assert runs([looks], crashes=True, clock_jumps=[1], max_faults=2) == (2, {1})


def test_jumps_of_one_client_do_not_move_the_others() -> None:
    def looks(kv: Any) -> float:
        kv.get("a")
        return time.time()

    def one_at_most(world: World) -> bool:
        return abs(world.results[0] - world.results[1]) in (0, 3600)

    story = explore([looks] * 2, clock_jumps=3600, invariant=one_at_most)
    assert story


# --- every kind of token ---


def test_every_token_replays() -> None:
    def works(kv: Any) -> None:
        kv.set("k", 1, ex=100)
        time.time()
        kv.blpop("q", 5)
        kv.evalsha("0" * 40, 0)

    def tolerates(kv: Any) -> None:
        try:
            works(kv)
        except redis.exceptions.NoScriptError:
            kv.get("k")

    kinds = {
        "0 j0 0 t0 0 0": ["go", "jump", "go", "time out", "go", "go"],
        "r0 0 0 t0 0 0": ["lose reply", "go", "go", "time out", "go", "go"],
        "q0 0 0 t0 0 0": ["lose request", "go", "go", "time out", "go", "go"],
        "0 e:k 0 t0 0 0": ["go", "expire", "go", "time out", "go", "go"],
        "f 0 0 t0 0 0": ["flush", "go", "go", "time out", "go", "go"],
        "0 0 x0": ["go", "go", "crash"],
    }
    for schedule, expected in kinds.items():
        story = replay(schedule, [tolerates], clock_jumps=[60])
        assert story.schedule == schedule
        assert story.shortest is not None
        assert [step.kind for step in story.shortest.trace] == expected
        assert str(story.shortest)
        assert story.shortest.diagram().shapes


# --- what is excused, and what never came ---


class NotOwned(Exception):
    """A library's own."""


def releases(error: type[Exception]) -> Callable[[Any], None]:
    def client(kv: Any) -> None:
        kv.set("lock", 1, ex=9)
        if not kv.delete("lock"):
            raise error("not owned")

    return client


@pytest.mark.parametrize("error", [redis.exceptions.LockNotOwnedError, PeriodClosed, NotOwned])
def test_an_error_is_a_break_whatever_its_class_unless_it_is_expected(
    error: type[Exception],
) -> None:
    story = explore([releases(error)], expiries=True)
    assert (story.violations, story.schedules) == (1, 2)
    assert f"raised {error.__name__}" in next(iter(story.broken))
    for expected in (error, (ValueError, error)):
        story = explore([releases(error)], expiries=True, expected=expected)
        assert story
        assert story.excused == {error.__name__: 1}
        assert f"errors that clients may raise: {error.__name__} in 1" in str(story)
    assert replay("0 e:lock 0", [releases(error)], expected=error)


def test_that_no_answer_came_is_excused_by_a_fault_and_told() -> None:
    story = explore([counts(1)], lost_replies=True, client_options=NO_RETRY)
    assert story
    assert story.excused == {"ConnectionError": 1}


def test_an_expected_error_needs_no_fault() -> None:
    def fails(kv: Any) -> None:
        kv.incr("n")
        raise NotOwned

    assert explore([fails]).violations == 1
    assert explore([fails], expected=NotOwned)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_story_counts_the_runs_with_each_fault(processes: int) -> None:
    faults = Faults(crashes=True, lost_replies=True, expiries=True)
    story = explore([counts(2)], faults=faults, max_faults=2, processes=processes)
    # kk; rkk, krk, kx; rrkk, rkrk, krrk, rkx, krx, rx
    assert (story.schedules, story.faults) == (10, {"crashes": 4, "lost_replies": 8})
    assert story.absent == ("expiries",)
    assert "warning: expiries allowed, but no schedule had one: they need a key" in str(story)


def test_a_client_of_one_step_cannot_crash_and_the_story_says_so() -> None:
    story = explore([counts(1)] * 2, crashes=True)
    assert story.absent == ("crashes",)
    assert explore([counts(2)] * 2, crashes=True).absent == ()


@pytest.mark.parametrize("unit", [1, 1000, 1_000_000, 1_000_000_000])
def test_a_time_that_travels_is_hinted_at(unit: int) -> None:
    """A limiter by client time holds in every order, since its clock stands still."""

    def by_client_time(kv: Any) -> None:
        kv.zadd("calls", {"a": time.time() * unit})

    def without(kv: Any) -> None:
        kv.set("n", 1795893026)  # and never looks at a clock

    story = explore({"a": by_client_time, "b": without})
    assert story.sends_time == ("a",)
    assert "hint: a: a time of the client's own clock is in a command" in str(story)
    assert explore({"a": by_client_time}, clock_jumps=[0.001]).sends_time == ()
