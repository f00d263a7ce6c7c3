"""Chapter 8: who is in a rollout, and a rollout with a kill switch."""

from __future__ import annotations

import builtins
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from kvlab import FeatureFlags
from kvlab.instruments.explorer.clients.client_thread import step
from kvlab.instruments.explorer.run.steps import World
from kvlab.instruments.explorer.story import Story
from kvlab.workshop.exercises.exercise import Exercise, Explore, promise

USERS = [f"user {number}" for number in range(4_000)]

# --- the short one: in_rollout(flag, user, percent) ---


@contextmanager
def _another_process(seed: int) -> Iterator[None]:
    """As in another Python process: ``hash`` of a text and ``random`` begin elsewhere."""
    before = builtins.hash
    builtins.hash = lambda value: before((seed, value))
    random.seed(seed)
    try:
        yield
    finally:
        builtins.hash = before


def _inside(in_rollout: Any, flag: str, percent: int) -> set[str]:
    return {user for user in USERS if in_rollout(flag, user, percent)}


@promise("sticky", "the same user gets the same answer, in each call and in each process")
def sticky(in_rollout: Any, explore: Explore) -> None:
    answers = []
    for seed in (1, 1, 2):
        with _another_process(seed):
            answers.append(_inside(in_rollout, "search", 30))
            again = _inside(in_rollout, "search", 30)
            changed = len(answers[-1] ^ again)
            assert not changed, f"asked twice, {changed:,} of 4,000 users got another answer"
    changed = len(answers[0] ^ answers[2])
    assert not changed, f"in another process {changed:,} of 4,000 users get another answer"


@promise("nobody leaves", "who is in at 10 % is in at 20 %, and so on to 100 %")
def nobody_leaves(in_rollout: Any, explore: Explore) -> None:
    steps = {percent: _inside(in_rollout, "search", percent) for percent in (0, 10, 20, 50, 100)}
    assert not steps[0], f"at 0 % there are {len(steps[0])} of 4,000 users in"
    assert len(steps[100]) == 4_000, f"at 100 % there are {4_000 - len(steps[100])} users out"
    for (low, before), (high, after) in pairwise(steps.items()):
        left = len(before - after)
        assert not left, f"from {low} % to {high} % {left} users leave"


@promise("the share is right", "at 20 % about a fifth of the users are in")
def right_share(in_rollout: Any, explore: Explore) -> None:
    for flag in ("search", "checkout", "dark mode"):
        share = len(_inside(in_rollout, flag, 20)) / len(USERS) * 100
        assert 17 <= share <= 23, f"at 20 % there are {share:.1f} % in, for the flag {flag!r}"


@promise("flags are independent", "another flag has other users")
def independent(in_rollout: Any, explore: Explore) -> None:
    one, other = (_inside(in_rollout, flag, 50) for flag in ("search", "checkout"))
    shared = len(one & other) / max(1, len(one)) * 100
    assert 42 <= shared <= 58, (
        f"of the users in one flag {shared:.0f} % are in the other too; independent is 50 %"
    )


# --- the long one: roll_out(kv, flags, flag, steps, healthy) ---

FLAGS = FeatureFlags("exercise", defaults={"new-search": False})
FLAG = "new-search"


class Watch:
    """What ``healthy`` saw: the percent asked for and the users who were in."""

    def __init__(self, limit: int = 101, *, breaks: bool = False) -> None:
        self._limit, self._breaks = limit, breaks
        self.asked: list[int] = []
        self.seen: list[set[str]] = []

    def begin(self, kv: Any) -> None:
        self.asked.clear()
        self.seen.clear()

    def program(self, roll_out: Any, steps: tuple[int, ...]) -> Any:
        def rolls(kv: Any) -> Any:
            def healthy(percent: int) -> bool:
                self.asked.append(percent)
                self.seen.append(users_in(kv.run(FLAGS.read_all())))
                if self._breaks:
                    step("healthy raises LookupError", "healthy")
                    raise LookupError("the dashboard does not answer")
                return percent < self._limit

            try:
                return roll_out(kv.kv, FLAGS, FLAG, steps, healthy)
            except LookupError:
                return "LookupError"

        return rolls


def users_in(snapshot: Any) -> set[str]:
    return {user for user in USERS[:500] if snapshot.is_enabled(FLAG, user)}


def _must_be_off(world: World, why: str) -> None:
    inside = len(users_in(world.kv.run(FLAGS.read_all())))
    assert inside == 0, f"{why}, and {inside} of 500 users still have the flag"


@promise("step by step", "healthy is asked after each step, and nobody leaves")
def step_by_step(roll_out: Any, explore: Explore) -> Story:
    watch = Watch()

    def grows(world: World) -> bool:
        assert watch.asked == [10, 20, 50], f"three steps, and healthy was asked at {watch.asked}"
        counts = [len(users) for users in watch.seen]
        assert counts[0] > 0, "healthy was asked at 10 %, and nobody was in yet"
        for before, after in pairwise(watch.seen):
            assert not before - after, (
                f"the share grows, and {len(before - after)} of {len(before)} users leave"
            )
        assert counts == sorted(set(counts)), f"users in after each step: {counts}"
        return True

    return explore(
        {"roll-out": watch.program(roll_out, (10, 20, 50))}, setup=watch.begin, invariant=grows
    )


@promise("the kill switch", "at the first unhealthy step the flag is off for everybody")
def kill_switch(roll_out: Any, explore: Explore) -> Story:
    watch = Watch(20)

    def off(world: World) -> bool:
        assert watch.asked == [10, 20], f"stop at the first unhealthy step: asked at {watch.asked}"
        _must_be_off(world, "20 % was unhealthy")
        return True

    return explore(
        {"roll-out": watch.program(roll_out, (10, 20, 50, 100))}, setup=watch.begin, invariant=off
    )


@promise("the last version", "roll_out returns the version of its last commit")
def last_version(roll_out: Any, explore: Explore) -> Story:
    watch = Watch(20)

    def is_last(world: World) -> bool:
        last, said = world.kv.run(FLAGS.read_all()).version, world.results[0]
        assert said == last, f"the last commit is version {last}, and roll_out returned {said!r}"
        return True

    both = {"unhealthy": watch.program(roll_out, (10, 20, 50))}
    return explore(both, setup=watch.begin, invariant=is_last)


@promise("healthy raises", "the flag is off for everybody, and the error reaches the caller")
def healthy_raises(roll_out: Any, explore: Explore) -> Story:
    watch = Watch(breaks=True)

    def off(world: World) -> bool:
        _must_be_off(world, "healthy raised")
        assert world.results[0] == "LookupError", "healthy raised, and the caller did not get it"
        return True

    return explore(
        {"roll-out": watch.program(roll_out, (10, 20))}, setup=watch.begin, invariant=off
    )


EXERCISES = (
    Exercise(
        number="08-short",
        function="in_rollout",
        title="which users are in",
        minutes=10,
        hints=(
            "Ask twice for the same user. Ask in another process. What in your function changes?",
            "A fixed function of flag and user gives a number from 0 to 99.99; users below "
            "the percent are in. Python's hash() of a text differs from process to process.",
            "zlib.crc32(f'{flag}:{user}'.encode()) % 10_000 < percent * 100",
        ),
        promises=(sticky, nobody_leaves, right_share, independent),
    ),
    Exercise(
        number="08",
        function="roll_out",
        title="a careful rollout with a kill switch",
        minutes=20,
        hints=(
            "The stub draws new users at each step. Which argument of Flag does that?",
            "What does healthy answer? And what if it raises?",
            "For each step: version = kv.run(flags.set(flag, Flag(percent))). Unhealthy: return "
            "kv.run(flags.set(flag, False)). On an error: the same, then raise.",
        ),
        promises=(step_by_step, kill_switch, last_version, healthy_raises),
    ),
)
