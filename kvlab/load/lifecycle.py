"""How a load test runs under Locust: what happens before, during and after a run.

A Locust file makes a :class:`~kvlab.load.verdict.LoadTest` and calls :func:`install`. A process
without workers, or the master of workers, gives the verdict. Its exit code is 1 when a promise
broke, or when the run shows nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from kvlab.core.settings import default_prefix
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.load.evidence import Evidence
from kvlab.load.generator import end_process
from kvlab.load.options import PARENT, add_options, check_port
from kvlab.load.process import Process, share
from kvlab.load.record.files import reserved_folder
from kvlab.load.record.run import LoadRun
from kvlab.load.record.summary import summary
from kvlab.load.settings import LoadSettings
from kvlab.load.target.app_client import AppFailed, is_http
from kvlab.load.target.store_and_app import LoadTarget
from kvlab.load.user import UserShape
from kvlab.load.verdict import LoadTest, RunFrame, recorded
from kvlab.load.workers import Worker, Workers, send_settings


def install(test: LoadTest[Any, Any]) -> None:
    """Let Locust run ``test``."""
    events.init_command_line_parser.add_listener(
        lambda parser, **_: test.add_options(add_options(parser))
    )
    events.init.add_listener(lambda environment, **_: _begin_life(test, environment))


def _begin_life(test: LoadTest[Any, Any], environment: Environment) -> None:
    if isinstance(environment.runner, WorkerRunner):
        Worker(test, environment)
        return
    _interrupt_only(gevent.getcurrent())
    if parent := os.environ.get(PARENT):
        gevent.spawn(_end_with, int(parent), gevent.getcurrent())
    try:
        Lifecycle(test, environment)
    except (KvlabError, AppFailed) as problem:
        sys.exit(f"kvlab: {problem}")


class Lifecycle:
    """The life of a process that gives a verdict. Locust's events call its methods.

    Raises KvlabError or AppFailed for options, a store or an app that no run can use.
    """

    def __init__(self, test: LoadTest[Any, Any], environment: Environment) -> None:
        self.test, self.environment = test, environment
        assert environment.parsed_options is not None
        self.options: Namespace = environment.parsed_options
        self.runner: Any = environment.runner
        self.workers = Workers(environment) if isinstance(self.runner, MasterRunner) else None
        self.greenlets: list[gevent.Greenlet] = []
        self.app_settings: dict[str, Any] = {}
        self.frame = RunFrame(began=0.0)
        self.report = ""
        settings: LoadSettings = test.settings.parsed(
            self.options, prefix=f"{default_prefix()}load:{time.time_ns():x}:"
        )
        if not settings.headless:
            check_port(self.options.web_host or "127.0.0.1", self.options.web_port)
        if settings.shape != "constant" and not settings.rate:
            environment.shape_class = UserShape(self.options)
        self.target = LoadTarget(environment.host, settings.planned_faults)
        try:
            self.process = self._prepared(settings)
        except BaseException:
            self.target.close()
            raise
        on = environment.events
        on.test_start.add_listener(self.on_test_start)
        on.test_stop.add_listener(self.on_test_stop)
        on.quitting.add_listener(self.on_quitting)
        on.quit.add_listener(self.on_quit)

    def _prepared(self, settings: LoadSettings) -> Process[Any, Any]:
        """Try the store, and start the app if there is one. No run has begun yet."""
        settings = replace(settings, store=self.target.store)
        process = self._process(settings)
        with contextlib.closing(process):
            process.kv.run(self.test.first(settings))
        if settings.app:
            self.app_settings = self.test.app_settings(settings)
            self.target.start_app(settings.prefix, self.app_settings)
        self.target.check_app()
        self.environment.host = self.target.host
        return process

    def _process(self, settings: LoadSettings) -> Process[Any, Any]:
        process = Process(settings, Evidence(self.test.facts(settings), settings.interval))
        share(self.environment, process)
        return process

    # --- a run ---

    def on_test_start(self, **_: Any) -> None:
        """Begin a run, with the options of now: Locust's page may have changed them."""
        self.process = self._process(self._settings_of_run())
        send_settings(self.environment, self.process.settings)
        if self.workers is not None:
            self.workers.begin()
        self.frame = RunFrame(began=time.time())
        self.greenlets = [gevent.spawn(self._count_users)]
        if self.process.settings.refused:
            return
        if self.workers is None:
            self.process.begin()
            self.greenlets.append(gevent.spawn(self.test.beside, self.process))
        self.greenlets += self.target.start_faults()

    def _settings_of_run(self) -> LoadSettings:
        """The settings of a run; those before, with the reason, when no run can have these."""
        before: LoadSettings = self.process.settings
        host = self.environment.host
        added: dict[str, Any] = {
            "store": before.store,
            "prefix": before.prefix,
            "app_url": host if is_http(host) else None,
            "tag": time.time_ns(),
        }
        try:
            settings: LoadSettings = self.test.settings.parsed(self.options, **added)
            if settings.app and self.test.app_settings(settings) != self.app_settings:
                raise InvalidArgument("the app keeps the options that it was started with")
            with contextlib.closing(self._process(settings)) as process:
                process.kv.run(self.test.first(settings))
                process.kv.clear()
        except KvlabError as problem:
            return replace(before, **added, refused=str(problem))
        return settings

    def _count_users(self) -> None:
        while True:
            self.frame.users[int(time.time())] = self.runner.user_count
            gevent.sleep(0.5)

    def on_test_stop(self, **_: Any) -> None:
        """End a run: judge it, write its folder, and say what came out."""
        self.frame.seconds = time.time() - self.frame.began
        gevent.killall(self.greenlets)
        self.target.recover()
        missing = None
        if self.workers is None:
            end_process(self.process, "local")
        else:
            self.workers.collect(self.process.settings.stop_timeout)
            missing = self.workers.missing()
        self.frame.faults = self.target.faults
        self.frame.problem = missing or self.process.settings.refused or self.target.problem
        run = recorded(self.test, self.process, self.frame)
        with contextlib.suppress(KvlabError):  # a store that is gone holds no keys of this run
            self.process.kv.clear()
        self.process.close()
        self._publish(run)

    def _publish(self, run: LoadRun) -> None:
        settings, holds = self.process.settings, run.holds
        try:
            last = f"report: {_saved(run, Path(settings.reports), page=not settings.no_page)}"
        except (OSError, InvalidArgument) as problem:
            last, holds = f"NO REPORT: {problem}", False
        # Of several runs, by Locust's page, one that does not hold is enough.
        self.environment.process_exit_code = self.environment.process_exit_code or int(not holds)
        self.report = f"\n{summary(run)}\n  {last}"
        if not settings.headless:
            print(self.report, flush=True)

    # --- the end ---

    def on_quitting(self, **_: Any) -> None:
        """Stop the run now: after Ctrl-C, Locust asks for the exit code before it stops a run."""
        self.runner.stop()
        self.target.close()

    def on_quit(self, **_: Any) -> None:
        """Print the report of a headless run, below Locust's own tables."""
        if self.process.settings.headless and self.report:
            print(self.report, flush=True)


def _end_with(parent: int, main: Any) -> None:
    """End Locust when the process that started it is gone, by kill -9 too."""
    while os.getppid() == parent:
        gevent.sleep(1)
    gevent.get_hub().loop.run_callback(main.throw, KeyboardInterrupt)


def _interrupt_only(main: Any) -> None:
    """Let Ctrl-C end Locust's main greenlet, not the running one, which may be a user's call."""

    def interrupt() -> None:
        gevent.get_hub().loop.run_callback(main.throw, KeyboardInterrupt)

    gevent.signal_handler(signal.SIGINT, interrupt)


def _saved(run: LoadRun, reports: Path, *, page: bool) -> Path:
    """Write the folder of a run; the file that a person opens first."""
    name = time.strftime("%Y-%m-%dT%H-%M-%S-", time.localtime(run.began)) + run.pattern
    folder = reserved_folder(reports, name)
    try:
        if not page:
            return run.save(folder) / "run.json"
        # matplotlib takes a second to import, and only the page needs it.
        from kvlab.load.record.report import save_with_page

        return save_with_page(run, folder) / "report.html"
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise
