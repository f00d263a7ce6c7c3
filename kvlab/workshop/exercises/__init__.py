"""The exercises, two for each chapter: a short one and a longer one.

Each module holds the exercises of one chapter: their promises, each with its trial, and hints.
The room ``patterns`` holds those of chapters 1 to 8.
"""

from __future__ import annotations

import importlib

from kvlab.core.checks import instance
from kvlab.errors import InvalidArgument
from kvlab.workshop.exercises.exercise import Exercise

CHAPTERS = {
    "01": "patterns.cache_aside",
    "02": "patterns.write_through",
    "03": "patterns.rate_limiting",
    "04": "patterns.sessions",
    "05": "patterns.distributed_lock",
    "06": "patterns.leaderboard",
    "07": "patterns.pipeline",
    "08": "patterns.feature_flags",
    "09": "explore_your_own_code",
    "10": "load_tests",
    "11": "libraries",
    "12": "cache_lab",
    "13": "rest",
    "14": "beyond_one_server",
}
"""The module of each chapter's exercises."""


def of_chapter(chapter: str) -> tuple[Exercise, ...]:
    """The exercises of a chapter such as "05". Raises InvalidArgument for an unknown one."""
    if chapter not in CHAPTERS:
        raise InvalidArgument(f"no exercises for chapter {chapter!r:.40}; there are: {_known()}")
    module = importlib.import_module(f"{__name__}.{CHAPTERS[chapter]}")
    exercises: tuple[Exercise, ...] = module.EXERCISES
    return exercises


def find(number: str) -> Exercise:
    """The exercise "05", or "05-short". Raises InvalidArgument for an unknown one."""
    instance("exercise", number, str, 'a text such as "05-short"')
    for exercise in of_chapter(number[:2].rjust(2, "0")):
        if exercise.number == number:
            return exercise
    raise InvalidArgument(f"no exercise {number!r:.40}; there are {_known()}, each also -short")


def every() -> tuple[Exercise, ...]:
    """All exercises, in the order of the chapters."""
    return tuple(exercise for chapter in CHAPTERS for exercise in of_chapter(chapter))


def _known() -> str:
    return ", ".join(CHAPTERS)
