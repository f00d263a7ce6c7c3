"""When the run of one process with users begins and ends: warm-up, run, drain.

Locust's own timer would stop users in the middle of their calls, and its stop would stand in the
way of calls under way: ``inspect.stack()`` reads source files for 50 ms. So the users end their
calls first, and Locust stops users that have ended already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent

from kvlab.load.process import Process

if TYPE_CHECKING:
    from locust.env import Environment

WARM_UP = 10.0
"""Seconds after which a run begins although not every user is warm."""
_POLL = 0.005


class Phases:
    """The phases of the runs of a process; one run at a time.

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

    def _run(self, process: Process[Any, Any]) -> None:
        self._wait_until(lambda: self._is_warm(process), WARM_UP)
        process.start()
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
        process.finish()
        self._wait_until(lambda: not process.under_way, process.settings.stop_timeout)
        self._environment.stop_timeout = 0  # Locust need not wait once more

    def _wait_until(self, condition: Callable[[], bool], most: float) -> None:
        deadline = time.monotonic() + most
        while not condition() and time.monotonic() < deadline:
            gevent.sleep(_POLL)
