"""The users of the rate limiter's load test."""

from __future__ import annotations

import ipaddress
import random
import time
from functools import partial

from locust import task

from kvlab.load.process import Process
from kvlab.load.rate_limiter.decisions import Decisions
from kvlab.load.rate_limiter.settings import CONTROL_EVERY, LimiterSettings
from kvlab.load.target.app_client import AppClient
from kvlab.load.user import KvUser
from kvlab.rate_limiting import NaiveSlidingWindow

_DECIDED = (200, 429)
"""The statuses of an app that has decided."""


class RateLimited(KvUser):
    """Calls the limiter, key by key at random."""

    process: Process[LimiterSettings, Decisions]

    def prepare(self) -> None:
        settings = self.settings = self.process.settings
        number = next(self.process.numbers)
        is_control = settings.control and number % CONTROL_EVERY == CONTROL_EVERY - 1
        if settings.naive or is_control:
            self.hit_key = self._hit_naive
            self.naive = NaiveSlidingWindow(
                self.process.naive_client,
                settings.limit,
                int(settings.window * 1000),
                self.kv.prefix,
            )
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
            self.decisions.decided(key, decision.at, allowed=decision.allowed)

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
            self.decisions.decided(key, decision["decided_at"], allowed=decision["allowed"])

    def _hit_naive(self, number: int) -> None:
        key = f"naive-{number}"
        began = time.time()
        if self.timed("naive hit", lambda: self.naive.check(key), lambda *_: None):
            self.decisions.admitted_within(key, began, time.time())


def _address(tag: int, number: int) -> str:
    """A client address in a /64 that no other key and no other run uses."""
    return str(ipaddress.IPv6Address((0xFD << 120) | (tag % 2**32 << 88) | (number << 64) | 1))
