"""Whether what concurrent clients saw can have been one thing at a time.

A history is linearizable when every operation can be given one moment between its call and its
return, such that a model that does them one after another at these moments gives every answer that
was seen (Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects",
TOPLAS 1990). An operation whose outcome is unknown may have happened at any moment after its call,
or never.

The search goes through the history once and keeps every configuration that can be: the model's
state, and which of the operations under way have had their moment (just-in-time linearization;
Lowe, "Testing for linearizability", 2017). Objects are judged one by one: a history is
linearizable if it is for each.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from kvlab.errors import InvalidArgument
from kvlab.instruments._check import whole

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


class Model(Protocol):
    """A sequential object. States are values and can be hashed."""

    def start(self) -> Hashable:
        """The state at first."""

    def apply(self, state: Any, do: str, arguments: tuple[Any, ...], /) -> tuple[Hashable, Any]:
        """The state after the operation, and its answer."""


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


# A configuration: the state, and which of the operations under way have had their moment.
_Configuration = tuple[Hashable, frozenset[int]]


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
        self._under_way: dict[int, None] = {}  # in the order of their calls
        self.kept: set[_Configuration] = {(model.start(), frozenset())}
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
                del self._under_way[number]
            else:
                if all(self._operations[n].answer is UNKNOWN for n in self._under_way):
                    self.window = list(self._under_way)
                    self.states = {state for state, _ in self.kept}
                self._under_way[number] = None
                self.window.append(number)

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
        seen, left = set(self.kept), list(self.kept)
        after: set[_Configuration] = set()
        while left:
            state, had = left.pop()
            if number in had:
                after.add((state, had - {number}))
                continue
            for reached in self._one_more(state, had):
                if reached not in seen:
                    seen.add(reached)
                    left.append(reached)
            if len(seen) > self._limit:
                raise _TooMany
        self.most = max(self.most, len(seen))
        return after

    def _one_more(self, state: Hashable, had: frozenset[int]) -> Iterator[_Configuration]:
        """The configurations in which one more operation has had its moment."""
        tried: set[tuple[str, tuple[Any, ...]]] = set()
        for number in self._under_way:
            if number in had:
                continue
            one = self._operations[number]
            reached, answer = self._model.apply(state, one.do, one.arguments)
            if one.answer is UNKNOWN:
                # Of equal ones the first stands for all, and one without effect may come later.
                if reached == state or (one.do, one.arguments) in tried:
                    continue
                tried.add((one.do, one.arguments))
            elif answer != one.answer:
                continue
            yield reached, had | {number}


@dataclass(frozen=True, slots=True)
class Register:
    """``read()`` → value, ``write(value)``, ``swap(expected, value)`` → whether it was so."""

    value: Hashable = None

    def start(self) -> Hashable:
        return self.value

    def apply(self, state: Any, do: str, arguments: tuple[Any, ...]) -> tuple[Hashable, Any]:
        match do, arguments:
            case "read", ():
                return state, state
            case "write", (value,):
                return value, None
            case "swap", (expected, value):
                return (value, True) if state == expected else (state, False)
        raise _no_such(do, arguments)


@dataclass(frozen=True, slots=True)
class Counter:
    """``add(n)`` → the sum, ``read()`` → the sum."""

    def start(self) -> int:
        return 0

    def apply(self, state: int, do: str, arguments: tuple[Any, ...]) -> tuple[int, Any]:
        match do, arguments:
            case "read", ():
                return state, state
            case "add", (amount,):
                return state + amount, state + amount
        raise _no_such(do, arguments)


@dataclass(frozen=True, slots=True)
class Mutex:
    """``acquire(who)`` → whether it was free, ``release(who)`` → whether it was theirs."""

    def start(self) -> None:
        return None

    def apply(self, state: Any, do: str, arguments: tuple[Any, ...]) -> tuple[Hashable, Any]:
        match do, arguments:
            case "acquire", (who,):
                return (who, True) if state is None else (state, False)
            case "release", (who,):
                return (None, True) if state == who else (state, False)
        raise _no_such(do, arguments)


@dataclass(frozen=True, slots=True)
class Scores:
    """A leaderboard, high to low: ``add(member, n)`` and ``set(member, score)`` → the score,
    ``score(member)``, ``rank(member)`` → 1 + how many have more; both None for nobody."""

    def start(self) -> frozenset[tuple[str, float]]:
        return frozenset()

    def apply(
        self, state: frozenset[tuple[str, float]], do: str, arguments: tuple[Any, ...]
    ) -> tuple[Hashable, Any]:
        scores = dict(state)
        match do, arguments:
            case "add", (member, amount):
                scores[member] = scores.get(member, 0) + amount
                return frozenset(scores.items()), scores[member]
            case "set", (member, score):
                scores[member] = score
                return frozenset(scores.items()), score
            case "score", (member,):
                return state, scores.get(member)
            case "rank", (member,):
                if member not in scores:
                    return state, None
                return state, 1 + sum(score > scores[member] for score in scores.values())
        raise _no_such(do, arguments)


def _no_such(do: str, arguments: tuple[Any, ...]) -> InvalidArgument:
    return InvalidArgument(f"the model knows no {do}{arguments!r}")
