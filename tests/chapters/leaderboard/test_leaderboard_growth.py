"""Boards of many sizes: every size is asked equally often, and ratios are taken within a turn."""

from __future__ import annotations

import pandas as pd
import pytest

from kvlab import Kv, Leaderboard
from kvlab.chapters.leaderboard import charts as leaderboard_charts
from kvlab.chapters.leaderboard.growth import filled_board, growth_ratios, time_by_size

COLUMNS = ["call", "members", "turn", "µs", "wrong"]


def test_a_filled_board_has_its_members_two_on_each_score(kv: Kv) -> None:
    board = filled_board(kv, 2_500)
    top = kv.run(board.top(3))
    assert [(entry.member, entry.score) for entry in top[:2]] == [("p2499", 1249), ("p2498", 1249)]
    assert top[2].score == 1248
    assert kv.run(board.page(1, 1)).total == 2_500


def test_every_size_is_asked_equally_often_and_wrong_answers_are_counted() -> None:
    asked: list[int] = []
    boards = {size: Leaderboard(f"of {size}") for size in (10, 20)}

    def call(board: Leaderboard, member: str) -> list[str]:
        size = next(size for size, one in boards.items() if one is board)
        assert 0 <= int(member[1:]) < size
        asked.append(size)
        return [member] if size != 20 else []

    times = time_by_size({"call": call}, boards, turns=3, calls_per_turn=5, seed=1)
    assert (asked.count(10), asked.count(20)) == (4 * 5, 4 * 5)
    assert dict(times.groupby("members")["wrong"].sum()) == {10: 0, 20: 3 * 5}
    assert list(times["turn"].unique()) == [1, 2, 3]


def test_a_growth_ratio_is_taken_within_each_turn() -> None:
    rows = [
        ("a", size, turn, micros, 0)
        for turn, both in enumerate([(1, 2), (10, 30), (2, 20)], start=1)
        for size, micros in zip((1_000, 1_000_000), both, strict=True)
    ]
    times = pd.DataFrame(rows, columns=COLUMNS)
    assert growth_ratios(times)["a"].ratio == pytest.approx((2 * 3 * 10) ** (1 / 3))
    theory = leaderboard_charts.time_by_size(times).axes[0].lines[-1].get_ydata()
    assert list(theory) == pytest.approx([2, 4])  # the median at 1,000; a million has twice the log
