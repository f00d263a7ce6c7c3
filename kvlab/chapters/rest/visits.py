"""A visit asks four patterns: in four runs, or in one; over TCP, or over HTTP. What each costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from kvlab import Kv, Op
from kvlab.instruments import charts
from kvlab.instruments.charts.ratios import in_words
from kvlab.instruments.measure.comparison import Comparison, ratio_over_turns
from kvlab.instruments.measure.turns import Taken, in_turns

VISITS = 25
"""The visits of a turn."""
WAYS = ("four runs", "one run")


def in_four_runs(kv: Kv, ops: Sequence[Op[object]]) -> None:
    """Each op in a round trip of its own."""
    for op in ops:
        kv.run(op)


def in_one_run(kv: Kv, ops: Sequence[Op[object]]) -> None:
    """All ops in one round trip."""
    kv.run(*ops)


def time_of_visits(
    executors: Mapping[str, Kv], ops: Sequence[Op[object]], *, turns: int
) -> pd.DataFrame:
    """The median time of a visit, of each executor in both ways, in turns.

    Columns ``through``, ``visit``, ``round trips``, ``ms``. ``attrs``: ``saved``, four runs over
    one run through the last executor; ``http``, one run through the last executor over the first.
    """
    variants: dict[tuple[str, str], Callable[[], float]] = {
        (name, way): partial(_turn, kv, visit, ops)
        for name, kv in executors.items()
        for way, visit in zip(WAYS, (in_four_runs, in_one_run), strict=True)
    }
    labels = {f"{name} {way}": (name, way) for name, way in variants}
    taken = in_turns({label: variants[pair] for label, pair in labels.items()}, turns=turns)
    rows = []
    for label, (name, way) in labels.items():
        before = executors[name].round_trips
        variants[name, way]()
        trips = (executors[name].round_trips - before) // VISITS
        rows.append((name, way, trips, 1e3 * float(pd.Series(taken[label]).median())))
    frame = pd.DataFrame(rows, columns=["through", "visit", "round trips", "ms"])
    names = [*executors]
    first, last = names[0], names[-1]
    frame.attrs["saved"] = _ratio(taken, f"{last} four runs", f"{last} one run")
    frame.attrs["http"] = _ratio(taken, f"{last} one run", f"{first} one run")
    return frame


def visits_chart(frame: pd.DataFrame) -> Figure:
    """A bar for each way, grouped by what the visit travels through."""
    saved = in_words(frame.attrs["saved"], "four runs take {} times as long as one")
    return charts.bars(
        frame,
        x="through",
        y="ms",
        by="visit",
        title=f"Over HTTP, {saved}",
        ylabel="median time of a visit (ms)",
        form="{:.2f}",
        remark=f"closed loop, one client, {VISITS} visits a turn, this machine, no TLS",
    )


def _turn(
    kv: Kv, visit: Callable[[Kv, Sequence[Op[object]]], None], ops: Sequence[Op[object]]
) -> float:
    began = time.perf_counter()
    for _ in range(VISITS):
        visit(kv, ops)
    return (time.perf_counter() - began) / VISITS


def _ratio(taken: Mapping[str, Taken[float]], upper: str, lower: str) -> Comparison:
    return ratio_over_turns(taken[upper], taken[lower])
