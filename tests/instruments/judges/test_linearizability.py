"""The checker on histories whose verdict is known by hand, and against a search of all orders."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
from support.models import Counter, Mutex, Register

from kvlab.errors import InvalidArgument
from kvlab.instruments import judge_history
from kvlab.instruments.judges import linearizability
from kvlab.instruments.judges.linearizability import UNKNOWN, Operation
from kvlab.instruments.judges.models import Model, Scores


def op(called: float, returned: float, do: str, *arguments: Any, answer: Any = None) -> Operation:
    if math.isinf(returned):
        answer = UNKNOWN
    return Operation(f"{called:g}", do, arguments, answer, called, returned)


def read(called: float, returned: float, answer: Any) -> Operation:
    return op(called, returned, "read", answer=answer)


NEVER = math.inf

THREE = [
    op(i, i + 0.5, "add", name, i + 1, answer=i + 1) for i, name in enumerate(("ann", "bob", "cid"))
]
BEFORE = (("cid", 3), ("bob", 2), ("ann", 1))
AFTER = (("cid", 3), ("ann", 1), ("bob", -3))

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
    *(
        (f"neighbours {when}", Scores(), [*THREE, op(4, 7, "add", "bob", -5, answer=-3), seen], is_)
        for when, seen, is_ in (
            ("before", op(5, 6, "around", "ann", 1, answer=(("bob", 2), ("ann", 1))), "valid"),
            ("after", op(5, 6, "around", "ann", 1, answer=AFTER), "valid"),
            # rank 3, then, when ann has come to 2, ranks 2 to 4
            ("torn", op(5, 6, "around", "ann", 1, answer=AFTER[1:]), "invalid"),
            ("too late", op(8, 9, "around", "ann", 1, answer=(("bob", 2), ("ann", 1))), "invalid"),
            ("of nobody", op(5, 6, "around", "joe", 1, answer=None), "valid"),
            ("of somebody", op(5, 6, "around", "bob", 1, answer=None), "invalid"),
        )
    ),
    *(
        (
            f"neighbours that may have changed, {what}",
            Scores(),
            [
                *THREE,
                op(4, NEVER, "add", "bob", -5),
                op(5, NEVER, "around", "ann", 1),
                op(6, 7, "top", 3, answer=one),
                op(8, 9, "around", "ann", 1, answer=two),
            ],
            is_,
        )
        for what, one, two, is_ in (
            ("and did", BEFORE, AFTER, "valid"),
            ("and did not", BEFORE, BEFORE[1:], "valid"),
            ("soon", AFTER, AFTER, "valid"),
            ("and back", AFTER, BEFORE[1:], "invalid"),
            ("half", BEFORE, AFTER[1:], "invalid"),
        )
    ),
    (
        "a tie is listed by bytes, descending",
        Scores(),
        [
            *(op(i, i, "set", name, 7, answer=7) for i, name in enumerate(("é", "10", "z", "2"))),
            op(5, 5, "add", "😀", 7, answer=7),
            op(6, 6, "add", "\uffff", 7, answer=7),
            op(7, 7, "top", 4, answer=(("😀", 7), ("\uffff", 7), ("é", 7), ("z", 7))),
            op(8, 8, "around", "2", 1, answer=(("z", 7), ("2", 7), ("10", 7))),
            op(8, 8, "around", "😀", 1, answer=(("😀", 7), ("\uffff", 7))),
            op(8, 8, "around", "10", 1, answer=(("2", 7), ("10", 7))),
            op(8, 8, "top", 0, answer=()),
            op(9, 9, "rank", "10", answer=1),
            op(9, 9, "score", "10", answer=7),
        ],
        "valid",
    ),
    (
        "a score of nothing is a score",
        Scores(),
        [
            op(0, 1, "add", "ann", 0, answer=0),
            op(2, 3, "score", "ann", answer=0),
            op(4, 5, "score", "bob", answer=None),
            op(6, 7, "rank", "ann", answer=1),
            op(8, 9, "rank", "bob", answer=None),
        ],
        "valid",
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


ASKED = (
    ("add", "a", 1), ("add", "b", 1), ("set", "a", 2), ("score", "a"), ("rank", "b"),
    ("around", "a", 1), ("around", "b", 0), ("top", 1),
)  # fmt: skip


@pytest.mark.parametrize("remembered", [10_000, 0], ids=["", "forgetting"])
def test_agrees_with_the_definition_on_small_boards(
    remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linearizability, "_REMEMBERED", remembered)
    lot, verdicts = random.Random(8), []
    for _ in range(400):
        # Answers of one order, at times that may allow it and may not.
        state, history = Scores().start(), []
        for at in range(6):
            do, *arguments = lot.choice(ASKED)
            state, answer = Scores().apply(state, do, tuple(arguments))
            called = at + lot.randrange(-3, 4)
            returned = NEVER if lot.random() < 0.15 else called + lot.randrange(5)
            history.append(op(called, returned, do, *arguments, answer=answer))
        expected = "valid" if by_every_order(history, Scores()) else "invalid"
        judged = judge_history(history, Scores())
        assert judged.verdict == expected, history
        verdicts.append(expected)
    assert min(map(verdicts.count, ("valid", "invalid"))) > 60


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


def test_a_torn_context_shows_what_moved_meanwhile() -> None:
    lost = op(3, NEVER, "top", 1)  # says nothing, and makes no window wider
    torn = op(4, 9, "around", "ann", 0, answer=(("bob", -3),))  # rank 3; ann is 2nd; range 3 to 3
    moved, later = op(5, 6, "add", "bob", -5, answer=-3), op(10, 11, "score", "ann", answer=1)
    judged = judge_history([*THREE, lost, torn, moved, later], Scores())
    assert judged.culprit == torn
    assert set(judged.window) == {torn, moved}
    assert judged.states == (BEFORE,)


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


def test_reads_that_overlap_cost_nothing() -> None:
    adds = [op(0, 9 + t, "add", f"m{t}", t + 1, answer=t + 1) for t in range(4)]
    orders = [(("m3", 4),), (("m2", 3),), (("m0", 1),), ()]
    tops = [op(1, 20 + t, "top", 1, answer=orders[t % 4]) for t in range(40)]
    judged = judge_history([*adds, *tops], Scores())
    assert judged.verdict == "valid"
    assert judged.most <= 2**4 * 4  # of 44 under way
    assert judge_history([*adds, *tops, op(60, 61, "top", 1, answer=())], Scores()).most <= 2**4 * 4


def test_lost_writes_that_nobody_has_seen_cost_nothing() -> None:
    lost = [op(t, NEVER, "add", f"m{t}", t + 1) for t in range(40)]
    empty = [op(50 + t, 51 + t, "top", 1, answer=()) for t in range(40)]
    judged = judge_history([*lost, *empty], Scores())
    assert (judged.verdict, judged.most) == ("valid", 1)
    # One of ten is seen: looked for once, and the others stay open.
    some = [op(100 + t, 101 + t, "top", 1, answer=(("m5", 6),)) for t in range(40)]
    judged = judge_history([*lost[:10], *empty, *some], Scores())
    assert judged.verdict == "valid"
    gone = op(200, 201, "top", 1, answer=())
    assert judge_history([*lost[:10], *empty, *some, gone], Scores()).culprit == gone


def test_what_another_can_become_is_not_kept() -> None:
    asked: list[str] = []

    class Counting(Scores):
        def apply(self, state: Any, do: str, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
            asked.append(do)
            return super().apply(state, do, arguments)

    lost = [op(t, NEVER, "add", f"m{t}", t + 1) for t in range(8)]
    seen = [op(100 + 2 * t, 101 + 2 * t, "top", 1, answer=(("m5", 6),)) for t in range(40)]
    assert judge_history([*lost, *seen], Counting()).holds
    # All outcomes of eight are tried once, and the first read of them decides.
    assert asked.count("top") < 2**8 + 2 * len(seen)


def test_many_equal_unknown_operations_stay_cheap() -> None:
    lost = [op(t, NEVER, "add", 1) for t in range(200)]
    judged = judge_history([*lost, read(300, 301, 150)], Counter())
    assert judged.verdict == "valid"
    assert judged.most <= 400
    assert not judge_history([*lost, read(300, 301, 201)], Counter()).holds


def hard_history(seed: int, clients: int, each: int, lost: float) -> list[Operation]:
    """A register that did it all at once, seen by clients whose calls overlap and get lost."""
    lot, calls = random.Random(seed), []
    for _ in range(clients):
        now = lot.random()
        for _ in range(each):
            moment = now + lot.random() * 3
            returned = moment + lot.random() * 3
            do = lot.choice(["read", "write", "swap"])
            words = [lot.randrange(4) for _ in range({"read": 0, "write": 1, "swap": 2}[do])]
            calls.append((moment, now, returned, do, words, lot.random() < lost))
            now = returned
    state, history = None, []
    for _, called, returned, do, words, is_lost in sorted(calls):
        if not is_lost or lot.random() < 0.5:  # of the lost ones, half have happened
            state, answer = Register().apply(state, do, tuple(words))
        history.append(op(called, NEVER if is_lost else returned, do, *words, answer=answer))
    return history


@pytest.mark.parametrize(("clients", "each", "lost"), [(5, 30, 0.2), (10, 10, 0.1), (11, 10, 0)])
def test_a_hard_history_is_decided(clients: int, each: int, lost: float) -> None:
    for seed in range(2):
        history = hard_history(seed, clients, each, lost)
        judged = judge_history(history, Register())
        assert judged.verdict == "valid"
        assert judged.most < 5_000  # without going back, the second has 100,000 and more


def test_a_wrong_answer_after_a_hard_history_is_found() -> None:
    history = hard_history(1, 5, 30, 0.2)
    end = max(one.returned for one in history if one.returned < NEVER)
    wrong = read(end + 1, end + 2, 4)  # which nobody has written
    assert judge_history([*history, wrong], Register()).culprit == wrong


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
