"""Every load puts every member on its board in each turn; ratios are taken within a turn."""

from __future__ import annotations

import pandas as pd
import pytest

from kvlab import Kv, Leaderboard
from kvlab.chapters.leaderboard import charts as leaderboard_charts
from kvlab.chapters.leaderboard.loading import RIVAL, load_in_turns, load_ratios


def test_every_member_is_loaded_in_each_turn(kv: Kv) -> None:
    pairs = [(f"p{i}", float(i)) for i in range(600)]
    loads = load_in_turns(kv, pairs, rules=("shared",), turns=2)
    assert list(loads["load"].unique()) == ["ZADD of 1", RIVAL, "shared"]
    assert list(loads["turn"].unique()) == [1, 2]
    for turn in range(3):
        board = Leaderboard(f"load shared {turn}", ties="shared")
        assert kv.run(board.page(1, 1)).total == 600
        for plain in ("ZADD of 1", RIVAL):
            assert kv.client.zcard(f"{kv.prefix}load {plain} {turn}") == 600
    memory = leaderboard_charts.price_of_ties(loads).axes[0]
    heights = [bar.get_height() for bar in memory.patches]
    assert heights == list(loads.groupby("load")["bytes"].median()[[RIVAL, "shared"]])


def test_a_load_ratio_is_taken_within_a_turn() -> None:
    rates = {RIVAL: (10.0, 100.0, 40.0), "first": (5.0, 20.0, 16.0)}
    rows = [(name, turn, 0, rates[name][turn], 1) for turn in range(3) for name in rates]
    ratios = load_ratios(pd.DataFrame(rows, columns=["load", "turn", "place", "rate", "bytes"]))
    assert ratios.loc["first", "ratio"] == pytest.approx((0.5 * 0.2 * 0.4) ** (1 / 3))
    assert list(ratios.loc[RIVAL]) == [1, 1, 1]
