from __future__ import annotations

from workshop.answers import (
    beyond_one_server,
    cache_lab,
    explore_your_own_code,
    libraries,
    load_tests,
    rest,
)
from workshop.answers.answer import Answer
from workshop.answers.patterns import (
    cache_aside,
    distributed_lock,
    feature_flags,
    leaderboard,
    pipeline,
    rate_limiting,
    sessions,
    write_through,
)

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
    *cache_lab.ANSWERS,
    *rest.ANSWERS,
    *beyond_one_server.ANSWERS,
]
