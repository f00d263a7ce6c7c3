"""What a tie rule costs: how fast a board loads, and the memory of a member."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pandas as pd

from kvlab import Kv, Leaderboard
from kvlab.instruments.measure.comparison import ratio_over_turns
from kvlab.instruments.measure.turns import Taken, orders, turns_within
from kvlab.leaderboard.board import Ties

Pairs = Sequence[tuple[str, float]]
Load = Callable[[str], list[str]]
"""Loads the members into keys made from a name; returns the full names of the keys."""

RIVAL = "ZADD of 500"
"""The plain pipeline that sends as many members in a command as ``board.load`` in a script."""
SAMPLES = 2_000


def load_in_turns(kv: Kv, pairs: Pairs, *, rules: Sequence[Ties], turns: int) -> pd.DataFrame:
    """Load the pairs by plain pipelined ZADD, and into new boards of each tie rule, in turns.

    Columns: ``load``, ``turn``, ``place`` in the turn (the order is random), ``rate`` (members a
    second), ``bytes`` (a member, by MEMORY USAGE with ``SAMPLES`` samples). The first turn is
    warm-up and left out.
    """
    loads = {"ZADD of 1": _plain(kv, pairs, 1), RIVAL: _plain(kv, pairs, 500)}
    loads |= {rule: _board(kv, pairs, rule) for rule in rules}
    rows = []
    drawn = orders(loads, seed=6)
    for turn, counts in enumerate(turns_within(turns)):
        for place, name in enumerate(next(drawn) if counts else loads):
            began = time.perf_counter()
            keys = loads[name](f"load {name} {turn}")
            rate = len(pairs) / (time.perf_counter() - began)
            used = sum(kv.client.memory_usage(key, samples=SAMPLES) or 0 for key in keys)
            if counts:
                rows.append((name, turn, place, rate, used / len(pairs)))
    frame = pd.DataFrame(rows, columns=["load", "turn", "place", "rate", "bytes"])
    order = frame["load"].map([*loads].index)
    return frame.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def load_ratios(loads: pd.DataFrame) -> pd.DataFrame:
    """For each load, its rate over the rate of ``RIVAL``: ``ratio`` with ``low`` and ``high``."""
    taken = {
        str(name): Taken(rows["rate"], rows["place"])
        for name, rows in loads.groupby("load", sort=False)
    }
    found = {name: ratio_over_turns(rates, taken[RIVAL]) for name, rates in taken.items()}
    rows = [(one.ratio, one.low, one.high) for one in found.values()]
    return pd.DataFrame(rows, columns=["ratio", "low", "high"], index=pd.Index(found))


def _plain(kv: Kv, pairs: Pairs, members: int) -> Load:
    def load(name: str) -> list[str]:
        pipe = kv.client.pipeline(transaction=False)
        for at in range(0, len(pairs), members):
            pipe.zadd(f"{kv.prefix}{name}", dict(pairs[at : at + members]))
        pipe.execute()
        return [f"{kv.prefix}{name}"]

    return load


def _board(kv: Kv, pairs: Pairs, rule: Ties) -> Load:
    def load(name: str) -> list[str]:
        board = Leaderboard(name, ties=rule)
        kv.run(board.load(pairs))
        return [kv.name(key) for key in board.top(1).keys]

    return load
