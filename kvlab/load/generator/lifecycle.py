"""How a load test runs under Locust: what happens before, during and after a run.

A process without workers, or the master of workers, gives the verdict.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import MasterRunner

from kvlab.core.settings import default_prefix
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.load.arrivals import SHAPES
from kvlab.load.evidence import Evidence
from kvlab.load.generator.progress import show_progress
from kvlab.load.generator.user import end_process
from kvlab.load.generator.workers import Workers, send_settings
from kvlab.load.options import (
    JUDGED,
    PARENT,
    ExitCode,
    check_port,
    check_reports,
    page_address,
)
from kvlab.load.process import Phases, Process, share
from kvlab.load.record.files import reserved_folder
from kvlab.load.record.run import LoadRun
from kvlab.load.record.summary import summary
from kvlab.load.settings import LoadSettings
from kvlab.load.target.app_client import is_http
from kvlab.load.target.store_and_app import LoadTarget
from kvlab.load.verdict import LoadTest, RunFrame, recorded


class Lifecycle:
    """The life of a process that gives a verdict. Locust's events call its methods.

    Raises KvlabError or AppFailed for options, a store or an app that no run can use.
    """

    def __init__(self, test: LoadTest[Any, Any], environment: Environment) -> None:
        self.test, self.environment = test, environment
        self.runner: Any = environment.runner
        self.time_limit: dict[str, Any] = {}
        self.greenlets: list[gevent.Greenlet] = []
        self.app_settings: dict[str, Any] = {}
        self.frame = RunFrame(began=math.inf)
        self.report, self.code = "", ExitCode.HOLDS
        self.has_ended = True
        settings: LoadSettings = test.settings.parsed(
            self.options, prefix=f"{default_prefix()}load:{time.time_ns():x}:"
        )
        self._take_over_time(settings)
        self.target = LoadTarget(environment.host, settings.planned_faults)
        try:
            self.process = self._prepared(settings)
            check_reports(Path(settings.reports))
        except BaseException:
            self.target.close()
            raise
        self._listen()
        self._exit_with(ExitCode.SHOWS_NOTHING)  # until a run is judged
        if settings.headless:
            length = f" for {settings.seconds} s" if settings.seconds else ""
            where = Path(settings.reports)
            print(f"loading {test.pattern}{length}; the verdict follows in {where}/", flush=True)
        else:
            print(f"Locust's page: {page_address(self.options)}", flush=True)

    def _take_over_time(self, settings: LoadSettings) -> None:
        """End runs by our own clock: Locust's would stop users in the middle of their calls."""
        options: Any = self.environment.parsed_options
        if settings.headless:
            self.time_limit, options.run_time = {"run_time": settings.seconds}, None
        else:
            check_port(options.web_host or "127.0.0.1", options.web_port)

    @property
    def options(self) -> Namespace:
        """The options of now: Locust's page may change them between two runs."""
        return Namespace(**(vars(self.environment.parsed_options) | self.time_limit))

    def _listen(self) -> None:
        self.workers = self.phases = None
        if isinstance(self.runner, MasterRunner):
            self.workers = Workers(self.environment, self._on_begun)
        else:
            self.phases = Phases(self.environment, self._on_begun, self._stop)
        on = self.environment.events
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
        settings = self.process.settings
        send_settings(self.environment, settings)
        self.frame = RunFrame(began=time.time())
        self.has_ended = False
        self.greenlets = [gevent.spawn(self._count_users)]
        if self.phases is not None:
            self.phases.begin(self.process)
        if self.workers is not None:
            self.workers.begin()
            if settings.seconds:
                gevent.spawn(self._stop_after, self.workers, settings, self.frame)

    def _on_begun(self, moment: float) -> None:
        """The users are warm: the run begins."""
        self.frame.began = moment
        settings = self.process.settings
        if settings.refused:
            return
        if self.workers is None:
            self.greenlets.append(gevent.spawn(self.test.beside, self.process))
        self.greenlets += self.target.start_faults(moment)
        if settings.headless:
            self.greenlets.append(
                gevent.spawn(show_progress, moment, settings.seconds, lambda: self.process.evidence)
            )

    def _stop_after(self, workers: Workers, settings: LoadSettings, frame: RunFrame) -> None:
        """Stop a run when its workers have ended it."""
        workers.wait(settings.seconds or 0, settings.stop_timeout)
        if frame is self.frame:
            self._stop()

    def _stop(self) -> None:
        """Stop Locust's run, whose users have ended."""
        if self.process.settings.headless:
            self.runner.quit()
        else:
            self.runner.stop()

    def _settings_of_run(self) -> LoadSettings:
        """The settings of a run; those before, with the reason, when no run can have these."""
        before: LoadSettings = self.process.settings
        host = self.environment.host
        added: dict[str, Any] = {
            "store": before.store,
            "prefix": before.prefix,
            "app_url": host if is_http(host) else None,
            "tag": time.time_ns(),
            "workers": max(1, len(self.workers.ready())) if self.workers is not None else 1,
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
        """In a closed loop the users that call: its shape lets the others rest."""
        settings, users = self.process.settings, self.frame.users
        level = SHAPES["constant" if settings.rate else settings.shape]
        while True:
            now = time.time()
            share = max(now - self.frame.began, 0.0) / (settings.seconds or math.inf)
            count = round(self.runner.user_count * level(min(share, 1.0)))
            number = math.floor(now / settings.interval)
            users[number] = max(users.get(number, 0), count)
            gevent.sleep(0.1)

    def on_test_stop(self, **_: Any) -> None:
        """End a run, once: judge it, write its folder, and say what came out."""
        if self.has_ended:
            return
        self.has_ended = True
        gevent.killall(self.greenlets)
        settings, missing = self.process.settings, None
        if settings.headless:
            print("  the run is over, and is judged", flush=True)
        self.target.recover()
        if self.workers is None:
            end_process(self.process, "local", self.test.bare(self.process))
        else:
            self.workers.collect(settings.stop_timeout)
            missing = self.workers.missing()
        self.frame.faults = self.target.faults
        self.frame.problem = missing or settings.refused or self.target.problem
        run = recorded(self.test, self.process, self.frame)
        with contextlib.suppress(KvlabError):  # a store that is gone holds no keys of this run
            self.process.kv.clear()
        self.process.close()
        self._publish(run)

    def _publish(self, run: LoadRun) -> None:
        settings, code = self.process.settings, ExitCode[run.verdict.replace(" ", "_")]
        try:
            last = f"report: {_saved(run, Path(settings.reports), page=not settings.no_page)}"
        except (OSError, InvalidArgument) as problem:
            last, code = f"NO REPORT: {problem}", code or ExitCode.REPORT
        # Of several runs, by Locust's page, one that does not hold is enough.
        self.code = self.code or code
        self._exit_with(self.code)
        self.report = f"\n{summary(run, last)}"
        if not settings.headless:
            print(self.report, flush=True)

    def _exit_with(self, code: ExitCode) -> None:
        self.environment.process_exit_code = code + (JUDGED if PARENT in os.environ else 0)

    # --- the end ---

    def on_quitting(self, **_: Any) -> None:
        """Stop the run now: after Ctrl-C, Locust asks for the exit code before it stops a run."""
        if self.phases is not None:
            self.phases.drain()
        self.runner.stop()
        self.target.close()

    def on_quit(self, **_: Any) -> None:
        """Print the report of a headless run, below Locust's own tables."""
        if self.process.settings.headless and self.report:
            print(self.report, flush=True)


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
