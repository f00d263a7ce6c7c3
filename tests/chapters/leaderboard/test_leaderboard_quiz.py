"""The writer of the quiz ends with its block, and a player who is missing is counted."""

from __future__ import annotations

import pytest

from kvlab import Kv, Leaderboard
from kvlab.chapters.leaderboard.quiz import CALLS, read_during_quiz, repeated_meanwhile


def test_the_step_is_repeated_before_and_during_the_block_and_not_after() -> None:
    steps: list[int] = []
    with repeated_meanwhile(lambda: steps.append(1), pause=0):
        assert steps
        while len(steps) < 10:
            pass
    after = len(steps)
    assert len(steps) == after >= 10


def test_an_error_of_the_step_reaches_the_caller() -> None:
    steps: list[int] = []

    def third_fails() -> None:
        steps.append(1)
        if len(steps) == 3:
            raise LookupError("third")

    with pytest.raises(LookupError), repeated_meanwhile(third_fails, pause=0):
        while len(steps) < 3:
            pass


def test_a_player_who_is_missing_is_a_violation(kv: Kv) -> None:
    board = Leaderboard("quiz", ties="shared")

    def naive(board: Leaderboard, player: int) -> list[str]:
        return ["somebody else"] if player % 2 else [str(player)]

    def hardened(board: Leaderboard, player: int) -> list[str]:
        return [entry.member for entry in kv.run(board.around(player, 5)) or ()]

    measured = read_during_quiz(kv, board, {"naive": naive, "hardened": hardened}, turns=2)
    naive_run, hardened_run = measured.runs["naive"], measured.runs["hardened"]
    assert naive_run.count == hardened_run.count == 2 * CALLS
    assert naive_run.violations == naive_run.counts["missing"] > 0
    assert hardened_run.violations == 0
    assert f"naive {naive_run.violations}, hardened 0" in measured.finding
    assert measured.price.ratio > 0
