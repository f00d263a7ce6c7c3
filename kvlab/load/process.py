"""What the users of one process share in one run: settings, executor, arrivals and evidence.

A run has three phases:

1. Warm-up: each user makes one call, which opens its connection and loads its script. The call is
   judged, and left out of the figures.
2. The run: ``settings.seconds`` from the moment at which every user is warm.
3. Drain: no call begins; calls under way finish. Such a call is in the figures, with its whole
   latency and in the last interval: without these calls the figures would be too good.

In an open loop (``--rate``) the users of a process share one stream of arrivals: the next free
user takes the next arrival. Every arrival of the run is counted as due, sent or not.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import gevent
import redis
from gevent.event import Event
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry

import kvlab
from kvlab.load.arrivals import CHANGES, SHAPES, Arrivals
from kvlab.load.evidence import Evidence, Facts
from kvlab.load.pulse import Pulse
from kvlab.load.record.parts import LATE
from kvlab.load.settings import LoadSettings
from kvlab.load.target.connections import load_client

if TYPE_CHECKING:
    from locust.env import Environment

WARM_UP = 10.0
"""Seconds after which a run begins although not every user is warm."""
_LEAVING = 0.2
"""Seconds for users who wait for nothing to end by themselves."""
_POLL = 0.005
RETRIES = 10
PAUSES = {"base": 0.01, "cap": 1.0}
"""redis-py's defaults: retries of a command, and the pauses between them, in seconds."""

S = TypeVar("S", bound=LoadSettings)
F = TypeVar("F", bound=Facts)


class Process(Generic[S, F]):
    """``numbers`` counts whatever the users of this process must tell apart.

    ``began``, ``ends``: the run, in seconds of ``clock``; infinite before the run begins.
    ``joined``, ``left``: users that have begun, and ended; ``everybody``: set when all users are
    there; ``warmed``: users that have made their first call; ``under_way``: calls without an answer
    yet.
    """

    def __init__(
        self, settings: S, evidence: Evidence[F], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.settings, self.evidence, self.clock = settings, evidence, clock
        self.numbers = itertools.count()
        self.arrivals: Arrivals | None = None
        self.everybody, self.gate = Event(), Event()
        self.began = self.ends = math.inf
        self.joined = self.left = self.warmed = self.under_way = 0
        self.cpu_share = 0.0
        self.pulse = Pulse(settings.interval)
        self._ahead = self._cpu_before = 0.0
        self._connecting = threading.Lock()
        self._meeting: threading.Barrier | None = None
        self._kv: kvlab.Kv | None = None
        self._naive: redis.Redis | None = None

    @property
    def kv(self) -> kvlab.Kv:
        """The executor, made at its first use."""
        with self._connecting:
            if self._kv is None:
                self._kv = kvlab.Kv(
                    self._client(Retry(NoBackoff(), 0)), prefix=self.settings.prefix
                )
            return self._kv

    @property
    def naive_client(self) -> redis.Redis:
        """A client that retries a failed command as ``redis.Redis()`` does, with its pauses."""
        with self._connecting:
            if self._naive is None:
                self._naive = self._client(Retry(ExponentialWithJitterBackoff(**PAUSES), RETRIES))
            return self._naive

    def _client(self, retry: Retry) -> redis.Redis:
        return load_client(self.settings.store, retry=retry, lose_every=self.settings.lose_replies)

    # --- the phases ---

    def start(self) -> None:
        """The warm-up is over: start the clock, and the arrivals of an open loop."""
        settings = self.settings
        self.began, self._cpu_before = self.clock(), time.process_time()
        self._ahead = time.time() - self.began
        self.ends = self.began + (settings.seconds or math.inf)
        if settings.rate:
            self.arrivals = Arrivals(
                settings.rate / settings.workers,
                self.began,
                seed=os.getpid(),
                shape=SHAPES[settings.shape],
                seconds=settings.seconds,
            )
        self.gate.set()

    @property
    def is_over(self) -> bool:
        """Whether no call may begin any more."""
        return self.clock() >= self.ends

    def finish(self) -> None:
        """End the run, now or when it should have ended, and count the arrivals nobody took."""
        if not self.gate.is_set():
            self.start()
        now = self.clock()
        self.cpu_share = (time.process_time() - self._cpu_before) / max(now - self.began, 1e-3)
        self.ends = min(self.ends, now)
        if self.arrivals is not None:
            for due in self.arrivals.never_sent(self.ends):
                self.count_due(due)

    def unix(self, moment: float) -> float:
        """A moment of the clock in Unix seconds."""
        return moment + self._ahead

    # --- what the users see ---

    def rest(self, number: int) -> float:
        """Seconds for which user ``number`` (from 0) of a closed loop rests from now on."""
        settings, seconds = self.settings, self.settings.seconds
        if settings.shape == "constant" or not seconds:
            return 0.0
        share = min(max((self.clock() - self.began) / seconds, 0.0), 1.0)
        here = (settings.users or 1) / settings.workers
        if number < max(1, round(here * SHAPES[settings.shape](share))):
            return 0.0
        change = next((at for at in CHANGES[settings.shape] if at > share), 1.0)
        return (change - share) * seconds

    def count_due(self, due: float) -> None:
        """Count an arrival, unless the run ended before the arrival was due."""
        if due < self.ends:
            self.evidence.due(self.unix(due))

    def record(
        self, name: str, sent: float, problem: object = None, due: float | None = None
    ) -> None:
        """Count a call of the run, which has just ended. ``due``: its intended start, if any."""
        now = self.clock()
        since, waited = (sent, None) if due is None else (due, sent - due)
        self.evidence.drained += now > self.ends
        self.evidence.record(name, self.unix(min(now, self.ends)), now - since, problem, waited)

    def keep_time(self) -> None:
        """Measure how well this process keeps time, until the greenlet is killed."""
        self.pulse.run(lambda late: self.evidence.stages[LATE].record(late))

    def meeting(self, users: int) -> threading.Barrier:
        """Where ``users`` of this process wait for each other, the same at each call."""
        if self._meeting is None:
            self._meeting = threading.Barrier(users, timeout=WARM_UP)
        return self._meeting

    def close(self) -> None:
        """Close every connection."""
        if self._kv is not None:
            self._kv.close()
            self._kv.client.close()
        if self._naive is not None:
            self._naive.close()


class Phases:
    """Leads a process through the phases of its runs; one run at a time.

    Locust's own timer would stop users in the middle of their calls, and its stop would stand in
    the way of calls under way: ``inspect.stack()`` reads source files for 50 ms. So the users end
    their calls first, and Locust stops users that have ended already.

    ``on_begun`` gets the Unix time at which the run began. ``stop`` stops Locust's run; it is
    called when no call is under way, or when ``stop_timeout`` is over.
    """

    def __init__(
        self, environment: Environment, on_begun: Callable[[float], None], stop: Callable[[], None]
    ) -> None:
        self._environment: Any = environment
        self._on_begun, self._stop = on_begun, stop
        self._process: Process[Any, Any] | None = None
        self._running: gevent.Greenlet | None = None
        self._pulse: gevent.Greenlet | None = None
        self._are_spawned = False
        environment.events.spawning_complete.add_listener(self.on_spawning_complete)
        environment.events.test_stopping.add_listener(self.on_test_stopping)

    def begin(self, process: Process[Any, Any]) -> None:
        """Locust's run has begun: its users warm up, then run, then drain."""
        self._process, self._are_spawned = process, False
        self._environment.stop_timeout = process.settings.stop_timeout
        self._running = gevent.spawn(self._run, process)

    def on_spawning_complete(self, **_: Any) -> None:
        """Locust has started all users."""
        self._are_spawned = True
        if self._process is not None:
            self._process.everybody.set()

    def _run(self, process: Process[Any, Any]) -> None:
        self._wait_until(lambda: self._is_warm(process), WARM_UP)
        process.start()
        self._pulse = gevent.spawn(process.keep_time)
        self._on_begun(process.unix(process.began))
        if process.settings.seconds:
            gevent.sleep(process.ends - process.clock())
            self.drain()
            self._stop()

    def _is_warm(self, process: Process[Any, Any]) -> bool:
        return self._are_spawned and process.warmed >= self._environment.runner.user_count

    def on_test_stopping(self, **_: Any) -> None:
        """Locust stops the run: by its page, by Ctrl-C, or because this run is over."""
        if self._running is not gevent.getcurrent() and self._running is not None:
            self._running.kill()
        self.drain()

    def drain(self) -> None:
        """End the run now, and wait until no call is under way; may be called again."""
        process, self._process = self._process, None
        if process is None:
            return
        gevent.killall([self._pulse] if self._pulse is not None else [])
        process.finish()
        self._wait_until(lambda: not process.under_way, process.settings.stop_timeout)
        # Locust complains about a user that ends while Locust stops its users.
        self._wait_until(lambda: process.left >= process.joined, _LEAVING)
        gevent.sleep(_POLL)
        self._environment.stop_timeout = 0  # Locust need not wait once more

    def _wait_until(self, condition: Callable[[], bool], most: float) -> None:
        deadline = time.monotonic() + most
        while not condition() and time.monotonic() < deadline:
            gevent.sleep(_POLL)


def process_of(environment: Any) -> Process[Any, Any]:
    """What the users of ``environment`` share, as :func:`share` set it."""
    process: Process[Any, Any] = environment.kvlab_process
    return process


def share(environment: Any, process: Process[Any, Any]) -> None:
    """Let the users of ``environment`` find their ``process``."""
    environment.kvlab_process = process
