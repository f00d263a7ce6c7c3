"""Every sender has the same deaths and its own violations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvlab import Kv, Op
from kvlab.chapters.pipeline.batch_cost import BATCHES, DIES_EVERY, Sender, batch_costs
from kvlab.server.engines import RunningServer


def test_each_sender_has_the_same_deaths_and_its_own_violations(
    kv: Kv, server: RunningServer
) -> None:
    def plain(to: Kv, ops: Sequence[Op[Any]]) -> None:
        to.run([Op("INCRBY", op.keys[0], 1) for op in ops])

    def atomic(to: Kv, ops: Sequence[Op[Any]]) -> None:
        to.run(ops, atomic=True)

    senders = {"naive": Sender(plain, "INCRBY"), "hardened": Sender(atomic, "EVAL")}
    costs = batch_costs(kv, server.url, senders, turns=2)
    deaths = BATCHES // DIES_EVERY
    assert costs.died == 2 * deaths
    assert {name: run.violations for name, run in costs.runs.items()} == {
        "naive": 2 * deaths,
        "hardened": 0,
    }
    assert {run.count for run in costs.runs.values()} == {2 * (BATCHES - deaths)}
    assert costs.prices["naive"].ratio == 1
    assert list(costs.table["applied in part"]) == ["4 of 4", "0 of 4"]
    assert costs.finding.endswith("naive 4, hardened 0")
