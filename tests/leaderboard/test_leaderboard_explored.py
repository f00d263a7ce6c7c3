"""The leaderboard under every order of its clients' commands, each fault at each point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import EVERY

from kvlab import Entry, Leaderboard, NaiveLeaderboard
from kvlab.instruments import ClientCrashed, World, explore, replay

TIES = ("first", "shared", "dense")
every_rule = pytest.mark.parametrize("ties", TIES)


def alive(world: World) -> list[Any]:
    return [result for result in world.results if not isinstance(result, ClientCrashed)]


# --- rank, neighbours and scores from one instant ---------------------------------------------

START = {"Ada": 90, "Ann": 80, "Ben": 70, "Cho": 60}
PASSING = {"Ben": 99, "Cho": 98}


def in_the_middle(names: list[str]) -> bool:
    return len(names) == 3 and names[1] == "Ann"


def test_naive_rank_then_range_loses_the_player() -> None:
    def asks(kv: Any) -> list[str]:
        return [name.decode() for name, _ in NaiveLeaderboard(kv).get_player_context("Ann", 1)]

    def passes(kv: Any) -> None:
        for name, score in PASSING.items():
            NaiveLeaderboard(kv).update_score(name, score)

    def setup(kv: Any) -> None:
        kv.zadd("leaderboard:global", START)

    def there(world: World) -> bool:
        return "Ann" in world.results[0]

    story = explore([asks, passes], setup=setup, invariant=there)
    assert (story.violations, story.schedules, story.schedule) == (1, 6, "0 1 1 0")
    assert not replay("0 1 1 0", [asks, passes], setup=setup, invariant=there).holds


@every_rule
def test_around_rank_and_top_are_of_one_instant(ties: Any) -> None:
    board = Leaderboard("game", ties=ties)
    states = [START, START | {"Ben": 99}, START | PASSING]

    def ranked(scores: dict[str, int]) -> list[Entry]:
        """Of scores that are all different, by definition."""
        best_first = sorted(scores, key=lambda name: -scores[name])
        return [Entry(n + 1, name, scores[name]) for n, name in enumerate(best_first)]

    boards = [ranked(scores) for scores in states]
    possible = []  # what an answer from one instant can be
    for entries in boards:
        (at,) = (n for n, entry in enumerate(entries) if entry.member == "Ann")
        possible.append((entries[at - 1 : at + 2], entries[at], entries))
    readers: dict[str, tuple[int, Callable[[], Any]]] = {
        "around": (0, lambda: board.around("Ann", 1)),
        "rank": (1, lambda: board.rank("Ann")),
        "top": (2, lambda: board.top(4)),
    }

    def passes(kv: Any) -> None:
        for name, score in PASSING.items():
            kv.run(board.submit(name, score, op_id=f"{name} passes"))

    for which, ask in readers.values():
        expected = [answers[which] for answers in possible]

        def one_instant(world: World, expected: Any = expected) -> bool:
            """the answer is that of a moment"""
            answer = world.results[0]
            return isinstance(answer, ClientCrashed) or answer in expected

        assert explore(
            [lambda kv, ask=ask: kv.run(ask()), passes],
            setup=lambda kv: kv.run(board.load(START.items())),
            invariant=one_instant,
            **EVERY,
        )


# --- points count once ------------------------------------------------------------------------


def naive_game(kv: Any) -> None:
    NaiveLeaderboard(kv).increment_score("Ann", 1)


def naive_points(world: World) -> bool:
    """a point for each game"""
    return world.kv.zscore("leaderboard:global", "Ann") == len(world.results)


def test_naive_a_lost_reply_counts_twice() -> None:
    story = explore([naive_game], invariant=naive_points, lost_replies=True, lost_requests=True)
    assert story.schedule == "r0 0"
    assert (story.violations, story.schedules) == (1, 3)
    assert replay("q0 0", [naive_game], invariant=naive_points).holds


def game(board: Leaderboard, name: str, op_id: str | None) -> Callable[[Any], Any]:
    def play(kv: Any) -> Any:
        return kv.run(board.submit("Ann", 1, "add", op_id=op_id and f"{op_id} {name}")).entry.score

    return play


def points_of(board: Leaderboard, world: World) -> float:
    entry = world.kv.run(board.rank("Ann"))
    return 0 if entry is None else entry.score


@every_rule
def test_with_an_op_id_each_game_counts_once(ties: Any) -> None:
    board = Leaderboard("game", ties=ties)

    def exact(world: World) -> bool:
        """as many points as games, each game told another sum; a crashed one counts or does not"""
        points, told = points_of(board, world), alive(world)
        crashed = len(world.results) - len(told)
        return len(told) <= points <= len(told) + crashed and len(set(told)) == len(told)

    games = [game(board, "1", "game"), game(board, "2", "game")]
    assert explore(games, invariant=exact, **EVERY)
    losses = {"lost_replies": True, "lost_requests": True}
    assert explore(games, invariant=exact, max_faults=2, **losses)
    # A forced expiry would end one of a period's keys before the others, which no server does.
    board = Leaderboard("game", ties=ties, period="daily")
    games = [game(board, "1", "game"), game(board, "2", "game")]
    assert explore(games, invariant=exact, crashes=True, script_flushes=True, **losses)


def test_without_an_op_id_an_add_is_never_sent_again_and_its_outcome_is_unknown() -> None:
    board = Leaderboard("game")

    def never_more(world: World) -> bool:
        """no more points than games; a game that was not told may be one of them"""
        told = [score for score in world.results if isinstance(score, int)]
        return len(told) <= points_of(board, world) <= len(world.results)

    games = [game(board, "1", None), game(board, "2", None)]
    assert explore(games, invariant=never_more, **EVERY)


# --- set and best -----------------------------------------------------------------------------


def sets(board: Leaderboard, score: int, op_id: str | None) -> Callable[[Any], Any]:
    return lambda kv: kv.run(board.submit("Ann", score, op_id=op_id)).entry.score


def the_last_stays(board: Leaderboard, scores: list[int]) -> Callable[[World], bool]:
    def invariant(world: World) -> bool:
        """the score is that of the submission which came last"""
        came = []  # in the order in which each reached the server first
        for step in world.trace:
            ran = any(isinstance(reply, list) and reply[0] == b"ok" for reply in step.replies)
            if ran and scores[step.client or 0] not in came:
                came.append(scores[step.client or 0])
        return not came or points_of(board, world) == came[-1]

    return invariant


def test_a_set_that_is_repeated_late_wins_unless_it_has_an_op_id() -> None:
    board, scores = Leaderboard("game"), [5, 9]
    last = the_last_stays(board, scores)
    bare = explore([sets(board, score, None) for score in scores], invariant=last, **EVERY)
    assert bare.violations  # as the module says
    assert bare.shortest is not None
    assert "lose reply" in [step.kind for step in bare.shortest.trace]
    assert explore([sets(board, s, f"game {s}") for s in scores], invariant=last, **EVERY)


def test_reading_then_setting_the_better_score_loses_the_best() -> None:
    """The control: what people write around the simple board."""

    def improve(score: int) -> Callable[[Any], None]:
        def submit(kv: Any) -> None:
            board = NaiveLeaderboard(kv)
            if score > (board.get_user_score("Ann") or 0):
                board.update_score("Ann", score)

        return submit

    def best_stays(world: World) -> bool:
        score: float = world.kv.zscore("leaderboard:global", "Ann")
        return score == 9

    story = explore([improve(5), improve(9)], invariant=best_stays)
    assert (story.violations, story.schedules, story.schedule) == (2, 6, "0 1 1 0")


@every_rule
def test_the_best_stays_the_best(ties: Any) -> None:
    board = Leaderboard("game", ties=ties)

    def improve(score: int) -> Callable[[Any], Any]:
        return lambda kv: kv.run(board.submit("Ann", score, "best")).entry.score

    def best(world: World) -> bool:
        """what is on the board is the best of those that came, and each was told no worse"""
        told = alive(world)
        return points_of(board, world) >= max(told, default=0) and (
            world.results[1] == 9 or isinstance(world.results[1], ClientCrashed)
        )

    assert explore([improve(5), improve(9)], invariant=best, **EVERY)


# --- removing ---------------------------------------------------------------------------------


@every_rule
def test_removed_and_submitted_at_once_it_is_there_whole_or_not_at_all(ties: Any) -> None:
    board = Leaderboard("game", ties=ties)

    def sound(world: World) -> bool:
        """the board's structures tell the same story"""
        entries = world.kv.run(board.top(9))
        names = [entry.member for entry in entries]
        assert [world.kv.run(board.rank(name)) for name in names] == entries
        sizes = {len(names)}
        if ties == "first":
            sizes.add(world.kv.hlen("kv:" + board._sets[0][1].name))
        if ties == "dense":
            levels = world.kv.zcard("kv:" + board._sets[0][1].name)
            assert levels == len({entry.score for entry in entries})
        return "Ben" in names and sizes == {len(names)}

    assert explore(
        [lambda kv: kv.run(board.remove("Ann")), sets(board, 7, "game 1")],
        setup=lambda kv: kv.run(board.load([("Ann", 5), ("Ben", 5)])),
        invariant=sound,
        **EVERY,
    )
