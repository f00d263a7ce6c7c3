"""Workers and their master: the settings that the master sends, the evidence that workers report.

A worker reports its evidence with Locust's own reports, every few seconds, and the rest at its
end. A master without the evidence of every worker gives no verdict.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner

from kvlab.errors import InvalidArgument
from kvlab.load.evidence import Evidence
from kvlab.load.generator.user import end_process
from kvlab.load.options import ExitCode
from kvlab.load.process import WARM_UP, Phases, Process, process_of, share
from kvlab.load.settings import LoadSettings
from kvlab.load.verdict import LoadTest

PATIENCE = 10.0
"""Seconds beyond the stop timeout that the master waits for the last report of a worker."""
STOP, BEGUN, LAST_REPORT, REPORT = "kvlab stop", "kvlab begun", "kvlab last report", "kvlab"


def send_settings(environment: Environment, settings: LoadSettings) -> None:
    """Let Locust hand the settings to each worker that starts users from now on."""
    assert environment.parsed_options is not None
    environment.parsed_options.kvlab_settings = settings.to_dict()


class Worker:
    """The life of a worker. Locust's events call its methods."""

    def __init__(self, test: LoadTest[Any, Any], environment: Environment) -> None:
        assert environment.runner is not None
        self._test, self._environment = test, environment
        self._runner: Any = environment.runner
        self._beside: gevent.Greenlet | None = None
        self._has_ended, self._is_spared = True, False
        self._phases = Phases(environment, self._say_begun, self._runner.stop)
        on = environment.events
        on.test_start.add_listener(self.on_test_start)
        on.test_stop.add_listener(self.on_test_stop)
        on.report_to_master.add_listener(self.on_report)
        environment.runner.register_message(STOP, self.on_stop_message)

    @property
    def _process(self) -> Process[Any, Any] | None:
        return getattr(self._environment, "kvlab_process", None)

    def on_test_start(self, **_: Any) -> None:
        """Begin a run with the settings that the master has sent."""
        options: Any = self._environment.parsed_options
        try:
            settings = self._test.settings.from_dict(options.kvlab_settings)
        except InvalidArgument as problem:
            print(f"kvlab: {problem}", file=sys.stderr, flush=True)
            os._exit(ExitCode.USAGE)  # Locust would go on, and its users are others
        evidence = Evidence(self._test.facts(settings), settings.interval)
        process = Process(settings, evidence)
        self._has_ended, self._is_spared = False, True
        share(self._environment, process)
        self._phases.begin(process)

    def _say_begun(self, moment: float) -> None:
        self._runner.send_message(BEGUN, moment)
        process = process_of(self._environment)
        self._beside = gevent.spawn(self._test.beside, process)

    def outlives_interrupt(self) -> bool:
        """Whether a run has begun in which nobody has asked this before."""
        spared, self._is_spared = self._is_spared and not self._has_ended, False
        return spared

    def on_report(self, client_id: str, data: dict[str, Any]) -> None:
        """Add the evidence since the last report to a report of Locust."""
        if self._process is not None:
            data[REPORT] = self._seen(self._process)

    def on_stop_message(self, **_: Any) -> None:
        """Stop the users, because the master ends."""
        self._runner.stop()

    def on_test_stop(self, **_: Any) -> None:
        """End the run and send the rest of the evidence, once: both sides may stop a run."""
        if self._has_ended:
            return
        self._has_ended = True
        process = process_of(self._environment)
        gevent.killall([self._beside] if self._beside is not None else [])
        end_process(process, self._runner.client_id, self._test.bare(process))
        self._runner.send_message(LAST_REPORT, self._seen(process))
        process.close()

    def _seen(self, process: Process[Any, Any]) -> dict[str, Any]:
        seen = process.evidence
        process.evidence = Evidence(self._test.facts(process.settings), seen.width)
        return seen.to_dict()


class Workers:
    """The workers as their master knows them. ``on_begun``: the first of them has begun its run."""

    def __init__(self, environment: Environment, on_begun: Callable[[float], None]) -> None:
        assert isinstance(environment.runner, MasterRunner)
        self._environment, self._runner = environment, environment.runner
        self._expected: set[str] = set()
        self._unreadable = 0
        self._on_begun, self._have_begun = on_begun, False
        environment.events.worker_report.add_listener(self.on_report)
        self._runner.register_message(BEGUN, self.on_begun_message)
        self._runner.register_message(LAST_REPORT, self.on_last_report)

    @property
    def _evidence(self) -> Evidence[Any]:
        return process_of(self._environment).evidence

    def begin(self) -> None:
        """A run begins: evidence is due from every worker that is ready now."""
        self._expected = self.ready()
        self._unreadable, self._have_begun = 0, False

    def ready(self) -> set[str]:
        """The workers that the next run will have."""
        return {client.id for client in self._runner.clients.ready}

    def on_begun_message(self, msg: Any, **_: Any) -> None:
        """A worker's users are warm."""
        if not self._have_begun:
            self._have_begun = True
            self._on_begun(msg.data)

    def on_report(self, client_id: str, data: dict[str, Any]) -> None:
        """Take the evidence out of a report of Locust."""
        if REPORT in data:
            self._add(data[REPORT])

    def on_last_report(self, msg: Any, **_: Any) -> None:
        """Take the rest of a worker's evidence."""
        self._add(msg.data)

    def _add(self, data: dict[str, Any]) -> None:
        is_read = False
        try:
            self._evidence.add(data)
            is_read = True
        finally:  # Locust logs an exception and continues
            self._unreadable += not is_read

    def wait(self, seconds: float, stop_timeout: float) -> None:
        """Wait for the last reports of a run of ``seconds``; every worker ends its own run."""
        gevent.sleep(seconds)
        self._wait(WARM_UP + stop_timeout + PATIENCE)

    def collect(self, stop_timeout: float) -> None:
        """Stop the workers, and wait until every worker has sent its last report or is gone.

        When Locust quits, Locust ends the test in the master before it stops the workers.
        """
        self._runner.send_message(STOP)
        self._wait(stop_timeout + PATIENCE)

    def _wait(self, most: float) -> None:
        deadline = time.monotonic() + most
        while time.monotonic() < deadline:
            clients = self._runner.clients.all
            if not self._silent & {one.id for one in clients if one.state != STATE_MISSING}:
                return
            gevent.sleep(0.05)

    @property
    def _silent(self) -> set[str]:
        return self._expected - self._evidence.processes.keys()

    def missing(self) -> str | None:
        """Which evidence is missing. A part of the evidence is no ground for a verdict."""
        if self._unreadable:
            return f"{self._unreadable} reports of workers were unreadable: another version?"
        if silent := self._silent:
            return f"{len(silent)} of {len(self._expected)} workers never said what their users saw"
        return None
