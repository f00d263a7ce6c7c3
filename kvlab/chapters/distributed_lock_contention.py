"""Several clients and one lock: who was inside when, and how soon the next one came in.

A ``Stay`` lasts from the moment its client had the lock to just before it gave it back, on this
process's monotonic clock. So two stays overlap only when both clients were inside, whatever the
server says; that is counted, never inferred. Any context manager is a lock here, also none.

Not promised: clients of other processes, or a wake-up without what this interpreter's threads
add to it. Compare variants of one run.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any

import redis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.style import bar_look, colour, drawing
from kvlab.instruments.measure.experiment import experiment
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.workload import ClosedLoop, Uniform
from kvlab.instruments.palette import COLOURS, IDLE, INK

MakeLock = Callable[[], AbstractContextManager[Any]]
AT_MOST = 30.0


@dataclass(frozen=True, slots=True)
class Stay:
    """One client inside; seconds since the first of its crowd asked. ``held``: what it got."""

    asked: float
    began: float
    ended: float
    held: Any = None


def contend(n: int, make: MakeLock, body: Callable[[Any], object]) -> list[Stay]:
    """``with make() as held: body(held)`` by ``n`` threads that start together, in order of entry.

    Raises what a thread raises.
    """
    barrier = threading.Barrier(whole("n", n, 1, 1024))

    def visit() -> Stay:
        barrier.wait(AT_MOST)
        asked = time.perf_counter()
        with make() as held:
            began = time.perf_counter()
            body(held)
            ended = time.perf_counter()
        return Stay(asked, began, ended, held)

    with ThreadPoolExecutor(n) as pool:
        stays = [future.result() for future in [pool.submit(visit) for _ in range(n)]]
    zero = min(stay.asked for stay in stays)
    moved = (
        replace(s, asked=s.asked - zero, began=s.began - zero, ended=s.ended - zero) for s in stays
    )
    return sorted(moved, key=lambda stay: stay.began)


def most_inside(stays: Iterable[Stay]) -> int:
    """The largest number of stays that have one moment in common."""
    moves = sorted(move for stay in stays for move in ((stay.began, 1), (stay.ended, -1)))
    inside = most = 0
    for _, step in moves:  # at equal times those who leave come first
        inside += step
        most = max(most, inside)
    return most


def add_one(client: redis.Redis, key: str, between: Callable[[], object] | None = None) -> None:
    """Read a number and write it back plus one, in two commands; ``between`` happens between."""
    read = int(client.get(key) or 0)
    if between is not None:
        between()
    client.set(key, read + 1, ex=60)


@contextmanager
def polling(
    acquire: Callable[[], Any], release: Callable[[Any], object], *, every: float
) -> Iterator[Any]:
    """What people put around a lock that cannot wait: try, sleep ``every`` seconds, try again."""
    while (token := acquire()) is None:
        time.sleep(every)
    try:
        yield token
    finally:
        release(token)


def in_turns(
    variants: Mapping[str, tuple[Callable[[], object], Callable[[], object]]],
    *,
    turns: int,
    count: int,
    warmup: int,
    seed: int,
) -> dict[str, Result]:
    """``turns`` runs of each variant (call, race), A B A B …, put together into one result each.

    A run is ``warmup`` and ``count`` calls in a closed loop of one, and then one race, which
    returns something other than None when the promise was broken: a violation.
    """
    whole("turns", turns, 1)
    runs: dict[str, list[Result]] = {name: [] for name in variants}
    for turn in range(turns):
        for name, (call, race) in variants.items():
            runs[name].append(_run(name, call, race, count, warmup, seed + turn))
    return {name: _together(results, seed) for name, results in runs.items()}


def _run(
    name: str,
    call: Callable[[], object],
    race: Callable[[], object],
    count: int,
    warmup: int,
    seed: int,
) -> Result:
    def subject(_: int) -> None:
        call()

    return experiment(
        subject,
        Uniform(1),
        seed,
        arrivals=ClosedLoop(1),
        count=count,
        warmup=warmup,
        check=lambda: int(race() is not None),
        name=name,
        progress=False,
    )


def _together(results: Sequence[Result], seed: int) -> Result:
    merged = Recorder()
    for result in results:
        merged.merge(result.latency)
    first = results[0]
    return replace(
        first,
        outcomes={"done": merged},
        timeline=[row for result in results for row in result.timeline],
        seconds=sum(result.seconds for result in results),
        violations=sum(result.violations or 0 for result in results),
        environment=first.environment | {"repetitions": len(results), "seed": seed},
    )


@dataclass(frozen=True, slots=True)
class WakeUps:
    """Seconds from the holder's release to the waiter's entry, one per turn.

    ``overlaps``: turns in which the waiter was inside before the holder had begun its release.
    """

    seconds: tuple[float, ...]
    overlaps: int

    @property
    def median(self) -> float:
        """Seconds."""
        return median(self.seconds)


def wake_ups(
    locks: Mapping[str, MakeLock],
    *,
    turns: int,
    seed: int,
    held: tuple[float, float] = (0.05, 0.15),
) -> dict[str, WakeUps]:
    """One holder, one waiter, ``turns`` handovers of each lock, the locks taking turns.

    How long the holder stays is drawn from ``held`` (seconds), so that one who asks again every
    0.1 s is met at every phase of its sleep. One turn of each goes before and is not counted.
    """
    whole("turns", turns, 1)
    low, high = (real("held", each, 0) for each in held)
    draw = random.Random(seed)
    times: dict[str, list[float]] = {name: [] for name in locks}
    with ThreadPoolExecutor(1) as pool:
        for _ in range(1 + turns):
            stay = draw.uniform(low, high)
            for name, make in locks.items():
                times[name].append(_handover(pool, make, stay))
    counted = {name: waits[1:] for name, waits in times.items()}
    return {
        name: WakeUps(tuple(max(wait, 0.0) for wait in waits), sum(wait < 0 for wait in waits))
        for name, waits in counted.items()
    }


def _handover(pool: ThreadPoolExecutor, make: MakeLock, stay: float) -> float:
    asking = threading.Event()

    def wait() -> float:
        asking.set()
        with make():
            return time.perf_counter()

    with make():
        entering = pool.submit(wait)
        asking.wait(AT_MOST)
        time.sleep(stay)
        released = time.perf_counter()
    return entering.result() - released


def wake_up_chart(found: Mapping[str, WakeUps], *, title: str) -> Figure:
    """A bar to the median of each lock, a dot per turn, overlaps beside the name. Log axis."""
    if not found:
        raise InvalidArgument("found must hold at least one lock's wake-ups")
    with drawing(title) as (figure, axes):
        names = list(found)
        for x, name in enumerate(names):
            waits, shade = [s * 1e3 for s in found[name].seconds], colour(name, x - 1)
            middle = found[name].median * 1e3
            axes.bar(x, middle, 0.5, **bar_look(name, shade))
            spread = [x + 0.3 * ((i + 0.5) / len(waits) - 0.5) for i in range(len(waits))]
            axes.plot(spread, waits, "o", color=shade, ms=5)
            axes.annotate(
                f"median\n{middle:.3g} ms", (x + 0.27, middle), xytext=(4, 0), va="center",
                textcoords="offset points", fontsize=11, fontweight="bold", color=INK,
            )  # fmt: skip
        axes.set_yscale("log")
        every = [s * 1e3 for f in found.values() for s in f.seconds if s]
        axes.set_ylim(min(every) / 3, max(every) * 2)
        axes.yaxis.set_major_locator(LogLocator(subs=(1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(-0.5, len(names) - 0.25)
        axes.set_xticks(range(len(names)), [f"{n}\n{_two_inside(found[n])}" for n in names])
        axes.tick_params(axis="x", length=0)
        axes.grid(False, axis="x")
        axes.set_ylabel("from release to entry (ms, log scale)")
    return figure


def stays_chart(stays: Sequence[Stay], *, title: str, variant: str = "hardened") -> Figure:
    """A row per client in order of entry: grey while it waits, in colour while it is inside."""
    if not stays:
        raise InvalidArgument("stays must hold at least one stay")
    rows = sorted(stays, key=lambda stay: stay.began)
    with drawing(title) as (figure, axes):
        for y, stay in enumerate(rows, start=1):
            axes.plot([stay.asked * 1e3, stay.began * 1e3], [y, y], color=IDLE, lw=1.4)
            span = [stay.began * 1e3, stay.ended * 1e3]
            axes.plot(span, [y, y], color=COLOURS[variant], lw=3.4, solid_capstyle="butt")
        for y, (one, after) in enumerate(pairwise(rows), start=1):
            at = after.began * 1e3
            axes.plot([one.ended * 1e3, at, at], [y, y, y + 1], color=COLOURS[variant], lw=0.6)
        axes.set_ylim(len(rows) + 1, 0)
        axes.set_xlim(left=0)
        axes.set_yticks([1, *range(10, len(rows) + 1, 10)])
        axes.grid(False, axis="y")
        axes.set_ylabel("client, in order of entry")
        axes.set_xlabel("milliseconds since the first asked (grey: waits, colour: inside)")
    return figure


def _two_inside(found: WakeUps) -> str:
    n = found.overlaps
    return f"{n} violation{'' if n == 1 else 's'} in {len(found.seconds)} turns"
