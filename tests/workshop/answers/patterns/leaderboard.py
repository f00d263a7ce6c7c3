from __future__ import annotations

import uuid

from workshop.answers.answer import Answers

from kvlab import Key, Op

ANSWERS = Answers()


@ANSWERS.right("06-short")
def win_with_an_op_id(kv, board, player, points, game):
    return kv.run(board.submit(player, points, "add", op_id=game)).entry.score


@ANSWERS.right("06-short")
def win_with_a_longer_op_id(kv, board, player, points, game):
    kv.run(board.submit(player, points, "add", op_id=f"{game}:{player}"))
    return kv.run(board.rank(player)).score


@ANSWERS.right("06-short")
def win_in_a_batch(kv, board, player, points, game):
    named = uuid.uuid5(uuid.NAMESPACE_URL, game)
    done, entry = kv.run(board.submit(player, points, "add", op_id=named), board.rank(player))
    return done.entry.score or entry.score


@ANSWERS.wrong("06-short", "g1 came twice, and Ann has 50")
def win_without_an_op_id(kv, board, player, points, game):
    """Adds each time: the server cannot tell a repetition."""
    return kv.run(board.submit(player, points, "add")).entry.score


@ANSWERS.wrong("06-short", "g1 came twice, and Ann has 50")
def win_with_a_new_op_id(kv, board, player, points, game):
    """Draws a new id in each attempt."""
    return kv.run(board.submit(player, points, "add", op_id=uuid.uuid4())).entry.score


@ANSWERS.wrong("06-short", "Ann won 5 in g1 and 5 in g2, and has 5")
def win_once_a_player(kv, board, player, points, game):
    """The id is the player's: only the first game counts."""
    return kv.run(board.submit(player, points, "add", op_id=player)).entry.score


@ANSWERS.wrong("06-short", "the second report was answered, and Ann has 0, not 25")
def win_with_a_receipt_first(kv, board, player, points, game):
    """Notes the game in a key, then adds: a crash between the two loses the points."""
    if kv.run(Op("SET", Key(f"seen:{player}:{game}"), 1, "NX", "EX", 60)):
        kv.run(board.submit(player, points, "add"))
    else:
        return points
    return kv.run(board.rank(player)).score


@ANSWERS.wrong("06-short", "g1 came twice, and Ann has 50")
def win_that_looks_first(kv, board, player, points, game):
    """Looks whether the game was counted, adds, and notes it: two reports both look first."""
    seen = Key(f"seen:{player}:{game}")
    if not kv.run(Op("GET", seen)):
        kv.run(board.submit(player, points, "add"))
        kv.run(Op("SET", seen, 1, "EX", 60))
    return kv.run(board.rank(player)).score


@ANSWERS.wrong("06-short", "Ben had 20 and won 5, and has 5")
def win_that_sets(kv, board, player, points, game):
    """Sets the points instead of adding them."""
    return kv.run(board.submit(player, points, op_id=game)).entry.score


# --- 06 ---


@ANSWERS.right("06")
def finish_in_one_instant(kv, board, player, points, game):
    submit = board.submit(player, points, "add", op_id=game)
    done, around = kv.run(submit, board.around(player, 1), atomic=True)
    return done.entry.score, around


@ANSWERS.right("06")
def finish_with_a_list(kv, board, player, points, game):
    ops = [board.submit(player, points, "add", op_id=game), board.around(player, 1)]
    done, around = kv.run(ops, atomic=True)
    return done.entry.score, list(around)


@ANSWERS.right("06")
def finish_takes_the_score_from_the_board(kv, board, player, points, game):
    _, around, mine = kv.run(
        board.submit(player, points, "add", op_id=game),
        board.around(player, 1),
        board.rank(player),
        atomic=True,
    )
    return mine.score, around


@ANSWERS.wrong("06", "beside it Ann stands with")
def finish_in_two_trips(kv, board, player, points, game):
    """Two runs are two instants: somebody plays between them."""
    done = kv.run(board.submit(player, points, "add", op_id=game))
    return done.entry.score, kv.run(board.around(player, 1))


@ANSWERS.wrong("06", "Ben had 20 and won 1, one reply was lost, and he has 22")
def finish_without_an_op_id(kv, board, player, points, game):
    """One instant, but a retry adds again."""
    submit = board.submit(player, points, "add")
    done, around = kv.run(submit, board.around(player, 1), atomic=True)
    return done.entry.score, around


@ANSWERS.wrong("06", "Ann is between Ada and Ben, not")
def finish_looks_before(kv, board, player, points, game):
    """Reads the neighbours before it adds."""
    around, done = kv.run(
        board.around(player, 1), board.submit(player, points, "add", op_id=game), atomic=True
    )
    return done.entry.score, around


@ANSWERS.wrong("06", "Ann had 0 and won 25 points; finish says")
def finish_returns_the_submission(kv, board, player, points, game):
    """Returns the submission, not the score."""
    submit = board.submit(player, points, "add", op_id=game)
    return kv.run(submit, board.around(player, 1), atomic=True)


@ANSWERS.wrong("06", "finish made 2 round trips")
def finish_asks_once_more(kv, board, player, points, game):
    """Asks for the score once more."""
    kv.run(board.submit(player, points, "add", op_id=game))
    mine, around = kv.run(board.rank(player), board.around(player, 1), atomic=True)
    return mine.score, around
