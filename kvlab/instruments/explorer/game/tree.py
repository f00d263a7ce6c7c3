"""The runs of an exploration as a tree, with the state of the keys after each step."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from kvlab.errors import InvalidArgument
from kvlab.instruments.explorer.findings import cost
from kvlab.instruments.explorer.invariants import judged
from kvlab.instruments.explorer.run.choices import Choice
from kvlab.instruments.explorer.run.exploration import Exploration, prepared
from kvlab.instruments.explorer.run.repeats import ADVICE
from kvlab.instruments.explorer.run.run import Run
from kvlab.instruments.explorer.run.settings import Settings
from kvlab.instruments.explorer.run.steps import Done, Step
from kvlab.instruments.explorer.schedules import Spelled, rehearse
from kvlab.instruments.explorer.search import Nondeterministic, RepeatRun, Search
from kvlab.instruments.explorer.shortening import shortened
from kvlab.instruments.explorer.timeline.wording import State, ending, state_of
from kvlab.instruments.progress import progress_bar

MOST_STEPS = 20_000
"""Steps that a tree carries, so that its page stays small."""

_TIME = re.compile(r"1(?<![\d.]1)\d{6}(?:\d{3})?(\d{6})(?!\d)")  # in ms or µs, see ``shortening``


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended: "broken", "undecided" or "holds"; why; what became of each client."""

    verdict: str
    why: str
    endings: tuple[str, ...]


@dataclass(slots=True)
class Node:
    """A point that runs have come to.

    ``step``: what was done by the choice that led here, None for a look at the clock and for the
    start; ``before``: the state before the choice; ``times``: a number for each point in time that
    occurs in the run, by its last digits; ``options``: what can happen next, also what no run here
    has taken; ``moves``: what runs have taken.
    """

    step: Step | None
    before: State
    state: State
    times: Mapping[str, int]
    options: Sequence[Choice] = ()
    moves: dict[Choice, Node] = field(default_factory=dict)
    end: End | None = None


@dataclass(slots=True)
class Tree:
    """``unexplored``: options seen and not taken; each leads to at least one more end."""

    root: Node | None = None
    ends: int = 0
    steps: int = 0
    unexplored: int = 0

    def nodes(self) -> Iterator[Node]:
        """Every node, those below it first."""
        waiting = [] if self.root is None else [self.root]
        found = []
        while waiting:
            found.append(waiting.pop())
            waiting += found[-1].moves.values()
        return reversed(found)

    def ended(self, verdict: str) -> int:
        """How many ends have this verdict."""
        return sum(1 for node in self.nodes() if node.end and node.end.verdict == verdict)

    def add(self, run: NotedRun) -> None:
        """Add a run that has ended; of a part that is known already, what was noted first stays."""
        times = _numbered(run)
        if self.root is None:
            self.root = Node(None, {}, run.states[0], times, run.options_seen[0])
        node, before = self.root, run.states[0]
        rows = zip(run.path, run.steps, run.states[1:], run.options_seen[1:], strict=True)
        for choice, step, state, options in rows:
            if choice not in node.moves:
                node.moves[choice] = Node(step, before, state, times, options)
                self.steps += 1
            node, before = node.moves[choice], state
        if node.end is None:
            node.end = _end(run)
            self.ends += 1


class NotedRun(Run):
    """A run that notes its choices, its steps, the options and the state before each of them."""

    def __init__(self, exploration: Exploration, *, repeats: bool = False) -> None:
        super().__init__(exploration, repeats=repeats)
        self.path: list[Choice] = []
        self.steps: list[Step | None] = []
        self.options_seen: list[Sequence[Choice]] = []
        self.states = [state_of(exploration.server)]

    def options(self) -> Sequence[Choice]:
        found = super().options()
        if len(self.options_seen) == len(self.path):
            self.options_seen.append(found)
        return found

    def take(self, choice: Choice) -> Done:
        done = super().take(choice)
        self.path.append(choice)
        self.steps.append(done.step)
        self.states.append(state_of(self.exploration.server))
        return done


def tree_of(settings: Settings, *, ends: int, schedule: str | None = None) -> Tree:
    """Explore once more, and note what happens: so many ends at most, the cheap ones first.

    ``schedule`` is in the tree whatever the limits say. Raises what ``explore`` raises.
    """
    settings = replace(settings, reduce=False, processes=1)
    tree, began = Tree(), time.perf_counter()
    with (
        prepared(settings) as exploration,
        progress_bar(None, "schedules", show=settings.progress) as bar,
    ):
        if schedule is not None:
            _add_run(tree, exploration, schedule.split())
        search: Search[Choice, Done, NotedRun] = Search(
            lambda: NotedRun(exploration, repeats=True), cost=cost
        )
        for _, run in search:
            tree.add(run)
            bar.update()
            late = time.perf_counter() - began > settings.max_seconds
            if tree.ends >= ends or tree.steps >= MOST_STEPS or late:
                break
        tree.unexplored = search.unexplored
    return tree


def _add_run(tree: Tree, exploration: Exploration, tokens: Sequence[str]) -> None:
    try:
        while not rehearse(exploration, tokens):
            pass
    except InvalidArgument as problem:
        raise Nondeterministic(
            f"the shortest run cannot be made again: {problem}; {ADVICE}"
        ) from None
    run, choose = NotedRun(exploration), Spelled(tokens)
    while options := run.options():
        run.take(choose(options))
    tree.add(run)
    with suppress(RepeatRun):
        run.end()


def _end(run: NotedRun) -> End:
    verdict = judged(run)
    endings = tuple(ending(result) for result in run.results)
    if verdict.problem is not None:
        return End("broken", shortened(verdict.problem), endings)
    return End("undecided" if verdict.undecided else "holds", verdict.undecided or "", endings)


def _numbered(run: NotedRun) -> Mapping[str, int]:
    """The points in time of a run, in the order in which they occur."""
    found = dict[str, int]()
    for text in _texts(run):
        for digits in _TIME.findall(text):
            found.setdefault(digits, len(found) + 1)
    return found


def _texts(run: NotedRun) -> Iterable[str]:
    for step, state in zip([None, *run.steps], run.states, strict=True):
        yield repr(step)
        yield repr(state)
