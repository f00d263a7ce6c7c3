"""The users of the rate limiter's load test."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import redis
from locust import task

from kvlab.load.generator.user import KvUser
from kvlab.load.process import WARM_UP, Process
from kvlab.load.rate_limiter.decisions import Decisions
from kvlab.load.rate_limiter.settings import CONTROL_EVERY, LimiterSettings
from kvlab.load.target.app_client import AppClient
from kvlab.rate_limiting import NaiveSlidingWindow

_DECIDED = (200, 429)
"""The statuses of an app that has decided."""
_MOST_FILLED = 200
"""Admissions that are made in the warm-up so that a naive limiter has one place left."""


class RateLimited(KvUser):
    """Calls the limiter, key by key at random."""

    process: Process[LimiterSettings, Decisions]

    def prepare(self) -> None:
        settings = self.settings = self.process.settings
        is_control = settings.control and self.number % CONTROL_EVERY == CONTROL_EVERY - 1
        if settings.naive or is_control:
            self.hit_key = self._hit_naive
            self.naive = _naive(self.process)
        elif self.app is not None:
            self.hit_key = partial(self._hit_app, self.app)
        else:
            self.hit_key = self._hit
            self.limiter = settings.limiter()

    @property
    def decisions(self) -> Decisions:
        """Read anew at each call: a worker reports its decisions and starts an empty record."""
        return self.process.evidence.facts

    @task
    def hit(self) -> None:
        self.hit_key(random.randrange(self.settings.keys))

    def _hit(self, number: int) -> None:
        key = f"client-{number}"
        decision = self.timed(
            "hit",
            lambda: self.kv.run(self.limiter.hit(key)),
            partial(self._note_unknown, key),
        )
        if decision is not None:
            self._note(key, decision.at, decision.allowed)

    def _note(self, key: str, at: float, allowed: bool) -> None:
        self.decisions.decided(key, at, self.began, time.time(), allowed=allowed)

    def _note_unknown(self, key: str, began: float, now: float) -> None:
        self.decisions.unknown(key, began, now + self.settings.late)

    def _hit_app(self, app: AppClient, number: int) -> None:
        key = _address(self.settings.tag, number)
        decision = self.timed(
            "POST /api/work",
            lambda: app.post("/api/work", headers={"X-Forwarded-For": key}, expected=_DECIDED),
            partial(self._note_unknown, key),
        )
        if decision is not None and decision["decided_at"] is not None:
            self._note(key, decision["decided_at"], decision["allowed"])

    def _hit_naive(self, number: int) -> None:
        if self.is_cold:
            self._race()
        else:
            self._check(self.naive, f"naive-{number}")

    def _check(self, naive: NaiveSlidingWindow, key: str) -> None:
        allowed = self.timed("naive hit", lambda: naive.check(key), lambda *_: None)
        if allowed is not None:
            self.decisions.decided_within(key, self.began, time.time(), allowed=allowed)

    def _race(self) -> None:
        """The first call: all naive users of the process count before any of them adds.

        So the naive limiter fails in every run, and not only in most. Before, its window is filled
        up but for one place.
        """
        process, key = self.process, f"naive-first-{os.getpid()}"
        process.everybody.wait(WARM_UP)
        meeting = process.meeting(process.joined // (CONTROL_EVERY if self.settings.control else 1))
        with contextlib.suppress(threading.BrokenBarrierError, redis.RedisError):
            self.naive.client.ping()
            if meeting.wait() == 0:
                self._fill(key)
            meeting.wait()
        waiting: Any = _Waiting(self.naive.client, meeting)
        self._check(replace(self.naive, client=waiting), key)

    def _fill(self, key: str) -> None:
        for _ in range(min(self.settings.limit, _MOST_FILLED) - 1):
            began = time.time()
            allowed = self.naive.check(key)
            self.decisions.decided_within(key, began, time.time(), allowed=allowed)


class _Waiting:
    """A client of the naive limiter that waits for the others before it adds."""

    def __init__(self, client: redis.Redis, meeting: threading.Barrier) -> None:
        self._client, self._meeting = client, meeting

    def zadd(self, *arguments: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            self._meeting.wait()
        return self._client.zadd(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def _naive(process: Process[LimiterSettings, Decisions]) -> NaiveSlidingWindow:
    limit, window = process.settings.limit, int(process.settings.window * 1000)
    return NaiveSlidingWindow(process.naive_client, limit, window, process.kv.prefix)


def bare_hit(process: Process[LimiterSettings, Decisions]) -> Callable[[], object]:
    """A hit of the kind that the users make, on a key of its own."""
    settings = process.settings
    if settings.naive:
        return partial(_naive(process).check, "bare")
    if settings.app_url is not None:
        headers = {"X-Forwarded-For": _address(settings.tag, settings.keys)}
        post = AppClient(settings.app_url).post
        return lambda: post("/api/work", headers=headers, expected=_DECIDED)
    limiter = settings.limiter()
    return lambda: process.kv.run(limiter.hit("bare"))


def _address(tag: int, number: int) -> str:
    """A client address in a /64 that no other key and no other run uses."""
    return str(ipaddress.IPv6Address((0xFD << 120) | (tag % 2**32 << 88) | (number << 64) | 1))
