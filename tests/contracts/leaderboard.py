"""What a leaderboard promises, whatever its order and its rule for ties.

``LeaderboardContract`` needs only what the tutorial's board can do, so the tutorial's board is
held to the same words. ``FullLeaderboardContract`` holds the rest.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import pytest

from kvlab import Entry, Kv, Leaderboard, NaiveLeaderboard, Page
from kvlab.errors import InvalidArgument, OpIdReused, ScoreOutOfRange

MAX = 2**53 - 1
NOT_EXACT = (2**53 + 1, float("inf"), -float("inf"))
BROKEN = (AssertionError, pytest.fail.Exception)
ORDERS, TIES = ("desc", "asc"), ("first", "shared", "dense")
RULES = [(order, ties) for order in ORDERS for ties in TIES]
# Ways and engines multiply: the other three rules are met by the model and by the period boards.
THREE_RULES = [("desc", "first"), ("asc", "shared"), ("desc", "dense")]


def expected(order: str, ties: str) -> list[Entry]:
    """The board after b 5, a 5, c 9, d 2.5, e 5 (all negative for "asc")."""
    sign = 1 if order == "desc" else -1
    tied = {"first": "bae", "shared": "eba", "dense": "eba"}[ties]
    if order == "asc" and ties != "first":
        tied = tied[::-1]
    ranks = {"first": [1, 2, 3, 4, 5], "shared": [1, 2, 2, 2, 5], "dense": [1, 2, 2, 2, 3]}[ties]
    points = [9, 5, 5, 5, 2.5]
    members = ["c", *tied, "d"]
    return [Entry(r, m, p * sign) for r, m, p in zip(ranks, members, points, strict=True)]


def filled(run: Any, board: Any) -> list[Entry]:
    sign = 1 if board.order == "desc" else -1
    for member, points in [("b", 5), ("a", 5), ("c", 9), ("d", 2.5), ("e", 5)]:
        run(board.submit(member, points * sign))
    return expected(board.order, board.ties)


def check_sound(kv: Kv, board: Leaderboard) -> None:
    """What the second structure holds is what the first implies."""
    (keys,) = board._sets
    scores = kv.client.zrange(kv.name(keys[0]), 0, -1, withscores=True)
    if board.ties == "dense":
        levels = kv.client.zrange(kv.name(keys[1]), 0, -1, withscores=True)
        assert sorted({s for _, s in scores}) == [s for _, s in levels]
    if board.ties == "first":
        places = kv.client.hgetall(kv.name(keys[1]))
        assert sorted(place + member for member, place in places.items()) == sorted(
            element for element, _ in scores
        )


class NaiveBoard:
    """The tutorial's board, asked like a :class:`Leaderboard`: ``run`` calls what a method gives.

    Its lists have no ranks: a rank is one more than the position, as ``get_user_rank`` has it.
    """

    order = "desc"

    def __init__(self, naive: NaiveLeaderboard, ties: str) -> None:
        self.naive, self.ties = naive, ties

    def submit(self, member: str, score: Any, mode: str = "set", *, op_id: str = "") -> Any:
        give = {"set": self.naive.update_score, "add": self.naive.increment_score}[mode]
        return lambda: give(member, score)

    def top(self, n: int) -> Any:
        return lambda: self._entries(self.naive.get_top_players(n), 1)

    def rank(self, member: str) -> Any:
        return lambda: next(iter(self._around(member, 0) or []), None)

    def around(self, member: str, n: int) -> Any:
        return lambda: self._around(member, n)

    def _around(self, member: str, n: int) -> list[Entry] | None:
        rank = self.naive.get_user_rank(member)
        found = self.naive.get_player_context(member, n)
        return None if rank is None else self._entries(found, max(1, rank - n))

    def _entries(self, pairs: Any, rank: int) -> list[Entry]:
        return [Entry(rank + i, name.decode(), score) for i, (name, score) in enumerate(pairs)]


class LeaderboardContract:
    """Subclasses provide ``run`` and ``board``."""

    def test_an_empty_board_has_no_entries(self, run: Any, board: Any) -> None:
        assert run(board.top(5)) == []
        assert run(board.rank("ann")) is None
        assert run(board.around("ann", 2)) is None

    def test_members_are_ranked_by_score(self, run: Any, board: Any) -> None:
        sign = 1 if board.order == "desc" else -1
        for member, points in [("b", 5), ("c", 9), ("d", 2.5), ("a", 1)]:
            run(board.submit(member, points * sign))
        ranked = [(1, "c", 9), (2, "b", 5), (3, "d", 2.5), (4, "a", 1)]
        entries = [Entry(rank, member, points * sign) for rank, member, points in ranked]
        assert run(board.top(9)) == entries
        assert run(board.top(2)) == entries[:2]
        assert [run(board.rank(entry.member)) for entry in entries] == entries
        for i, entry in enumerate(entries):
            assert run(board.around(entry.member, 0)) == [entry]
            assert run(board.around(entry.member, 1)) == entries[max(0, i - 1) : i + 2]

    def test_ties_follow_the_rule(self, run: Any, board: Any) -> None:
        entries = filled(run, board)
        assert run(board.top(9)) == entries
        for i, entry in enumerate(entries):
            assert run(board.rank(entry.member)) == entry
            assert run(board.around(entry.member, 1)) == entries[max(0, i - 1) : i + 2]

    def test_the_same_score_again_keeps_the_place(self, run: Any, board: Any) -> None:
        filled(run, board)
        before = run(board.top(9))
        for entry in before:
            run(board.submit(entry.member, entry.score))
        assert run(board.top(9)) == before

    def test_top_0_is_nobody(self, run: Any, board: Any) -> None:
        filled(run, board)
        assert run(board.top(0)) == []

    def test_a_score_comes_back_exactly(self, run: Any, board: Any) -> None:
        for score in (MAX, -MAX, MAX - 1, 0.1, -0.1, 5e-324, 1 / 3, 1e15 + 0.5, -0.0):
            run(board.submit("ann", score))
            assert run(board.rank("ann")).score == score

    @pytest.mark.parametrize("score", NOT_EXACT)
    def test_a_score_without_precision_is_refused(self, run: Any, board: Any, score: Any) -> None:
        with pytest.raises(InvalidArgument, match="score must be"):
            run(board.submit("ann", score))

    def test_a_repeated_addition_counts_once(self, run: Any, board: Any) -> None:
        for _ in range(3):
            run(board.submit("ann", 5, "add", op_id="a"))
        assert run(board.rank("ann")).score == 5


class FullLeaderboardContract(LeaderboardContract):
    """Subclasses provide nothing: ``board`` comes from the rules, ``run`` from the fixture."""

    @pytest.fixture(params=THREE_RULES, ids="-".join)
    def board(self, request: pytest.FixtureRequest) -> Leaderboard:
        order, ties = request.param
        return Leaderboard("game", order=order, ties=ties)

    def test_pages_are_stretches_of_the_board(self, run: Any, board: Leaderboard) -> None:
        assert run(board.page(1, 5)) == Page(1, 5, 0, [])
        entries = filled(run, board)
        pages = [run(board.page(number, 2)) for number in (1, 2, 3, 4)]
        assert [p.entries for p in pages] == [entries[:2], entries[2:4], entries[4:], []]
        assert {(p.total, p.pages) for p in pages} == {(5, 3)}

    def test_best_keeps_the_better_score_and_set_replaces(
        self, run: Any, board: Leaderboard
    ) -> None:
        first, *_ = entries = filled(run, board)
        sign = 1 if board.order == "desc" else -1
        worse = run(board.submit("c", 1 * sign, "best"))
        assert (worse.accepted, worse.entry) == (False, first)
        assert run(board.submit("c", 9 * sign, "best")).accepted is True
        assert [run(board.submit(e.member, e.score)).entry for e in entries] == entries
        better = run(board.submit("d", 10 * sign, "best"))
        assert (better.accepted, better.entry) == (True, Entry(1, "d", 10 * sign))
        assert run(board.submit("d", -7.5 * sign, "add")).entry.score == 2.5 * sign
        assert run(board.top(9)) == entries

    def test_a_removed_member_is_gone(self, run: Any, board: Leaderboard) -> None:
        assert run(board.remove("a")) is False
        entries = filled(run, board)
        assert run(board.remove("a")) is True
        assert run(board.remove("a")) is False
        left = [e.member for e in entries if e.member != "a"]
        assert [e.member for e in run(board.top(9))] == left
        assert run(board.rank("d")).rank == {"first": 4, "shared": 4, "dense": 3}[board.ties]

    def test_who_leaves_a_tie_leaves_the_others_their_rank(
        self, run: Any, board: Leaderboard
    ) -> None:
        filled(run, board)
        last = 1 if board.order == "desc" else -1
        run(board.submit("a", last))
        check_sound(run.kv, board)
        assert run(board.rank("d")).rank == {"first": 4, "shared": 4, "dense": 3}[board.ties]
        run(board.load([("e", last)]))
        check_sound(run.kv, board)
        assert [run(board.rank(who)).rank for who in "bd"] == [2, 3]
        run(board.remove("a"))
        check_sound(run.kv, board)
        run(board.remove("b"))
        check_sound(run.kv, board)
        assert [run(board.rank(who)).rank for who in "cde"] == [1, 2, 3]

    def test_an_op_id_stands_for_one_submission(self, run: Any, board: Leaderboard) -> None:
        first = run(board.submit("ann", 3, "add", op_id="a"))
        run(board.submit("ben", 9))
        run(board.submit("ann", 2, "add"))
        assert run(board.submit("ann", 3, "add", op_id="a")) == first
        assert run(board.rank("ann")).score == 5
        # another member's id is another id
        assert run(board.submit("ben", 3, "add", op_id="a")).entry.score == 12
        for reused in (board.submit("ann", 4, "add", op_id="a"), board.submit("ann", 3, op_id="a")):
            with pytest.raises(OpIdReused):
                run.kv.run(reused)

    @pytest.mark.parametrize(
        "same", [[10, 10.0, 1e1, np.int64(10), np.float32(10)], [0.5, np.float64(0.5)], [0, -0.0]]
    )
    def test_an_op_id_knows_values_and_not_their_spellings(
        self, run: Any, board: Leaderboard, same: list[Any]
    ) -> None:
        op_id, member = UUID(int=7), UUID(int=8)
        first = run(board.submit(member, same[0], "add", op_id=op_id))
        for score in same:
            for who, name in ((member, str(op_id)), (str(member), op_id)):
                assert run(board.submit(who, score, "add", op_id=name)) == first
        with pytest.raises(OpIdReused):
            run.kv.run(board.submit(member, same[0] + 0.25, "add", op_id=op_id))

    @pytest.mark.parametrize(
        ("held", "more"), [(MAX, 1), (-MAX, -1), (MAX, MAX), (2**52 + 1, 0.25), (0.1, 0.2)]
    )
    def test_sums_are_exact_or_refused(
        self, run: Any, board: Leaderboard, held: float, more: float
    ) -> None:
        run(board.submit("ann", held))
        adding = board.submit("ann", more, "add", op_id="sum")
        with pytest.raises(ScoreOutOfRange) as refused:
            run.kv.run(adding)
        assert refused.value.held == held
        assert run(board.rank("ann")).score == held
        # a refusal is not an answer to remember
        run(board.submit("ann", 0))
        assert run(adding).entry.score == more

    def test_a_load_is_many_submissions(self, run: Any, board: Leaderboard) -> None:
        by_submit = Leaderboard("submit", order=board.order, ties=board.ties)
        rows = [(f"m{i * 7 % 60}", i * 13 % 7) for i in range(60)]
        again = [(f"m{i}", i % 3) for i in range(0, 90, 2)]
        for batch in (rows, rows, again, [("x", 1), ("y", 2), ("x", 2)], [(7, 1), ("7", 2)]):
            assert run(board.load(batch)) == len(batch)
            for row in batch:
                run.kv.run(by_submit.submit(*row))
            assert run.kv.run(board.top(200)) == run.kv.run(by_submit.top(200))
        check_sound(run.kv, board)
        assert run(board.load([])) == 0
