"""Variants take turns, and the runs of one variant become one result.

Machines drift, so what is compared is measured A B A B …: what a busy machine does to one variant
of a turn, the machine does to the next variant as well. The first turn is warm-up and thrown away.

    runs = in_turns({"naive": run_naive, "hardened": run_hardened}, turns=9)
    results = {name: merged(of_variant) for name, of_variant in runs.items()}
    price = ratio_over_turns(runs["hardened"], runs["naive"])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from kvlab.core.checks import whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.result import Result

T = TypeVar("T")


def in_turns(
    variants: Mapping[str, Callable[[], T]], *, turns: int, warmup: int = 1
) -> dict[str, list[T]]:
    """Call each variant, then each again, ``turns`` times; what each variant returned.

    ``warmup`` turns come first and are thrown away.
    """
    whole("turns", turns, 1)
    whole("warmup", warmup, 0)
    taken = [{name: call() for name, call in variants.items()} for _ in range(warmup + turns)]
    return {name: [turn[name] for turn in taken[warmup:]] for name in variants}


def merged(runs: Sequence[Result]) -> Result:
    """Several runs of one subject as one result.

    Latencies are merged by outcome. Seconds, violations, round trips and late starts are added up;
    a number that one run does not know is unknown in the whole. The timelines follow each other.
    Raises ``InvalidArgument`` for no runs, and for runs with different widths of the bucket.
    """
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
