"""What the leaderboard chapter shows in two tables: round trips, and when a period expires."""

from __future__ import annotations

from kvlab import Kv, Leaderboard, Op
from kvlab.chapters.leaderboard.periods import DAY, expires_in
from kvlab.chapters.leaderboard.round_trips import count_round_trips
from kvlab.server.running_server import RunningServer


def test_the_hardened_board_answers_each_question_in_one_round_trip(
    kv: Kv, server: RunningServer
) -> None:
    trips = count_round_trips(server.url, kv.prefix)
    assert list(trips["naive"]) == [2, 2, 2, 1]
    assert list(trips["hardened"]) == [1, 1, 1, 1]


def test_a_period_is_open_for_keep_periods_after_its_end(kv: Kv) -> None:
    now = int(kv.run(Op("TIME"))[0])
    daily = Leaderboard("daily", ties="shared", period="daily", keep=1)
    assert expires_in(kv, daily, now - 3 * DAY) == "refused: closed"
    assert float(expires_in(kv, daily, now).split()[0]) <= 2
