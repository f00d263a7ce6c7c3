"""What is kept of all the runs of a search: counts, and the run to show."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kvlab.errors import InvalidArgument
from kvlab.instruments.explorer.invariants import Verdict, judged
from kvlab.instruments.explorer.run.choices import FAULT_NAMES, Choice
from kvlab.instruments.explorer.run.exploration import Exploration
from kvlab.instruments.explorer.run.run import Run
from kvlab.instruments.explorer.run.steps import Done
from kvlab.instruments.explorer.search import Search
from kvlab.instruments.explorer.shortening import steady
from kvlab.instruments.progress import progress_bar

_FAULTS = FAULT_NAMES | {"time out": "expiries"}
RunSearch = Search[Choice, Done, Run]


@dataclass(frozen=True, slots=True, order=True)
class Rank:
    """Which run is shown, of those that break the invariant, or else of those that did not end:
    the one with the least rank.

    No two runs have the same ``place``, so that the same run is shown in whatever order the runs
    are found.
    """

    undecided: bool
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
    ``undecided``: how many runs were broken off, by the reason; ``faults``: how many had a fault,
    by its kind; ``excused``: in how many a client raised what it may raise, by the class;
    ``sends_time``: the clients that sent a time of their own clock; ``waits``: of each client, how
    often it has slept or waited in vain in one run, at most.
    """

    seconds: float = 0.0
    schedules: int = 0
    unexplored: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    undecided: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    moved: set[int | None] = field(default_factory=set)
    sends_time: set[str] = field(default_factory=set)
    waits: Counter[str] = field(default_factory=Counter)
    best: tuple[Rank, tuple[Choice, ...]] | None = None
    first: MadeRun | None = None
    denied: bool = False

    def note(self, path: tuple[Choice, ...], run: Run, verdict: Verdict, search: RunSearch) -> None:
        """Add one run."""
        self.schedules += 1
        self.sends_time |= run.sends_time
        self.waits |= Counter(run.waits)
        self.moved.update(step.client for step in run.trace)
        self.faults.update({_FAULTS[one.kind] for one in path if one.kind in _FAULTS})
        self.excused.update(set(verdict.excused))
        if (why := verdict.problem or verdict.undecided) is not None:
            (self.broken if verdict.problem else self.undecided)[steady(why)] += 1
            self._offer(_rank(path, search.place, undecided=not verdict.problem), path)

    def add(self, other: Findings) -> None:
        """Add the findings of other runs."""
        self.schedules += other.schedules
        self.unexplored += other.unexplored
        self.broken += other.broken
        self.undecided += other.undecided
        self.faults += other.faults
        self.excused += other.excused
        self.moved |= other.moved
        self.sends_time |= other.sends_time
        self.waits |= other.waits
        if other.best is not None:
            self._offer(*other.best)

    def all_must_have_moved(self, names: Sequence[str]) -> None:
        """Raises InvalidArgument for a client that sent nothing, if all runs were made and held."""
        if self.unexplored or self.broken or self.undecided:
            return
        for number, name in enumerate(names):
            if number not in self.moved:
                raise InvalidArgument(
                    f"{name} sent nothing in any run: use the client that the function gets, or "
                    "own_connections=True for a library that connects by itself"
                )

    def _offer(self, rank: Rank, path: tuple[Choice, ...]) -> None:
        if self.best is None or rank < self.best[0]:
            self.best = rank, path


def findings_of(search: RunSearch, goes_on: Callable[[Findings], bool]) -> Findings:
    """Make the runs of a search, until ``goes_on``, which is asked after each run, says no."""
    found = Findings()
    for path, run in search:
        verdict = judged(run)
        found.note(path, run, verdict, search)
        holds = verdict.problem is None and verdict.undecided is None
        if found.first is None or (holds and not found.first.holds):
            found.first = MadeRun(path, search.done, holds)
        found.denied |= verdict.denied
        if found.schedules == 1:
            run.exploration.side.only_ours()
        if not goes_on(found):
            break
    found.unexplored = search.unexplored
    return found


def found_alone(exploration: Exploration) -> Findings:
    """Make all runs in this process, until a limit is met. The first run is always made."""
    settings = exploration.settings
    search: RunSearch = Search(
        lambda: Run(exploration, repeats=True), reduce=settings.reduce, cost=cost
    )
    began = time.perf_counter()
    with progress_bar(None, "schedules", show=settings.progress) as bar:

        def goes_on(found: Findings) -> bool:
            bar.update()
            spent = time.perf_counter() - began
            return found.schedules < settings.max_schedules and spent < settings.max_seconds

        found = findings_of(search, goes_on)
    found.seconds = time.perf_counter() - began
    return found


def cost(before: Choice | None, choice: Choice) -> int:
    """Of a choice: a fault costs more than all changes of client. What costs little is likely."""
    if choice.is_fault:
        return 1_000_000
    return int(before is not None and before.client not in (None, choice.client))


def _rank(path: Sequence[Choice], place: tuple[int, ...], *, undecided: bool) -> Rank:
    turns = sum(one.client != other.client for one, other in itertools.pairwise(path))
    return Rank(undecided, sum(choice.is_fault for choice in path), len(path), turns, place)
