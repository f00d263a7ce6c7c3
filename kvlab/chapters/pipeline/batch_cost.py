"""What a batch of counters costs in several ways to send it, and what a dying client leaves.

Guarantee: every sender gets the same number of batches and of dying clients; the senders take
turns, and the first turn is thrown away. Closed loop of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import pandas as pd

from kvlab import Kv, Op
from kvlab.chapters.pipeline.lost_connection import cut_midway
from kvlab.instruments.measure.comparison import Comparison, ratio_over_turns
from kvlab.instruments.measure.experiment import experiment
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.turns import in_turns, merged
from kvlab.instruments.measure.workload import ClosedLoop, Uniform
from kvlab.pipeline import add_to_counters

Batch = Sequence[Op[Any]]

COUNTERS = 50
BATCHES = 40
DIES_EVERY = 20


@dataclass(frozen=True, slots=True)
class Sender:
    """A way to send a batch. Its client dies before the command in the middle of the batch."""

    send: Callable[[Kv, Batch], object]
    dies_before: str


@dataclass(frozen=True, slots=True)
class BatchCosts:
    """``runs``: the batches that were not cut. ``prices``: median time over the first sender's.

    A run's violations are batches that are applied in part, out of ``died``.
    """

    runs: dict[str, Result]
    prices: dict[str, Comparison]
    died: int

    @property
    def table(self) -> pd.DataFrame:
        """A row for each sender: batches applied in part, and the price with its interval."""
        rows = [
            (name, f"{run.violations} of {self.died}", self.prices[name])
            for name, run in self.runs.items()
        ]
        first = next(iter(self.runs))
        names = ["sender", "applied in part", f"median time over {first}"]
        return pd.DataFrame(rows, columns=names).set_index("sender")

    @property
    def finding(self) -> str:
        """How many cut batches were applied in part, in one line."""
        torn = ", ".join(f"{name} {run.violations}" for name, run in self.runs.items())
        return f"{self.died} clients died midway, batches applied in part: {torn}"


def batch_costs(kv: Kv, url: str, senders: Mapping[str, Sender], *, turns: int) -> BatchCosts:
    """Send batches of ``COUNTERS`` new counters; one client of ``DIES_EVERY`` dies midway."""
    numbers = count(1)
    runs = {name: partial(_run, kv, url, name, one, numbers) for name, one in senders.items()}
    taken = in_turns(runs, turns=turns)
    first = next(iter(senders))
    return BatchCosts(
        {name: merged(runs) for name, runs in taken.items()},
        {name: ratio_over_turns(taken[name], taken[first]) for name in senders},
        len(taken[first]) * (BATCHES // DIES_EVERY),
    )


def _run(kv: Kv, url: str, name: str, sender: Sender, numbers: count[int]) -> Result:
    names = dict.fromkeys(map(str, range(COUNTERS)), 1)
    sent: list[Batch] = []

    def send(_: int) -> str:
        ops = add_to_counters(f"batch {next(numbers)}", names)
        sent.append(ops)
        if len(sent) % DIES_EVERY:
            sender.send(kv, ops)
            return "done"

        def work(client: Any) -> None:
            sender.send(Kv(client, prefix=kv.prefix), ops)

        cut_midway(url, sender.dies_before, COUNTERS // 2 + 1, work)
        return "died"

    def applied_in_part() -> int:
        found = kv.run([Op("EXISTS", *(op.keys[0] for op in ops), decode=int) for ops in sent])
        return sum(0 < there < COUNTERS for there in found)

    run = experiment(
        send,
        Uniform(1),
        1,
        arrivals=ClosedLoop(1),
        count=BATCHES,
        check=applied_in_part,
        kv=kv,
        name=name,
        progress=False,
    )
    return _without(run, "died")


def _without(run: Result, outcome: str) -> Result:
    """The run without the calls of one outcome, whose time says nothing about the others."""
    left = {name: recorder for name, recorder in run.outcomes.items() if name != outcome}
    return replace(run, outcomes=left)
