"""What users note of a leaderboard for the judge, and short histories sampled beside the load."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gevent
import redis

from kvlab.errors import KvlabError, ServerUnavailable
from kvlab.instruments.judges.linearizability import UNKNOWN, Operation
from kvlab.instruments.judges.scores import Submissions

CLIENTS, EACH, MEMBERS = 4, 6, 4
EVERY = 0.2
MOST = 200
"""Histories of one process."""

Ask = Callable[[str, tuple[Any, ...]], Any]
"""Does one operation of the model ``Scores`` on a board, and gives the model's answer."""


class BoardFacts:
    """Submissions, and sampled histories."""

    def __init__(self, mode: str) -> None:
        self.submissions = Submissions(mode)  # type: ignore[arg-type]
        self.histories: list[list[Operation]] = []

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        rows = [
            [(o.client, o.do, o.arguments, _plain(o.answer), o.called, o.returned) for o in history]
            for history in self.histories
        ]
        return {"submissions": self.submissions.to_dict(), "histories": rows}

    def add(self, data: Mapping[str, Any]) -> None:
        """Take in what another process noted."""
        self.submissions = self.submissions.merge(Submissions.from_dict(data["submissions"]))
        for rows in data["histories"]:
            self.histories.append(
                [
                    Operation(client, do, tuple(given), _answer(answer), called, returned)
                    for client, do, given, answer, called, returned in rows
                ]
            )


def _plain(answer: Any) -> Any:
    return {"unknown": True} if answer is UNKNOWN else answer


def _answer(plain: Any) -> Any:
    """Lists were tuples before they travelled."""
    if isinstance(plain, dict):
        return UNKNOWN
    return tuple(map(tuple, plain)) if isinstance(plain, list | tuple) else plain


def sample(
    board_of: Callable[[int], Ask], facts: Callable[[], BoardFacts], seed: int, *, ranks: bool
) -> None:
    """Again and again, a history on a board of its own: for a greenlet, until it is killed.

    ``ranks``: ask for ranks too, of a board that gives equal scores one rank.
    """
    chance = random.Random(seed)
    for number in range(MOST):
        gevent.sleep(EVERY)
        history = _history(board_of(number), chance, ranks)
        facts().histories.append(history)


def _history(ask: Ask, chance: random.Random, ranks: bool) -> list[Operation]:
    """A few clients at once, each asking one thing after another."""
    plans = [[_draw(chance, ranks) for _ in range(EACH)] for _ in range(CLIENTS)]
    played = [
        gevent.spawn(lambda n=n, plan=plan: list(_played(ask, n, plan)))
        for n, plan in enumerate(plans)
    ]
    gevent.joinall(played)
    if not all(one.successful() for one in played):
        return []  # in part it would be another history
    return list(itertools.chain.from_iterable(one.value or () for one in played))


def _draw(chance: random.Random, ranks: bool) -> tuple[str, tuple[Any, ...]]:
    member = f"m{chance.randrange(MEMBERS)}"
    return chance.choice(
        [
            ("add", (member, chance.randrange(1, 4))),
            ("add", (member, chance.randrange(1, 4))),
            ("rank", (member,)) if ranks else ("around", (member, 0)),
            ("around", (member, chance.randrange(2))),
        ]
    )


def _played(ask: Ask, client: int, plan: list[tuple[str, tuple[Any, ...]]]) -> Iterator[Operation]:
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
