"""Whether the answers that concurrent clients saw fit some order of their operations.

A history is linearizable when every operation can be given one moment between its call and its
return, such that a model that does the operations in the order of these moments gives every answer
that was seen (Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects",
TOPLAS 1990). An operation whose outcome is unknown may have happened at any moment after its call,
or never.

The search goes through the history once and keeps every possible configuration: the model's state,
and the pending operations that have had their moment (just-in-time linearization; Lowe, "Testing
for linearizability", 2017). Two rules keep the configurations few: a read has its moment at the
first state that gives its answer, and a configuration that another one can still reach is not kept.
Each object has a search of its own: a history is linearizable when the history of each object is.

The time doubles with each pending write, and with each lost write that may have been seen. Equal
lost writes are cheap.

    history = [Operation("A", "add", ("ada", 5), 5, called=0.0, returned=1.0), ...]
    verdict = judge_history(history, Scores())
    print(verdict)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kvlab.core.checks import whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.judges.models import Model

UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda _: "?"})()
"""The answer of an operation without an answer."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client: ``do`` with its ``arguments``, and the ``answer``.

    ``called`` and ``returned`` are readings of one clock that all clients share. An operation
    without an answer has the answer ``UNKNOWN`` and returned ``inf``. ``on``: the object.
    """

    client: Hashable
    do: str
    arguments: tuple[Any, ...]
    answer: Any
    called: float
    returned: float = math.inf
    on: Hashable = None

    def __str__(self) -> str:
        asked = ", ".join(map(repr, self.arguments))
        return f"{self.client}: {self.do}({asked}) → {self.answer!r}"


@dataclass(frozen=True, slots=True)
class HistoryVerdict:
    """``verdict``: valid, invalid, or unknown when the search had too many configurations.

    Of an invalid history: ``culprit`` is the operation whose answer no order explains; ``window``
    is the part of the history up to the culprit, from the last moment without a pending operation;
    ``states`` are the states that the model may have had when the window began.
    """

    verdict: Literal["valid", "invalid", "unknown"]
    operations: int
    most: int
    """Configurations that were kept at one time."""
    window: tuple[Operation, ...] = ()
    culprit: Operation | None = None
    states: tuple[Any, ...] = ()

    @property
    def holds(self) -> bool:
        return self.verdict == "valid"

    def __str__(self) -> str:
        if self.culprit is None:
            return f"{self.verdict}: {self.operations:,} operations"
        lines = [f"{self.verdict}: no order explains", f"    {self.culprit}", "in"]
        lines += [
            f"    {one.called:.6f} … {one.returned:.6f}  {one}"
            for one in sorted(self.window, key=lambda one: one.called)
        ]
        return "\n".join([*lines, f"from {' or '.join(map(repr, self.states))}"])


def judge_history(
    history: Iterable[Operation], model: Model, *, max_configurations: int = 100_000
) -> HistoryVerdict:
    """Judge the history of every object; returns the worst verdict.

    Raises InvalidArgument for an operation that returned before its call, and for one that has an
    answer and no return.
    """
    whole("max_configurations", max_configurations, 1)
    objects: dict[Hashable, list[Operation]] = defaultdict(list)
    for operation in history:
        if not operation.called <= operation.returned:
            raise InvalidArgument(f"returned before it was called: {operation}")
        if (operation.answer is UNKNOWN) != math.isinf(operation.returned):
            raise InvalidArgument(f"an answer needs a return, and a return an answer: {operation}")
        objects[operation.on].append(operation)
    count, most, doubtful = 0, 0, False
    for operations in objects.values():
        judged = _judge(operations, model, max_configurations)
        count, most = count + judged.operations, max(most, judged.most)
        if judged.verdict == "invalid":
            return judged
        doubtful |= judged.verdict == "unknown"
    return HistoryVerdict("unknown" if doubtful else "valid", count, most)


class _TooMany(Exception):
    pass


# A state has a number, so that it is hashed once and each step from it is computed once. A
# configuration: the state, and the pending operations that have had their moment.
_State = int
_Configuration = tuple[_State, frozenset[int]]
# The state that an operation leads to from each state; None where its answer would be another.
_Steps = dict[_State, _State | None]
_REMEMBERED = 10_000  # states


def _judge(operations: Sequence[Operation], model: Model, limit: int) -> HistoryVerdict:
    search = _Search(operations, model, limit)
    try:
        search.run()
    except _TooMany:
        return HistoryVerdict("unknown", len(operations), limit)
    if search.culprit is None:
        return HistoryVerdict("valid", len(operations), search.most)
    window = tuple(operations[number] for number in search.window)
    culprit = operations[search.culprit]
    return HistoryVerdict(
        "invalid", len(operations), search.most, window, culprit, tuple(search.states)
    )


class _Search:
    def __init__(self, operations: Sequence[Operation], model: Model, limit: int) -> None:
        self._operations, self._model, self._limit = operations, model, limit
        # Pending, in the order of their calls. A read without an answer shows nothing.
        self._reads: dict[int, _Steps] = {}
        self._writes: dict[int, _Steps] = {}
        self._states = [model.start()]
        self._numbers: dict[Hashable, _State] = {self._states[0]: 0}
        self.kept: set[_Configuration] = {(0, frozenset())}
        self.window: list[int] = []
        self.states: set[Hashable] = set()
        self.culprit: int | None = None
        self.most = 1

    def run(self) -> None:
        """Go through the history up to the first answer that nothing explains."""
        for is_return, number in self._events():
            if is_return:
                self.kept = self._returned(number)
                if not self.kept:
                    self.culprit = number
                    return
                self._reads.pop(number, None)
                self._writes.pop(number, None)
                if len(self._states) > _REMEMBERED:
                    self._forget()
            else:
                self._called(number)

    def _called(self, number: int) -> None:
        if not self._reads and all(self._operations[n].answer is UNKNOWN for n in self._writes):
            self.window = list(self._writes)
            self.states = {self._states[state] for state, _ in self.kept}
        self.window.append(number)
        one = self._operations[number]
        if one.do not in self._model.reads:
            self._writes[number] = {}
        elif one.answer is not UNKNOWN:
            self._reads[number] = {}

    def _events(self) -> list[tuple[bool, int]]:
        """Calls and returns in the order of time; at the same moment, calls first."""
        both = [(one.called, False, n) for n, one in enumerate(self._operations)]
        both += [
            (one.returned, True, n)
            for n, one in enumerate(self._operations)
            if one.answer is not UNKNOWN
        ]
        return [(is_return, number) for _, is_return, number in sorted(both)]

    def _returned(self, number: int) -> set[_Configuration]:
        """The configurations after this return.

        In each of them the operation has had its moment; other operations have had their moment
        only where this operation needed them first.
        """
        seen = {self._answered(*one) for one in self.kept}
        left, after = list(seen), set[_Configuration]()
        while left:
            state, had = left.pop()
            if number in had:
                after.add((state, had))
                continue
            for reached in self._one_more(state, had):
                if reached not in seen:
                    seen.add(reached)
                    left.append(reached)
            if len(seen) > self._limit:
                raise _TooMany
        self.most = max(self.most, len(seen))
        if len(after) > 1:  # a configuration that another one leads to can be reached later
            after -= {late for state, had in after for late in self._one_more(state, had)}
        return {(state, had - {number}) for state, had in after}

    def _one_more(self, state: _State, had: frozenset[int]) -> Iterator[_Configuration]:
        """The configurations in which one more write has had its moment."""
        tried: set[tuple[str, tuple[Any, ...]]] = set()
        for number, steps in self._writes.items():
            if number in had or (reached := self._step(state, number, steps)) is None:
                continue
            one = self._operations[number]
            if one.answer is UNKNOWN:
                # The first of equal writes stands for all; one without effect may come later.
                if reached == state or (one.do, one.arguments) in tried:
                    continue
                tried.add((one.do, one.arguments))
            yield self._answered(reached, had | {number})

    def _answered(self, state: _State, had: frozenset[int]) -> _Configuration:
        """Add every read that gets its answer in this state: a read changes nothing for later."""
        now = [
            number
            for number, steps in self._reads.items()
            if number not in had and self._step(state, number, steps) is not None
        ]
        return state, had.union(now)

    def _step(self, state: _State, number: int, steps: _Steps) -> _State | None:
        if state not in steps:
            one = self._operations[number]
            reached, answer = self._model.apply(self._states[state], one.do, one.arguments)
            right = one.answer is UNKNOWN or answer == one.answer
            steps[state] = self._number(reached) if right else None
        return steps[state]

    def _number(self, state: Hashable) -> _State:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
        return number

    def _forget(self) -> None:
        """Forget the states that are not kept, and number the others again."""
        kept = [(self._states[state], had) for state, had in self.kept]
        self._states, self._numbers = [], {}
        self.kept = {(self._number(state), had) for state, had in kept}
        for steps in (*self._reads.values(), *self._writes.values()):
            steps.clear()
