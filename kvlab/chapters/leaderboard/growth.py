"""How the time of a call grows with the number of members on the board.

Sizes and calls alternate in a seeded random order, so that a machine that slows down slows all of
them alike. The figure of a turn is the median of its calls; the turns give the spread.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping

import pandas as pd

from kvlab import Kv, Leaderboard, Op
from kvlab.core.checks import whole
from kvlab.core.op import Script
from kvlab.instruments.measure.comparison import Comparison, ratio_over_turns
from kvlab.instruments.measure.turns import turns_within

Call = Callable[[Leaderboard, str], list[str]]
"""Reads from a board for one member; the answer must have the member's name."""

_CHUNK = 1_000
_FILL = Script(
    "fill",
    """
    local pairs = {}
    for i = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
      pairs[#pairs + 1] = math.floor(i / 2)
      pairs[#pairs + 1] = 'p' .. i
    end
    redis.call('ZADD', KEYS[1], unpack(pairs))
    """,
)


def filled_board(kv: Kv, members: int) -> Leaderboard:
    """A board of the members ``p0``, ``p1`` …, two on each score; the server makes the pairs.

    The tie rule is ``shared``, because such a board is its sorted set and nothing else.
    """
    board = Leaderboard(f"of {members}", ties="shared")
    scores = board.top(1).keys[1]
    for first in range(0, members, _CHUNK):
        kv.run(Op(_FILL, scores, first, min(first + _CHUNK, members)))
    return board


def time_by_size(
    calls: Mapping[str, Call],
    boards: Mapping[int, Leaderboard],
    *,
    turns: int,
    calls_per_turn: int,
    seed: int,
) -> pd.DataFrame:
    """Time each call on each board, which stands under its number of members.

    A row is a turn: ``call``, ``members``, ``turn``, ``µs`` (the median of ``calls_per_turn`` calls
    on members drawn at random), ``wrong`` (answers that do not name the member). One more turn, the
    first, is warm-up and left out.
    """
    whole("calls_per_turn", calls_per_turn, 1)
    draw, rows = random.Random(seed), []
    pairs = [(name, members) for name in calls for members in boards]
    for turn, counts in enumerate(turns_within(turns)):
        taken: dict[tuple[str, int], list[float]] = {pair: [] for pair in pairs}
        wrong = dict.fromkeys(pairs, 0)
        for _ in range(calls_per_turn):
            for name, members in draw.sample(pairs, len(pairs)):
                member = f"p{draw.randrange(members)}"
                began = time.perf_counter()
                answer = calls[name](boards[members], member)
                taken[name, members].append(time.perf_counter() - began)
                wrong[name, members] += member not in answer
        if counts:
            for pair in pairs:
                rows.append((*pair, turn, statistics.median(taken[pair]) * 1e6, wrong[pair]))
    return pd.DataFrame(rows, columns=["call", "members", "turn", "µs", "wrong"])


def growth_ratios(times: pd.DataFrame) -> dict[str, Comparison]:
    """For each call: time on the largest board over time on the smallest, turn by turn."""
    by_turn = times.pivot(index=["call", "turn"], columns="members", values="µs")
    return {
        str(name): ratio_over_turns(rows.iloc[:, -1].tolist(), rows.iloc[:, 0].tolist())
        for name, rows in by_turn.groupby("call", sort=False)
    }
