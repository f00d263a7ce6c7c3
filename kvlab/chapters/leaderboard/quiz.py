"""Players read their neighbours while all scores change: how long, and who is missing.

A quiz: with each question a thread writes a new score for every player, and then rests. Meanwhile
one reader asks for the neighbours of one player after another. A violation is an answer without
the player who asked.

Guarantee: the variants take turns, and the first turn is thrown away. An error of the writer is
raised.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from kvlab import Kv, Leaderboard
from kvlab.instruments.charts.ratios import in_words
from kvlab.instruments.measure.comparison import Comparison, ratio_over_turns
from kvlab.instruments.measure.experiment import experiment
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.turns import in_turns, merged
from kvlab.instruments.measure.workload import ClosedLoop, Uniform

PLAYERS = 200
CALLS = 400
SEED = 6
PAUSE = 0.005
"""Seconds between two questions of the quiz."""

Reader = Callable[[Leaderboard, int], list[str]]
"""The names around a player on a board."""


@dataclass(frozen=True, slots=True)
class QuizReads:
    """``runs``: the turns of each variant as one. ``price``: median time, hardened over naive."""

    runs: dict[str, Result]
    price: Comparison

    @property
    def finding(self) -> str:
        """How often a player was missing, and the price, in one line."""
        missing = ", ".join(f"{name} {run.violations}" for name, run in self.runs.items())
        calls = next(iter(self.runs.values())).count
        price = in_words(self.price, "hardened takes {} of naive")
        return f"Player missing in {calls:,} answers: {missing}; median time: {price}"


def read_during_quiz(
    kv: Kv, board: Leaderboard, readers: Mapping[str, Reader], *, turns: int
) -> QuizReads:
    """Each of ``readers`` in turn reads the neighbours of ``CALLS`` players while the quiz runs."""
    draw = random.Random(SEED)

    def next_question() -> None:
        kv.run(board.load((player, draw.randrange(10**6)) for player in range(PLAYERS)))

    def read(name: str) -> Result:
        def neighbours(player: int) -> str:
            return "found" if str(player) in readers[name](board, player) else "missing"

        with repeated_meanwhile(next_question, PAUSE):
            run = experiment(
                neighbours,
                Uniform(PLAYERS),
                SEED,
                arrivals=ClosedLoop(1),
                count=CALLS,
                warmup=50,
                name=name,
                kv=kv,
                progress=False,
            )
        return replace(run, violations=run.counts.get("missing", 0))

    taken = in_turns({name: partial(read, name) for name in readers}, turns=turns)
    price = ratio_over_turns(taken["hardened"], taken["naive"])
    return QuizReads({name: merged(runs) for name, runs in taken.items()}, price)


@contextmanager
def repeated_meanwhile(step: Callable[[], object], pause: float) -> Iterator[None]:
    """Inside the block a thread repeats ``step``, and rests ``pause`` seconds after each.

    ``step`` has been called once before the block begins. Its error is raised when the block ends.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(pause):
            step()

    step()
    with ThreadPoolExecutor(1) as pool:
        repeating = pool.submit(repeat)
        try:
            yield
        finally:
            over.set()
        repeating.result()
