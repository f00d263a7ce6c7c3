"""What the load tests share: a user that records honest times, and a run with a verdict.

Locust rounds response times below 100 ms to whole milliseconds, so a call of 0.3 ms counts as 0,
and it counts from when a call began, not from when it was due. Its own tables stay usable; what
is judged and reported comes from recorders of our own, merged over all workers.

In each process, users share one executor. In an open loop (``--rate``) they also share one stream
of arrivals: whoever is free takes the next, and its latency counts from the moment it was due.
"""

from __future__ import annotations

import itertools
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.monkey
import redis
from gevent.pool import Group
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

import kvlab
from kvlab.core.connections import MAX_CONNECTIONS
from kvlab.errors import KvlabError, ServerUnavailable
from kvlab.load.arrivals import SHAPES, Arrivals
from kvlab.load.evidence import Evidence
from kvlab.load.http_target import HttpTarget, is_http

PREFIX = "kvlab:load"
NOOP_SECONDS = 0.3
OVER = "the run was over before the answer came"
RETRIES = 10
"""redis-py's default."""
_EARLY = 0.0015
"""Timers of gevent are late by up to a millisecond: the last stretch is waited for by yielding."""

_poll = gevent.monkey.get_original("select", "poll")


class _LoadConnection(AbstractConnection):
    """A connection of a load run.

    With ``lose_every`` n, each n-th answer is lost on its way: the server has done the command,
    and its client gets a ConnectionError.
    """

    def __init__(self, *args: Any, lose_every: int = 0, **kwargs: Any) -> None:
        self._lose_every, self._answers, self._greeting = lose_every, itertools.count(1), False
        super().__init__(*args, **kwargs)

    def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        self._greeting = True
        try:
            super().connect_check_health(*args, **kwargs)
        finally:
            self._greeting = False

    def can_read(self, timeout: float = 0) -> bool:
        """Whether bytes have come. gevent's poll, made for waiting, costs a fifth of a call."""
        if timeout or self._sock is None:
            return super().can_read(timeout)
        now = _poll()
        now.register(self._sock, select.POLLIN)
        return bool(now.poll(0))

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        lost = self._lose_every and not self._greeting
        if lost and next(self._answers) % self._lose_every == 0:
            super().read_response(*args, **kwargs)
            AbstractConnection.disconnect(self)
            raise redis.ConnectionError("the connection was lost before the answer came")
        return super().read_response(*args, **kwargs)


class _Tcp(_LoadConnection, redis.Connection): ...


class _Tls(_LoadConnection, redis.SSLConnection): ...


class _Unix(_LoadConnection, redis.UnixDomainSocketConnection): ...


_CONNECTIONS = {"unix": _Unix, "rediss": _Tls}


class Process:
    """What the users of one process share in one run.

    ``given.kvlab`` is what the process that judges tells the others, beside the options:
    ``store``, a URL; ``prefix``, of the keys; ``users``, how many in all; ``seconds``, the length
    of the run or None; ``width``, the seconds of an interval of its timeline; ``tag``, a number
    that no other run has; ``late``, the seconds after a client gave up in which its command may
    still run.
    """

    def __init__(self, environment: Any, evidence: Evidence) -> None:
        self.environment = environment
        self.given = environment.parsed_options
        self.evidence = evidence
        self.numbers = itertools.count()
        self.arrivals: Arrivals | None = None
        self._users = 0
        self._connecting = threading.Lock()
        self._kv: kvlab.Kv | None = None
        self._naive: redis.Redis | None = None
        self._cpu = self._since = 0.0

    @property
    def http_url(self) -> str | None:
        """The app's, when the load goes through one."""
        host: str | None = self.environment.host
        return host if is_http(host) else None

    @property
    def kv(self) -> kvlab.Kv:
        """The executor, made when first asked for."""
        with self._connecting:
            if self._kv is None:
                self._kv = kvlab.Kv(
                    self._client(retry=Retry(NoBackoff(), 0)), prefix=self.given.kvlab["prefix"]
                )
            return self._kv

    @property
    def naive_client(self) -> redis.Redis:
        """A client that sends again what failed, as ``redis.Redis()`` does; without its pauses."""
        with self._connecting:
            if self._naive is None:
                self._naive = self._client(retry=Retry(NoBackoff(), RETRIES))
            return self._naive

    def _client(self, retry: Retry) -> redis.Redis:
        url = self.given.kvlab["store"]
        pool = redis.ConnectionPool.from_url(
            url,
            connection_class=_CONNECTIONS.get(url.partition(":")[0], _Tcp),
            lose_every=self.given.lose_replies,
            max_connections=MAX_CONNECTIONS,
            retry=retry,
        )
        return redis.Redis(connection_pool=pool)

    def begin(self) -> None:
        """The run begins."""
        self._cpu, self._since = time.process_time(), time.time()
        if self.given.rate:
            self.arrivals = Arrivals(
                self.given.rate,
                time.perf_counter(),
                seed=os.getpid(),
                shape=SHAPES[self.given.shape],
                seconds=self.given.kvlab["seconds"],
            )

    def enlist(self, users: int) -> None:
        """So many more users are here, who take their part of the arrivals."""
        self._users += users
        if self.arrivals is not None and self._users:
            rate = self.given.rate * self._users / self.given.kvlab["users"]
            self.arrivals.change(rate, time.perf_counter())

    def end(self) -> None:
        """The run is over: note what is only known now."""
        if self.arrivals is not None:
            ahead = time.time() - time.perf_counter()
            for due in self.arrivals.overdue(time.perf_counter()):
                self.evidence.due(due + ahead)
        name = getattr(self.environment.runner, "client_id", "local")
        busy = (time.process_time() - self._cpu) / (time.time() - self._since)
        # Now and not at the begin, which would delay the users of this process.
        noop = _noop_rate(self.given, Evidence(self.evidence.facts))
        self.evidence.processes[name] = {"cpu": busy, "noop": noop}

    def close(self) -> None:
        """Close every connection."""
        if self._kv is not None:
            self._kv.close()
            self._kv.client.close()
        if self._naive is not None:
            self._naive.close()


class KvUser(User):
    """A user whose calls are timed by :meth:`timed`; ``process`` is what it shares."""

    abstract = True

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.process: Process = process_of(environment)
        self.due: float | None = None
        self.is_enlisted = False
        url = self.process.http_url
        self.http = None if url is None else HttpTarget(url)

    @property
    def kv(self) -> kvlab.Kv:
        return self.process.kv

    def prepare(self) -> None:
        """What a user needs before its first call. A KvlabError ends the user."""

    def on_start(self) -> None:
        try:
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
        if self.http is not None:
            self.http.close()

    def wait_time(self) -> float:
        """Until shortly before the next request is due; in a closed loop, that is now."""
        if self.process.arrivals is None:
            return 0.0
        self.due = self.process.arrivals.next()
        return max(0.0, self.due - time.perf_counter() - _EARLY)

    def timed(
        self, name: str, call: Callable[[], Any], unknown: Callable[[float, float], None]
    ) -> Any:
        """The result of a call, None if it failed; Locust and the recorders hear of either.

        ``unknown(began, now)``, Unix seconds, is called when the call may have had its effect or
        not: its answer never came.
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
            over = TimeoutError(OVER)
            self._count(name, start, time.perf_counter() - start, over)
            raise
        self._count(name, start, time.perf_counter() - start, problem)
        return result

    def _count(self, name: str, start: float, taken: float, problem: Exception | None) -> None:
        evidence, now = self.process.evidence, time.time()
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


def process_of(environment: Any) -> Process:
    """What the users of this process share, as :func:`share` made it."""
    process: Process = environment.kvlab_process
    return process


def share(environment: Any, process: Process) -> None:
    """Let the users of ``environment`` find their ``process``."""
    environment.kvlab_process = process


class _Idle(KvUser):
    """Calls nothing, for as long as it takes to see how often."""

    def on_start(self) -> None:
        self.until = time.perf_counter() + NOOP_SECONDS

    @task
    def nothing(self) -> None:
        self.timed("nothing", lambda: None, lambda began, now: None)
        if time.perf_counter() > self.until:
            raise StopUser


def _noop_rate(given: Any, evidence: Evidence) -> float:
    """How many calls a second a user here can make when a call does nothing.

    The same loop, recorders and events as in a run, in an environment of its own.
    """
    alone = Environment(parsed_options=given, user_classes=[_Idle])
    alone.create_local_runner()
    share(alone, Process(alone, evidence))
    began = time.perf_counter()
    _Idle(alone).start(Group()).join()
    return evidence.calls / (time.perf_counter() - began)
