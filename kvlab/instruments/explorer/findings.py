"""What is kept of all the runs of a search."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kvlab.instruments.explorer.invariants import broken_by
from kvlab.instruments.explorer.run.events import Choice, Done
from kvlab.instruments.explorer.run.scene import Run, Stage
from kvlab.instruments.explorer.search import Search
from kvlab.instruments.measure.progress import progress_bar

RunSearch = Search[Choice, Done, Run]


@dataclass(frozen=True, slots=True, order=True)
class Rank:
    """Which of the runs that break the invariant is shown: the least.

    ``place`` leaves no two alike, so that it is the same run in whatever order they are found.
    """

    faults: int
    steps: int
    turns: int
    place: tuple[int, ...]


@dataclass(slots=True)
class Findings:
    """Of some runs, or of several such, added up.

    ``best``: the path of the run to show, and its rank. ``moved``: the clients that did anything.
    """

    seconds: float = 0.0
    schedules: int = 0
    unexplored: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    moved: set[int | None] = field(default_factory=set)
    best: tuple[Rank, tuple[Choice, ...]] | None = None

    def note(self, path: tuple[Choice, ...], run: Run, why: str | None, search: RunSearch) -> None:
        """One run more; ``why`` it does not hold."""
        self.schedules += 1
        self.moved.update(event.client for event in run.trace)
        if why is not None:
            self.broken[why] += 1
            self._offer(_rank(path, search.place), path)

    def add(self, other: Findings) -> None:
        """Those of other runs."""
        self.schedules += other.schedules
        self.unexplored += other.unexplored
        self.broken += other.broken
        self.moved |= other.moved
        if other.best is not None:
            self._offer(*other.best)

    def _offer(self, rank: Rank, path: tuple[Choice, ...]) -> None:
        if self.best is None or rank < self.best[0]:
            self.best = rank, path


def found_in(search: RunSearch, go_on: Callable[[Findings], bool]) -> Findings:
    """In all runs of a search; or until ``go_on``, which is asked after each, says no."""
    found = Findings()
    for path, run in search:
        found.note(path, run, broken_by(run), search)
        if not go_on(found):
            break
    found.unexplored = search.unexplored
    return found


def found_alone(stage: Stage) -> Findings:
    """In all runs of the stage, by this process; or until a limit is met.

    The first run is made however little time there is.
    """
    settings = stage.settings
    search: RunSearch = Search(lambda: Run(stage), reduce=settings.reduce)
    began = time.perf_counter()
    with progress_bar(None, "schedules", show=settings.progress) as bar:

        def go_on(found: Findings) -> bool:
            bar.update()
            spent = time.perf_counter() - began
            return found.schedules < settings.max_schedules and spent < settings.max_seconds

        found = found_in(search, go_on)
    found.seconds = time.perf_counter() - began
    return found


def _rank(path: Sequence[Choice], place: tuple[int, ...]) -> Rank:
    turns = sum(one.client != other.client for one, other in itertools.pairwise(path))
    return Rank(sum(choice.is_fault for choice in path), len(path), turns, place)
