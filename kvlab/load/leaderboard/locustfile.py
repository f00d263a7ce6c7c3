"""The Locust file of this load test: importing the module hands the load test to Locust."""

from kvlab.load.generator.install import install
from kvlab.load.leaderboard.load import LeaderboardLoad
from kvlab.load.leaderboard.user import Player

__all__ = ["Player"]

install(LeaderboardLoad())
