"""The search of :mod:`.linearizability`: from return to return, and back where it gets stuck.

At each return, the search looks for configurations in which the operation that returns has had its
moment. It goes on with the first few of them. When none of these leads on, it comes back for the
next few. What was looked at is remembered, so that no configuration is looked at twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from kvlab.instruments.judges.history import UNKNOWN, Operation
from kvlab.instruments.judges.models import Model

FEW = 32
"""Configurations that are followed at once. While there are no more, nothing is kept to go back."""

# A state has a number, so that it is hashed once and each step from it is computed once.
State = int
# The state that an operation leads to from each state; None where its answer would be another.
_Steps = dict[State, State | None]
# Pending operations by their bits, in the order of their calls.
_Pending = dict[int, tuple[Operation, _Steps]]


class TooMany(Exception):
    """More configurations at one return than are allowed."""


class Configuration(NamedTuple):
    """One way in which the history may have gone so far: the state, and which pending operations
    have had their moment. These are sets of bits: each pending operation has a bit of its own."""

    state: State
    writes: int = 0
    lost: int = 0
    reads: int = 0


@dataclass(slots=True)
class Window:
    """A part of the history, from a moment without a pending operation (lost writes aside).

    ``numbers``: its operations; ``states``: those in which it may have begun.
    """

    numbers: tuple[int, ...]
    states: set[Hashable] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Return:
    """The return of an operation, and what is pending then. A read without an answer shows
    nothing, and is not among the pending. ``begins``: it is the first return of its window."""

    number: int
    bit: int
    reads: _Pending
    writes: _Pending
    lost: _Pending
    window: Window
    begins: bool


def returns_of(operations: Sequence[Operation], reads: Iterable[str]) -> Iterator[Return]:
    """The returns in the order of time; a call at the same moment comes before."""
    events = [(one.called, False, number) for number, one in enumerate(operations)]
    events += [
        (one.returned, True, number)
        for number, one in enumerate(operations)
        if one.answer is not UNKNOWN
    ]
    known_reads = frozenset(reads)
    reading, writing, lost = dict[int, Any](), dict[int, Any](), dict[int, Any]()
    bits, free = dict[int, int](), [1]  # the last free one, and all above it
    window, begins = Window(()), True
    for _, is_return, number in sorted(events):
        one = operations[number]
        if is_return:
            bit = bits.pop(number)
            yield Return(number, bit, reading.copy(), writing.copy(), lost.copy(), window, begins)
            begins = False
            (reading if one.do in known_reads else writing).pop(bit)
            free.append(bit)
            continue
        if not reading and not writing:
            window, begins = Window(tuple(n for n, bit in bits.items() if bit in lost)), True
        window.numbers += (number,)
        if one.do in known_reads:
            if one.answer is UNKNOWN:
                continue
            kind = reading
        else:
            kind = lost if one.answer is UNKNOWN else writing
        bit = bits[number] = free.pop()
        if not free:
            free.append(bit << 1)
        kind[bit] = (one, {})


class Search:
    """``most``: the most configurations that were looked at for one return.

    Raises :class:`TooMany` for more than ``limit``. About ``remembered`` states are kept in memory
    where the search need not go back.
    """

    def __init__(
        self, operations: Sequence[Operation], model: Model, *, limit: int, remembered: int
    ) -> None:
        self._model, self._limit, self._remembered = model, limit, remembered
        self._returns = returns_of(operations, model.reads)
        self._states = [model.start()]
        self._numbers: dict[Hashable, State] = {self._states[0]: 0}
        self.most = 1

    def first_unexplained(self) -> Return | None:
        """The first return whose answer nothing explains; None when there is none."""
        fronts: list[_Front] = []  # of returns from which there may be another way on
        at, begin = 0, [Configuration(0)]
        for returned in self._returns:
            fronts.append(_Front(returned))
            while at < len(fronts):
                front = fronts[at]
                self._offer(front, begin)
                while not (begin := self._go_on(front)):
                    if at == 0:
                        return returned
                    at -= 1
                    front = fronts[at]
                at += 1
            while fronts and not fronts[0].left:
                del fronts[0]
            at = len(fronts)
            if not fronts and len(self._states) > self._remembered:
                begin = self._forget(begin, returned)
        return None

    def _offer(self, front: _Front, begin: Iterable[Configuration]) -> None:
        for one in begin:
            if front.returned.begins:
                front.returned.window.states.add(self._states[one.state])
            front.offer(self._answered(one, front.returned))

    def _go_on(self, front: _Front) -> list[Configuration]:
        """A few configurations after this return, not given before.

        In each of them the operation has had its moment; other operations have had their moment
        only where this operation needed them first.
        """
        after = list(islice(self._answering(front), FEW))
        self.most = max(self.most, front.count)
        if front.count > self._limit:
            raise TooMany
        if len(after) > 1 or front.left:  # what another leads to can be reached later
            front.late.update(more for one in after for more in self._one_more(one, front.returned))
        rest = ~front.returned.bit
        return [
            Configuration(one.state, one.writes & rest, one.lost, one.reads & rest)
            for one in after
            if one not in front.late
        ]

    def _answering(self, front: _Front) -> Iterator[Configuration]:
        bit = front.returned.bit
        for one in front:
            if one in front.late:
                continue
            if (one.writes | one.reads) & bit:
                yield one
                continue
            for reached in self._one_more(one, front.returned):
                front.offer(reached)
            if front.count > self._limit:
                return

    def _one_more(self, one: Configuration, there: Return) -> Iterator[Configuration]:
        """The configurations in which one more write has had its moment."""
        state, writes, lost, reads = one
        for bit, pending in there.writes.items():
            if not writes & bit and (reached := self._step(state, pending)) is not None:
                yield self._answered(Configuration(reached, writes | bit, lost, reads), there)
        tried: set[tuple[str, tuple[Any, ...]]] = set()
        for bit, pending in there.lost.items():
            # The first of equal writes stands for all; one without effect may come later.
            called = pending[0].do, pending[0].arguments
            if lost & bit or called in tried:
                continue
            tried.add(called)
            reached = self._step(state, pending)
            if reached is not None and reached != state:
                yield self._answered(Configuration(reached, writes, lost | bit, reads), there)

    def _answered(self, one: Configuration, there: Return) -> Configuration:
        """Add every read that gets its answer in this state: a read changes nothing for later."""
        reads = one.reads
        for bit, pending in there.reads.items():
            if not reads & bit and self._step(one.state, pending) is not None:
                reads |= bit
        return one._replace(reads=reads) if reads != one.reads else one

    def _step(self, state: State, pending: tuple[Operation, _Steps]) -> State | None:
        one, steps = pending
        if state not in steps:
            reached, answer = self._model.apply(self._states[state], one.do, one.arguments)
            right = one.answer is UNKNOWN or answer == one.answer
            steps[state] = self._number(reached) if right else None
        return steps[state]

    def _forget(self, kept: list[Configuration], there: Return) -> list[Configuration]:
        """Forget the states that are not kept, and number the others again."""
        states = [self._states[one.state] for one in kept]
        self._states, self._numbers = [], {}
        for _, steps in (*there.reads.values(), *there.writes.values(), *there.lost.values()):
            steps.clear()
        both = zip(kept, states, strict=True)
        return [one._replace(state=self._number(state)) for one, state in both]

    def _number(self, state: Hashable) -> State:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
        return number


class _Front:
    """The configurations at a return; iterating gives those with the fewest lost writes first.

    A configuration counts only if none has the same state and the same writes, no lost write
    beyond its own, and all its reads: that one could do all that this one can. ``late``:
    configurations that another one leads to.
    """

    def __init__(self, returned: Return) -> None:
        self.returned = returned
        self.count = 0
        self.late: set[Configuration] = set()
        self.left: list[tuple[int, int, Configuration]] = []
        self._best: dict[tuple[State, int], list[tuple[int, int]]] = {}

    def offer(self, one: Configuration) -> None:
        state, writes, lost, reads = one
        alike = self._best.setdefault((state, writes), [])
        if not any(not (fewer & ~lost or reads & ~more) for fewer, more in alike):
            alike.append((lost, reads))
            self.count += 1
            heapq.heappush(self.left, (lost.bit_count(), self.count, one))

    def __iter__(self) -> Iterator[Configuration]:
        while self.left:
            yield heapq.heappop(self.left)[2]
