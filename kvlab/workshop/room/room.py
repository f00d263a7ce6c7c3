"""What a room keeps, and what it answers: on kvlab's own sessions, board, flags and limiters."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from kvlab import AsyncKv, FeatureFlags, Key, Leaderboard, Op, SessionStore, SlidingWindowLog
from kvlab.errors import KvlabError
from kvlab.workshop import exercises
from kvlab.workshop.room.events import MAX_EVENTS, checked_event, checked_name, row_of
from kvlab.workshop.room.one_server import OneServer

LIFE = 7 * 86_400
BATCH = 100
"""Events in one request at most."""
_HINTS, _SOLUTION = "hints", "solution"


class Refused(KvlabError):
    """The room says no; ``status`` is the HTTP status."""

    def __init__(self, status: int, words: str, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.status, self.retry_after = status, retry_after


class Room:
    """One room. ``code`` lets participants in; ``key`` is the trainer's."""

    def __init__(
        self,
        kv: AsyncKv,
        code: str,
        key: str,
        clock: Callable[[], float] = time.time,
        one_server: OneServer | None = None,
    ) -> None:
        self._kv, self._code, self._key, self._clock = kv, code, key, clock
        self._one_server = one_server
        self._sessions = SessionStore("room", idle=LIFE, absolute=LIFE)
        self._board = Leaderboard("room", ties="first", op_horizon=LIFE)
        self._flags = FeatureFlags("room", defaults=_closed_solutions())
        self._joins = SlidingWindowLog("room-joins", limit=120, window=60)
        self._reports = SlidingWindowLog("room-reports", limit=120, window=60)
        self._one_writer = asyncio.Lock()

    # --- participants ---

    async def join(
        self, code: object, name: object, secret: object, address: str
    ) -> dict[str, Any]:
        """A participant's token, and the own access to the one server, where there is one.

        Raises Refused for a wrong code or somebody else's name.
        """
        await self._within(self._joins, address)
        if not (isinstance(code, str) and _same(code.upper(), self._code)):
            raise Refused(403, "this is not the code of the room")
        shown = checked_name(name)
        if not (isinstance(secret, str) and 16 <= len(secret) <= 128):
            raise Refused(422, "a secret has 16 to 128 characters")
        own, mark = shown.casefold(), hashlib.sha256(secret.encode(errors="replace")).hexdigest()
        await self._kv.run(Op("HSETNX", _NAMES, own, mark), Op("HSETNX", _SHOWN, own, shown))
        known: Any = await self._kv.run(Op("HGET", _NAMES, own))
        if not _same(known.decode(), mark):
            raise Refused(409, "somebody else in this room has this name")
        await self._kv.run(*(Op("EXPIRE", key, LIFE) for key in (_NAMES, _SHOWN)))
        session = await self._kv.run(self._sessions.create(own))
        server = await self._one_server.access(own) if self._one_server else None
        return {"token": session.id, "server": server}

    async def report(self, token: str, first: int, events: Sequence[object]) -> dict[str, Any]:
        """Take events number ``first`` and following; what is known already counts once.

        Answers the number of the next event that the room wants, and what is open.
        """
        session = await self._kv.run(self._sessions.read(token, strict=True))
        if session is None or session.user is None:
            raise Refused(401, "this participant has not joined, or the room is another one")
        name = str(session.user)
        await self._within(self._reports, name)
        if not (isinstance(first, int) and first >= 0 and len(events) <= BATCH):
            raise Refused(422, f"first is a number, and events are at most {BATCH}")
        async with self._one_writer:
            wanted = await self._take(name, first, events)
        return {"next": wanted, **await self.openings()}

    async def _take(self, name: str, first: int, events: Sequence[object]) -> int:
        key, now = (
            Key(f"room:events:{{{hashlib.sha256(name.encode()).hexdigest()}}}"),
            self._clock(),
        )
        known = int(await self._kv.run(Op("HLEN", key)))
        new = list(events[known - first :]) if 0 <= known - first < len(events) else []
        new = new[: max(0, MAX_EVENTS - known)]
        if new:
            pairs: list[str] = []
            for number, event in enumerate(new, start=known):
                pairs += [str(number), json.dumps(checked_event(event, now))]
            await self._kv.run(Op("HSET", key, *pairs), Op("EXPIRE", key, LIFE), atomic=True)
        if new or not events:
            await self._write_row(name, key)
        return known + len(new)

    async def _write_row(self, name: str, key: Key) -> None:
        stored: Any = await self._kv.run(Op("HGETALL", key))
        numbered = dict(zip(map(int, stored[::2]), stored[1::2], strict=True))
        row = row_of(json.loads(numbered[number]) for number in sorted(numbered))
        solved = [number for number, item in row["exercises"].items() if item["solved"]]
        await self._kv.run(
            Op("HSET", _ROWS, name, json.dumps(row)),
            Op("EXPIRE", _ROWS, LIFE),
            *(self._board.submit(name, 1, "add", op_id=number) for number in solved),
        )

    async def openings(self) -> dict[str, Any]:
        """Which hints and solutions are open, and when the clock of the room ends."""
        clock: Op[Any] = Op("GET", _ENDS)
        flags, ends = await self._kv.run(self._flags.read_all(), clock)
        is_open = [name for name in _closed_solutions() if flags.is_enabled(name, "room")]
        return {"open": is_open, "ends": float(ends) if ends else None, "now": self._clock()}

    async def _within(self, limiter: SlidingWindowLog, who: str) -> None:
        decision = await self._kv.run(limiter.hit(who))
        if not decision.allowed:
            raise Refused(429, "too many requests", decision.retry_after)

    # --- the trainer ---

    def is_trainer(self, key: str) -> bool:
        return _same(key, self._key)

    async def release(self, exercise: str, what: str, is_open: bool) -> None:
        """Open or close the hints or the solution of an exercise for everybody."""
        if f"{what}-{exercise}" not in _closed_solutions():
            raise Refused(422, f"{what} of {exercise} is nothing that can be opened")
        await self._kv.run(self._flags.set(f"{what}-{exercise}", bool(is_open)))

    async def set_clock(self, minutes: float) -> None:
        """The clock of the room ends in so many minutes; 0 stops it."""
        if not 0 <= minutes <= 24 * 60:
            raise Refused(422, "minutes are from 0 to 1440")
        ends = repr(self._clock() + minutes * 60)
        change: Op[Any] = Op("SET", _ENDS, ends, "EX", LIFE) if minutes else Op("DEL", _ENDS)
        await self._kv.run(change)

    async def state(self) -> dict[str, Any]:
        """Everything on the trainer's page."""
        all_rows: Op[Any] = Op("HGETALL", _ROWS)
        all_names: Op[Any] = Op("HGETALL", _SHOWN)
        stored, shown, top = await self._kv.run(all_rows, all_names, self._board.top(1000))
        rows, names = _decoded(stored), _decoded(shown)
        solved = {entry.member: int(entry.score) for entry in top}
        people = [
            {"name": names[own], "solved": solved.get(own, 0)} | json.loads(rows.get(own, "{}"))
            for own in names
        ]
        people.sort(key=lambda one: (-one["solved"], str(one["name"]).casefold()))
        catalogue = [{"number": e.number, "title": e.title} for e in exercises.every()]
        return {
            "code": self._code,
            "people": people,
            "exercises": catalogue,
            "predictions": _distributed(people),
            **await self.openings(),
        }


_NAMES, _SHOWN, _ROWS, _ENDS = (Key(f"room:{part}") for part in ("names", "shown", "rows", "ends"))


def _closed_solutions() -> dict[str, bool]:
    """What can be opened, and whether it is open when the room opens."""
    numbers = [exercise.number for exercise in exercises.every()]
    hints = {f"{_HINTS}-{number}": True for number in numbers}
    return hints | {f"{_SOLUTION}-{number}": False for number in numbers}


def _distributed(people: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each question with its answers, the most frequent first."""
    answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    right: defaultdict[str, set[str]] = defaultdict(set)
    words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for person in people:
        for question, given in person.get("predictions", {}).items():
            answers[question][given["answer"]] += 1
            words[question][given["words"]] += 1  # what most of them were asked
            if given["right"]:
                right[question].add(given["answer"])
    return [
        {
            "question": question,
            "words": words[question].most_common(1)[0][0],
            "answers": [
                {"answer": answer, "count": count, "right": answer in right[question]}
                for answer, count in counted.most_common(12)
            ],
        }
        for question, counted in sorted(answers.items())
    ]


def _decoded(reply: Sequence[bytes]) -> dict[str, str]:
    return {k.decode(): v.decode() for k, v in zip(reply[::2], reply[1::2], strict=True)}


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())
