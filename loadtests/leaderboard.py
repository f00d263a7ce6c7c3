"""Loads a leaderboard and judges every score, and the ranks that it answered.

    locust -f loadtests/leaderboard.py --headless --users 20 --run-time 30s
    kvlab load leaderboard

The load test is ``kvlab.load.leaderboard``. Importing its Locust file hands the test to Locust.
"""

from kvlab.load.leaderboard.locustfile import Player

__all__ = ["Player"]
