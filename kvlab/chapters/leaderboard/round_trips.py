"""The round trips of four questions to a leaderboard, naive and hardened, counted by a proxy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd

import kvlab
from kvlab import Leaderboard, NaiveLeaderboard, Op
from kvlab.instruments.faults.proxy import Proxy


def submit_then_rank(naive: NaiveLeaderboard) -> None:
    naive.update_score("Ann", 1)
    naive.get_user_rank("Ann")


def rank_and_score(naive: NaiveLeaderboard) -> None:
    naive.get_user_rank("Ann")
    naive.get_user_score("Ann")


def context(naive: NaiveLeaderboard) -> None:
    naive.get_player_context("Ann")


def top_ten(naive: NaiveLeaderboard) -> None:
    naive.get_top_players(10)


def count_round_trips(url: str, prefix: str) -> pd.DataFrame:
    """A row for each question, with the round trips of the naive and of the hardened answer."""
    board = Leaderboard("round trips")
    questions: Mapping[str, tuple[Callable[[NaiveLeaderboard], None], Op[Any]]] = {
        "submit, then my rank": (submit_then_rank, board.submit("Ann", 1)),
        "my rank and score": (rank_and_score, board.rank("Ann")),
        "around me": (context, board.around("Ann", 2)),
        "the top ten": (top_ten, board.top(10)),
    }
    trips = {}
    with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=prefix) as kv:
        naive = NaiveLeaderboard(kv.client, kv.prefix)
        for question, (ask, op) in questions.items():
            plain, _ = proxy.trips(partial(ask, naive))
            hardened, _ = proxy.trips(partial(kv.run, op))
            trips[question] = (plain, hardened)
    table = pd.DataFrame.from_dict(trips, orient="index", columns=["naive", "hardened"])
    return table.rename_axis("round trips")
