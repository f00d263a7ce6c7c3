"""Make every run of a program that can go several ways.

The program cannot be copied or rewound, only started again: every run repeats the choices of a
path and goes on from there (stateless search; Godefroid, "Model Checking for Programming
Languages using VeriSoft", POPL 1997). With ``reduce``, of the runs that differ only in the order
of neighbouring choices that commute, one is completed (sleep sets; Godefroid, "Partial-Order
Methods for the Verification of Concurrent Systems", LNCS 1032, 1996).

With a ``cost``, the cheapest choices come first (of equals the deepest), so that a search that is
cut has made the runs that cost least. Without one, and where too much waits, it goes depth first.

A search can give away parts of itself, to be searched elsewhere. That makes no run twice, because
every run starts at the beginning wherever it is made.

Nothing here knows of servers, clients or commands.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from kvlab.errors import KvlabError

C = TypeVar("C", bound=Hashable)
D = TypeVar("D")

Part = tuple[tuple[tuple[C, ...], C], ...]
"""The path to a part of a search: at each step the options, and the one that is taken."""

_MOST = 20_000  # nodes that wait for their turn by cost; those that come then go depth first
MAX_REPEATS = 100
"""Times in a row that a run may be repeated."""


class Execution(Protocol[C, D]):
    """One run of the program. Taking a choice gives a D: what was done by it."""

    def options(self) -> Sequence[C]:
        """What may happen next: the same options after the same choices; none at the end."""

    def take(self, choice: C, /) -> D:
        """Let the choice happen, and return what was done by it."""

    def commute(self, one: D, other: D, /) -> bool:
        """Whether two things done in the same state could be done in either order: the outcome
        is the same, and neither makes the other impossible."""

    def unlike(self, before: D, now: D, /) -> str | None:
        """How what was done now differs from what was done after the same choices before, in
        words; None when it does not."""

    def end(self) -> None:
        """Break off the run, or end it. Raises :class:`RepeatRun` if the run began unlike the
        others, so that it does not count."""


E_co = TypeVar("E_co", bound=Execution, covariant=True)  # type: ignore[type-arg]


class Nondeterministic(KvlabError):
    """The same choices led to different options, or to different steps."""


class RepeatRun(Exception):
    """The run does not count and is to be made again."""


@dataclass(slots=True)
class _Node(Generic[C, D]):
    """A point that runs have come to, by an option of the node above.

    ``awake``: options that are still to be taken, the next one last; ``asleep``: options that need
    no run here, because an earlier run covers them; ``done``: what was done by those taken.
    """

    above: tuple[_Node[C, D], C] | None
    options: tuple[C, ...]
    cost: int = 0
    awake: list[C] = field(default_factory=list)
    asleep: dict[C, D] = field(default_factory=dict)
    done: dict[C, D] = field(default_factory=dict)


_Path = list[tuple[_Node[C, D], C]]


class Search(Generic[C, D, E_co]):
    """Iterating gives, for each complete run, its choices and its execution.

    ``unexplored``: the options seen so far and not yet taken; each leads to at least one more run
    (with ``reduce`` perhaps to a run that is broken off because it is known already). ``part``:
    search only this part, which another search of the same program gave away. ``cost``: of an
    option, after the option before it.
    """

    def __init__(
        self,
        begin: Callable[[], E_co],
        *,
        reduce: bool = False,
        part: Part[C] = (),
        cost: Callable[[C | None, C], int] | None = None,
    ) -> None:
        self._begin, self._reduce, self._cost = begin, reduce, cost
        self._path: _Path[C, D] = []
        for options, taken in part:
            self._path.append((_Node(self._path[-1] if self._path else None, options), taken))
        self._numbers = itertools.count()
        self._by_cost: list[tuple[int, int, _Node[C, D]]] = []
        self._deep: list[_Node[C, D]] = []
        self.unexplored = 0

    @property
    def place(self) -> tuple[int, ...]:
        """The place of the last run among all runs, in the order of their options."""
        return tuple(node.options.index(taken) for node, taken in self._path)

    @property
    def done(self) -> tuple[D, ...]:
        """What was done by each choice of the last run."""
        return tuple(node.done[taken] for node, taken in self._path)

    def split(self) -> Part[C] | None:
        """Give away one of the largest parts that are not begun; None when there is none.

        Not with ``reduce``: what may be left out of a part is known only after its siblings.
        """
        waiting = (entry for entry in self._by_cost if entry[2].awake)
        oldest = min(waiting, key=_age, default=None)
        node = next((node for node in self._deep if node.awake), None)
        if node is None and oldest is not None:
            node = oldest[2]
        if node is None:
            return None
        self.unexplored -= 1
        way = [(node, node.awake.pop(0))]
        return tuple((one.options, taken) for one, taken in self._whole(way))

    def __iter__(self) -> Iterator[tuple[tuple[C, ...], E_co]]:
        repeats = 0
        while True:
            known = len(self._path)
            execution = self._begin()
            try:
                complete = self._run(execution)
                execution.end()
            except RepeatRun:
                for node, _ in self._path[known:]:
                    self.unexplored -= len(node.awake)
                del self._path[known:]
                repeats += 1
                if repeats > MAX_REPEATS:
                    raise Nondeterministic(f"{repeats} runs in a row began differently") from None
                continue
            repeats = 0
            for node, taken in self._path[max(0, known - 1) :]:
                if self._reduce and taken in node.done:
                    node.asleep[taken] = node.done[taken]
            for node, _ in self._path[known:]:
                self._wait(node)
            if complete:
                yield tuple(taken for _, taken in self._path), execution
            if not self._turn():
                return

    def _run(self, execution: Execution[C, D]) -> bool:
        """Repeat the path, then go on to an end; False when earlier runs cover all options."""
        asleep: dict[C, D] = {}
        for node, taken in self._path:
            if (options := tuple(execution.options())) != node.options:
                execution.end()  # a start unlike the others' explains the difference
                raise Nondeterministic(self._difference(node, options))
            done = execution.take(taken)
            words = execution.unlike(node.done[taken], done) if taken in node.done else None
            if words is not None:
                execution.end()
                raise Nondeterministic(words)
            node.done[taken] = done
            asleep = self._still_asleep(execution, node, done)
        while options := tuple(execution.options()):
            node = self._node(options, asleep)
            if not node.awake:
                return False
            taken = node.awake.pop()
            self.unexplored += len(node.awake)
            self._path.append((node, taken))
            node.done[taken] = execution.take(taken)
            asleep = self._still_asleep(execution, node, node.done[taken])
        return True

    def _node(self, options: tuple[C, ...], asleep: dict[C, D]) -> _Node[C, D]:
        above = self._path[-1] if self._path else None
        node = _Node(above, options, asleep=asleep)
        node.awake = [option for option in reversed(options) if option not in asleep]
        if self._cost is not None:
            if above is not None:
                node.cost = self._cost_of(*above)
            node.awake.sort(key=lambda option: self._cost_of(node, option), reverse=True)
        return node

    def _cost_of(self, node: _Node[C, D], option: C) -> int:
        """Of all choices to the option."""
        assert self._cost is not None
        return node.cost + self._cost(node.above[1] if node.above else None, option)

    def _still_asleep(self, execution: Execution[C, D], node: _Node[C, D], by: D) -> dict[C, D]:
        """The options that need no run after this node's choice either."""
        if not self._reduce:
            return {}
        return {c: done for c, done in node.asleep.items() if execution.commute(done, by)}

    def _wait(self, node: _Node[C, D]) -> None:
        """Let the node wait for its turn, if it has options to take."""
        if not node.awake:
            return
        if self._cost is None or len(self._by_cost) >= _MOST:
            self._deep.append(node)
        else:
            cost = self._cost_of(node, node.awake[-1])
            heapq.heappush(self._by_cost, (cost, -next(self._numbers), node))

    def _turn(self) -> bool:
        """Go to a node with an option to take; False when there is none."""
        while self._deep or self._by_cost:
            node = self._deep.pop() if self._deep else heapq.heappop(self._by_cost)[2]
            if node.awake:
                self._path = self._whole([(node, node.awake.pop())])
                self.unexplored -= 1
                self._wait(node)
                return True
        return False

    @staticmethod
    def _whole(way: _Path[C, D]) -> _Path[C, D]:
        """The way from the start."""
        while (above := way[-1][0].above) is not None:
            way.append(above)
        return way[::-1]

    def _difference(self, node: _Node[C, D], options: Sequence[C]) -> str:
        way = self._whole([node.above]) if node.above else []
        path = " ".join(str(taken) for _, taken in way)
        return (
            f"after {path or 'the start'} the choices were {_list(node.options)} the first time "
            f"and {_list(options)} now"
        )


def _age(entry: tuple[int, int, Any]) -> int:
    return -entry[1]


def _list(options: Sequence[Hashable]) -> str:
    return ", ".join(map(str, options)) or "none"
