"""Makes one run by a schedule: to try whether it can be made, and to see what it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from kvlab.errors import InvalidArgument
from kvlab.instruments.explorer.invariants import broken_by
from kvlab.instruments.explorer.run.events import Choice
from kvlab.instruments.explorer.run.scene import Run, Stage
from kvlab.instruments.explorer.search import Again
from kvlab.instruments.explorer.timeline.timeline import Timeline
from kvlab.instruments.explorer.timeline.wording import state_of

MOST_TOKENS = 40
"""Of a longer schedule the end is left out, where it does what a replay does anyway."""

Chooser = Callable[[Sequence[Choice]], Choice]
"""Picks one of what can happen next."""


def following(path: Sequence[Choice]) -> Chooser:
    """The choices of a path; then the first of the options each time."""
    left = list(reversed(path))
    return lambda options: left.pop() if left else options[0]


def spelt(left: list[str]) -> Chooser:
    """The choices that tokens name, the last one first; then the first of the options each time."""
    total = len(left)

    def choose(options: Sequence[Choice]) -> Choice:
        if left:
            for option in options:
                if str(option) == left[-1]:
                    left.pop()
                    return option
        if not left or options[0].kind == "look":
            return options[0]
        possible = " ".join(str(option) for option in options)
        if left[-1].startswith("j"):
            possible += "; a jump needs clock_jumps, as it was given to explore"
        at = total - len(left) + 1
        raise InvalidArgument(f"step {at} of the schedule is {left[-1]!r}; possible: {possible}")

    return choose


def perform(run: Run, choose: Chooser, after: Callable[[], None] = lambda: None) -> None:
    while options := run.options():
        run.take(choose(options))
        after()


def rehearsed(stage: Stage, tokens: Sequence[str]) -> bool:
    """One run of a schedule; whether it began as those after it will.

    Raises InvalidArgument for a schedule that is not one of this program.
    """
    run, left = Run(stage), list(reversed(tokens))
    refused: InvalidArgument | None = None
    try:
        perform(run, spelt(left))
    except InvalidArgument as problem:
        refused = problem
    try:
        run.end()
    except Again:
        return False
    if refused is not None:
        raise refused
    if left:
        raise InvalidArgument(f"the run was over before {' '.join(reversed(left))!r}")
    return True


def played(stage: Stage, choose: Chooser) -> Timeline:
    """The run again, with the state of the keys after each step."""
    run = Run(stage)
    states = [state_of(stage.server)]
    chosen: list[str] = []
    looks: list[Choice] = []  # since the last step
    needed = 0  # what follows is what would be chosen anyway

    def choosing(options: Sequence[Choice]) -> Choice:
        nonlocal needed
        choice = choose(options)
        if choice.kind == "look":
            looks.append(choice)
            return choice
        if choice.kind == "jump":
            chosen.extend(str(one) for one in looks if one.client == choice.client)
        looks.clear()
        chosen.append(str(choice))
        needed = len(chosen) if choice != options[0] else needed
        return choice

    def look() -> None:
        if len(states) <= len(run.trace):
            states.append(state_of(stage.server))

    perform(run, choosing, look)
    problem = broken_by(run)
    schedule = " ".join(chosen if len(chosen) <= MOST_TOKENS else chosen[:needed])
    timeline = Timeline(
        run.names, schedule, tuple(run.trace), tuple(states), tuple(run.results), problem
    )
    with suppress(Again):
        run.end()
    return timeline
