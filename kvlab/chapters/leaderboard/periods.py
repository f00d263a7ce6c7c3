"""When the board of a period expires."""

from __future__ import annotations

from kvlab import Kv, Leaderboard
from kvlab.errors import PeriodClosed

DAY = 86_400


def expires_in(kv: Kv, board: Leaderboard, at: float) -> str:
    """Submit a score for the period of ``at`` (Unix seconds), and read how long its board lives."""
    try:
        kv.run(board.submit("Ann", 5, at=at))
    except PeriodClosed:
        return "refused: closed"
    scores = board.top(1, at=at).keys[1]
    return f"{kv.client.ttl(kv.name(scores)) / DAY:.1f} days"
