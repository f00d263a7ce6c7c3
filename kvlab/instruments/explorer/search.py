"""Run a program that can go several ways, once along each way.

The program cannot be copied or rewound, only begun again: every run repeats the choices of a
path and goes on from there (stateless search; Godefroid, "Model Checking for Programming
Languages using VeriSoft", POPL 1997). With ``reduce``, of all the runs that differ only in the
order of neighbouring choices that commute, one is completed (sleep sets; Godefroid, "Partial-Order
Methods for the Verification of Concurrent Systems", LNCS 1032, 1996).

A search can give parts of itself away, to be searched elsewhere. It costs nothing: wherever a run
is made, it is made from the start.

Nothing here knows of servers, clients or commands.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from kvlab.errors import KvlabError

C = TypeVar("C", bound=Hashable)
D = TypeVar("D")

Part = tuple[tuple[tuple[C, ...], C], ...]
"""The way to a part of a search: at each step the options, and which of them is taken."""

MOST_AGAIN = 100
"""Times in a row that a run may be made again."""


class Execution(Protocol[C, D]):
    """One run of the program. What was done by taking a choice is a D."""

    def options(self) -> Sequence[C]:
        """What may happen next, the same each time after the same choices; none at the end."""

    def take(self, choice: C, /) -> D:
        """Let it happen; what was done by it."""

    def commute(self, one: D, other: D, /) -> bool:
        """Whether two things done in the same state could be done in either order: with the same
        outcome, and neither takes the other away."""

    def end(self) -> None:
        """No more of this run is wanted. Raises :class:`Again` if its start was not like the
        others', so that it does not count."""


E_co = TypeVar("E_co", bound=Execution, covariant=True)  # type: ignore[type-arg]


class Nondeterministic(KvlabError):
    """The same choices led to different options."""


class Again(Exception):
    """The run is to be made again."""


@dataclass(slots=True)
class _Node(Generic[C, D]):
    options: tuple[C, ...]
    awake: list[C]  # still to be taken, the next one last
    asleep: dict[C, D]  # taken, or covered by a run that took it earlier
    taken: C
    done: D = field(init=False)


class Search(Generic[C, D, E_co]):
    """Iterate over it: each item is the choices of one complete run, and its execution.

    ``unexplored``: options seen so far and not yet taken; each leads to at least one run more
    (with ``reduce``, to a run that may be cut as known already). ``part``: of this alone, as
    another search of the same program gave it away.
    """

    def __init__(
        self, begin: Callable[[], E_co], *, reduce: bool = False, part: Part[C] = ()
    ) -> None:
        self._begin, self._reduce = begin, reduce
        self._path: list[_Node[C, D]] = [_Node(options, [], {}, taken) for options, taken in part]

    @property
    def unexplored(self) -> int:
        return sum(len(node.awake) for node in self._path)

    @property
    def place(self) -> tuple[int, ...]:
        """Of the last run, among all: of two runs, the whole search comes first to the lesser."""
        return tuple(node.options.index(node.taken) for node in self._path)

    def split(self) -> Part[C] | None:
        """Give away one of the largest parts that nobody has begun; None when there is none.

        Not with ``reduce``: what may be left out of a part is known only after its siblings.
        """
        for depth, node in enumerate(self._path):
            if node.awake:
                way = tuple((above.options, above.taken) for above in self._path[:depth])
                return (*way, (node.options, node.awake.pop(0)))
        return None

    def __iter__(self) -> Iterator[tuple[tuple[C, ...], E_co]]:
        again = 0
        while True:
            known = len(self._path)
            execution = self._begin()
            try:
                complete = self._run(execution)
                execution.end()
            except Again:
                del self._path[known:]
                again += 1
                if again > MOST_AGAIN:
                    raise Nondeterministic(f"{again} runs began unlike each other") from None
                continue
            again = 0
            if complete:
                yield tuple(node.taken for node in self._path), execution
            if not self._turn():
                return

    def _run(self, execution: Execution[C, D]) -> bool:
        """Along the path, then on to an end; False when every way on is known already."""
        asleep: dict[C, D] = {}
        for node in self._path:
            if (options := tuple(execution.options())) != node.options:
                execution.end()  # a start that was not like the others' explains it
                raise Nondeterministic(self._differs(node, options))
            node.done = execution.take(node.taken)
            asleep = self._still_asleep(execution, node)
        while options := tuple(execution.options()):
            awake = [option for option in reversed(options) if option not in asleep]
            if not awake:
                return False
            choice = awake.pop()
            node = _Node(options, awake, asleep, choice)
            node.done = execution.take(choice)
            self._path.append(node)
            asleep = self._still_asleep(execution, node)
        return True

    def _still_asleep(self, execution: Execution[C, D], node: _Node[C, D]) -> dict[C, D]:
        """What needs no run of its own after this node's choice either."""
        if not self._reduce:
            return {}
        return {c: done for c, done in node.asleep.items() if execution.commute(done, node.done)}

    def _turn(self) -> bool:
        """To the last node with another way; False when there is none."""
        while self._path:
            node = self._path[-1]
            if self._reduce:
                node.asleep[node.taken] = node.done
            if node.awake:
                node.taken = node.awake.pop()
                return True
            self._path.pop()
        return False

    def _differs(self, node: _Node[C, D], options: Sequence[C]) -> str:
        at = self._path.index(node)
        way = " ".join(str(n.taken) for n in self._path[:at])
        return (
            f"after {way or 'the start'} the choices were {_list(node.options)} the first time and "
            f"{_list(options)} now: clients must do the same when they get the same answers (seed "
            "their random numbers, start no threads, keep no state from one run to the next)"
        )


def _list(options: Sequence[Hashable]) -> str:
    return ", ".join(map(str, options)) or "none"
