"""The boards that users play on: the hardened board, the naive board, the app's board."""

from __future__ import annotations

import itertools
import os
from typing import Any, Protocol

from kvlab import Leaderboard
from kvlab.leaderboard.board import MAX_ENTRIES
from kvlab.leaderboard.naive import NaiveLeaderboard
from kvlab.load.leaderboard.facts import BoardFacts
from kvlab.load.leaderboard.settings import BoardSettings
from kvlab.load.process import Process
from kvlab.load.target.app_client import AppClient

BoardProcess = Process[BoardSettings, BoardFacts]

NEIGHBOURS = 2
TOP = 10
_HORIZON = 600.0
"""Seconds for which a board knows the id of a submission; no user retries for longer."""


class Board(Protocol):
    """What a player can do on a board."""

    def submit(self, member: str, points: int) -> object: ...

    def top(self) -> object: ...

    def rank(self, member: str) -> object: ...

    def around(self, member: str) -> object: ...

    def scores(self) -> dict[str, float]:
        """The score of every member."""


def leaderboard(settings: BoardSettings) -> Leaderboard:
    """The board that the options ask for."""
    return Leaderboard("load", ties=settings.ties, op_horizon=_HORIZON)


def board_of(process: BoardProcess, app: AppClient | None = None) -> Board:
    """The board that the users of ``process`` play on."""
    if process.settings.app_url is not None:
        return AppBoard(app or AppClient(process.settings.app_url), process)
    return NaiveBoard(process) if process.settings.naive else HardenedBoard(process)


class HardenedBoard:
    """``Leaderboard``: every submission has an id, so that a retry counts once."""

    def __init__(self, process: BoardProcess) -> None:
        self._run, self._mode = process.kv.run, process.settings.mode
        self._board = leaderboard(process.settings)
        self._me = f"{process.settings.tag:x}.{os.getpid()}"
        self._submissions = process.numbers

    def submit(self, member: str, points: int) -> object:
        op_id = f"{self._me}.{next(self._submissions)}"
        return self._run(self._board.submit(member, points, self._mode, op_id=op_id))

    def top(self) -> object:
        return self._run(self._board.top(TOP))

    def rank(self, member: str) -> object:
        return self._run(self._board.rank(member))

    def around(self, member: str) -> object:
        return self._run(self._board.around(member, NEIGHBOURS))

    def scores(self) -> dict[str, float]:
        """The score of every member."""
        found: dict[str, float] = {}
        for number in itertools.count(1):
            page = self._run(self._board.page(number, MAX_ENTRIES))
            found |= {entry.member: entry.score for entry in page.entries}
            if number >= page.pages:
                return found
        raise AssertionError


class NaiveBoard:
    """The tutorial's board, on a client that retries."""

    def __init__(self, process: BoardProcess) -> None:
        self._board = NaiveLeaderboard(process.naive_client, process.kv.prefix)

    def submit(self, member: str, points: int) -> object:
        self._board.increment_score(member, points)
        return True

    def top(self) -> object:
        return self._board.get_top_players(TOP)

    def rank(self, member: str) -> object:
        return self._board.get_user_rank(member)

    def around(self, member: str) -> object:
        return self._board.get_player_context(member, NEIGHBOURS)

    def scores(self) -> dict[str, float]:
        """The score of every member."""
        found: Any = self._board.client.zrange(self._board.key, 0, -1, withscores=True)
        return {member.decode(): score for member, score in found}


class AppBoard:
    """The app's board, over HTTP. Members of this run begin with its tag: others may play too."""

    def __init__(self, app: AppClient, process: BoardProcess) -> None:
        self._app, self._mode = app, process.settings.mode
        self._prefix = f"{process.settings.tag:x}-"
        self._me, self._submissions = f"{self._prefix}{os.getpid()}", process.numbers

    def submit(self, member: str, points: int) -> object:
        body = {"member": self._prefix + member, "score": points, "mode": self._mode}
        key = f"{self._me}.{next(self._submissions)}"
        return self._app.post("/api/board/scores", body, {"Idempotency-Key": key})

    def top(self) -> object:
        return self._app.get(f"/api/board/top?n={TOP}")

    def rank(self, member: str) -> object:
        return self._app.get(f"/api/board/rank?member={self._prefix}{member}", (200, 404))

    def around(self, member: str) -> object:
        path = f"/api/board/around?member={self._prefix}{member}&n={NEIGHBOURS}"
        return self._app.get(path, (200, 404))

    def scores(self) -> dict[str, float]:
        """The score of every member of this run."""
        entries = self._app.get(f"/api/board/top?n={MAX_ENTRIES}")["entries"]
        start = len(self._prefix)
        return {
            entry["member"][start:]: entry["score"]
            for entry in entries
            if entry["member"].startswith(self._prefix)
        }
