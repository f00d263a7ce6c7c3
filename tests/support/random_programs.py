"""Programs by chance for the explorer: every way of searching must tell the same of them.

``PYTHONPATH=tests python -m support.random_programs 200`` tries 200 programs, and prints what it
found. The tests try a few of them.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvlab.instruments import Faults, Story, World, explore, step

KEYS = ("a", "b")
COMMANDS: tuple[Callable[[Any, str, int], object], ...] = (
    lambda kv, key, n: kv.get(key),
    lambda kv, key, n: kv.set(key, n),
    lambda kv, key, n: kv.incrby(key, n),
    lambda kv, key, n: kv.set(key, n, nx=True, ex=60),
    lambda kv, key, n: kv.expire(key, 60),
    lambda kv, key, n: kv.delete(key),
    lambda kv, key, n: kv.pipeline().incr(key).get(key).execute(),
    lambda kv, key, n: step("the row", key),
)


@dataclass(frozen=True)
class Client:
    """Sends ``lines`` one after the other: the number of a command, a key, a number. A line with
    ``only_if`` is left out unless the reply before it was true."""

    lines: tuple[tuple[int, str, int, bool], ...]

    def __call__(self, kv: Any) -> list[str]:
        replies: list[Any] = [True]
        for command, key, number, only_if in self.lines:
            if not only_if or replies[-1]:
                replies.append(COMMANDS[command](kv, key, number))
        return [repr(reply) for reply in replies]


@dataclass(frozen=True)
class Program:
    """``broken``: the end that its invariant calls wrong, of the ends that its runs can have."""

    seed: int
    clients: tuple[Client, ...]
    faults: Faults

    def ends(self, **options: Any) -> tuple[Story, set[str]]:
        """The story, and all ends that its runs have come to."""
        found: set[str] = set()

        def invariant(world: World) -> bool:
            end = repr([world.results, [world.kv.get(key) for key in KEYS]])
            found.add(end)
            return sum(map(ord, end)) % 5 > 0

        story = explore(
            list(self.clients), invariant=invariant, faults=self.faults, progress=False, **options
        )
        return story, found


def program(seed: int) -> Program:
    """Two or three clients of one to three lines, with no faults or one kind."""
    chance = random.Random(seed)
    count = chance.choice((2, 2, 3))
    clients = tuple(
        Client(
            tuple(
                (
                    chance.randrange(len(COMMANDS)),
                    chance.choice(KEYS),
                    chance.randint(1, 3),
                    chance.random() < 0.3,
                )
                for _ in range(chance.randint(1, 3 if count == 2 else 2))
            )
        )
        for _ in range(count)
    )
    kind = chance.choice((None, None, "crashes", "lost_replies", "lost_requests", "expiries"))
    return Program(seed, clients, Faults(**{kind: True}) if kind else Faults())


def differences(tried: Program) -> list[str]:
    """In what the ways of searching differ.

    Full, by one process and by two: in nothing. Reduced: it finds the same problems, and comes to
    the same ends. Two full searches show the same run.
    """
    full, ends = tried.ends()
    again, _ = tried.ends()
    reduced, fewer_ends = tried.ends(reduce=True)
    split, _ = tried.ends(processes=2)
    found = [
        f"{name}: {getattr(full, name)} and {getattr(other, name)} {way}"
        for way, other in (("again", again), ("by two processes", split))
        for name in ("schedules", "broken", "faults", "schedule")
        if getattr(full, name) != getattr(other, name)
    ]
    if str(full.shortest) != str(again.shortest):
        found.append("another picture the second time")
    if full.verdict != reduced.verdict or set(full.broken) != set(reduced.broken):
        found.append(f"{full.verdict} {set(full.broken)}, reduced {reduced.verdict}")
    if ends != fewer_ends:
        found.append(f"{len(ends)} ends, reduced {len(fewer_ends)}")
    return found


def main() -> None:
    count = int(sys.argv[1])
    began, wrong, schedules = time.perf_counter(), 0, 0
    for seed in range(count):
        tried = program(seed)
        schedules += tried.ends()[0].schedules
        for difference in differences(tried):
            wrong += 1
            print(f"program {seed}: {difference}\n    {tried}")
    seconds = time.perf_counter() - began
    print(
        f"{count} programs, {schedules:,} schedules in full, {wrong} differences, {seconds:.0f} s"
    )
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
