"""The visitors of the app in a soak: each knows what it did, and notes what cannot be true."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from kvlab.load.soak.browser import Answer, Browser
from kvlab.load.soak.diary import Diary

NO_500 = "the app answers every request, and none with 500"
LOG_OUTS = "a log-out wins"
SESSIONS = "a session lives until its log-out"
PROFILES = "a profile never goes back"
SCORES = "a score counts once"

_PATIENT = 0.05  # seconds before a request is repeated


class Visitor:
    """One customer of the sample app, with one connection. ``clock``: seconds of the run."""

    def __init__(self, number: int, url: str, seed: int, diary: Diary, clock: Callable[[], float]):
        self._user, self._random = f"c{number}", random.Random(f"{seed} visitor {number}")
        self._number, self._diary, self._clock = number, diary, clock
        self._browser = Browser(url, f"10.0.0.{number}")
        self._url = url
        self._version = self._score = 0
        self._ended: list[str] = []

    async def live(self, until: asyncio.Event) -> None:
        """Act at random until the event is set."""
        acts = [self._work, self._profile, self._submit, self._session, self._flags, self._hang_up]
        while not until.is_set():
            await self._random.choice(acts)()
            await asyncio.sleep(self._random.uniform(0, 0.05))

    async def look_back(self) -> None:
        """When every fault is healed: all that was promised before must still be so."""
        await self._submit()
        answer = await self._ask("rank", "GET", f"/api/board/rank?member={self._user}", {200})
        if answer is not None:
            self._must(SCORES, answer.body["score"] == self._score, f"{answer} {self._score}")
        await self._profile()
        for cookie in self._ended:
            await self._is_out(cookie)
        self._browser.close()

    async def _work(self) -> None:
        for _ in range(self._random.randrange(1, 8)):
            began = time.time()
            answer = await self._ask("work", "POST", "/api/work", {200, 429, 503})
            if answer is not None and answer.status == 200:
                call = (answer.body["decided_at"], began, time.time())
                self._diary.admitted[self._browser.address].append(call)

    async def _hang_up(self) -> None:
        try:
            await self._browser.hang_up("POST", "/api/work")
        except OSError as problem:
            self._diary.wrong[NO_500].append(f"hung up: {problem!r}")

    async def _profile(self) -> None:
        answer = await self._ask("profile", "GET", f"/api/profiles/{self._number}", {200, 503})
        if answer is not None and answer.status == 200:
            version = answer.body["version"]
            self._must(PROFILES, version >= self._version, f"{version} after {self._version}")

    async def _flags(self) -> None:
        await self._ask("flags", "GET", "/api/flags", {200})  # the defaults without a store

    async def _submit(self) -> None:
        """Add 1 to the score: the same request until its outcome is known."""
        body = {"member": self._user, "score": 1, "mode": "add"}
        key = f"{self._random.getrandbits(64):x}"
        while True:
            path = "/api/board/scores"
            answer = await self._ask("score", "POST", path, {200, 503}, body, Idempotency_Key=key)
            if answer is None:
                return
            if answer.status == 200:
                self._score += 1
                score = answer.body["entry"]["score"]
                self._must(SCORES, score == self._score, f"{score}, not {self._score}")
                return
            await asyncio.sleep(_PATIENT)

    async def _session(self) -> None:
        # Log-ins are limited by address: this visitor moves on with each.
        a, b = self._random.randrange(1, 256), self._random.randrange(256)
        self._browser.address = f"10.{a}.{b}.{self._number}"
        login = await self._ask("login", "POST", "/api/login", {200, 503}, {"user": self._user})
        self._browser.address = f"10.0.0.{self._number}"
        if login is None or login.cookie is None:
            return
        cookie = login.cookie
        for _ in range(self._random.randrange(4)):
            await self._random.choice([self._look, self._rename])(cookie)
        await self._log_out(cookie)
        self._ended.append(cookie)
        await self._is_out(self._random.choice(self._ended))

    async def _look(self, cookie: str) -> None:
        answer = await self._ask("me", "GET", "/api/me", {200, 503}, cookie=cookie)
        if answer is not None and answer.status == 200:
            self._must(SESSIONS, answer.body["user"] == self._user, f"{answer}")

    async def _rename(self, cookie: str) -> None:
        path, name = f"/api/profiles/{self._number}", {"name": f"n{self._random.random()}"}
        answer = await self._ask("rename", "PUT", path, {200, 503}, name, cookie=cookie)
        if answer is not None and answer.status == 200 and answer.body["cached"]:
            self._version = max(self._version, answer.body["version"])

    async def _log_out(self, cookie: str) -> None:
        """While another tab changes the same session: a change on its way must not revive it."""
        tab, theme = Browser(self._url, self._browser.address), {"theme": "dark"}
        change = self._ask("theme", "PUT", "/api/theme", {200, 429, 503}, theme, tab, cookie=cookie)
        other = asyncio.create_task(change)
        while True:
            answer = await self._ask("logout", "POST", "/api/logout", {200, 503}, cookie=cookie)
            if answer is None or answer.status == 200:
                break
            await asyncio.sleep(_PATIENT)
        await other
        tab.close()

    async def _is_out(self, cookie: str) -> None:
        answer = await self._ask("me", "GET", "/api/me", {200, 503}, cookie=cookie)
        if answer is not None and answer.status == 200:
            self._must(LOG_OUTS, answer.body["user"] is None, f"{answer} after a log-out")

    async def _ask(
        self,
        route: str,
        method: str,
        path: str,
        expected: set[int],
        body: Any = None,
        browser: Browser | None = None,
        **headers: Any,
    ) -> Answer | None:
        """The answer; None, and a note, if there is none or if its status is not expected."""
        began = self._clock()
        try:
            answer = await (browser or self._browser).ask(method, path, body, **headers)
        except (OSError, EOFError) as problem:
            self._must(NO_500, False, f"{method} {path}: no answer: {problem!r}")
            return None
        self._diary.answered(route, answer.status, began, self._clock())
        said = f"{method} {path}: {answer.status} {answer.body}"
        return answer if self._must(NO_500, answer.status in expected, said) else None

    def _must(self, promise: str, kept: bool, seen: str) -> bool:
        self._diary.done[promise] += 1
        if not kept:
            self._diary.wrong[promise].append(f"{self._clock():.2f} s, {self._user}: {seen}")
        return kept
