"""A user whose calls are timed from their intended start.

Locust rounds response times below 100 ms to whole milliseconds, so that a call of 0.3 ms counts as
0, and it times a call from its start, not from its intended start. Locust's own tables stay
usable. The verdict and the report use our own recorders, merged over all workers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import gevent
import redis
from locust import User
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_STOPPING

import kvlab
from kvlab.errors import InvalidArgument, KvlabError, ServerUnavailable
from kvlab.load.evidence import CUT_OFF
from kvlab.load.process import Process, process_of
from kvlab.load.target.app_client import AppClient

_BARE, _NOOP, _MOST = 0.1, 0.03, 3.0
"""The loops after a run take these shares of its time, of which at most ``_MOST`` seconds count."""
_PING: kvlab.Op[Any] = kvlab.Op("PING")
_EARLY = 0.0015
"""Timers of gevent are late by up to a millisecond: a user spends the last stretch yielding."""


class KvUser(User):
    """A user whose calls go through :meth:`timed`; ``process`` is what it shares with others.

    ``due``: the arrival that the user has taken, in seconds of the process's clock. ``is_cold``:
    its first call has not begun. ``began``: when its last call began, in Unix seconds.
    """

    abstract = True
    due: float | None = None
    is_cold = True
    began = 0.0

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.process: Process[Any, Any] = process_of(environment)
        self.number, self.process.joined = self.process.joined, self.process.joined + 1
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

    def on_stop(self) -> None:
        self.process.left += 1
        if self.due is not None:
            self.process.count_due(self.due)  # taken, and never sent
        if self.app is not None:
            self.app.close()

    def stop(self, force: bool = False) -> bool:
        """Stop between two calls. Locust's own way may kill a user that has just begun a call."""
        if force or self.due is not None or not self.process.gate.is_set():
            return bool(super().stop(force))
        self._state = LOCUST_STATE_STOPPING
        return False

    def wait_time(self) -> float:
        """Seconds until shortly before the next call is due; 0 after the rest of a closed loop."""
        process = self.process
        process.gate.wait()
        if process.arrivals is not None and not process.is_over:
            self.due = process.arrivals.next()
            return max(0.0, min(self.due, process.ends) - process.clock() - _EARLY)
        while not process.is_over and (rest := process.rest(self.number)):
            gevent.sleep(rest)
        return 0.0

    def timed(
        self, name: str, call: Callable[[], Any], unknown: Callable[[float, float], None]
    ) -> Any:
        """The result of a call, None if the call failed; both are recorded.

        ``unknown(began, now)``, Unix seconds, runs when the call may or may not have had its
        effect, because its answer never came. Ends the user when the run is over.
        """
        process = self.process
        while self.due is not None and process.clock() < min(self.due, process.ends):
            gevent.sleep(0)
        if process.is_over:
            raise StopUser
        problem: Exception | None = None
        process.under_way += 1
        start, self.began = process.clock(), time.time()
        try:
            return call()
        except ServerUnavailable as raised:
            problem = raised  # nothing was sent
        except Exception as raised:  # of the store, the app, or a bug: counted, never hidden
            problem = raised
            unknown(self.began, time.time())
        except gevent.GreenletExit:  # the drain is over and waits no longer
            problem = TimeoutError(CUT_OFF)
            unknown(self.began, time.time())
            raise
        finally:
            self._count(name, start, problem)
            process.under_way -= 1
        return None

    def _count(self, name: str, start: float, problem: Exception | None) -> None:
        process = self.process
        since = start if self.due is None else self.due
        if self.is_cold:
            self.is_cold = False
            process.warmed += 1
            process.evidence.warm_up += 1
        else:
            process.record(name, start, problem, self.due)
        if self.due is not None:
            process.count_due(self.due)
            self.due = None
        self.environment.events.request.fire(
            request_type="kv",
            name=name,
            response_time=(process.clock() - since) * 1e3,
            response_length=0,
            exception=problem,
            context={},
        )


def end_process(process: Process[Any, Any], name: str, bare: Callable[[], object]) -> None:
    """The run is over in this process: note what is known only now. ``bare``: a call of users."""

    def ping() -> object:
        return process.kv.run(_PING)

    refused, seconds = process.settings.refused, min(_MOST, process.settings.seconds or _MOST)
    process.evidence.processes[name] = {
        "cpu": process.cpu_share,
        "busiest": max(process.pulse.busiest, process.cpu_share),
        "latest": process.pulse.latest,
        "bare": None if refused else _bare_rate(bare, _BARE * seconds),
        "noop": None if refused else _bare_rate(ping, _NOOP * seconds),
        "began": process.unix(process.began),
        "ended": process.unix(process.ends),
    }


def _bare_rate(call: Callable[[], object], seconds: float) -> float | None:
    """Calls a second of a bare loop; None when the store or the app does not answer any more."""
    answered, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        with contextlib.suppress(KvlabError, redis.RedisError, OSError):
            call()
            answered += 1
    return answered / (time.perf_counter() - began) if answered else None
