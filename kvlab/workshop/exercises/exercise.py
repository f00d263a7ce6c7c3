"""What an exercise is: a function to write, and the promises that the function must keep.

A promise has a trial. The trial gets the learner's function and ``explore``, which runs programs
under every order of their commands on a private server. The trial returns the story that it
explored, or raises AssertionError with what was seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kvlab.instruments.explorer.explore import explore
from kvlab.instruments.explorer.run.steps import World
from kvlab.instruments.explorer.story import Story

MAX_SCHEDULES = 1_200
"""So many orders are tried at most: about two seconds."""
MAX_STEPS = 60
"""A run of more steps is stopped and counts as a loop without an end."""
TEXT = {"decode_responses": True}
"""Options of the redis-py client where a function gets one: replies are text."""

Explore = Callable[..., Story]
Trial = Callable[[Any, Explore], Story | None]


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence that the function must keep, and the trial that shows whether it does."""

    name: str
    promised: str
    trial: Trial


def promise(name: str, promised: str) -> Callable[[Trial], Promise]:
    """Make a trial a :class:`Promise`."""
    return lambda trial: Promise(name, promised, trial)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """One exercise.

    ``number``: of its chapter, "05"; the short one of the chapter is "05-short". ``function``: the
    name of the function to write. ``minutes``: an estimate, from reading and writing it. ``hints``:
    three rungs, from a question to nearly the answer.
    """

    number: str
    function: str
    title: str
    minutes: int
    hints: tuple[str, str, str]
    promises: tuple[Promise, ...]

    @property
    def chapter(self) -> str:
        return self.number[:2]


def data(world: World) -> Any:
    """The redis-py client of a world whose replies are text."""
    return world.kv


def each_key_ends(world: World, why: str, *but: str) -> None:
    """Raises AssertionError for a key without a TTL, with the reason why the key needs one."""
    for key in sorted({*data(world).keys("*")} - {*but}):
        assert data(world).ttl(key) > 0, f"{key} has no TTL: {why}"


def explorer_on(url: str, seconds: float) -> Explore:
    """``explore`` with the limits of an exercise, on an empty server that nobody else uses.

    ``seconds`` end the search for runs that fail; they are for functions that never end.
    """
    return partial(
        explore,
        url=url,
        progress=False,
        max_schedules=MAX_SCHEDULES,
        max_steps=MAX_STEPS,
        max_seconds=seconds,
    )
