"""Leaderboards: the contract for every rule, and what the contract does not say.

Races that need a certain order of commands: ``test_leaderboard_explored.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import redis
from contracts.leaderboard import (
    BROKEN,
    NOT_EXACT,
    ORDERS,
    RULES,
    TIES,
    FullLeaderboardContract,
    LeaderboardContract,
    NaiveBoard,
    check_sound,
)
from support import SteppedClock

from kvlab import Entry, Key, Kv, Leaderboard, NaiveLeaderboard, Op
from kvlab.errors import (
    InvalidArgument,
    OpIdReused,
    OutcomeUnknown,
    PeriodClosed,
    ServerRefused,
    ServerUnavailable,
)
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server.running_server import RunningServer

DAY = 86_400
every_rule = pytest.mark.parametrize(("order", "ties"), RULES)


def listed(entries: list[Entry] | None) -> list[tuple[int, str, float]]:
    assert entries is not None
    return [(e.rank, e.member, e.score) for e in entries]


# --- scores and lost replies, the tutorial's board beside the hardened one --------------------


@pytest.fixture
def naive(kv: Kv) -> NaiveLeaderboard:
    return NaiveLeaderboard(kv.client, kv.prefix)


def test_naive_ties_are_ranked_by_the_bytes_of_the_name(naive: NaiveLeaderboard) -> None:
    for user in (2, 10):
        naive.update_score(user, 5)
    naive.update_score(1, 5)
    assert [m for m, _ in naive.get_top_players()] == [b"2", b"10", b"1"]
    assert naive.get_user_rank(1) == 3
    # '10' before '2', whoever was first, as soon as the list is read upwards
    assert naive.client.zrange(naive.key, 0, -1) == [b"1", b"10", b"2"]


@pytest.mark.parametrize("order", ORDERS)
def test_under_first_who_was_first_ranks_higher(kv: Kv, order: Any) -> None:
    for arrival in (["2", "10", "1"], ["10", "2", "1"], ["1", "2", "10"]):
        board = Leaderboard("-".join(arrival), order=order, ties="first")
        for member in arrival:
            kv.run(board.submit(member, 5))
        assert listed(kv.run(board.top(9))) == [(i + 1, m, 5) for i, m in enumerate(arrival)]


def test_naive_rounds_2_to_the_53_plus_1_and_takes_infinity(naive: NaiveLeaderboard) -> None:
    naive.update_score(1, 2**53 + 1)
    assert naive.get_user_score(1) == 2**53
    naive.update_score(2, float("inf"))
    assert naive.get_user_rank(2) == 1


def test_naive_top_0_is_everybody(naive: NaiveLeaderboard) -> None:
    for user in range(50):
        naive.update_score(user, user)
    assert len(naive.get_top_players(0)) == 50


@pytest.mark.parametrize(
    "score",
    [2**53, -(2**53), 2**53 + 1, 1e300, float("inf"), -float("inf"), float("nan"), True, "7", None],
)
def test_a_score_that_would_lose_precision_is_refused(score: Any) -> None:
    board = Leaderboard("b")
    for mode in ("set", "best", "add"):
        with pytest.raises(InvalidArgument, match="score must be"):
            board.submit("ann", score, mode)  # type: ignore[arg-type]


@pytest.fixture
def proxy(server: RunningServer) -> Iterator[Proxy]:
    with Proxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def lossy(kv: Kv, proxy: Proxy) -> Iterator[Kv]:
    """Through the proxy, resending without the pause."""
    with (
        redis.Redis.from_url(proxy.url, max_connections=50) as client,
        Kv(client, prefix=kv.prefix, sleep=lambda _: None) as lossy,
    ):
        yield lossy


def retrying(proxy: Proxy) -> redis.Redis:
    """As redis-py is by default. (``Redis.from_url`` would not retry at all.)"""
    client = redis.Redis("127.0.0.1", proxy.port, max_connections=50)
    retry = client.get_retry()
    assert retry is not None
    assert retry.get_retries() == 10
    return client


def test_an_add_without_an_op_id_is_never_sent_again(kv: Kv, lossy: Kv, proxy: Proxy) -> None:
    board = Leaderboard("lost")
    kv.run(board.submit("ann", 1))
    proxy.swallow_replies(1, only="EVALSHA")
    with pytest.raises(OutcomeUnknown):
        lossy.run(board.submit("ann", 1, "add"))
    assert kv.run(board.rank("ann")) == Entry(1, "ann", 2)


THREADS, ADDS, LOST = 16, 25, 60


def from_threads(add: Callable[[int, int], Any]) -> None:
    barrier = threading.Barrier(THREADS)

    def work(thread: int) -> None:
        barrier.wait(10)
        for i in range(ADDS):
            add(thread, i)

    with ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(work, t) for t in range(THREADS)]:
            done.result(60)


def test_naive_adds_from_16_threads_count_each_lost_reply_twice(
    naive: NaiveLeaderboard, kv: Kv, proxy: Proxy
) -> None:
    with retrying(proxy) as client:
        through = NaiveLeaderboard(client, kv.prefix)
        lost = proxy.swallow_replies(LOST, only="ZINCRBY")
        from_threads(lambda thread, i: through.increment_score(i % 5, 1))
    assert lost.is_set()
    scores = [naive.get_user_score(user) or 0 for user in range(5)]
    assert sum(scores) == THREADS * ADDS + LOST


@pytest.mark.parametrize("ties", TIES)
def test_adds_from_16_threads_with_lost_replies_are_exact(
    kv: Kv, lossy: Kv, proxy: Proxy, ties: Any
) -> None:
    board = Leaderboard("threads", ties=ties)
    kv.run(board.submit(0, 0), board.submit(1, 0))
    lost = proxy.swallow_replies(LOST, only="EVALSHA")
    from_threads(lambda t, i: lossy.run(board.submit(i % 5, 1, "add", op_id=f"{t}/{i}")))
    assert lost.is_set()
    each = THREADS * ADDS // 5
    assert sorted(e.score for e in kv.run(board.top(9))) == [each] * 5
    check_sound(kv, board)


# --- the contract ------------------------------------------------------------------------------


class TestLeaderboardContract(FullLeaderboardContract):
    """Three rules, on every engine and by every way an op travels."""


@pytest.mark.parametrize(("order", "ties"), RULES)
class TestEveryRule(LeaderboardContract):
    """Each order with each rule for ties, by one way."""

    @pytest.fixture
    def run(self, kv: Kv) -> Any:
        return kv.run

    @pytest.fixture
    def board(self, order: Any, ties: Any) -> Leaderboard:
        return Leaderboard("game", order=order, ties=ties)


class TestNaiveBoard(LeaderboardContract):
    """The tutorial's board keeps what needs no rule, and breaks the rest, whatever the rule."""

    @pytest.fixture
    def run(self) -> Any:
        return lambda call: call()

    @pytest.fixture(params=TIES)
    def board(self, request: pytest.FixtureRequest, naive: NaiveLeaderboard) -> NaiveBoard:
        return NaiveBoard(naive, request.param)

    def test_ties_follow_the_rule(self, run: Any, board: Any) -> None:
        with pytest.raises(BROKEN):
            super().test_ties_follow_the_rule(run, board)

    def test_top_0_is_nobody(self, run: Any, board: Any) -> None:
        with pytest.raises(BROKEN):
            super().test_top_0_is_nobody(run, board)

    @pytest.mark.parametrize("score", NOT_EXACT)
    def test_a_score_without_precision_is_refused(self, run: Any, board: Any, score: Any) -> None:
        with pytest.raises(BROKEN):
            super().test_a_score_without_precision_is_refused(run, board, score)

    def test_a_repeated_addition_counts_once(self, run: Any, board: Any) -> None:
        with pytest.raises(BROKEN):
            super().test_a_repeated_addition_counts_once(run, board)


@pytest.mark.parametrize("period", ["daily", "weekly"])
@every_rule
def test_period_boards_follow_the_rule(any_kv: Kv, order: Any, ties: Any, period: Any) -> None:
    board = Leaderboard("p", order=order, ties=ties, period=period, tz=timezone(timedelta(hours=9)))
    seconds, _ = any_kv.run(Op("TIME"))
    now = int(seconds)
    length = DAY * (1 if period == "daily" else 7)
    any_kv.run(board.submit("a", 1))
    any_kv.run(board.load([("b", 1), ("c", 2)]))
    any_kv.run(board.submit("old", 5, "best", at=now - length))
    assert {e.member for e in any_kv.run(board.top(9))} == {"a", "b", "c"}
    assert any_kv.run(board.top(9, at=now)) == any_kv.run(board.top(9))
    assert listed(any_kv.run(board.top(9, at=now - length))) == [(1, "old", 5)]
    assert any_kv.run(board.rank("old")) is None
    assert any_kv.run(board.rank("old", at=now - length)) == Entry(1, "old", 5)
    assert any_kv.run(board.remove("b")) is True
    assert any_kv.run(board.remove("old", at=now - length)) is True
    for gone in (now - 2 * length, now + 2 * length):
        with pytest.raises(PeriodClosed):
            any_kv.run(board.submit("a", 1, at=gone))
        with pytest.raises(PeriodClosed):
            any_kv.run(board.load([("a", 1)], at=gone))
    for key in any_kv.client.scan_iter(any_kv.prefix + "*"):
        assert 0 < any_kv.client.pttl(key) <= (2 * length) * 1000


def members(board: Leaderboard, kv: Kv, at: Any = None) -> list[str]:
    return [entry.member for entry in kv.run(board.top(99, at=at))]


# --- periods, under a clock that the test steps -----------------------------------------------


@pytest.mark.parametrize("ties", TIES)
def test_the_servers_clock_picks_the_period(stepped: tuple[Kv, SteppedClock], ties: Any) -> None:
    kv, clock = stepped
    midnight = clock.START // DAY * DAY + DAY
    board = Leaderboard("days", ties=ties, period="daily", keep=2)
    for day in range(12):  # three times round the ring
        clock.set(midnight + day * DAY - 0.1)
        assert kv.run(board.submit(f"last of {day}", 1)).entry.rank == 1 + (day > 0)
        clock.set(midnight + day * DAY + 0.1)
        assert kv.run(board.submit(f"first of {day + 1}", 2)).entry.rank == 1
        assert members(board, kv) == [f"first of {day + 1}"]
        today = [f"first of {day}", f"last of {day}"] if day else ["last of 0"]
        assert members(board, kv, clock.now - DAY) == today
        if day >= 2:
            # the oldest that is kept, whole, and the one before, gone
            assert len(members(board, kv, clock.now - 2 * DAY)) == 2
            assert members(board, kv, clock.now - 3 * DAY) == []


def test_a_week_begins_on_monday_and_a_zone_moves_midnight(
    stepped: tuple[Kv, SteppedClock],
) -> None:
    kv, clock = stepped
    sunday = datetime(2027, 1, 24, 23, 59, 59, tzinfo=UTC)
    assert sunday.isocalendar()[1] == 3
    east = timezone(timedelta(hours=5, minutes=30))
    for tz, last in [(UTC, sunday), (east, sunday.replace(tzinfo=east))]:
        for period in ("daily", "weekly"):
            board = Leaderboard("zone", period=period, tz=tz)  # type: ignore[arg-type]
            clock.set(last.timestamp())
            kv.run(board.submit("before", 1))
            clock.step(2)
            kv.run(board.submit("after", 1))
            assert members(board, kv) == ["after"]
            assert members(board, kv, last) == ["before"]
            assert members(board, kv, last.timestamp()) == ["before"]
            assert members(board, kv, last + timedelta(seconds=2)) == ["after"]


def test_at_reaches_the_kept_periods_and_the_next(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    board = Leaderboard("reach", period="weekly", keep=2)
    weeks = {weeks: clock.now + weeks * 7 * DAY for weeks in range(-4, 4)}
    for week, at in weeks.items():
        if -2 <= week <= 1:
            kv.run(board.submit(f"week {week}", 1, at=at))
        else:
            with pytest.raises(PeriodClosed, match="neither kept nor next"):
                kv.run(board.submit(f"week {week}", 1, at=at))
    for week, at in weeks.items():
        assert members(board, kv, at) == ([f"week {week}"] if -2 <= week <= 1 else [])
    clock.step(7 * DAY)
    assert members(board, kv) == ["week 1"]
    assert members(board, kv, weeks[-2]) == []


def test_period_keys_expire_when_the_last_kept_period_ends(
    stepped: tuple[Kv, SteppedClock],
) -> None:
    kv, clock = stepped
    board = Leaderboard("ttl", period="daily", keep=1)
    kv.run(board.submit("today", 1))
    kv.run(board.submit("yesterday", 1, at=clock.now - DAY))
    end_of_today = (clock.now // DAY + 1) * DAY
    clock.set(end_of_today - 0.1)
    assert members(board, kv, end_of_today - DAY - 1) == ["yesterday"]
    clock.set(end_of_today + 0.1)
    assert members(board, kv, end_of_today - DAY - 1) == []
    clock.set(end_of_today + DAY - 0.1)
    assert members(board, kv, end_of_today - 1) == ["today"]
    clock.set(end_of_today + DAY + 0.1)
    assert kv.client.keys(kv.prefix + "*") == []


@every_rule
def test_keys_left_by_a_clock_set_far_ahead_are_not_taken_for_todays(
    stepped: tuple[Kv, SteppedClock], order: Any, ties: Any
) -> None:
    kv, clock = stepped
    board = Leaderboard("ahead", order=order, ties=ties, period="daily", keep=1)
    clock.step(300 * DAY)  # 300 is a multiple of 3, the ring's size
    kv.run(board.load([("ghost", 1), ("ann", 7)]))
    clock.step(-300 * DAY)
    assert members(board, kv) == []
    assert kv.run(board.rank("ghost")) is None
    assert kv.run(board.remove("ghost")) is False
    assert kv.run(board.submit("ann", 1, "add")).entry == Entry(1, "ann", 1)
    assert members(board, kv) == ["ann"]
    kv.run(board.submit("ben", 1))
    assert kv.client.pttl(kv.name(board._now[2 if ties == "shared" else 4])) < 3 * DAY * 1000
    loaded = Leaderboard("loaded", order=order, ties=ties, period="daily", keep=1)
    clock.step(300 * DAY)
    kv.run(loaded.load([("ghost", 1), ("ann", 7)]))
    clock.step(-300 * DAY)
    kv.run(loaded.load([("ann", 1)]))
    assert kv.run(loaded.top(9)) == [Entry(1, "ann", 1)]


@pytest.mark.parametrize("how", ["submit", "load"])
def test_the_state_lives_as_long_as_the_last_period(
    stepped: tuple[Kv, SteppedClock], how: str
) -> None:
    kv, clock = stepped
    board = Leaderboard("state", period="daily")
    for i, days in enumerate((0, 1, 0)):  # the next period, then this one again
        at = clock.now + days * DAY
        kv.run(board.load([("a", i)], at=at) if how == "load" else board.submit("a", i, at=at))
        latest = max(kv.client.pttl(kv.name(keys[0])) for keys in board._sets)
        assert kv.client.pttl(kv.name(board._state)) == latest


def test_a_repeat_after_midnight_does_not_count_again(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    board = Leaderboard("midnight", period="daily", op_horizon=60)
    midnight = (clock.now // DAY + 1) * DAY
    clock.set(midnight - 1)
    with_id, without = board.submit("ann", 5, op_id="game 7"), board.submit("ben", 5)
    assert with_id.idempotent
    assert not without.idempotent  # the same op lands on another day's board:
    first = kv.run(with_id)
    kv.run(without)
    clock.set(midnight + 1)
    assert kv.run(with_id) == first
    kv.run(without)
    assert members(board, kv) == ["ben"]


def test_an_op_id_is_remembered_for_its_horizon(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    board = Leaderboard("horizon", op_horizon=60)
    add = board.submit("ann", 1, "add", op_id="x")
    kv.run(add)
    clock.step(59.9)
    assert kv.run(add).entry.score == 1
    clock.step(0.2)  # counted from the first time, not from the repeat
    assert kv.run(add).entry.score == 2


def test_an_op_id_stands_for_a_submission_to_one_period(any_kv: Kv) -> None:
    board, now = Leaderboard("days", period="daily"), datetime.now(UTC)
    first = any_kv.run(board.submit("ann", 5, op_id="a", at=now))
    for same_day in (now.timestamp(), now.astimezone(timezone(timedelta(hours=5)))):
        assert any_kv.run(board.submit("ann", 5, op_id="a", at=same_day)) == first
    for other in (now + timedelta(days=1), None):
        with pytest.raises(OpIdReused):
            any_kv.run(board.submit("ann", 5, op_id="a", at=other))


# --- lost answers, and what the server does meanwhile -----------------------------------------


@every_rule
@pytest.mark.parametrize("mode", ["set", "best"])
def test_a_lost_answer_keeps_the_place_in_a_tie(
    kv: Kv, lossy: Kv, proxy: Proxy, order: Any, ties: Any, mode: Any
) -> None:
    board = Leaderboard("resend", order=order, ties=ties)
    kv.run(board.submit("z", 1), board.remove("z"))
    proxy.swallow_replies(1, only="EVALSHA")
    first = lossy.run(board.submit("ann", 5, mode))
    assert proxy.swallowed == 1
    assert first.accepted
    kv.run(board.submit("ben", 5))
    before = kv.run(board.top(9))
    # by hand, after others came
    assert kv.run(board.submit("ann", 5, mode)) == first
    assert kv.run(board.top(9)) == before
    if ties == "first":
        assert [e.member for e in before] == ["ann", "ben"]


def test_what_says_idempotent_leaves_and_answers_the_same_when_run_twice(kv: Kv) -> None:
    for order, ties, period in [
        (order, ties, period) for order in ORDERS for ties in TIES for period in (None, "daily")
    ]:
        board = Leaderboard("twice", order=order, ties=ties, period=period)  # type: ignore[arg-type]
        at = None if period is None else datetime.now(UTC)
        kv.run(board.load([("a", 1), ("b", 1), ("c", 3)], at=at))
        ops: list[Op[Any]] = [
            board.submit("b", 2, at=at),
            board.submit("a", 1, at=at),
            board.submit("b", 7, "best", at=at),
            board.submit("b", 1, "best", at=at),
            board.submit("c", 4, "add", op_id="i", at=at),
            board.submit("d", 1, op_id="i", at=at),
            board.top(5),
            board.page(1, 2),
            board.rank("a"),
            board.around("a", 1),
        ]
        for op in ops:
            assert op.idempotent, op
            once = kv.run(op)
            after_once = kv.run(board.top(9))
            assert kv.run(op) == once
            assert kv.run(board.top(9)) == after_once
        for op in (board.submit("a", 1, "add", at=at), board.remove("a", at=at)):
            assert not op.idempotent, op


def test_a_lost_answer_during_a_load(kv: Kv, lossy: Kv, proxy: Proxy) -> None:
    board = Leaderboard("load", ties="first")
    kv.run(board.load([("z", 0)]))
    proxy.swallow_replies(1, only="EVALSHA")
    told: list[int] = []
    rows = [(f"m{i}", 5) for i in range(9_000)]
    assert lossy.run(board.load(iter(rows), progress=told.append)) == 9_000
    assert told == [4_000, 4_000, 1_000]
    assert kv.run(board.page(2, 4_500)).entries[0] == Entry(4_501, "m4500", 5)
    check_sound(kv, board)


def test_script_flush_in_the_middle(kv: Kv) -> None:
    board = Leaderboard("flush")
    kv.run(board.submit("ann", 1, "add"))
    kv.client.script_flush()
    assert kv.run(board.submit("ann", 1, "add")).entry.score == 2
    kv.client.script_flush()
    assert kv.run(board.rank("ann"), board.top(1)) == (Entry(1, "ann", 2), [Entry(1, "ann", 2)])


def test_a_dead_server_says_so(kv: Kv) -> None:
    with redis.Redis("127.0.0.1", 1) as nowhere, Kv(nowhere) as dead:
        for op in (Leaderboard("b").submit("ann", 1), Leaderboard("b").top(1)):
            with pytest.raises(ServerUnavailable):
                dead.run(op)


@pytest.mark.parametrize("ties", TIES)
def test_wrong_types_are_refused_and_left_alone(kv: Kv, ties: Any) -> None:
    board = Leaderboard("wrong", ties=ties)
    kv.client.set(kv.name(Key("leaderboard:{wrong}:desc." + ties + ":scores")), "a string")
    for op in (
        board.submit("a", 1),
        board.top(1),
        board.page(1, 1),
        *([board.remove("a"), board.rank("a")] if ties != "first" else []),
    ):
        with pytest.raises(ServerRefused) as refused:
            kv.run(op)
        assert refused.value.code == "WRONGTYPE" or "WRONGTYPE" in str(refused.value)


def test_out_of_memory_refuses_the_whole_submission(kv: Kv) -> None:
    for ties in TIES:
        for period in (None, "daily"):
            board = Leaderboard("oom", ties=ties, period=period)  # type: ignore[arg-type]
            kv.run(board.submit("ann", 1), board.submit("ben", 2))
            before = kv.run(board.top(9))
            kv.client.config_set("maxmemory", 1)
            try:
                for what in (board.submit("ann", 9), board.load([("ann", 9), ("new", 1)])):
                    with pytest.raises(Exception, match="OOM"):
                        kv.run(what)  # type: ignore[call-overload]
                assert kv.run(board.top(9)) == before
                assert kv.run(board.remove("ann")) is True
            finally:
                kv.client.config_set("maxmemory", 0)


# --- members, names, arguments ----------------------------------------------------------------


@every_rule
def test_any_text_is_a_member(kv: Kv, order: Any, ties: Any) -> None:
    board = Leaderboard("text", order=order, ties=ties)
    texts = ["", "\x00", "a\nb", "{x}", "é", "😀", "\ud800", "0000000000000001", "seq", "x" * 10**7]
    kv.run(board.load((text, i) for i, text in enumerate(texts)))
    for i, text in enumerate(texts):
        entry = kv.run(board.submit(text, 1, "add", op_id=text or "none")).entry
        assert (entry.member, entry.score) == (text, i + 1)
        assert kv.run(board.rank(text)) == entry
    assert {e.member for e in kv.run(board.top(99))} == set(texts)
    assert kv.run(board.submit(7, 1)).entry.member == "7"
    assert kv.run(board.rank("7")) == kv.run(board.rank(7))
    assert all(kv.run(board.remove(text)) for text in [*texts, 7])
    check_sound(kv, board)


def test_whatever_its_name_all_keys_of_a_board_share_a_slot(kv: Kv) -> None:
    for name in ("{", "a}b{c}", ": é", "x" * 200):
        board = Leaderboard(name, period="daily", ties="dense", keep=3)
        op = board.submit("an}n{", 1, op_id="}{")
        kv.run(op)
        assert len(op.keys) == 1 + 2 * 5 + 1
        tags = {key.name[key.name.index("{") + 1 : key.name.index("}")] for key in op.keys}
        assert len(tags) == 1
        assert tags != {""}
        kv.run(board.remove("an}n{"))


def test_boards_with_other_settings_share_no_key() -> None:
    boards = [
        Leaderboard("b", order=order, ties=ties, period=period, keep=keep, tz=tz)  # type: ignore[arg-type]
        for order in ORDERS
        for ties in TIES
        for period, keep, tz in [
            (None, 1, UTC),
            ("daily", 1, UTC),
            ("daily", 2, UTC),
            ("weekly", 1, UTC),
            ("daily", 1, timezone(timedelta(hours=1))),
        ]
    ]
    keys = [key for board in boards for key in set(board.submit("m", 1, op_id="o").keys)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda b: Leaderboard("b", order="up"),
        lambda b: Leaderboard("b", ties="last"),
        lambda b: Leaderboard("b", period="hourly"),
        lambda b: Leaderboard("b", tz=ZoneInfo("Europe/Berlin")),
        lambda b: Leaderboard("b", keep=-1),
        lambda b: Leaderboard("b", keep=True),
        lambda b: Leaderboard("b", keep=367),
        lambda b: Leaderboard("b", op_horizon=0),
        lambda b: Leaderboard("b", op_horizon=float("nan")),
        lambda b: Leaderboard("b", op_horizon=True),
        lambda b: Leaderboard(None),
        lambda b: b.submit(None, 1),
        lambda b: b.submit(True, 1),
        lambda b: b.submit(b"ann", 1),
        lambda b: b.submit("ann", 1, "max"),
        lambda b: b.submit("ann", 1, op_id=""),
        lambda b: b.submit("ann", 1, op_id=True),
        lambda b: b.submit("ann", 1, at=0),
        lambda b: Leaderboard("b", period="daily").submit("ann", 1, at=datetime(2027, 1, 1)),
        lambda b: Leaderboard("b", period="daily").submit("ann", 1, at=float("nan")),
        lambda b: Leaderboard("b", period="daily").submit("ann", 1, at=True),
        lambda b: Leaderboard("b", period="daily").submit("ann", 1, at="today"),
        lambda b: b.top(-1),
        lambda b: b.top(10_001),
        lambda b: b.top(True),
        lambda b: b.top(1.0),
        lambda b: b.page(0, 10),
        lambda b: b.page(1, 0),
        lambda b: b.page(2**53, 10),
        lambda b: b.around("ann", -1),
        lambda b: b.around("ann", 5_001),
        lambda b: next(iter(b.load([("ann", float("inf"))]))),
        lambda b: next(iter(b.load([(None, 1)]))),
        lambda b: next(iter(b.load([("ann", 1), ("bob", True)]))),
        lambda b: next(iter(b.load([("ann", 1), ("bob", 2**53)]))),
        lambda b: next(iter(b.load([("ann", 1), ("bob", 1, 2)]))),  # type: ignore[list-item]
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(wrong: Any) -> None:
    with pytest.raises(InvalidArgument):
        wrong(Leaderboard("b"))


@pytest.mark.skipif(np.finfo(np.longdouble).nmant == 52, reason="a long double is a double here")
def test_a_score_that_a_double_would_change_is_refused() -> None:
    assert Leaderboard("b").submit("ann", np.longdouble(0.5)).args  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="score must be a number that a double holds"):
        Leaderboard("b").submit("ann", np.longdouble("0.1"))  # type: ignore[arg-type]


def test_every_op_is_one_round_trip_and_an_all_time_board_has_no_ttl(kv: Kv) -> None:
    for ties in TIES:
        for period in (None, "weekly"):
            board = Leaderboard("trips", ties=ties, period=period)  # type: ignore[arg-type]
            ops: list[Any] = [
                board.submit("a", 1),
                board.submit("a", 1, "best"),
                board.submit("a", 1, "add", op_id="x"),
                board.top(3),
                board.page(1, 3),
                board.rank("a"),
                board.around("a", 3),
                board.remove("nobody"),
                board.load([("a", 1), ("b", 2)]),
            ]
            for warm in (False, True):
                for op in ops:
                    before = kv.round_trips
                    kv.run(op)
                    assert not warm or kv.round_trips == before + 1, op
    for key in kv.client.scan_iter(kv.prefix + "*"):
        lasting = b".weekly" not in key and b":op:" not in key
        assert (kv.client.pttl(key) == -1) is lasting, key
