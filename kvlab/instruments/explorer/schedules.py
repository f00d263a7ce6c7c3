"""Make one run by a schedule: to try whether it can be made, and to record what it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from kvlab.errors import InvalidArgument
from kvlab.instruments.explorer.findings import Findings
from kvlab.instruments.explorer.invariants import judged
from kvlab.instruments.explorer.run.choices import Choice
from kvlab.instruments.explorer.run.exploration import Exploration
from kvlab.instruments.explorer.run.repeats import ADVICE
from kvlab.instruments.explorer.run.run import Run
from kvlab.instruments.explorer.search import Nondeterministic, RepeatRun
from kvlab.instruments.explorer.shortening import steady
from kvlab.instruments.explorer.timeline.timeline import Timeline
from kvlab.instruments.explorer.timeline.wording import state_of

MAX_TOKENS = 40
"""The end of a longer schedule is left out where a replay chooses the same without it."""

Chooser = Callable[[Sequence[Choice]], Choice]
"""Picks one of what can happen next."""


def along(path: Sequence[Choice]) -> Chooser:
    """Takes the choices of the path; then the first of the options each time.

    Raises Nondeterministic where a choice is none any more.
    """
    left = list(reversed(path))

    def choose(options: Sequence[Choice]) -> Choice:
        if left and left[-1] not in options:
            raise Nondeterministic(f"the choice {left[-1]} of a run is no choice now; {ADVICE}")
        return left.pop() if left else options[0]

    return choose


class Spelled:
    """Takes the choices that tokens name; then the first of the options each time.

    ``left``: the tokens that are not used yet, the next one last.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.left = list(reversed(tokens))
        self._count = len(tokens)

    def __call__(self, options: Sequence[Choice]) -> Choice:
        if not self.left:
            return options[0]
        token = self.left[-1]
        for option in options:
            if str(option) == token:
                self.left.pop()
                return option
        if options[0].kind == "look":
            return options[0]
        possible = " ".join(str(option) for option in options)
        if token.startswith("j"):
            possible += "; a jump needs clock_jumps, as they were given to explore"
        at = self._count - len(self.left) + 1
        raise InvalidArgument(f"step {at} of the schedule is {token!r}; possible: {possible}")


def rehearse(exploration: Exploration, tokens: Sequence[str]) -> bool:
    """Make the run of a schedule once; whether it began as the runs after it will.

    Raises InvalidArgument for a schedule that is not one of this program.
    """
    run, choose = Run(exploration), Spelled(tokens)
    refused: InvalidArgument | None = None
    try:
        while options := run.options():
            run.take(choose(options))
    except InvalidArgument as problem:
        refused = problem
    try:
        run.end()
    except RepeatRun:
        return False
    if refused is not None:
        raise refused
    if choose.left:
        raise InvalidArgument(f"the run was over before {' '.join(reversed(choose.left))!r}")
    return True


def made_again(exploration: Exploration, found: Findings) -> None:
    """Make a run of the search again, after all the others.

    Raises Nondeterministic if clients do something else in it than the first time, or if the
    invariant says no to it now. It is asked only if it has said no to another run.
    """
    if (first := found.first) is None:
        return
    run, words, problem = Run(exploration, repeats=True), None, None
    for choice, done in zip(first.path, first.done, strict=True):
        if choice not in run.options():
            words = f"the choice {choice}, which could be made in the first run, is no choice now"
        if words := words or run.unlike(done, run.take(choice)):
            break
    if not words and first.holds and found.denied:
        problem = judged(run).problem
    try:
        run.end()
    except RepeatRun:
        return
    if problem:
        words = f"a run that held does not hold when it is made again: {problem}; {ADVICE}"
    if words:
        raise Nondeterministic(words)


def recorded(exploration: Exploration, choose: Chooser) -> Timeline:
    """Make the run once more, and note the state of the keys after each step."""
    run, schedule = Run(exploration), _Schedule()
    states = [state_of(exploration.server)]
    while options := run.options():
        choice = choose(options)
        schedule.note(choice, options[0])
        run.take(choice)
        if len(states) <= len(run.trace):
            states.append(state_of(exploration.server))
    verdict = judged(run)
    timeline = Timeline(
        names=run.settings.names,
        schedule=str(schedule),
        trace=tuple(run.trace),
        states=tuple(states),
        results=tuple(run.results),
        problem=verdict.problem,
        undecided=verdict.undecided,
    )
    with suppress(RepeatRun):
        run.end()
    return timeline


def shortest(exploration: Exploration, found: Findings) -> Timeline | None:
    """The shortest run that does not hold, made once more; None when all hold.

    Raises Nondeterministic if it ends otherwise now.
    """
    if found.best is None:
        return None
    path = found.best[1]
    if exploration.settings.processes > 1:
        tokens = [str(choice) for choice in path]
        while not rehearse(exploration, tokens):
            pass  # until this server knows the scripts too
    shown = recorded(exploration, along(path))
    reasons = found.broken or found.undecided
    if steady(shown.problem or shown.undecided or "") not in reasons:
        was = f"{'broken' if found.broken else 'undecided'} ({next(iter(reasons))})"
        raise Nondeterministic(
            f"a run that was {was} is not when it is made again ({shown.verdict}); {ADVICE}"
        )
    return shown


class _Schedule:
    """The tokens of a run. A look at the clock is written only where a jump comes after it."""

    def __init__(self) -> None:
        self._tokens: list[str] = []
        self._looks: list[Choice] = []  # since the last step
        self._needed = 0  # tokens; a replay chooses the same without those that follow

    def note(self, choice: Choice, first: Choice) -> None:
        """``first`` is the option that a replay would choose."""
        if choice.kind == "look":
            self._looks.append(choice)
            return
        if choice.kind == "jump":
            self._tokens += [str(look) for look in self._looks if look.client == choice.client]
        self._looks.clear()
        self._tokens.append(str(choice))
        if choice != first:
            self._needed = len(self._tokens)

    def __str__(self) -> str:
        whole = len(self._tokens) <= MAX_TOKENS
        return " ".join(self._tokens if whole else self._tokens[: max(1, self._needed)])
