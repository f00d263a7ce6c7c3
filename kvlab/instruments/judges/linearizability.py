"""Whether the answers that concurrent clients saw fit some order of their operations.

A history is linearizable when every operation can be given one moment between its call and its
return, such that a model that does the operations in the order of these moments gives every answer
that was seen (Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects",
TOPLAS 1990). An operation whose outcome is unknown may have happened at any moment after its call,
or never.

The search (:mod:`.configurations`) goes from return to return, and keeps configurations: the
model's state, and the pending operations that have had their moment. From one return to the next,
an operation has its moment only where the operation that returns needs it (just-in-time
linearization; Lowe, "Testing for linearizability", CCPE 2017). Where that leads nowhere, the search
goes back, and it remembers where it has been (Wing and Gong, "Testing and Verifying Concurrent
Objects", JPDC 1993; Horn and Kroening, "Faster linearizability checking via P-compositionality",
FORTE 2015; Athalye's checker Porcupine). Three rules keep the configurations few:

* A read has its moment at the first state that gives its answer.
* A configuration that another one can still reach is not kept.
* A lost write need never happen: of two configurations that differ in lost writes alone, the one
  with fewer of them is kept.

Each object has a search of its own: a history is linearizable when the history of each object is.

The time of an invalid history can double with each write that is pending at the same moment.

    history = [Operation("A", "add", ("ada", 5), 5, called=0.0, returned=1.0), ...]
    verdict = judge_history(history, Scores())
    print(verdict)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kvlab.core.checks import instance, items, real, shown, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.judges.configurations import Search, TooMany
from kvlab.instruments.judges.history import UNKNOWN, Operation
from kvlab.instruments.judges.models import Model

__all__ = ["UNKNOWN", "HistoryVerdict", "Operation", "judge_history"]

_REMEMBERED = 10_000  # states


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
    """The most configurations that were looked at for one return."""
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
    if not (callable(getattr(model, "start", None)) and callable(getattr(model, "apply", None))):
        raise InvalidArgument(f"model must be a Model, such as Scores(), not {shown(model)}")
    for operation in items("history", history):
        instance("history", operation, Operation, "operations")
        for name in ("called", "returned"):
            moment = getattr(operation, name)
            if type(moment) is not float and type(moment) is not int:
                real(name, moment, -math.inf, infinite=True)
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


def _judge(operations: Sequence[Operation], model: Model, limit: int) -> HistoryVerdict:
    search = Search(operations, model, limit=limit, remembered=_REMEMBERED)
    try:
        unexplained = search.first_unexplained()
    except TooMany:
        return HistoryVerdict("unknown", len(operations), limit)
    if unexplained is None:
        return HistoryVerdict("valid", len(operations), search.most)
    return HistoryVerdict(
        "invalid",
        len(operations),
        search.most,
        window=tuple(operations[number] for number in unexplained.window.numbers),
        culprit=operations[unexplained.number],
        states=tuple(unexplained.window.states),
    )
