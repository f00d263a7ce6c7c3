"""The users of the leaderboard's load test."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator

from locust import tag, task

from kvlab.instruments.judges.scores import Submissions
from kvlab.instruments.measure.workload import Uniform, Zipf
from kvlab.load.generator.user import KvUser
from kvlab.load.leaderboard.boards import BoardProcess, board_of
from kvlab.load.leaderboard.settings import BoardSettings

_DRAWN = 10_000
"""Members that are drawn at once."""


class Player(KvUser):
    """Submits scores, and looks up who stands where."""

    process: BoardProcess

    def prepare(self) -> None:
        self.board = board_of(self.process, self.app)
        seed = os.getpid() * 1000 + next(self.process.numbers)
        self.members = _members(self.process.settings, seed)
        self.points = random.Random(seed)

    @property
    def submissions(self) -> Submissions:
        """Read anew at each call: a worker reports its submissions and starts an empty record."""
        return self.process.evidence.facts.submissions

    @tag("write")
    @task(5)
    def submit(self) -> None:
        member, points = next(self.members), self.points.randrange(1, 100)
        answer = self.timed(
            "submit",
            lambda: self.board.submit(member, points),
            lambda *_: self.submissions.add(member, points, unknown=True),
        )
        if answer is not None:
            self.submissions.add(member, points)

    @tag("read")
    @task(1)
    def top(self) -> None:
        self.timed("top", self.board.top, _changes_nothing)

    @tag("read")
    @task(2)
    def rank(self) -> None:
        self.timed("rank", lambda: self.board.rank(next(self.members)), _changes_nothing)

    @tag("read")
    @task(2)
    def around(self) -> None:
        self.timed("around", lambda: self.board.around(next(self.members)), _changes_nothing)


def _changes_nothing(*_: float) -> None:
    """A read without an answer leaves the board as it was."""


def _members(settings: BoardSettings, seed: int) -> Iterator[str]:
    popular = Zipf(settings.members, settings.skew) if settings.skew else Uniform(settings.members)
    for chunk in itertools.count():
        for number in popular.keys(_DRAWN, seed + chunk):
            yield f"m{number}"
