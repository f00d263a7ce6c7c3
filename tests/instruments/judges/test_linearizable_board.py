"""Leaderboards on a server, judged by what their concurrent callers were told."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import redis

from kvlab import Entry, Kv, Leaderboard, NaiveLeaderboard
from kvlab.errors import OutcomeUnknown
from kvlab.instruments import gated, judge_history
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.judges.linearizability import UNKNOWN, Operation
from kvlab.instruments.judges.models import Scores
from kvlab.server.running_server import RunningServer

# In the order of their bytes; the last two would change places in UTF-16.
MEMBERS = ("10", "2", "z", "é", "\uffff", "😀")
Ask = Callable[..., Any]


def hardened(kv: Kv, board: Leaderboard, do: str, *arguments: Any) -> Any:
    """The board as the model's words have it."""

    def pairs(entries: list[Entry] | None) -> Any:
        return entries and tuple((entry.member, entry.score) for entry in entries)

    match do, arguments:
        case (("add" | "set"), (member, score)):
            return kv.run(board.submit(member, score, do)).entry.score  # type: ignore[arg-type]
        case "around", (member, n):
            return pairs(kv.run(board.around(member, n)))
        case _, (n,):
            return pairs(kv.run(board.top(n))) or ()


def naive(board: NaiveLeaderboard, do: str, *arguments: Any) -> Any:
    if do == "around":
        return tuple((who.decode(), n) for who, n in board.get_player_context(*arguments))
    board.update_score(*arguments)
    return arguments[1]


class Notes:
    """What clients asked, when, and what they were told."""

    def __init__(self) -> None:
        self.history: list[Operation] = []

    def take(self, client: object, ask: Ask, do: str, *arguments: Any) -> None:
        called = time.monotonic()
        try:
            answer = ask(do, *arguments)
        except OutcomeUnknown:
            self.history.append(Operation(client, do, arguments, UNKNOWN, called))
        else:
            returned = time.monotonic()
            self.history.append(Operation(client, do, arguments, answer, called, returned))


CLIENTS, EACH, LOST = 4, 40, 6


def test_a_real_board_with_lost_replies_is_linearizable(kv: Kv, server: RunningServer) -> None:
    board, notes = Leaderboard("b", ties="shared"), Notes()
    kv.run(board.top(1), board.submit("z", 0))  # the scripts are there
    notes.take("first", lambda *_: 0, "set", "z", 0)
    with (
        Proxy(server.url) as proxy,
        redis.Redis.from_url(proxy.url, max_connections=CLIENTS) as client,
        Kv(client, prefix=kv.prefix, sleep=lambda _: None) as lossy,
    ):
        ask, barrier = partial(hardened, lossy, board), threading.Barrier(CLIENTS)

        def play(client: int) -> None:
            lot = random.Random(client)
            barrier.wait(10)
            for _ in range(EACH):
                who = lot.choice(MEMBERS)
                some: Any = lot.choice((("add", who, 1),) * 2 + (("around", who, 1), ("top", 3)))
                notes.take(client, ask, *some)  # one point each: ties are common

        lost = proxy.swallow_replies(LOST, only="EVALSHA")
        with ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(play, client) for client in range(CLIENTS)]:
                done.result(60)
        assert lost.is_set()
    notes.take("last", partial(hardened, kv, board), "top", 9)
    assert len(notes.history) == CLIENTS * EACH + 2
    judged = judge_history(notes.history, Scores())
    assert judged.holds, str(judged)
    # The control: the same history, and one point less at the end.
    *before, end = notes.history
    (who, score), *others = end.answer
    short = replace(end, answer=((who, score - 1), *others))
    assert not judge_history([*before, short], Scores()).holds


def test_a_real_tie_is_listed_as_the_model_lists_it(kv: Kv) -> None:
    board = Leaderboard("tie", ties="shared")
    ask = partial(hardened, kv, board)
    for order in (MEMBERS, MEMBERS[::-1]):
        notes = Notes()
        for who in order:
            notes.take(0, ask, "set", who, 7)
        notes.take(0, ask, "top", 9)
        notes.take(0, ask, "around", "z", 1)
        assert notes.history[-1].answer == (("é", 7), ("z", 7), ("2", 7))
        assert judge_history(notes.history, Scores()).holds


def overtaken(client: Any, notes: Notes, ask: Ask, submit: Ask) -> Operation:
    """Somebody asks where Bob stands, and is held at the gate while two others overtake him."""
    for place, who in enumerate(("ann", "bob", "cid", "dot")):
        notes.take("game", submit, "set", who, 40 - place)
    asking = threading.Thread(target=notes.take, args=("page", ask, "around", "bob", 0))
    asking.start()
    assert client.gate.reached.wait(10)
    for who in ("cid", "dot"):
        notes.take("game", submit, "set", who, 90)
    client.gate.open()
    asking.join(10)
    return notes.history[-1]


def test_naive_rank_then_range_is_caught(kv: Kv, url: str) -> None:
    notes, submit = Notes(), partial(naive, NaiveLeaderboard(kv.client, kv.prefix))
    with gated(url, "ZREVRANGE") as client:
        ask = partial(naive, NaiveLeaderboard(client, kv.prefix))
        torn = overtaken(client, notes, ask, submit)
    assert torn.answer == (("cid", 90),)
    judged = judge_history(notes.history, Scores())
    assert (judged.verdict, judged.culprit) == ("invalid", torn)
    assert set(judged.window) == set(notes.history[4:])  # the question, and who overtook meanwhile
    assert judged.states == ((("ann", 40), ("bob", 39), ("cid", 38), ("dot", 37)),)


def test_the_hardened_board_in_the_same_schedule_is_right(kv: Kv, url: str) -> None:
    notes, board = Notes(), Leaderboard("b", ties="shared")
    kv.run(board.around("nobody", 0))  # the script is there
    with gated(url, "EVALSHA") as client, Kv(client, prefix=kv.prefix) as held:
        ask, submit = partial(hardened, held, board), partial(hardened, kv, board)
        seen = overtaken(client, notes, ask, submit)
    assert seen.answer == (("bob", 39),)
    assert judge_history(notes.history, Scores()).holds
