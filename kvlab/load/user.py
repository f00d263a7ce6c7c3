"""A user whose calls are timed from their intended start.

Locust rounds response times below 100 ms to whole milliseconds, so that a call of 0.3 ms counts as
0, and it times a call from its start, not from its intended start. Locust's own tables stay
usable. The verdict and the report use our own recorders, merged over all workers.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import gevent
from locust import LoadTestShape, User
from locust.exception import StopUser

import kvlab
from kvlab.errors import InvalidArgument, KvlabError, ServerUnavailable
from kvlab.load.arrivals import SHAPES
from kvlab.load.process import Process, process_of
from kvlab.load.target.app_client import AppClient

CUT_OFF = "the run was over before the answer came"
_EARLY = 0.0015
"""Timers of gevent are late by up to a millisecond: a user spends the last stretch yielding."""


class KvUser(User):
    """A user whose calls go through :meth:`timed`; ``process`` is what it shares with others."""

    abstract = True

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.process: Process[Any, Any] = process_of(environment)
        self.due: float | None = None
        self.is_enlisted = False
        url = self.process.settings.app_url
        self.app = None if url is None else AppClient(url)

    @property
    def kv(self) -> kvlab.Kv:
        return self.process.kv

    def prepare(self) -> None:
        """Make what a user needs before its first call. A KvlabError ends the user."""

    def on_start(self) -> None:
        try:
            if self.process.settings.refused:
                raise InvalidArgument(self.process.settings.refused)
            self.prepare()
        except KvlabError as problem:
            self.environment.events.user_error.fire(
                user_instance=self, exception=problem, tb=problem.__traceback__
            )
            raise StopUser from None
        self.process.enlist(+1)
        self.is_enlisted = True
        User.wait(self)

    def on_stop(self) -> None:
        self.process.enlist(-self.is_enlisted)
        if self.app is not None:
            self.app.close()

    def wait_time(self) -> float:
        """Seconds until shortly before the next request is due; 0 in a closed loop."""
        if self.process.arrivals is None:
            return 0.0
        self.due = self.process.arrivals.next()
        return max(0.0, self.due - time.perf_counter() - _EARLY)

    def timed(
        self, name: str, call: Callable[[], Any], unknown: Callable[[float, float], None]
    ) -> Any:
        """The result of a call, None if the call failed; both are recorded.

        ``unknown(began, now)``, Unix seconds, runs when the call may or may not have had its
        effect, because its answer never came.
        """
        while self.due is not None and time.perf_counter() < self.due:
            gevent.sleep(0)
        result: Any = None
        problem: Exception | None = None
        start, began = time.perf_counter(), time.time()
        try:
            result = call()
        except ServerUnavailable as raised:
            problem = raised  # nothing was sent
        except Exception as raised:  # of the store, the app, or a bug: counted, never hidden
            problem = raised
            unknown(began, time.time())
        except gevent.GreenletExit:  # the run is over and waits no longer
            unknown(began, time.time())
            self._count(name, start, TimeoutError(CUT_OFF))
            raise
        self._count(name, start, problem)
        return result

    def _count(self, name: str, start: float, problem: Exception | None) -> None:
        taken, now = time.perf_counter() - start, time.time()
        evidence = self.process.evidence
        if self.due is not None:
            late, self.due = start - self.due, None
            evidence.due(now - taken - late)
            taken += late
        evidence.record(name, now, taken, problem)
        self.environment.events.request.fire(
            request_type="kv",
            name=name,
            response_time=taken * 1e3,
            response_length=0,
            exception=problem,
            context={},
        )


class UserShape(LoadTestShape):
    """How many users a closed loop has over time, for Locust.

    ``options`` are Locust's parsed options, which Locust's page may change between two runs.
    """

    def __init__(self, options: Namespace) -> None:
        LoadTestShape.__init__(self)
        self._options = options

    def tick(self) -> tuple[int, float] | None:
        """The users from now on and how many may start in a second; None at the end."""
        share = LoadTestShape.get_run_time(self) / self._options.run_time
        if share >= 1:
            return None
        users = max(1, round(self._options.num_users * SHAPES[self._options.shape](share)))
        return users, max(users, 100)
