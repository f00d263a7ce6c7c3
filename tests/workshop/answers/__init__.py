from __future__ import annotations

from workshop.answers import (
    cache_aside,
    distributed_lock,
    explore_your_own_code,
    feature_flags,
    leaderboard,
    libraries,
    load_tests,
    pipeline,
    rate_limiting,
    sessions,
    write_through,
)
from workshop.answers.answer import Answer

ANSWERS: list[Answer] = [
    *cache_aside.ANSWERS,
    *write_through.ANSWERS,
    *rate_limiting.ANSWERS,
    *sessions.ANSWERS,
    *distributed_lock.ANSWERS,
    *leaderboard.ANSWERS,
    *pipeline.ANSWERS,
    *feature_flags.ANSWERS,
    *explore_your_own_code.ANSWERS,
    *load_tests.ANSWERS,
    *libraries.ANSWERS,
]
