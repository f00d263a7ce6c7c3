"""Loads a leaderboard and judges every score, and the ranks that were told.

    locust -f loadtests/leaderboard.py --headless --users 20 --run-time 30s
    kvlab load leaderboard

The load test itself is ``kvlab.load.leaderboard``; this file hands it to Locust.
"""

from kvlab.load.leaderboard import LeaderboardLoad, Player
from kvlab.load.lifecycle import install

__all__ = ["Player"]

install(LeaderboardLoad())
