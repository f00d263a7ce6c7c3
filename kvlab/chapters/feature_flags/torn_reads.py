"""Beside a busy writer: how often a request sees half a change, and what a flag check costs."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from kvlab.instruments.measure.comparison import Comparison, ratio_over_turns
from kvlab.instruments.measure.turns import in_turns

Read = Callable[[], Sequence[bool]]
"""Reads the two flags that belong together: one request."""


@dataclass(frozen=True, slots=True)
class TornReads:
    """By variant: requests ``asked``, of them ``torn`` (half a change), median ``seconds`` a check.

    ``cost``: the first variant's time over the second's.
    """

    asked: Mapping[str, int]
    torn: Mapping[str, int]
    seconds: Mapping[str, float]
    cost: Comparison


def torn_reads(
    reads: Mapping[str, Read],
    write: Callable[[bool], object],
    *,
    requests: Mapping[str, int],
    turns: int = 9,
    pause: float = 0.002,
) -> TornReads:
    """Two variants read in turns, while a thread turns both flags every ``pause`` seconds.

    ``requests``: how many of each variant in a turn; a request is two checks. Torn reads of the
    warm-up turn count too.
    """
    asked: Counter[str] = Counter()
    torn: Counter[str] = Counter(dict.fromkeys(reads, 0))

    def turn(name: str) -> float:
        read, count = reads[name], requests[name]
        began = time.perf_counter()
        saw = [read() for _ in range(count)]
        seconds = time.perf_counter() - began
        asked[name] += count
        torn[name] += sum(first != second for first, second in saw)
        return seconds / count / 2

    with turned_meanwhile(write, pause):
        taken = in_turns({name: partial(turn, name) for name in reads}, turns=turns)
    first, second = taken.values()
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return TornReads(dict(asked), dict(torn), medians, ratio_over_turns(first, second))


@contextmanager
def turned_meanwhile(write: Callable[[bool], object], pause: float) -> Iterator[None]:
    """Inside the block a thread calls ``write`` with True, False, True …, ``pause`` seconds apart.

    An error of ``write`` is raised when the block ends.
    """
    stop = threading.Event()

    def turn() -> None:
        for on in itertools.cycle((True, False)):
            if stop.wait(pause):
                return
            write(on)

    with ThreadPoolExecutor(1) as pool:
        turning = pool.submit(turn)
        try:
            yield
        finally:
            stop.set()
        turning.result()
