"""The checker on histories whose verdict is known by hand, and against a search of all orders."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from kvlab.errors import InvalidArgument
from kvlab.instruments import judge_history
from kvlab.instruments.linearizability import (
    UNKNOWN,
    Counter,
    Model,
    Mutex,
    Operation,
    Register,
    Scores,
)


def op(called: float, returned: float, do: str, *arguments: Any, answer: Any = None) -> Operation:
    if math.isinf(returned):
        answer = UNKNOWN
    return Operation(f"{called:g}", do, arguments, answer, called, returned)


def read(called: float, returned: float, answer: Any) -> Operation:
    return op(called, returned, "read", answer=answer)


NEVER = math.inf

KNOWN: list[tuple[str, Model, list[Operation], str]] = [
    ("nothing", Register(), [], "valid"),
    ("a write is read", Register(), [op(0, 1, "write", 5), read(2, 3, 5)], "valid"),
    ("a write is not seen", Register(), [op(0, 1, "write", 5), read(2, 3, None)], "invalid"),
    ("not yet seen", Register(), [op(0, 3, "write", 5), read(1, 2, None)], "valid"),
    ("already seen", Register(), [op(0, 3, "write", 5), read(1, 2, 5)], "valid"),
    (
        "seen and then gone again",
        Register(),
        [op(0, 9, "write", 5), read(1, 2, 5), read(3, 4, None)],
        "invalid",
    ),
    (
        "two readers disagree on the order of two writes",
        Register(),
        [
            op(0, 9, "write", 1),
            op(0, 9, "write", 2),
            read(1, 2, 1),
            read(3, 4, 2),
            read(5, 6, 1),
        ],
        "invalid",
    ),
    (
        "an unknown write that happened",
        Register(),
        [op(0, NEVER, "write", 5), read(1, 2, None), read(3, 4, 5)],
        "valid",
    ),
    (
        "an unknown write happens once",
        Register(),
        [op(0, NEVER, "write", 5), op(1, 2, "write", 6), read(3, 4, 5), read(5, 6, 6)],
        "invalid",
    ),
    (
        "an unknown write before its call",
        Register(),
        [read(0, 1, 5), op(2, NEVER, "write", 5)],
        "invalid",
    ),
    (
        "both swaps win",
        Register(0),
        [op(0, 2, "swap", 0, n, answer=True) for n in (1, 2)],
        "invalid",
    ),
    (
        "one swap wins",
        Register(0),
        [op(0, 2, "swap", 0, 1, answer=True), op(1, 3, "swap", 0, 2, answer=False)],
        "valid",
    ),
    (
        "a lost update",
        Counter(),
        [op(0, 2, "add", 1, answer=1), op(1, 3, "add", 1, answer=1)],
        "invalid",
    ),
    (
        "a lost reply, counted",
        Counter(),
        [op(0, NEVER, "add", 1), op(1, 2, "add", 1, answer=2)],
        "valid",
    ),
    (
        "a lost reply, counted twice",
        Counter(),
        [op(0, NEVER, "add", 1), op(1, 2, "add", 1, answer=3)],
        "invalid",
    ),
    (
        "two holders",
        Mutex(),
        [op(0, 1, "acquire", "a", answer=True), op(2, 3, "acquire", "b", answer=True)],
        "invalid",
    ),
    (
        "a release that may have come",
        Mutex(),
        [
            op(0, 1, "acquire", "a", answer=True),
            op(2, NEVER, "release", "a"),
            op(3, 4, "acquire", "b", answer=True),
        ],
        "valid",
    ),
    (
        "somebody else's release",
        Mutex(),
        [op(0, 1, "acquire", "a", answer=True), op(2, 3, "release", "b", answer=True)],
        "invalid",
    ),
    (
        "a rank from one instant",
        Scores(),
        [
            op(0, 1, "add", "ann", 5, answer=5),
            op(2, 5, "add", "bob", 7, answer=7),
            op(3, 4, "rank", "ann", answer=2),
            op(6, 7, "rank", "ann", answer=2),
        ],
        "valid",
    ),
    (
        "a rank that goes back",
        Scores(),
        [
            op(0, 1, "add", "ann", 5, answer=5),
            op(2, 9, "add", "bob", 7, answer=7),
            op(3, 4, "rank", "ann", answer=2),
            op(6, 7, "rank", "ann", answer=1),
        ],
        "invalid",
    ),
]


@pytest.mark.parametrize(
    ("model", "history", "verdict"), [k[1:] for k in KNOWN], ids=[k[0] for k in KNOWN]
)
def test_histories_whose_verdict_is_known(
    model: Model, history: list[Operation], verdict: str
) -> None:
    for order in (history, history[::-1]):
        assert judge_history(order, model).verdict == verdict


def by_every_order(history: list[Operation], model: Model) -> bool:
    """The definition: some subset with all known operations, in some order that respects time."""
    known = [one for one in history if one.answer is not UNKNOWN]
    unknown = [one for one in history if one.answer is UNKNOWN]
    for size in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, size):
            if any(explains(order, model) for order in itertools.permutations([*known, *some])):
                return True
    return False


def explains(order: tuple[Operation, ...], model: Model) -> bool:
    if any(b.returned < a.called for a, b in itertools.combinations(order, 2)):
        return False
    state: Any = model.start()
    for one in order:
        state, answer = model.apply(state, one.do, one.arguments)
        if one.answer is not UNKNOWN and answer != one.answer:
            return False
    return True


@pytest.mark.parametrize("model", [Register(0), Counter()], ids=["register", "counter"])
def test_agrees_with_the_definition_on_small_histories(model: Model) -> None:
    lot, verdicts = random.Random(7), []
    for _ in range(400):
        history = []
        for _ in range(5):
            called = lot.randrange(10)
            returned = NEVER if lot.random() < 0.2 else called + lot.randrange(6)
            if lot.random() < 0.5:
                history.append(read(called, returned, lot.randrange(3)))
            elif isinstance(model, Counter):
                history.append(op(called, returned, "add", 1, answer=lot.randrange(1, 4)))
            else:
                history.append(op(called, returned, "write", lot.randrange(3)))
        expected = "valid" if by_every_order(history, model) else "invalid"
        assert judge_history(history, model).verdict == expected, history
        verdicts.append(expected)
    assert min(map(verdicts.count, ("valid", "invalid"))) > 30  # the draw asks both questions


def test_an_invalid_history_shows_the_smallest_window() -> None:
    before = [op(t, t + 0.5, "write", t) for t in range(20)]
    wrong = [op(20, 23, "write", 20), read(21, 22, 18)]
    after = [op(t, t + 0.5, "write", t) for t in range(24, 40)]
    judged = judge_history([*before, *wrong, *after], Register())
    assert not judged.holds
    assert judged.culprit == wrong[1]
    assert set(judged.window) == set(wrong)
    assert judged.states == (19,)
    assert "read() → 18" in str(judged)
    assert "from 19" in str(judged)


def test_objects_are_judged_one_by_one() -> None:
    def on(thing: str, answer: int) -> Operation:
        return Operation("c", "add", (1,), answer, 0, 1, on=thing)

    assert judge_history([on("a", 1), on("b", 1)], Counter()).holds
    judged = judge_history([on("a", 1), on("b", 1), on("b", 1)], Counter())
    assert judged.culprit is not None
    assert judged.culprit.on == "b"


def test_too_much_to_look_through_is_unknown() -> None:
    history = [*(op(0, 100 + n, "write", n) for n in range(8)), read(200, 201, 9)]
    assert judge_history(history, Register(), max_configurations=50).verdict == "unknown"
    assert judge_history(history, Register()).verdict == "invalid"


def test_many_equal_unknown_operations_stay_cheap() -> None:
    lost = [op(t, NEVER, "add", 1) for t in range(200)]
    judged = judge_history([*lost, read(300, 301, 150)], Counter())
    assert judged.verdict == "valid"
    assert judged.most <= 400
    assert not judge_history([*lost, read(300, 301, 201)], Counter()).holds


@pytest.mark.parametrize(
    "bad",
    [
        Operation("c", "read", (), 1, 2, 1),
        Operation("c", "read", (), 1, 2, math.inf),
        Operation("c", "read", (), UNKNOWN, 2, 3),
        Operation("c", "read", (), 1, math.nan, 1),
        Operation("c", "jump", (), 1, 1, 2),
    ],
    ids=["returned first", "no return", "no answer", "no number", "no such operation"],
)
def test_bad_histories_are_refused(bad: Operation) -> None:
    with pytest.raises(InvalidArgument):
        judge_history([bad], Register())
