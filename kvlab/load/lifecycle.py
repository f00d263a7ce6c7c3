"""How a load test runs under Locust: its begin, what workers tell, its end.

A locust file makes a :class:`~kvlab.load.verdict.LoadTest` and calls :func:`install`. The process
without workers, or the master of workers, judges. Its exit code is 1 when a promise broke, or was
not put to a test.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.load.evidence import COARSE, Evidence, width
from kvlab.load.http_target import HttpFailed
from kvlab.load.options import Shape, add_options, check, check_port
from kvlab.load.record.report import save_with_page
from kvlab.load.record.summary import summary
from kvlab.load.surroundings import Stage
from kvlab.load.user import PREFIX, Process, process_of, share
from kvlab.load.verdict import LoadTest, recorded

WORKER_SECONDS = 10.0
"""Beyond the stop timeout: how long to wait for what a worker has to say."""
ASKED, TOLD = "kvlab stop", "kvlab told"
PARENT = "KVLAB_LOAD_PARENT"
"""The environment variable that says with whom to end."""


def install(test: LoadTest) -> None:
    """Let Locust run ``test``."""
    events.init_command_line_parser.add_listener(
        lambda parser, **_: test.options(add_options(parser))
    )
    events.init.add_listener(lambda environment, **_: _Run(test, environment))


class _Run:
    """What Locust's events call."""

    def __init__(self, test: LoadTest, environment: Environment) -> None:
        self.test, self.environment = test, environment
        self.given: Any = environment.parsed_options
        assert environment.runner is not None
        self.runner: Any = environment.runner
        self.is_worker = isinstance(self.runner, WorkerRunner)
        self.is_master = isinstance(self.runner, MasterRunner)
        self.stage: Stage | None = None
        self.app_settings: dict[str, Any] = {}
        self.users: dict[int, int] = {}
        self.began = 0.0
        self.greenlets: list[gevent.Greenlet] = []
        self.workers: set[str] = set()
        self.refused: str | None = None
        self.unread = 0
        self.said = ""
        share(environment, Process(environment, Evidence(test.facts(self.given))))
        if not self.is_worker:
            _interrupt_only(gevent.getcurrent())
            if parent := os.environ.get(PARENT):
                gevent.spawn(_end_with, int(parent), gevent.getcurrent())
            try:
                self._prepare()
            except (KvlabError, HttpFailed) as problem:
                self._closes()
                sys.exit(f"kvlab: {problem}")
        on = environment.events
        on.test_start.add_listener(self._starts)
        on.test_stop.add_listener(self._stops)
        on.quitting.add_listener(lambda **_: self._closes())
        on.quitting.add_listener(self._quits)
        on.quit.add_listener(lambda **_: self._ends())
        if self.is_worker:
            on.report_to_master.add_listener(self._tells)
            self.runner.register_message(ASKED, self._asked_to_stop)
        if self.is_master:
            on.worker_report.add_listener(self._hears)
            self.runner.register_message(TOLD, self._hears_the_end)

    @property
    def process(self) -> Process:
        return process_of(self.environment)

    # --- before the run ---

    def _prepare(self) -> None:
        given = self.given
        check(given)
        if not given.headless:
            check_port(given.web_host or "127.0.0.1", given.web_port)
        if given.shape != "constant" and not given.rate:
            self.environment.shape_class = Shape(given, self.environment.runner)
        first = self.test.first(given)
        # A prefix of its own: two load tests at once must not clear each other's keys.
        prefix = f"{PREFIX}:{time.time_ns():x}"
        self.stage = stage = Stage(given, self.environment.host, prefix)
        given.kvlab = {
            "store": stage.store,
            "prefix": prefix,
            "seconds": given.run_time,
            "late": stage.late,
        }
        self.process.kv.run(first)
        if given.app:
            self.app_settings = self.test.app_settings(given)
            stage.serve(self.app_settings)
        stage.greet()
        self.environment.host = stage.host

    # --- the run ---

    def _starts(self, **_: Any) -> None:
        given: Any = self.environment.parsed_options
        self.began = time.time()
        if not self.is_worker:
            given.kvlab |= {
                "users": given.num_users,
                "seconds": given.run_time,
                "tag": time.time_ns(),
                "width": width(given.run_time),
            }
        self.process.close()
        fresh = Process(self.environment, self._nothing_yet())
        share(self.environment, fresh)
        if not self.is_worker:
            self._starts_afresh(fresh)
        if not self.is_master and self.refused is None:
            fresh.begin()
            self.greenlets.append(gevent.spawn(self.test.beside, fresh))
        if not self.is_worker:
            self.began = time.time()
            self.greenlets.append(gevent.spawn(self._counts_users))
        if self.stage is not None and self.refused is None:
            self.greenlets += self.stage.begin()

    def _starts_afresh(self, process: Process) -> None:
        self.users, self.refused, self.unread = {}, None, 0
        if self.is_master:
            self.workers = {client.id for client in self.runner.clients.ready}
        try:
            check(process.given)
            if process.given.app and self.test.app_settings(process.given) != self.app_settings:
                raise InvalidArgument("the app keeps the options that it was started with")
            process.kv.run(self.test.first(process.given))
            process.kv.clear()
        except KvlabError as problem:
            self.refused = str(problem)  # and each user says so, when it starts

    def _counts_users(self) -> None:
        while True:
            self.users[int(time.time())] = self.runner.user_count
            gevent.sleep(0.5)

    def _stops(self, **_: Any) -> None:
        seconds = time.time() - self.began
        gevent.killall(self.greenlets)
        self.greenlets = []
        if self.stage is not None:
            self.stage.recover()
        if not self.is_master:
            self.process.end()
        if self.is_worker:
            self.runner.send_message(TOLD, self._seen())
            return
        if self.is_master:
            self._collects()
        self._reports(seconds)

    # --- between processes ---

    def _collects(self) -> None:
        """Wait until every worker has told what it saw, or is gone.

        Locust, when it quits, calls the test over before it stops the workers.
        """
        runner = self.runner
        runner.send_message(ASKED)
        patience = time.monotonic() + self.given.stop_timeout + WORKER_SECONDS
        while time.monotonic() < patience:
            silent = self.workers - self.process.evidence.processes.keys()
            if not silent & {client.id for client in runner.clients.running}:
                return
            gevent.sleep(0.05)

    def _asked_to_stop(self, **_: Any) -> None:
        self.runner.stop()

    def _nothing_yet(self) -> Evidence:
        given = self.environment.parsed_options
        told = getattr(given, "kvlab", {})  # a worker is told when the run begins
        return Evidence(self.test.facts(given), told.get("width", COARSE))

    def _seen(self) -> dict[str, Any]:
        """What this worker saw since it last said so."""
        process = self.process
        seen, process.evidence = process.evidence, self._nothing_yet()
        return seen.to_dict()

    def _tells(self, client_id: str, data: dict[str, Any]) -> None:
        data["kvlab"] = self._seen()

    def _hears(self, client_id: str, data: dict[str, Any]) -> None:
        if "kvlab" in data:
            self._takes_in(data["kvlab"])

    def _hears_the_end(self, msg: Any, **_: Any) -> None:
        self._takes_in(msg.data)

    def _takes_in(self, data: dict[str, Any]) -> None:
        is_read = False
        try:
            self.process.evidence.add(data)
            is_read = True
        finally:  # Locust logs an error, and goes on
            self.unread += not is_read

    # --- after the run ---

    def _reports(self, seconds: float) -> None:
        assert self.stage is not None
        problem = self._missing() or self.refused or self.stage.problem
        faults = self.stage.faults
        run = recorded(self.test, self.process, self.began, seconds, self.users, faults, problem)
        with contextlib.suppress(KvlabError):  # a store that is gone holds nothing of ours
            self.process.kv.clear()
        folder, holds = _unused(Path(self.given.reports), self.began, run.pattern), run.holds
        page = folder / ("run.json" if self.given.no_page else "report.html")
        said = f"\n{summary(run)}\n  report: {page}"
        try:
            if self.given.no_page:
                run.save(folder)
            else:
                save_with_page(run, folder)
        except (OSError, InvalidArgument) as failed:
            said, holds = f"\n{summary(run)}\n  NO REPORT: {failed}", False
        # Of several runs, by the web UI, one that does not hold is enough.
        self.environment.process_exit_code = self.environment.process_exit_code or int(not holds)
        if self.given.headless:
            self.said = said  # below Locust's own tables
        else:
            print(said, flush=True)

    def _missing(self) -> str | None:
        """What was seen and did not get here: a part of it is no ground for a verdict."""
        if self.unread:
            return f"{self.unread} reports of workers could not be read: of another version?"
        if silent := self.workers - self.process.evidence.processes.keys():
            return f"{len(silent)} of {len(self.workers)} workers never said what they saw"
        return None

    def _quits(self, **_: Any) -> None:
        """After Ctrl-C Locust asks for the exit code before it stops the run: stop it now."""
        if not self.is_worker:
            self.runner.stop()

    def _ends(self) -> None:
        if self.said:
            print(self.said, flush=True)
        self._closes()

    def _closes(self) -> None:
        self.process.close()
        if self.stage is not None:
            self.stage.close()


def _end_with(parent: int, main: Any) -> None:
    """End Locust when the process that started it is gone, by kill -9 too."""
    while os.getppid() == parent:
        gevent.sleep(1)
    gevent.get_hub().loop.run_callback(main.throw, KeyboardInterrupt)


def _interrupt_only(main: Any) -> None:
    """Let Ctrl-C end Locust's main greenlet, not whichever runs: that would be a user's call."""

    def interrupt() -> None:
        gevent.get_hub().loop.run_callback(main.throw, KeyboardInterrupt)

    gevent.signal_handler(signal.SIGINT, interrupt)


def _unused(folder: Path, began: float, pattern: str) -> Path:
    """Where the folder of a run goes."""
    name = time.strftime("%Y-%m-%dT%H-%M-%S-", time.localtime(began)) + pattern
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder / name for name in names if not (folder / name).exists())
