"""Loads a leaderboard and judges the scores that it ends with, and the ranks that it told.

    locust -f loadtests/leaderboard.py --headless --users 20 --run-time 30s
    kvlab load leaderboard --lose-replies 100

At the end each score must be the sum (or best) of the submissions that were acknowledged; those
without an answer count once or not at all. Beside the load, short histories of four clients on a
small board are sampled: their answers must fit one order (``judges.linearizability``).
The naive board fails at both: a lost answer counts a submission twice, and a player's neighbours
are read after her rank.

``--host`` takes a Redis URL; without it the embedded server is used. ``--app`` goes through the
sample web app, where no histories are sampled: it has only the one board.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from locust import tag, task

import kvlab
from kvlab import Leaderboard
from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.judges.linearizability import judge_history
from kvlab.instruments.judges.models import Scores
from kvlab.instruments.measure.workload import Uniform, Zipf
from kvlab.leaderboard.board import MAX_ENTRIES
from kvlab.leaderboard.naive import NaiveLeaderboard
from kvlab.load.board_facts import Ask, BoardFacts, sample
from kvlab.load.http_target import HttpTarget
from kvlab.load.record.run import Finding
from kvlab.load.user import KvUser, Process
from kvlab.load.verdict import Judgement

NEIGHBOURS = 2
_HORIZON = 600.0
"""Seconds for which a submission's id is known; longer than anybody here sends it again."""
_DRAWN = 10_000


def board_facts(process: Process) -> BoardFacts:
    """What the users of this process have noted so far."""
    facts = process.evidence.facts
    assert isinstance(facts, BoardFacts)
    return facts


class LeaderboardLoad:
    """See :class:`kvlab.load.verdict.LoadTest`."""

    pattern = "leaderboard"

    def options(self, add: Callable[..., Any]) -> None:
        add("--members", type=int, default=1000, help="players on the board")
        add("--skew", type=float, default=1.0, help="Zipf exponent of who plays (0: all alike)")
        add("--mode", choices=("add", "best"), default="add", help="what a submission does")
        add("--ties", choices=("first", "shared", "dense"), default="first", help="ranks of equals")

    def first(self, given: Any) -> kvlab.Op[Any]:
        whole("members", given.members, 1, MAX_ENTRIES if given.app else 10_000_000)
        real("skew", given.skew, 0, 10)
        if given.naive and (given.app or given.mode != "add"):
            raise InvalidArgument("the naive board only adds, straight to the store")
        return _board(given).top(1)

    def title(self, given: Any) -> str:
        board = "the naive board" if given.naive else f"ties {given.ties}"
        return f"Leaderboard: {board}, mode {given.mode}, {given.members:,} members"

    def app_settings(self, given: Any) -> dict[str, Any]:
        return {}

    def facts(self, given: Any) -> BoardFacts:
        return BoardFacts(given.mode)

    def beside(self, process: Process) -> None:
        """Sample histories, in a greenlet of its own."""
        if process.http_url is None:
            naive = process.given.naive  # its ranks tell equals apart, by name: no fault of order
            make = partial(_naive_asked if naive else _asked, process)
            sample(make, lambda: board_facts(process), os.getpid(), ranks=not naive)

    def judge(self, process: Process, began: float) -> Judgement:
        facts = board_facts(process)
        verdict = facts.submissions.judge(_target(process).scores())
        says = (
            f"each score is what its acknowledged submissions come to; wrong: {verdict.wrong:,} of "
            f"{verdict.members:,} members, {verdict.acknowledged:,} submissions, "
            f"{verdict.unknown:,} without an answer"
        )
        findings = [Finding("scores", verdict.holds, says, verdict.examples)]
        untested = None if verdict.acknowledged else "nothing was submitted"
        if process.http_url is None:
            if any(facts.histories):
                order, decided = _order(facts)
                findings.append(order)
                untested = untested or (None if decided else "no sampled history could be decided")
            else:
                untested = untested or "no history was sampled: who stood where was not judged"
        return Judgement(findings, untested)


def _order(facts: BoardFacts) -> tuple[Finding, int]:
    """The finding, and how many histories it stands on."""
    judged = [judge_history(history, Scores()) for history in facts.histories if history]
    wrong = [one for one in judged if one.verdict == "invalid"]
    undecided = sum(one.verdict == "unknown" for one in judged)
    says = (
        "sampled ranks and neighbours fit one order of what was asked; histories that do not: "
        f"{len(wrong)} of {len(judged)}" + (f", undecided {undecided}" if undecided else "")
    )
    evidence = _unexplained(min(wrong, key=lambda one: len(one.window))) if wrong else ()
    return Finding("linearizable", not wrong, says, evidence), len(judged) - undecided


def _unexplained(judged: Any) -> tuple[str, ...]:
    """The part of a history that is wrong, in lines."""
    boards = [
        ", ".join(f"{member} {score:g}" for member, score in sorted(state)) or "nobody"
        for state in judged.states
    ]
    return (
        f"no order explains {judged.culprit}",
        f"on a board of {' or '.join(boards)}, with",
        *(f"  {operation}" for operation in judged.window if operation is not judged.culprit),
    )


def _board(given: Any) -> Leaderboard:
    return Leaderboard("load", ties=given.ties, op_horizon=_HORIZON)


# --- the boards that users play on --------------------------------------------------------------


class _Hardened:
    def __init__(self, process: Process) -> None:
        self._run, self._given = process.kv.run, process.given
        self._board = _board(process.given)
        self._me = f"{process.given.kvlab['tag']:x}.{os.getpid()}"
        self._submitted = process.numbers

    def submit(self, member: str, points: int) -> Any:
        op_id = f"{self._me}.{next(self._submitted)}"
        return self._run(self._board.submit(member, points, self._given.mode, op_id=op_id))

    def top(self) -> Any:
        return self._run(self._board.top(10))

    def rank(self, member: str) -> Any:
        return self._run(self._board.rank(member))

    def around(self, member: str) -> Any:
        return self._run(self._board.around(member, NEIGHBOURS))

    def scores(self) -> dict[str, float]:
        """Of everybody."""
        found: dict[str, float] = {}
        for number in itertools.count(1):
            page = self._run(self._board.page(number, MAX_ENTRIES))
            found |= {entry.member: entry.score for entry in page.entries}
            if number >= page.pages:
                return found
        raise AssertionError


class _Naive:
    def __init__(self, process: Process) -> None:
        self._board = NaiveLeaderboard(process.naive_client, process.kv.prefix)

    def submit(self, member: str, points: int) -> Any:
        self._board.increment_score(member, points)
        return True

    def top(self) -> Any:
        return self._board.get_top_players(10)

    def rank(self, member: str) -> Any:
        return self._board.get_user_rank(member)

    def around(self, member: str) -> Any:
        return self._board.get_player_context(member, NEIGHBOURS)

    def scores(self) -> dict[str, float]:
        found: Any = self._board.client.zrange(self._board.key, 0, -1, withscores=True)
        return {member.decode(): score for member, score in found}


class _App:
    """Over HTTP. Its board may hold more than this run's: names begin with the run's tag."""

    def __init__(self, http: HttpTarget, process: Process) -> None:
        self._http, self._mode = http, process.given.mode
        self._prefix = f"{process.given.kvlab['tag']:x}-"
        self._me, self._submitted = f"{self._prefix}{os.getpid()}", process.numbers

    def submit(self, member: str, points: int) -> Any:
        body = {"member": self._prefix + member, "score": points, "mode": self._mode}
        key = f"{self._me}.{next(self._submitted)}"
        return self._http.post("/api/board/scores", body, {"Idempotency-Key": key})

    def top(self) -> Any:
        return self._http.get("/api/board/top?n=10")

    def rank(self, member: str) -> Any:
        return self._http.get(f"/api/board/rank?member={self._prefix}{member}", (200, 404))

    def around(self, member: str) -> Any:
        path = f"/api/board/around?member={self._prefix}{member}&n={NEIGHBOURS}"
        return self._http.get(path, (200, 404))

    def scores(self) -> dict[str, float]:
        entries = self._http.get(f"/api/board/top?n={MAX_ENTRIES}")["entries"]
        start = len(self._prefix)
        return {
            entry["member"][start:]: entry["score"]
            for entry in entries
            if entry["member"].startswith(self._prefix)
        }


def _target(process: Process, http: HttpTarget | None = None) -> Any:
    if process.http_url is not None:
        return _App(http or HttpTarget(process.http_url), process)
    return _Naive(process) if process.given.naive else _Hardened(process)


# --- the sampled boards ---------------------------------------------------------------------------


def _asked(process: Process, number: int) -> Ask:
    """A board whose ties are listed by name, as the model has them."""
    kv, board = process.kv, Leaderboard(_sampled(process, number), ties="shared", op_horizon=60)
    me = f"{os.getpid()}.{number}"
    counted = itertools.count()

    def ask(do: str, arguments: tuple[Any, ...]) -> Any:
        match do, arguments:
            case "add", (member, points):
                op_id = f"{me}.{next(counted)}"
                return kv.run(board.submit(member, points, "add", op_id=op_id)).entry.score
            case "rank", (member,):
                entry = kv.run(board.rank(member))
                return entry and entry.rank
        entries = kv.run(board.around(*arguments))
        return entries and tuple((entry.member, entry.score) for entry in entries)

    return ask


def _naive_asked(process: Process, number: int) -> Ask:
    board = NaiveLeaderboard(
        process.naive_client, f"{process.kv.prefix}{_sampled(process, number)}:"
    )

    def ask(do: str, arguments: tuple[Any, ...]) -> Any:
        match do, arguments:
            case "add", (member, points):  # increment_score, with its answer
                return board.client.zincrby(board.key, points, member)
        entries = board.get_player_context(*arguments)
        return entries and tuple((member.decode(), score) for member, score in entries)

    return ask


def _sampled(process: Process, number: int) -> str:
    return f"sample-{process.given.kvlab['tag']:x}-{os.getpid()}-{number}"


# --- the users ------------------------------------------------------------------------------------


class Player(KvUser):
    """Submits a score, and looks where somebody stands."""

    def prepare(self) -> None:
        self.board = _target(self.process, self.http)
        seed = os.getpid() * 1000 + next(self.process.numbers)
        self.members, self.points = _members(self.process.given, seed), random.Random(seed)

    @property
    def facts(self) -> BoardFacts:
        """Of now: what was noted before may be on its way to the master."""
        return board_facts(self.process)

    @tag("write")
    @task(5)
    def submit(self) -> None:
        member, points = next(self.members), self.points.randrange(1, 100)
        told = self.timed(
            "submit",
            lambda: self.board.submit(member, points),
            lambda *_: self.facts.submissions.add(member, points, unknown=True),
        )
        if told is not None:
            self.facts.submissions.add(member, points)

    @tag("read")
    @task(1)
    def top(self) -> None:
        self.timed("top", self.board.top, _harmless)

    @tag("read")
    @task(2)
    def rank(self) -> None:
        self.timed("rank", lambda: self.board.rank(next(self.members)), _harmless)

    @tag("read")
    @task(2)
    def around(self) -> None:
        self.timed("around", lambda: self.board.around(next(self.members)), _harmless)


def _harmless(*_: float) -> None:
    """A question without an answer changes nothing."""


def _members(given: Any, seed: int) -> Iterator[str]:
    popular = Zipf(given.members, given.skew) if given.skew else Uniform(given.members)
    for chunk in itertools.count():
        for number in popular.keys(_DRAWN, seed + chunk):
            yield f"m{number}"
