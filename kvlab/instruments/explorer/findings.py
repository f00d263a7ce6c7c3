"""What is kept of all the runs of a search: counts, and the run to show."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kvlab.instruments.explorer.invariants import broken_by, failure_of
from kvlab.instruments.explorer.run.choices import Choice
from kvlab.instruments.explorer.run.exploration import Exploration
from kvlab.instruments.explorer.run.run import Run
from kvlab.instruments.explorer.run.steps import Done
from kvlab.instruments.explorer.search import Search
from kvlab.instruments.measure.progress import progress_bar

RunSearch = Search[Choice, Done, Run]


@dataclass(frozen=True, slots=True, order=True)
class Rank:
    """Which of the runs that break the invariant is shown: the one with the least rank.

    No two runs have the same ``place``, so that the same run is shown in whatever order the runs
    are found.
    """

    faults: int
    steps: int
    turns: int
    place: tuple[int, ...]


class MadeRun(NamedTuple):
    """A run of the search, what was done in it, and whether it held."""

    path: tuple[Choice, ...]
    done: tuple[Done, ...]
    holds: bool


@dataclass(slots=True)
class Findings:
    """Of a search, or of several parts of it, added up.

    ``broken``: how many runs broke the invariant, by the problem; ``moved``: the clients that did
    anything; ``best``: the path of the run to show, and its rank; ``first``: the
    first run that held, or else the first run; ``denied``: the invariant has said no to a run.
    """

    seconds: float = 0.0
    schedules: int = 0
    unexplored: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    moved: set[int | None] = field(default_factory=set)
    best: tuple[Rank, tuple[Choice, ...]] | None = None
    first: MadeRun | None = None
    denied: bool = False

    def note(
        self, path: tuple[Choice, ...], run: Run, problem: str | None, search: RunSearch
    ) -> None:
        """Add one run. ``problem``: why it does not hold, if it does not."""
        self.schedules += 1
        self.moved.update(step.client for step in run.trace)
        if problem is not None:
            self.broken[problem] += 1
            self._offer(_rank(path, search.place), path)

    def add(self, other: Findings) -> None:
        """Add the findings of other runs."""
        self.schedules += other.schedules
        self.unexplored += other.unexplored
        self.broken += other.broken
        self.moved |= other.moved
        if other.best is not None:
            self._offer(*other.best)

    def _offer(self, rank: Rank, path: tuple[Choice, ...]) -> None:
        if self.best is None or rank < self.best[0]:
            self.best = rank, path


def findings_of(search: RunSearch, goes_on: Callable[[Findings], bool]) -> Findings:
    """Make the runs of a search, until ``goes_on``, which is asked after each run, says no."""
    found = Findings()
    for path, run in search:
        problem = broken_by(run)
        found.note(path, run, problem, search)
        if found.first is None or (problem is None and not found.first.holds):
            found.first = MadeRun(path, search.done, problem is None)
        found.denied |= problem is not None and failure_of(run) is None
        if not goes_on(found):
            break
    found.unexplored = search.unexplored
    return found


def found_alone(exploration: Exploration) -> Findings:
    """Make all runs in this process, until a limit is met. The first run is always made."""
    settings = exploration.settings
    search: RunSearch = Search(lambda: Run(exploration, repeats=True), reduce=settings.reduce)
    began = time.perf_counter()
    with progress_bar(None, "schedules", show=settings.progress) as bar:

        def goes_on(found: Findings) -> bool:
            bar.update()
            spent = time.perf_counter() - began
            return found.schedules < settings.max_schedules and spent < settings.max_seconds

        found = findings_of(search, goes_on)
    found.seconds = time.perf_counter() - began
    return found


def _rank(path: Sequence[Choice], place: tuple[int, ...]) -> Rank:
    turns = sum(one.client != other.client for one, other in itertools.pairwise(path))
    return Rank(sum(choice.is_fault for choice in path), len(path), turns, place)
