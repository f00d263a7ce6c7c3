"""The load test of this room, as the lifecycle runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kvlab
from kvlab.load.leaderboard.boards import BoardProcess, board_of, leaderboard
from kvlab.load.leaderboard.facts import BoardFacts
from kvlab.load.leaderboard.sampled_histories import sample
from kvlab.load.leaderboard.settings import BoardSettings, add_options
from kvlab.load.leaderboard.verdict import conclude
from kvlab.load.verdict import Conclusion


class LeaderboardLoad:
    """See :class:`kvlab.load.verdict.LoadTest`."""

    pattern = "leaderboard"
    settings = BoardSettings

    def add_options(self, add: Callable[..., Any]) -> None:
        add_options(add)

    def first(self, settings: BoardSettings) -> kvlab.Op[Any]:
        return leaderboard(settings).top(1)

    def title(self, settings: BoardSettings) -> str:
        board = "the naive board" if settings.naive else f"ties {settings.ties}"
        return f"Leaderboard: {board}, mode {settings.mode}, {settings.members:,} members"

    def app_settings(self, settings: BoardSettings) -> dict[str, Any]:
        return {}

    def facts(self, settings: BoardSettings) -> BoardFacts:
        return BoardFacts(settings.mode)

    def beside(self, process: BoardProcess) -> None:
        """Sample histories."""
        if process.settings.app_url is None:
            sample(process)

    def bare(self, process: BoardProcess) -> Callable[[], object]:
        board = board_of(process)
        return lambda: board.rank("bare")

    def judge(self, process: BoardProcess, began: float) -> Conclusion:
        return conclude(process)
