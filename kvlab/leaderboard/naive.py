"""The tutorial's leaderboard, line by line, and the schedules that break it."""

from __future__ import annotations

from typing import Any


class NaiveLeaderboard:
    """The tutorial's sorted set: one plain command after another.

    The entries around a player, rank first and range second:

    1. Ann: ZREVRANK answers 4
    2. three players below Ann pass her: Ann is 7th now
    3. Ann: ZREVRANGE reads the ranks 2 to 6: Ann is missing from her own context

    A retried increment:

    1. client: ZINCRBY runs, its reply is lost
    2. redis-py: retries ZINCRBY: it counts twice, without an error

    Without any race: ties are ranked by the bytes of the name ('10' before '2' or after it, never
    by time), ``2**53 + 1`` is stored rounded, ``inf`` is a score, and ``get_top_players(0)``
    returns all players, since its range ends at −1.
    """

    def __init__(self, client: Any, prefix: str = "") -> None:
        self.client = client
        self.key = f"{prefix}leaderboard:global"

    def update_score(self, user_id: object, score: float) -> None:
        self.client.zadd(self.key, {str(user_id): score})

    def increment_score(self, user_id: object, increment: float) -> None:
        self.client.zincrby(self.key, increment, str(user_id))

    def get_top_players(self, limit: int = 10) -> Any:
        # Get top scores (descending order)
        return self.client.zrange(self.key, 0, limit - 1, desc=True, withscores=True)

    def get_user_rank(self, user_id: object) -> int | None:
        # Get user's rank (0-based, so add 1 for 1-based)
        rank = self.client.zrevrank(self.key, str(user_id))
        return rank + 1 if rank is not None else None

    def get_user_score(self, user_id: object) -> float | None:
        score: float | None = self.client.zscore(self.key, str(user_id))
        return score

    def get_player_context(self, user_id: object, range_: int = 2) -> Any:
        # Get players around the user
        rank = self.client.zrevrank(self.key, str(user_id))
        if rank is None:
            return None

        start = max(0, rank - range_)
        end = rank + range_
        return self.client.zrange(self.key, start, end, desc=True, withscores=True)
