"""How a sorted collection grows: calls timed on boards of many sizes, loading, memory; and the two
disturbances of that chapter, a writer in the background and replies that are lost one by one.

Sizes and subjects take turns call by call, in a seeded random order, so that a machine that slows
down slows all of them. A turn's figure is the median of its calls; over turns there is a spread.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.charts import bars
from kvlab.instruments.charts.style import MARKERS, colour, drawing, label_right, note
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.result import Result
from kvlab.instruments.palette import COLOURS

Ask = Callable[[int, int], bool]
"""Called with the size of the board and a member's number below it; True: the answer was right."""


@contextmanager
def written_meanwhile(step: Callable[[], object], pause: float = 0.001) -> Iterator[None]:
    """Inside the block a thread calls ``step`` again and again, ``pause`` seconds between.

    It has been called once before the block begins. What it raises is raised at the block's end.
    """
    real("pause", pause, 0)
    over = threading.Event()

    def write() -> None:
        while not over.wait(pause):
            step()

    step()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            yield
        finally:
            over.set()
        writing.result()


def in_turns(runs: Mapping[str, Callable[[], Result]], turns: int) -> dict[str, list[Result]]:
    """Run each of ``runs``, then each again, ``turns`` times; the first time round is thrown away.

    What a busy machine does to one run of a turn, it does to the next as well.
    """
    whole("turns", turns, 1)
    made = [{name: run() for name, run in runs.items()} for _ in range(turns + 1)][1:]
    return {name: [turn[name] for turn in made] for name in runs}


def median_ratio(runs: Mapping[str, Sequence[Result]], a: str, b: str) -> float:
    """Median latency of ``a`` over that of ``b``: the median of the turns' ratios."""
    halves = [[run.latency.percentile(50) for run in runs[name]] for name in (a, b)]
    return float(statistics.median(x / y for x, y in zip(*halves, strict=True)))


def together(results: Sequence[Result]) -> Result:
    """Several runs as one: latencies by outcome, violations and round trips of all."""
    outcomes: dict[str, Recorder] = {}
    for result in results:
        for outcome, recorder in result.outcomes.items():
            outcomes.setdefault(outcome, Recorder()).merge(recorder)
    checked = [result.violations for result in results]
    return replace(
        results[0],
        outcomes=outcomes,
        timeline=[row for result in results for row in result.timeline],
        seconds=sum(result.seconds for result in results),
        violations=None if None in checked else sum(v or 0 for v in checked),
        round_trips=sum(result.round_trips or 0 for result in results),
        environment=results[0].environment | {"repetitions": len(results)},
    )


def lose_replies(
    proxy: Proxy,
    command: str,
    call: Callable[[int], object],
    n: int,
    expected: tuple[type[Exception], ...],
) -> int:
    """Make ``n`` calls, ``call(0)`` … ``call(n - 1)``; the proxy loses one reply of each.

    Returns how many raised one of ``expected``. What else is raised ends it.
    """
    errors = 0
    for number in range(n):
        swallowed = proxy.swallow_replies(1, only=command)
        try:
            call(number)
        except expected:
            errors += 1
        if not swallowed.is_set():
            raise InvalidArgument(f"call {number} sent no {command}")
    return errors


def growth(
    asks: Mapping[str, Ask], sizes: Sequence[int], *, turns: int, calls: int, seed: int
) -> pd.DataFrame:
    """Time each ask on each size: columns ``ask``, ``members``, ``turn``, ``µs``, ``wrong``.

    A row is a turn: the median of ``calls`` calls on members drawn at random. One more turn, the
    first, is warm-up and left out.
    """
    whole("turns", turns, 1)
    whole("calls", calls, 1)
    draw, rows = random.Random(seed), []
    pairs = [(name, size) for name in asks for size in sizes]
    for turn in range(turns + 1):
        taken: dict[tuple[str, int], list[float]] = {pair: [] for pair in pairs}
        wrong = dict.fromkeys(pairs, 0)
        for _ in range(calls):
            for name, size in draw.sample(pairs, len(pairs)):
                member = draw.randrange(size)
                began = time.perf_counter()
                right = asks[name](size, member)
                taken[name, size].append(time.perf_counter() - began)
                wrong[name, size] += not right
        if turn:
            for pair in pairs:
                rows.append((*pair, turn, statistics.median(taken[pair]) * 1e6, wrong[pair]))
    return pd.DataFrame(rows, columns=["ask", "members", "turn", "µs", "wrong"])


def grown(frame: pd.DataFrame) -> pd.Series[float]:
    """For each ask, time on the largest size over the smallest: median of the turns' ratios."""
    turns = frame.pivot(index=["ask", "turn"], columns="members", values="µs")
    return (turns.iloc[:, -1] / turns.iloc[:, 0]).groupby("ask").median()


def growth_chart(frame: pd.DataFrame, *, title: str, theory_of: str) -> Figure:
    """Median over the turns for each ask, its quartiles as a band, over the size on a log axis.

    The dashes are O(log n) through the first point of the ask ``theory_of``: what it would take if
    the search in the board were all of the time.
    """
    sizes = sorted(frame["members"].unique())
    with drawing(title) as (figure, axes):
        labels, top = [], 0.0
        for i, (name, rows) in enumerate(frame.groupby("ask", sort=False)):
            spread = rows.groupby("members")["µs"].quantile([0.25, 0.5, 0.75]).unstack()
            shade, mark = colour(str(name).split(":")[0], i), MARKERS[i % len(MARKERS)]
            axes.fill_between(sizes, spread[0.25], spread[0.75], color=shade, alpha=0.16, lw=0)
            axes.plot(sizes, spread[0.5], color=shade, marker=mark, ms=7)
            labels.append((float(spread[0.5].iloc[-1]), str(name).replace(": ", "\n"), shade))
            top = max(top, float(spread[0.75].max()))
            if name == theory_of:
                fitted = float(spread[0.5].iloc[0]) * np.log(sizes) / np.log(sizes[0])
                axes.plot(sizes, fitted, color=COLOURS["theory"], lw=1.2, dashes=(5, 2))
                labels.append((float(fitted[-1]), "O(log n)", COLOURS["theory"]))
                top = max(top, float(fitted[-1]))
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0, top * 1.1)
        axes.set(xlabel="members on the board (log scale)", ylabel="time of a call (µs)")
        turns, wrong = frame["turn"].nunique(), frame["wrong"].sum()
        note(
            axes,
            f"median of {turns} turns, band: their middle half; {wrong} wrong answers    "
            f"dashes: O(log n) through the first point",
        )
        label_right(axes, labels)
    return figure


def loading(
    kv: Any, boards: Mapping[str, Callable[[str], Any]], pairs: Sequence[tuple[str, float]],
    *, turns: int,
) -> pd.DataFrame:  # fmt: skip
    """Load the pairs into new boards and by plain pipelined ZADD, in turns.

    ``boards`` makes a board from a name: it has ``load(pairs)`` and ``top(n)``, an op that names
    its keys. Columns: ``board``, ``turn``, ``rate`` (members a second), ``bytes`` (a member, by
    MEMORY USAGE with 2,000 samples).
    """

    def bare(size: int) -> Callable[[str], list[str]]:
        def load(name: str) -> list[str]:
            pipe = kv.client.pipeline(transaction=False)
            for at in range(0, len(pairs), size):
                pipe.zadd(f"{kv.prefix}{name}", dict(pairs[at : at + size]))
            pipe.execute()
            return [f"{kv.prefix}{name}"]

        return load

    def hardened(make: Callable[[str], Any]) -> Callable[[str], list[str]]:
        def load(name: str) -> list[str]:
            kv.run(make(name).load(pairs))
            return [kv.name(key) for key in make(name).top(1).keys]

        return load

    loads = {"ZADD of 1": bare(1), "ZADD of 500": bare(500)}
    loads |= {name: hardened(make) for name, make in boards.items()}
    rows = []
    for turn in range(turns + 1):
        for name, load in loads.items():
            began = time.perf_counter()
            keys = load(f"load {name} {turn}")
            rate = len(pairs) / (time.perf_counter() - began)
            used = sum(kv.client.memory_usage(key, samples=2_000) or 0 for key in keys)
            if turn:
                rows.append((name, turn, rate, used / len(pairs)))
    return pd.DataFrame(rows, columns=["board", "turn", "rate", "bytes"])


def rates(frame: pd.DataFrame, over: str = "ZADD of 500") -> pd.DataFrame:
    """From ``loading``: median rate, and the ratio to the rate of ``over`` in the same turn."""
    rate = frame.pivot(index="turn", columns="board", values="rate")[frame["board"].unique()]
    ratio = rate.div(rate[over], axis=0)
    table = {"members a second": rate.median(), f"times {over}": ratio.median()}
    table |= {"lowest": ratio.min(), "highest": ratio.max()}
    return pd.DataFrame(table).rename_axis("load by").reset_index()


def memory_chart(frame: pd.DataFrame, *, plain: str = "ZADD of 500") -> Figure:
    """From ``loading``: bytes a member, naive (``plain``) beside hardened, for each board."""
    used = frame.groupby("board", sort=False)["bytes"].median()
    names = [name for name in used.index if not name.startswith("ZADD")]
    rows = [
        (name, variant, used[plain if variant == "naive" else name])
        for name in names
        for variant in ("naive", "hardened")
    ]
    first, *others = [f"{name} {used[name] / used[plain]:.1f}" for name in names]
    return bars(
        pd.DataFrame(rows, columns=["ties", "variant", "bytes"]), x="ties", y="bytes", by="variant",
        title=", ".join([f"Memory: {first} times a plain sorted set", *others]), xlabel="tie rule",
        ylabel="bytes a member", form="{:.0f}", remark="MEMORY USAGE, 2,000 members sampled",
    )  # fmt: skip
