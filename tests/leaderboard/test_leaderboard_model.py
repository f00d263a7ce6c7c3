"""The hardened leaderboard against a plain Python model, step by random step."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta, timezone
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from support import SteppedClock

from kvlab import Entry, Kv, Leaderboard, Submission
from kvlab.errors import OpIdReused, PeriodClosed, ScoreOutOfRange

MAX = 2**53 - 1
DAY = 86_400
MEMBERS = st.sampled_from(["", "10", "2", "ann", "Ann", "é", "\x00", "{x}"])
SCORES = st.sampled_from([0, 1, 2, 3, -1, -2, 0.25, -0.5, 0.1, MAX, -MAX, MAX - 1])
MODES = st.sampled_from(["set", "best", "add"])
OP_IDS = st.sampled_from([None, None, None, "a", "b", "c"])
STEPS = settings(
    max_examples=15,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


class Refused(Exception):
    """The model's word for it, with the class of the error."""


@dataclass
class Model:
    """One board: scores, and the order in which they were reached."""

    order: str
    ties: str
    scores: dict[str, float] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    count: int = 0

    def put(self, member: str, score: float) -> None:
        if self.scores.get(member) != score:
            self.count += 1
            self.scores[member], self.reached[member] = score, self.count

    def submit(self, member: str, score: float, mode: str) -> Submission:
        held = self.scores.get(member)
        accepted = True
        if held is not None and mode == "add":
            exact = Fraction(held) + Fraction(score)
            if abs(exact) > MAX or Fraction(float(exact)) != exact:
                raise Refused(ScoreOutOfRange)
            score = int(exact) if exact.denominator == 1 else float(exact)
        elif held is not None and mode == "best" and self.better(held, score):
            score, accepted = held, False
        self.put(member, score)
        return Submission(self.entry(member), accepted)

    def better(self, a: float, b: float) -> bool:
        return a > b if self.order == "desc" else a < b

    def remove(self, member: str) -> bool:
        return self.scores.pop(member, None) is not None

    def entries(self) -> list[Entry]:
        down = self.order == "desc"
        if self.ties == "first":
            by_place = sorted(self.scores, key=self.reached.__getitem__)
            names = sorted(by_place, key=self.scores.__getitem__, reverse=down)  # equals stay
        else:
            names = sorted(self.scores, key=lambda m: (self.scores[m], m.encode()), reverse=down)
        return [Entry(self.rank(m, i), m, self.scores[m]) for i, m in enumerate(names)]

    def rank(self, member: str, position: int) -> int:
        ahead = [s for s in self.scores.values() if self.better(s, self.scores[member])]
        return {"first": position, "shared": len(ahead), "dense": len(set(ahead))}[self.ties] + 1

    def entry(self, member: str) -> Entry:
        return next(e for e in self.entries() if e.member == member)


def same(do: Any, expect: Any) -> None:
    """Both answer the same, or refuse for the same reason."""
    try:
        expected = expect()
    except Refused as refused:
        with pytest.raises(refused.args[0]):
            do()
        return
    assert do() == expected


def read_all(kv: Kv, board: Leaderboard, model: Model, **at: Any) -> None:
    entries = model.entries()
    names = [*model.scores, "nobody"]
    top, page, *each = kv.run(
        board.top(100, **at), board.page(2, 3, **at), *[board.around(m, 1, **at) for m in names]
    )
    assert top == entries
    assert (page.entries, page.total) == (entries[3:6], len(entries))
    for i, entry in enumerate(entries):
        assert each[names.index(entry.member)] == entries[max(0, i - 1) : i + 2]
        assert kv.run(board.rank(entry.member, **at)) == entry
    assert each[-1] is None


@pytest.mark.parametrize("ties", ["first", "shared", "dense"])
@pytest.mark.parametrize("order", ["desc", "asc"])
def test_an_all_time_board_follows_the_model(kv: Kv, order: Any, ties: Any) -> None:
    boards = iter(range(10**9))

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.board = Leaderboard(str(next(boards)), order=order, ties=ties)
            self.model = Model(order, ties)
            self.receipts: dict[tuple[str, str], tuple[Any, Submission]] = {}

        def expected(self, member: str, score: float, mode: str, op_id: str | None) -> Submission:
            if op_id and (member, op_id) in self.receipts:
                what, answer = self.receipts[member, op_id]
                if what != (score, mode):
                    raise Refused(OpIdReused)
                return answer
            done = self.model.submit(member, score, mode)
            if op_id:
                self.receipts[member, op_id] = (score, mode), done
            return done

        @rule(member=MEMBERS, score=SCORES, mode=MODES, op_id=OP_IDS)
        def submit(self, member: str, score: float, mode: Any, op_id: str | None) -> None:
            same(
                lambda: kv.run(self.board.submit(member, score, mode, op_id=op_id)),
                lambda: self.expected(member, score, mode, op_id),
            )

        @rule(member=MEMBERS)
        def remove(self, member: str) -> None:
            assert kv.run(self.board.remove(member)) == self.model.remove(member)

        @rule(rows=st.dictionaries(MEMBERS, SCORES, max_size=6))
        def load(self, rows: dict[str, float]) -> None:
            assert kv.run(self.board.load(rows.items())) == len(rows)
            for member, score in rows.items():
                self.model.put(member, score)

        @rule()
        def read(self) -> None:
            read_all(kv, self.board, self.model)

        def teardown(self) -> None:
            read_all(kv, self.board, self.model)

    run_state_machine_as_test(Machine, settings=STEPS)


@pytest.mark.parametrize(
    ("order", "ties", "period"),
    [("desc", "first", "daily"), ("asc", "shared", "weekly"), ("desc", "dense", "daily")],
)
def test_period_boards_follow_the_model(
    stepped: tuple[Kv, SteppedClock], order: Any, ties: Any, period: Any
) -> None:
    kv, clock = stepped
    boards = iter(range(10**9))
    length = DAY if period == "daily" else 7 * DAY
    tz = timezone(timedelta(hours=-7))
    lengths = st.sampled_from([-2.5, -1.5, -1, -0.5, 0, 0.5, 1, 1.5])

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            clock.set(clock.START)
            name = str(next(boards))
            self.board = Leaderboard(
                name, order=order, ties=ties, period=period, tz=tz, keep=1, op_horizon=1e6
            )
            self.models: dict[int, Model] = {}

        def current(self, at: float | None = None) -> int:
            shift = -7 * 3600 + (3 * DAY if period == "weekly" else 0)
            return int((clock.now if at is None else at) + shift) // length

        def model(self, at: float | None) -> Model:
            now = self.current()
            number = self.current(at)
            if not now - 1 <= number <= now + 1:
                raise Refused(PeriodClosed)
            return self.models.setdefault(number, Model(order, ties))

        @rule(member=MEMBERS, score=SCORES, mode=MODES, ago=st.none() | lengths)
        def submit(self, member: str, score: float, mode: Any, ago: float | None) -> None:
            at = None if ago is None else clock.now + ago * length
            same(
                lambda: kv.run(self.board.submit(member, score, mode, at=at)),
                lambda: self.model(at).submit(member, score, mode),
            )

        @rule(member=MEMBERS, ago=st.none() | lengths)
        def remove(self, member: str, ago: float | None) -> None:
            at = None if ago is None else clock.now + ago * length
            gone = kv.run(self.board.remove(member, at=at))
            model = self.models.get(self.current(at))
            assert gone == (model is not None and model.remove(member))

        @rule(rows=st.dictionaries(MEMBERS, SCORES, min_size=1, max_size=6))
        def load(self, rows: dict[str, float]) -> None:
            kv.run(self.board.load(rows.items()))
            for member, score in rows.items():
                self.model(None).put(member, score)

        @rule(lengths=st.sampled_from([0.3, 0.5, 1, 1.7, 2, 5]))
        def time_passes(self, lengths: float) -> None:
            clock.step(lengths * length)
            for number in [n for n in self.models if n < self.current() - 1]:
                del self.models[number]

        @rule(ago=lengths)
        def read(self, ago: float) -> None:
            empty = Model(order, ties)
            read_all(kv, self.board, self.models.get(self.current(), empty))
            at = clock.now + ago * length
            read_all(kv, self.board, self.models.get(self.current(at), empty), at=at)

    run_state_machine_as_test(Machine, settings=STEPS)
