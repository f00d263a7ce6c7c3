"""Whether what concurrent clients saw can have been one thing at a time.

A history is linearizable when every operation can be given one moment between its call and its
return, such that a model that does them one after another at these moments gives every answer that
was seen (Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects",
TOPLAS 1990). An operation whose outcome is unknown may have happened at any moment after its call,
or never.

The search goes through the history once and keeps every configuration that can be: the model's
state, and which of the operations under way have had their moment (just-in-time linearization;
Lowe, "Testing for linearizability", 2017). Two things keep them few: a read has its moment at the
first state that gives its answer, and what another configuration can still become is not kept.
Objects are judged one by one: a history is linearizable if it is for each.

The time doubles with each write under way at once, and with each lost one that may have been seen;
equal lost ones are cheap.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kvlab.core.checks import whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.judges.models import Counter, Model, Mutex, Register, Scores

__all__ = [
    "UNKNOWN", "Counter", "Judgement", "Model", "Mutex", "Operation", "Register", "Scores",
    "judge_history",
]  # fmt: skip

UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda _: "?"})()
"""The answer of an operation that never got one."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What one client asked, ``do`` and its ``arguments``, and was told.

    ``called`` and ``returned`` are readings of one clock that all clients share; an operation with
    no answer is ``UNKNOWN`` and returned never (``inf``). ``on`` says which object.
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
class Judgement:
    """``verdict``: valid, invalid, or unknown when there was too much to look through.

    Of an invalid history ``window`` is the part, from the last moment at which nothing was under
    way, up to ``culprit``, whose answer no order explains; the model can have been in one of
    ``states`` when the window began.
    """

    verdict: Literal["valid", "invalid", "unknown"]
    operations: int
    most: int
    """Configurations kept at a time."""
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
) -> Judgement:
    """Judge every object of a history; the worst judgement of them.

    Raises InvalidArgument for an operation that returns before its call, or has an answer and no
    return.
    """
    whole("max_configurations", max_configurations, 1)
    objects: dict[Hashable, list[Operation]] = defaultdict(list)
    for operation in history:
        if not operation.called <= operation.returned:
            raise InvalidArgument(f"returned before it was called: {operation}")
        if (operation.answer is UNKNOWN) != math.isinf(operation.returned):
            raise InvalidArgument(f"an answer and no return, or the other way round: {operation}")
        objects[operation.on].append(operation)
    count, most, doubtful = 0, 0, False
    for operations in objects.values():
        judged = _judge(operations, model, max_configurations)
        count, most = count + judged.operations, max(most, judged.most)
        if judged.verdict == "invalid":
            return judged
        doubtful |= judged.verdict == "unknown"
    return Judgement("unknown" if doubtful else "valid", count, most)


class _TooMany(Exception):
    pass


# States by a number each, so that they are hashed and stepped from once. A configuration: the
# state, and which of the operations under way have had their moment.
_State = int
_Configuration = tuple[_State, frozenset[int]]
# Where an operation leads from each state; None where its answer would have been another.
_Steps = dict[_State, _State | None]
_REMEMBERED = 10_000  # states


def _judge(operations: Sequence[Operation], model: Model, limit: int) -> Judgement:
    search = _Search(operations, model, limit)
    try:
        search.run()
    except _TooMany:
        return Judgement("unknown", len(operations), limit)
    if search.culprit is None:
        return Judgement("valid", len(operations), search.most)
    window = tuple(operations[number] for number in search.window)
    culprit = operations[search.culprit]
    return Judgement("invalid", len(operations), search.most, window, culprit, tuple(search.states))


class _Search:
    def __init__(self, operations: Sequence[Operation], model: Model, limit: int) -> None:
        self._operations, self._model, self._limit = operations, model, limit
        # Under way, in the order of their calls. A read without an answer is no evidence.
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
        """Through the history, up to the first answer that nothing explains."""
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
        """Calls and returns in the order of time; at one and the same moment, calls first."""
        both = [(one.called, False, n) for n, one in enumerate(self._operations)]
        both += [
            (one.returned, True, n)
            for n, one in enumerate(self._operations)
            if one.answer is not UNKNOWN
        ]
        return [(is_return, number) for _, is_return, number in sorted(both)]

    def _returned(self, number: int) -> set[_Configuration]:
        """What can be after this return: in each configuration the operation has had its moment,
        the others only as far as it needed them before it."""
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
        if len(after) > 1:  # one that another of them leads to can be reached later as well
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
                # Of equal ones the first stands for all, and one without effect may come later.
                if reached == state or (one.do, one.arguments) in tried:
                    continue
                tried.add((one.do, one.arguments))
            yield self._answered(reached, had | {number})

    def _answered(self, state: _State, had: frozenset[int]) -> _Configuration:
        """With every read that gets its answer here: having it now takes nothing from later."""
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
        """Number anew only the states that are kept."""
        kept = [(self._states[state], had) for state, had in self.kept]
        self._states, self._numbers = [], {}
        self.kept = {(self._number(state), had) for state, had in kept}
        for steps in (*self._reads.values(), *self._writes.values()):
            steps.clear()
