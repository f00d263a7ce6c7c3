"""Runs of several variants in turns, and the runs of a variant as one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from kvlab.core.checks import whole
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.result import Result

T = TypeVar("T")


def in_turns(variants: Mapping[str, Callable[[], T]], *, turns: int) -> dict[str, list[T]]:
    """Run each variant, then each again, ``turns`` times; a first turn is warm-up and thrown away.

    What a busy machine does to one variant of a turn, the machine does to the next as well.
    """
    whole("turns", turns, 1)
    taken = [{name: run() for name, run in variants.items()} for _ in range(turns + 1)][1:]
    return {name: [turn[name] for turn in taken] for name in variants}


def median_ratio(runs: Mapping[str, Sequence[Result]], over: str, under: str) -> float:
    """Median latency of ``over`` over that of ``under``: the median of the turns' ratios."""
    pairs = zip(runs[over], runs[under], strict=True)
    return statistics.median(a.latency.percentile(50) / b.latency.percentile(50) for a, b in pairs)


def merged(runs: Sequence[Result]) -> Result:
    """Several runs as one: latencies by outcome, violations and round trips of all."""
    outcomes: dict[str, Recorder] = {}
    for run in runs:
        for outcome, recorder in run.outcomes.items():
            outcomes.setdefault(outcome, Recorder()).merge(recorder)
    checked = [run.violations for run in runs]
    return replace(
        runs[0],
        outcomes=outcomes,
        timeline=[row for run in runs for row in run.timeline],
        seconds=sum(run.seconds for run in runs),
        violations=None if None in checked else sum(v or 0 for v in checked),
        round_trips=sum(run.round_trips or 0 for run in runs),
        environment=runs[0].environment | {"repetitions": len(runs)},
    )
