"""How many orders a second the explorer runs, and how soon it finds the tutorial's races.

``python -m benchmarks.studies.interleave``: each exploration has a private Valkey of its own.
Seconds and schedules a second are medians over the turns, with the lowest and the highest value.
The program that takes longest is explored by one process and by two, in turn; their seconds include
the start of the two processes.

The peer is frontrun, which interleaves threads by their bytecode and by the keys of redis-py's
commands. It explores the same naive functions, with a redis-py client for each thread and a Valkey
on loopback; measured are the seconds and the runs until the first order that breaks the invariant.
frontrun has no crashes and no lost replies: a program that only these break holds under frontrun.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from kvlab import Lock
from kvlab.instruments import ALL_FAULTS, Story, World, explore
from kvlab.rate_limiting import NaiveFixedWindow, NaiveSlidingWindow
from kvlab.server import engines

TURNS, LONG_TURNS = 7, 3
PEER_SECONDS = 60
LOCK = Lock("door", ttl=30)


def slides(kv: Any) -> bool:
    return bool(NaiveSlidingWindow(kv, limit=1).check("ann"))


def adds(kv: Any) -> None:
    found = int(kv.get("n") or 0)
    kv.set("n", found + 1)


def checks(kv: Any) -> bool:
    return bool(NaiveFixedWindow(kv, limit=1).check("ann"))


def locks(kv: Any) -> int | None:
    """Take the lock and release it; returns the fence."""
    held = kv.run(LOCK.try_acquire())
    if held is None:
        return None
    kv.run(LOCK.release(held))
    return int(held.fence)


def at_most_one(world: World) -> bool:
    return bool(sum(world.results) <= 1)


def both_added(world: World) -> bool:
    return bool(world.kv.get("n") == b"2")


def has_a_ttl(world: World) -> bool:
    return all(world.kv.ttl(key) > 0 for key in world.kv.keys("*"))


def no_fence_twice(world: World) -> bool:
    fences = [result for result in world.results if isinstance(result, int)]
    return len(fences) == len(set(fences)) and has_a_ttl(world)


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    clients: Sequence[Callable[[Any], Any]]
    invariant: Callable[[World], bool]
    options: dict[str, Any] = field(default_factory=dict)
    long: bool = False


PROGRAMS = (
    Program("lost update, 2 clients", [adds] * 2, both_added),
    Program("sliding window, 2 clients", [slides] * 2, at_most_one),
    Program("fixed window and a crash, 1 client", [checks], has_a_ttl, {"crashes": True}),
    Program("lock, 2 clients, every fault", [locks] * 2, no_fence_twice, {"faults": ALL_FAULTS}),
    Program("sliding window, 3, reduced", [slides] * 3, at_most_one, {"reduce": True}, True),
)
UNREDUCED = Program("sliding window, 3", [slides] * 3, at_most_one)
PROCESSES = 2


def result_line(program: Program, turns: int) -> str:
    """One line: how many schedules are broken, and how long the exploration took."""
    stories: list[Story] = []
    first: list[tuple[int, float]] = []
    for _ in range(turns):
        runs, began, found = 0, time.perf_counter(), False

        def invariant(world: World) -> bool:
            nonlocal runs, found
            runs += 1
            holds = program.invariant(world)
            if not holds and not found:
                found = True
                first.append((runs, time.perf_counter() - began))  # noqa: B023
            return holds

        stories.append(explore(program.clients, invariant=invariant, **program.options))
    one = stories[0]
    assert all((s.schedules, s.violations) == (one.schedules, one.violations) for s in stories)
    soon = f"   first in run {first[0][0]}, {_ms(t for _, t in first)}" if first else ""
    return _line(program.name, stories) + soon


def side_by_side(program: Program, turns: int) -> list[str]:
    """A line for one process and a line for several, explored in turn; then their ratio."""
    stories: dict[int, list[Story]] = {1: [], PROCESSES: []}
    for _ in range(turns):
        for processes, made in stories.items():
            made.append(explore(program.clients, invariant=program.invariant, processes=processes))
    one = stories[1][0]
    every = [story for made in stories.values() for story in made]
    assert {(s.summary, s.schedule) for s in every} == {(one.summary, one.schedule)}
    lines = []
    for processes, made in stories.items():
        name = f"{program.name}, {processes} process{'es' * (processes > 1)}"
        lines.append(_line(name, made))
    both = zip(stories[1], stories[PROCESSES], strict=True)
    faster = _spread([alone.seconds / together.seconds for alone, together in both], ".2f")
    return [*lines, f"{'':35}{PROCESSES} processes are {faster} times as fast as one"]


def _line(name: str, stories: Sequence[Story]) -> str:
    one = stories[0]
    return (
        f"{name:35}{one.schedules:7,} schedules, {one.violations:6,} broken  "
        f"{_spread([s.seconds for s in stories], '.2f')} s  "
        f"{_spread([s.schedules / s.seconds for s in stories], ',.0f')} a second"
    )


def _spread(values: Sequence[float], form: str) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):{form}} [{low:{form}}, {high:{form}}]"


def _ms(values: Any) -> str:
    return _spread([1000 * value for value in values], ",.0f") + " ms with its server's start"


# --- the peer ---


class _State:
    """What the threads of frontrun share, and what its invariant gets."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.kv = redis.Redis(port=port)
        self.kv.flushdb()
        self.results: list[Any] = []


def frontrun_on(port: int, turns: int) -> None:
    """Explore under frontrun's launcher, and print one line of JSON for each program."""
    import frontrun

    for program in PROGRAMS[:3]:
        seconds, found = [], None
        for _ in range(turns):
            began = time.perf_counter()
            found = frontrun.explore(
                setup=lambda: _State(port),
                workers=[_worker(client) for client in program.clients],
                invariant=program.invariant,
                reproduce_on_failure=0,
                total_timeout=PEER_SECONDS,
            )
            seconds.append(time.perf_counter() - began)
        assert found is not None
        runs, holds = found.num_explored, bool(found.property_holds)
        print(json.dumps([program.name, holds, runs, seconds]), flush=True)


def _worker(client: Callable[[Any], Any]) -> Callable[[Any], None]:
    def work(state: Any) -> None:
        state.results.append(client(redis.Redis(port=state.port)))

    return work


def peer(turns: int) -> None:
    """Run :func:`frontrun_on` in frontrun's launcher, and print what it found."""
    here = str(Path(sys.executable).parent)
    launcher = shutil.which("frontrun", path=here) or shutil.which("frontrun")
    if launcher is None:
        print("frontrun is absent: pip install frontrun")
        return
    print(f"frontrun {importlib.metadata.version('frontrun')}, runs until the first that breaks")
    with engines.start("valkey") as server:
        again = [sys.executable, "-m", "benchmarks.studies.interleave", "--turns", str(turns)]
        done = subprocess.run(
            [launcher, *again, "--frontrun", str(server.port)], capture_output=True, text=True
        )
    if done.returncode:
        print(f"frontrun does not run here: {done.stderr.strip().splitlines()[-1]}")
    for line in done.stdout.splitlines():
        name, holds, runs, seconds = json.loads(line)
        verdict = "holds in" if holds else "broken in"
        print(f"{name:35}{verdict} {runs:,} runs  {_spread(seconds, '.2f')} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        "benchmarks.studies.interleave", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "--turns",
        type=int,
        default=TURNS,
        help="explorations of each program (default: %(default)s)",
    )
    parser.add_argument(
        "--short", action="store_true", help="leave out the programs that take long"
    )
    parser.add_argument("--frontrun", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.frontrun:
        frontrun_on(given.frontrun, given.turns)
        return
    print(
        f"{given.turns} turns, {min(given.turns, LONG_TURNS)} of long programs; redis-py "
        f"{redis.__version__}; median [lowest, highest]"
    )
    for program in PROGRAMS:
        if not (program.long and given.short):
            print(
                result_line(program, min(given.turns, LONG_TURNS) if program.long else given.turns)
            )
    if not given.short:
        print(*side_by_side(UNREDUCED, min(given.turns, LONG_TURNS)), sep="\n")
    peer(min(given.turns, LONG_TURNS))


if __name__ == "__main__":
    main()
