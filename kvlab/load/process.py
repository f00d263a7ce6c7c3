"""What the users of one process share in one run: settings, executor, arrivals and evidence.

In an open loop (``--rate``) the users of a process share one stream of arrivals: the next free
user takes the next arrival.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import Any, Generic, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import kvlab
from kvlab.load.arrivals import SHAPES, Arrivals
from kvlab.load.evidence import Evidence, Facts
from kvlab.load.settings import LoadSettings
from kvlab.load.target.connections import load_client

RETRIES = 10
"""redis-py's default."""

S = TypeVar("S", bound=LoadSettings)
F = TypeVar("F", bound=Facts)


class Process(Generic[S, F]):
    """``numbers`` counts whatever the users of this process must tell apart."""

    def __init__(self, settings: S, evidence: Evidence[F]) -> None:
        self.settings = settings
        self.evidence = evidence
        self.numbers = itertools.count()
        self.arrivals: Arrivals | None = None
        self._users = 0
        self._connecting = threading.Lock()
        self._kv: kvlab.Kv | None = None
        self._naive: redis.Redis | None = None
        self._cpu_before = self._began = 0.0

    @property
    def kv(self) -> kvlab.Kv:
        """The executor, made at its first use."""
        with self._connecting:
            if self._kv is None:
                self._kv = kvlab.Kv(self._client(retries=0), prefix=self.settings.prefix)
            return self._kv

    @property
    def naive_client(self) -> redis.Redis:
        """A client that retries a failed command, as ``redis.Redis()`` does, but without pauses."""
        with self._connecting:
            if self._naive is None:
                self._naive = self._client(retries=RETRIES)
            return self._naive

    def _client(self, retries: int) -> redis.Redis:
        retry = Retry(NoBackoff(), retries)
        return load_client(self.settings.store, retry=retry, lose_every=self.settings.lose_replies)

    def begin(self) -> None:
        """The run begins: start the arrivals of an open loop."""
        self._cpu_before, self._began = time.process_time(), time.time()
        if self.settings.rate:
            self.arrivals = Arrivals(
                self.settings.rate,
                time.perf_counter(),
                seed=os.getpid(),
                shape=SHAPES[self.settings.shape],
                seconds=self.settings.seconds,
            )

    def enlist(self, users: int) -> None:
        """``users`` more (or fewer) take their part of the arrivals."""
        self._users += users
        if self.arrivals is not None and self._users:
            rate = self.settings.rate * self._users / (self.settings.users or self._users)
            self.arrivals.change(rate, time.perf_counter())

    def end(self) -> float:
        """The run is over: note the arrivals that were never sent; the share of a core used."""
        if self.arrivals is not None:
            ahead = time.time() - time.perf_counter()
            for due in self.arrivals.never_sent(time.perf_counter()):
                self.evidence.due(due + ahead)
        return (time.process_time() - self._cpu_before) / (time.time() - self._began)

    def close(self) -> None:
        """Close every connection."""
        if self._kv is not None:
            self._kv.close()
            self._kv.client.close()
        if self._naive is not None:
            self._naive.close()


def process_of(environment: Any) -> Process[Any, Any]:
    """What the users of ``environment`` share, as :func:`share` set it."""
    process: Process[Any, Any] = environment.kvlab_process
    return process


def share(environment: Any, process: Process[Any, Any]) -> None:
    """Let the users of ``environment`` find their ``process``."""
    environment.kvlab_process = process
