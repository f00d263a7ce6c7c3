"""Short histories of four clients on a small board, sampled beside the load.

A long history cannot be judged: the time to search for an order grows too fast. Many short
histories can. Each is played on a board of its own.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import redis

from kvlab import Leaderboard
from kvlab.errors import KvlabError, ServerUnavailable
from kvlab.instruments.judges.linearizability import UNKNOWN, Operation
from kvlab.leaderboard.naive import NaiveLeaderboard
from kvlab.load.leaderboard.boards import BoardProcess

CLIENTS, OPERATIONS, MEMBERS = 4, 6, 4
"""Of one history: its clients, the operations of a client, the members of the board."""
PAUSE = 0.2
"""Seconds between two histories."""
MOST = 200
"""Histories of one process."""

Call = tuple[str, tuple[Any, ...]]
"""An operation of the model ``Scores`` and its arguments."""
Ask = Callable[[str, tuple[Any, ...]], Any]
"""Executes a call on a board and returns the answer as the model would."""


def sample(process: BoardProcess) -> None:
    """Play histories until the greenlet is killed."""
    naive = process.settings.naive
    make = _asks_naive if naive else _asks_hardened
    # The naive board ranks equal scores by name, which the model does not: ask for no ranks.
    chance, with_ranks = random.Random(os.getpid()), not naive
    for number in range(MOST):
        gevent.sleep(PAUSE)
        history = _history(make(process, number), chance, with_ranks)
        process.evidence.facts.histories.append(history)


def _history(ask: Ask, chance: random.Random, with_ranks: bool) -> list[Operation]:
    """Clients at once, each of which makes one call after another."""
    plans = [[_drawn_call(chance, with_ranks) for _ in range(OPERATIONS)] for _ in range(CLIENTS)]
    clients = [gevent.spawn(_play, ask, number, plan) for number, plan in enumerate(plans)]
    gevent.joinall(clients)
    if not all(client.successful() for client in clients):
        return []  # a part of a history would be another history
    return list(itertools.chain.from_iterable(client.value for client in clients))


def _drawn_call(chance: random.Random, with_ranks: bool) -> Call:
    member = f"m{chance.randrange(MEMBERS)}"
    return chance.choice(
        [
            ("add", (member, chance.randrange(1, 4))),
            ("add", (member, chance.randrange(1, 4))),
            ("rank", (member,)) if with_ranks else ("around", (member, 0)),
            ("around", (member, chance.randrange(2))),
        ]
    )


def _play(ask: Ask, client: int, plan: list[Call]) -> list[Operation]:
    return list(_operations(ask, client, plan))


def _operations(ask: Ask, client: int, plan: list[Call]) -> Iterator[Operation]:
    for do, arguments in plan:
        called = time.monotonic()
        try:
            answer = ask(do, arguments)
        except ServerUnavailable:
            continue  # it was never sent
        except (KvlabError, redis.RedisError):
            yield Operation(client, do, arguments, UNKNOWN, called, math.inf)
        else:
            yield Operation(client, do, arguments, answer, called, time.monotonic())


def _asks_hardened(process: BoardProcess, number: int) -> Ask:
    """A board that lists equal scores by name, as the model does."""
    kv, board = process.kv, Leaderboard(_name(process, number), ties="shared", op_horizon=60)
    me = f"{os.getpid()}.{number}"
    submissions = itertools.count()

    def ask(do: str, arguments: tuple[Any, ...]) -> Any:
        match do, arguments:
            case "add", (member, points):
                op_id = f"{me}.{next(submissions)}"
                return kv.run(board.submit(member, points, "add", op_id=op_id)).entry.score
            case "rank", (member,):
                entry = kv.run(board.rank(member))
                return entry and entry.rank
        entries = kv.run(board.around(*arguments))
        return entries and tuple((entry.member, entry.score) for entry in entries)

    return ask


def _asks_naive(process: BoardProcess, number: int) -> Ask:
    prefix = f"{process.kv.prefix}{_name(process, number)}:"
    board = NaiveLeaderboard(process.naive_client, prefix)

    def ask(do: str, arguments: tuple[Any, ...]) -> Any:
        match do, arguments:
            case "add", (member, points):  # increment_score, with its answer
                return board.client.zincrby(board.key, points, member)
        entries = board.get_player_context(*arguments)
        return entries and tuple((member.decode(), score) for member, score in entries)

    return ask


def _name(process: BoardProcess, number: int) -> str:
    return f"sample-{process.settings.tag:x}-{os.getpid()}-{number}"
