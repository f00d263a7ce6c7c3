"""Who is in at a percentage: even, growing, and independent from flag to flag.

``SIGMAS`` standard deviations are the bound of what chance alone may do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence

import pandas as pd

from kvlab import Flag
from kvlab.core.checks import real, whole

SIGMAS = 4.0
"""A fair draw exceeds this bound about once in 16,000 draws."""


def binomial_bound(n: int, share: float) -> tuple[float, float]:
    """Expected successes of ``n`` draws with chance ``share``, and ``SIGMAS`` deviations of it."""
    whole("n", n, 1)
    real("share", share, 0, 1)
    return n * share, SIGMAS * math.sqrt(n * share * (1 - share))


def users_in(name: str, percent: float, users: Iterable[int]) -> set[int]:
    """The users that a flag of this name includes at ``percent``."""
    flag = Flag(percent)
    return {user for user in users if flag.includes(name, user)}


def rollout_by_steps(
    name: str, users: Sequence[int], percents: Sequence[float], *, seed: int
) -> pd.DataFrame:
    """Raise a flag step by step, beside a rollout that draws again at each step.

    A row for each percentage: how many users have the feature, and how many lost it in this step.
    Two more columns have the same counts for the rollout that draws again.
    """
    draw = random.Random(seed)
    was_in: set[int] = set()
    was_drawn: set[int] = set()
    rows = []
    for percent in percents:
        now_in = users_in(name, percent, users)
        drawn = {user for user in users if draw.random() * 100 < percent}
        rows.append(
            (percent, len(now_in), len(was_in - now_in), len(drawn), len(was_drawn - drawn))
        )
        was_in, was_drawn = now_in, drawn
    names = ["percent", "have it", "lost it", "drawn again: have it", "drawn again: lost it"]
    return pd.DataFrame(rows, columns=names).set_index("percent")


def independence(first: str, second: str, percent: float, users: Sequence[int]) -> pd.DataFrame:
    """Two flags at one percentage: users in both, in one, in none, and what chance expects."""
    inside = {name: users_in(name, percent, users) for name in (first, second)}
    share = percent / 100
    rows = []
    for in_first in (True, False):
        for in_second in (True, False):
            seen = sum(
                (user in inside[first]) == in_first and (user in inside[second]) == in_second
                for user in users
            )
            chance = (share if in_first else 1 - share) * (share if in_second else 1 - share)
            expected, bound = binomial_bound(len(users), chance)
            words = ("in" if in_first else "out", "in" if in_second else "out")
            rows.append((*words, seen, expected, bound, abs(seen - expected) <= bound))
    names = [first, second, "users", "expected", "bound ±", "within the bound"]
    return pd.DataFrame(rows, columns=names).round(0).set_index([first, second])
