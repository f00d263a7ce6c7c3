"""Chapter 6: points that count once, and a score with its neighbours from one instant."""

from __future__ import annotations

from typing import Any

from kvlab import Leaderboard
from kvlab.errors import KvlabError
from kvlab.instruments.explorer.run.steps import World
from kvlab.instruments.explorer.story import Story
from kvlab.workshop.exercises.exercise import Exercise, Explore, promise

BOARD = Leaderboard("exercise", ties="shared")


def _start(kv: Any) -> None:
    kv.run(BOARD.load([("Ada", 30), ("Ben", 20), ("Ann", 0)]))


def _score(world: World, player: str) -> float:
    return float(world.kv.run(BOARD.rank(player)).score)


# --- the short one: win(kv, board, player, points, game) ---


@promise("the points are added", "win adds the points and returns the new score")
def added(win: Any, explore: Explore) -> Story:
    def both_right(world: World) -> bool:
        assert _score(world, "Ben") == 25, f"Ben had 20 and won 5, and has {_score(world, 'Ben'):g}"
        assert world.results[0] == 25, f"Ben has 25 now, and win returned {world.results[0]!r}"
        return True

    return explore(
        {"game": lambda kv: win(kv.kv, BOARD, "Ben", 5, "g1")}, setup=_start, invariant=both_right
    )


@promise("each game counts", "two games of a player count, and one game counts for two players")
def each_game(win: Any, explore: Explore) -> Story:
    def plays(kv: Any) -> None:
        for player, game in (("Ann", "g1"), ("Ann", "g2"), ("Ben", "g1")):
            win(kv.kv, BOARD, player, 5, game)

    def all_counted(world: World) -> bool:
        ann, ben = _score(world, "Ann"), _score(world, "Ben")
        assert ann == 10, f"Ann won 5 in g1 and 5 in g2, and has {ann:g}"
        assert ben == 25, f"Ben had 20 and won 5 in g1 too, and has {ben:g}"
        return True

    return explore({"games": plays}, setup=_start, invariant=all_counted)


@promise("a game that is reported twice", "counts once, in every order")
def twice(win: Any, explore: Explore) -> Story:
    def reports(kv: Any) -> Any:
        return win(kv.kv, BOARD, "Ann", 25, "g1")

    def once(world: World) -> bool:
        assert _score(world, "Ann") == 25, f"g1 came twice, and Ann has {_score(world, 'Ann'):g}"
        return True

    return explore({"phone": reports, "tablet": reports}, setup=_start, invariant=once)


@promise("a lost reply", "the game server asks again, and the points count once")
def lost_reply(win: Any, explore: Explore) -> Story:
    def until_answered(kv: Any) -> Any:
        try:
            return win(kv.kv, BOARD, "Ann", 25, "g1")
        except KvlabError:
            return win(kv.kv, BOARD, "Ann", 25, "g1")

    def once(world: World) -> bool:
        assert _score(world, "Ann") == 25, f"Ann won 25 once, and has {_score(world, 'Ann'):g}"
        return True

    return explore(
        {"game": until_answered},
        setup=_start,
        invariant=once,
        lost_replies=True,
        lost_requests=True,
    )


@promise("a crash", "after it, a second report of the game still counts, once")
def crash(win: Any, explore: Explore) -> Story:
    def reports(kv: Any) -> Any:
        return win(kv.kv, BOARD, "Ann", 25, "g1")

    def counted(world: World) -> bool:
        if any(result == 25 for result in world.results):
            score = _score(world, "Ann")
            assert score == 25, f"the second report was answered, and Ann has {score:g}, not 25"
        return not all(result == 0 for result in world.results)

    return explore(
        {"first": reports, "again": reports}, setup=_start, invariant=counted, crashes=True
    )


# --- the long one: finish(kv, board, player, points, game) ---


@promise("score and neighbours", "finish returns the new score and the entries around the player")
def around_her(finish: Any, explore: Explore) -> Story:
    def right(world: World) -> bool:
        score, around = _pair(world.results[0])
        names = [entry.member for entry in around]
        assert score == 25, f"Ann had 0 and won 25 points; finish says {score}"
        assert names == ["Ada", "Ann", "Ben"], f"Ann is between Ada and Ben, not {names}"
        return True

    return explore(
        {"game": lambda kv: finish(kv.kv, BOARD, "Ann", 25, "g1")}, setup=_start, invariant=right
    )


@promise("once", "a game counts once, also when its reply is lost and asked for again")
def counts_once(finish: Any, explore: Explore) -> Story:
    def until_answered(kv: Any) -> None:
        try:
            finish(kv.kv, BOARD, "Ben", 1, "g1")
        except KvlabError:
            finish(kv.kv, BOARD, "Ben", 1, "g1")

    def once(world: World) -> bool:
        score = _score(world, "Ben")
        assert score == 21, f"Ben had 20 and won 1, one reply was lost, and he has {score:g}"
        return True

    return explore(
        {"game": until_answered},
        setup=_start,
        invariant=once,
        lost_replies=True,
        lost_requests=True,
    )


@promise("one instant", "score and neighbours agree, whoever plays at the same moment")
def one_instant(finish: Any, explore: Explore) -> Story:
    def other_game(kv: Any) -> None:
        kv.run(BOARD.submit("Ann", 10, "add", op_id="on her phone"))

    def agree(world: World) -> bool:
        score, around = _pair(world.results[0])
        shown = next((entry.score for entry in around if entry.member == "Ann"), None)
        assert shown == score, f"the score is {score}, and beside it Ann stands with {shown}"
        return True

    return explore(
        {"tablet": lambda kv: finish(kv.kv, BOARD, "Ann", 25, "g1"), "phone": other_game},
        setup=_start,
        invariant=agree,
    )


@promise("one round trip", "finish asks the server once")
def one_round_trip(finish: Any, explore: Explore) -> Story:
    def once(world: World) -> bool:
        trips = sum(bool(event.commands) for event in world.trace)
        assert trips == 1, f"finish made {trips} round trips"
        return True

    return explore(
        {"game": lambda kv: finish(kv.kv, BOARD, "Ann", 25, "g1")}, setup=_start, invariant=once
    )


def _pair(answer: Any) -> Any:
    ok = isinstance(answer, tuple) and len(answer) == 2
    assert ok, f"finish must return (score, entries), not {answer!r:.60}"
    return answer


EXERCISES = (
    Exercise(
        number="06-short",
        function="win",
        title="points that count once",
        minutes=10,
        hints=(
            "A reply got lost. How can the server tell the second request from a second game?",
            "submit has an argument for that: an id that is the same in each attempt, and another "
            "one in each game.",
            "kv.run(board.submit(player, points, 'add', op_id=game)).entry.score",
        ),
        promises=(added, each_game, twice, lost_reply, crash),
    ),
    Exercise(
        number="06",
        function="finish",
        title="a score and its neighbours",
        minutes=15,
        hints=(
            "Two runs are two instants. Who may play between them?",
            "kv.run takes several ops: one round trip. Does it also make them one instant?",
            "kv.run(board.submit(…, op_id=game), board.around(player, 1), atomic=True): both.",
        ),
        promises=(around_her, counts_once, one_instant, one_round_trip),
    ),
)
