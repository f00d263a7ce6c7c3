"""Variants take turns, and the runs of one variant become one result.

Machines drift, so what is compared is measured side by side: what a busy machine does to one
variant of a turn, the machine does to the next variant as well. The order within a turn is drawn at
random, with a seed, and the turn after has the opposite order: A B, B A, then a new order and its
opposite. So no variant is always first. The first turn is warm-up and thrown away.

    runs = in_turns({"naive": run_naive, "hardened": run_hardened}, turns=9)
    results = {name: merged(of_variant) for name, of_variant in runs.items()}
    price = ratio_over_turns(runs["hardened"], runs["naive"])

A turn is a number of calls, and on a busy machine a call may take a hundred times as long. So a
notebook's turns have a time limit, after which no further turn begins; ``repetitions`` in a merged
result's environment is the number of turns. A benchmark has no limit (``seconds=math.inf``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from kvlab.core.checks import function, instance, items, mapping, real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.result import Result

T = TypeVar("T")

FEWEST = 2
"""Turns that are made even beyond the time limit."""
AT_MOST = 20.0
"""Seconds after which no further turn begins."""


def turns_within(turns: int, *, warmup: int = 1, seconds: float = AT_MOST) -> Iterator[bool]:
    """For each turn, whether the turn counts: False ``warmup`` times, then True ``turns`` times.

    No turn begins after ``seconds``, except the first two that count.
    """
    whole("turns", turns, 1)
    whole("warmup", warmup, 0)
    real("seconds", seconds, 0, infinite=True)
    began = time.perf_counter()
    for turn in range(warmup + turns):
        if turn >= warmup + FEWEST and time.perf_counter() - began > seconds:
            return
        yield turn >= warmup


class Taken(list[T]):
    """What one variant returned, turn by turn. ``places``: the variant's place in each turn."""

    def __init__(self, values: Iterable[T] = (), places: Iterable[float] = ()) -> None:
        super().__init__(values)
        self.places = [*places]

    def add(self, value: T, place: int) -> None:
        """Append what the variant returned in one more turn."""
        self.append(value)
        self.places.append(place)


def orders(names: Iterable[str], seed: int) -> Iterator[list[str]]:
    """The order of the names in each turn, without end: a random order, then its opposite."""
    named, chance = [*names], random.Random(seed)
    while True:
        order = chance.sample(named, len(named))
        yield order
        yield order[::-1]


def in_turns(
    variants: Mapping[str, Callable[[], T]],
    *,
    turns: int,
    warmup: int = 1,
    seconds: float = AT_MOST,
    seed: int = 0,
) -> dict[str, Taken[T]]:
    """In each of ``turns`` turns, call each variant once; returns what each variant returned.

    The order within a turn is random, drawn with ``seed``. ``warmup`` turns come first and are
    thrown away. No turn begins after ``seconds``, except the first two that count.
    """
    for name, variant in mapping("variants", variants).items():
        function(f"variants[{name!r}]", variant)
    taken: dict[str, Taken[T]] = {name: Taken() for name in variants}
    drawn = orders(variants, whole("seed", seed, 0))
    for counts in turns_within(turns, warmup=warmup, seconds=seconds):
        # Warm-up has the order of the arguments, so that the counted turns begin with a pair.
        for place, name in enumerate(next(drawn) if counts else variants):
            value = variants[name]()
            if counts:
                taken[name].add(value, place)
    return taken


def merged(runs: Sequence[Result]) -> Result:
    """Several runs of one subject as one result.

    Latencies are merged by outcome. Seconds, violations, round trips and late starts are added up;
    a number that is unknown in one run is unknown in the result. The timelines follow each other.
    Raises ``InvalidArgument`` for no runs, and for runs with different widths of the bucket.
    """
    for run in items("runs", runs):
        instance("runs", run, Result, "results of experiments")
    if not runs:
        raise InvalidArgument("runs must hold at least one result, got none")
    if len(buckets := {run.bucket for run in runs}) > 1:
        raise InvalidArgument(f"runs must have one bucket, got {sorted(buckets)} s")
    outcomes: dict[str, Recorder] = {}
    for run in runs:
        for outcome, recorder in run.outcomes.items():
            outcomes.setdefault(outcome, Recorder()).merge(recorder)
    return replace(
        runs[0],
        outcomes=dict(sorted(outcomes.items())),
        timeline=[row for run in runs for row in run.timeline],
        seconds=sum(run.seconds for run in runs),
        violations=_sum([run.violations for run in runs]),
        round_trips=_sum([run.round_trips for run in runs]),
        lateness=_lateness(runs),
        late=sum(run.late for run in runs),
        environment=runs[0].environment | {"repetitions": len(runs)},
    )


def _sum(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _lateness(runs: Sequence[Result]) -> Recorder | None:
    lateness = Recorder()
    for run in runs:
        if run.lateness is None:
            return None
        lateness.merge(run.lateness)
    return lateness
