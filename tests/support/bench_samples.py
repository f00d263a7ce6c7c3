"""Runs of kvlab bench that never happened: simulated from a seed, with no clock and no server."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kvlab.bench.run import CONTROL, BenchRun, Row, Turn

ROUNDS, TURNS, CASES = 4, 8, 40


def sample(
    seed: int,
    *,
    slower: Mapping[int, float] = {},
    noise: float = 0.03,
    drift: float = 0.02,
    cases: int = CASES,
) -> BenchRun:
    """A run of ``cases`` rows, each with a true ratio of its own, and an A/A row.

    ``slower``: by number of the case, what its time is multiplied with. ``noise``: of a turn, and
    ``drift``: of a round, as standard deviations of a log ratio.
    """
    chance = np.random.default_rng(seed)

    def row(benchmark: str, name: str, true: float, drift: float) -> Row:
        turns = []
        for number in range(ROUNDS):
            luck = chance.normal(0, drift)
            for turn in range(TURNS):
                peer = 50e-6 * np.exp(chance.normal(0, 0.2))
                ours = peer * true * np.exp(luck + chance.normal(0, noise))
                after = 1.0 if turn % 2 else -1.0
                turns.append(Turn(number, turn, float(ours), float(peer), after))
        facts = benchmark, name, "one client", "kvlab", "a peer", "1.0", "decides nothing"
        return Row(*facts, tuple(turns))

    ratios = np.linspace(0.4, 2.5, cases)
    rows = [row(CONTROL, "GET", 1.0, 0.0)]
    rows += [
        row("cases", f"case {i}", float(ratio) * slower.get(i, 1.0), drift)
        for i, ratio in enumerate(ratios)
    ]
    rounds = [{"number": i, "seed": i, "turns": TURNS, "pieces": 1} for i in range(ROUNDS)]
    machine = {"python": "3.11.7", "engine": "Valkey", "engine_version": "9.1.2"}
    return BenchRun(1.8e9, 60.0, {"short": True, "rounds": rounds}, machine, tuple(rows))
