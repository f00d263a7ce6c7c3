"""Make every run of a program that can go several ways.

The program cannot be copied or rewound, only started again: every run repeats the choices of a
path and goes on from there (stateless search; Godefroid, "Model Checking for Programming
Languages using VeriSoft", POPL 1997). With ``reduce``, of the runs that differ only in the order
of neighbouring choices that commute, one is completed (sleep sets; Godefroid, "Partial-Order
Methods for the Verification of Concurrent Systems", LNCS 1032, 1996).

A search can give away parts of itself, to be searched elsewhere. That makes no run twice, because
every run starts at the beginning wherever it is made.

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
"""The path to a part of a search: at each step the options, and the one that is taken."""

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
    """A step of the path. ``awake``: options that are still to be taken, the next one last;
    ``asleep``: options that need no run here, because an earlier run covers them; ``known``: what
    is done by the option that is taken."""

    options: tuple[C, ...]
    awake: list[C]
    asleep: dict[C, D]
    taken: C
    done: D = field(init=False)
    known: bool = False


class Search(Generic[C, D, E_co]):
    """Iterating gives, for each complete run, its choices and its execution.

    ``unexplored``: the options seen so far and not yet taken; each leads to at least one more run
    (with ``reduce`` perhaps to a run that is broken off because it is known already). ``part``:
    search only this part, which another search of the same program gave away.
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
        """The place of the last run among all runs: the whole search makes runs in this order."""
        return tuple(node.options.index(node.taken) for node in self._path)

    @property
    def done(self) -> tuple[D, ...]:
        """What was done by each choice of the last run."""
        return tuple(node.done for node in self._path)

    def split(self) -> Part[C] | None:
        """Give away one of the largest parts that are not begun; None when there is none.

        Not with ``reduce``: what may be left out of a part is known only after its siblings.
        """
        for depth, node in enumerate(self._path):
            if node.awake:
                above = tuple((parent.options, parent.taken) for parent in self._path[:depth])
                return (*above, (node.options, node.awake.pop(0)))
        return None

    def __iter__(self) -> Iterator[tuple[tuple[C, ...], E_co]]:
        repeats = 0
        while True:
            known = len(self._path)
            execution = self._begin()
            try:
                complete = self._run(execution)
                execution.end()
            except RepeatRun:
                del self._path[known:]
                repeats += 1
                if repeats > MAX_REPEATS:
                    raise Nondeterministic(f"{repeats} runs in a row began differently") from None
                continue
            repeats = 0
            if complete:
                yield tuple(node.taken for node in self._path), execution
            if not self._turn():
                return

    def _run(self, execution: Execution[C, D]) -> bool:
        """Repeat the path, then go on to an end; False when earlier runs cover all options."""
        asleep: dict[C, D] = {}
        for node in self._path:
            if (options := tuple(execution.options())) != node.options:
                execution.end()  # a start unlike the others' explains the difference
                raise Nondeterministic(self._difference(node, options))
            done = execution.take(node.taken)
            if node.known and (words := execution.unlike(node.done, done)) is not None:
                execution.end()
                raise Nondeterministic(words)
            node.done, node.known = done, True
            asleep = self._still_asleep(execution, node)
        while options := tuple(execution.options()):
            awake = [option for option in reversed(options) if option not in asleep]
            if not awake:
                return False
            choice = awake.pop()
            node = _Node(options, awake, asleep, choice)
            node.done, node.known = execution.take(choice), True
            self._path.append(node)
            asleep = self._still_asleep(execution, node)
        return True

    def _still_asleep(self, execution: Execution[C, D], node: _Node[C, D]) -> dict[C, D]:
        """The options that need no run after this node's choice either."""
        if not self._reduce:
            return {}
        return {c: done for c, done in node.asleep.items() if execution.commute(done, node.done)}

    def _turn(self) -> bool:
        """Go back to the last node with an option to take; False when there is none."""
        while self._path:
            node = self._path[-1]
            if self._reduce:
                node.asleep[node.taken] = node.done
            if node.awake:
                node.taken, node.known = node.awake.pop(), False
                return True
            self._path.pop()
        return False

    def _difference(self, node: _Node[C, D], options: Sequence[C]) -> str:
        path = " ".join(str(parent.taken) for parent in self._path[: self._path.index(node)])
        return (
            f"after {path or 'the start'} the choices were {_list(node.options)} the first time "
            f"and {_list(options)} now"
        )


def _list(options: Sequence[Hashable]) -> str:
    return ", ".join(map(str, options)) or "none"
