"""How a load test runs under Locust: its options, its begin, what workers tell, its verdict.

A locust file makes a :class:`LoadTest` and calls :func:`install`. The process without workers, or
the master of workers, judges. Its exit code is 1 when a promise broke, or was not put to a test.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gevent
import pandas as pd
import redis
from http_target import HttpFailed, HttpTarget
from kv_user import PREFIX, Process, noop_rate, process_of, share
from locust import LoadTestShape, events
from locust.argument_parser import default_args_dict
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

import kvlab
from kvlab.connections import resolve
from kvlab.engines import RunningServer
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.instruments.fault_plan import PlannedFault, durable_server
from kvlab.instruments.load_evidence import COARSE, Evidence, Facts, width
from kvlab.instruments.load_run import Fault, Finding, Generator, LoadRun
from kvlab.instruments.load_shape import SHAPES
from kvlab.instruments.load_summary import summary
from kvlab.instruments.machine import environment as measured_on
from kvlab.workshop.web_app import serving

BUSY = 0.9
"""From this share of a core on, a generator keeps its own calls waiting."""

WORKER_SECONDS = 10.0
"""Beyond the stop timeout: how long to wait for what a worker has to say."""
LATE = 1.0
"""Seconds after its client gave up in which a command may still run, if nobody stops the server."""
ASKED, TOLD = "kvlab stop", "kvlab told"


@dataclass(frozen=True, slots=True)
class Judgement:
    """``untested``: why the run shows nothing, if so; ``windows``: see ``LoadRun``."""

    findings: Sequence[Finding]
    untested: str | None = None
    windows: pd.DataFrame | None = None


class LoadTest(Protocol):
    """One pattern under load. ``given`` are the options of the command line or the web UI."""

    pattern: str

    def options(self, add: Callable[..., Any]) -> None:
        """Add options, by ``add_argument`` of Locust's parser."""

    def first(self, given: Any) -> kvlab.Op[Any]:
        """An op to try before the load. Raises InvalidArgument for options of no use."""

    def title(self, given: Any) -> str:
        """What is loaded, in one line."""

    def app_settings(self, given: Any) -> dict[str, object]:
        """Settings of the sample app, see ``app_settings``."""

    def facts(self, given: Any) -> Facts:
        """What the users note for the judge."""

    def beside(self, process: Process) -> None:
        """What else goes on in each process that has users, in a greenlet, until the run ends."""

    def judge(self, process: Process, began: float) -> Judgement:
        """Judge what was seen; the server may be asked what it holds."""


def install(test: LoadTest) -> None:
    """Let Locust run ``test``."""
    events.init_command_line_parser.add_listener(lambda parser, **_: _options(test, parser))
    events.init.add_listener(lambda environment, **_: _Run(test, environment))


def _options(test: LoadTest, parser: Any) -> None:
    # Locust's own: its pages and its workers' port are for this machine unless said otherwise.
    parser.set_defaults(web_host="127.0.0.1", master_bind_host="127.0.0.1", stop_timeout=5)
    # Not in a group: Locust's page would not show them.
    add = parser.add_argument
    add(
        "--rate",
        type=float,
        default=0.0,
        help="open loop: arrivals a second (0: closed loop, each "
        "user asks again as soon as it is answered)",
    )
    add(
        "--shape",
        choices=list(SHAPES),
        default="constant",
        help="how the users, or the rate, change over the run",
    )
    add("--naive", action="store_true", help="load the tutorial's version instead")
    add(
        "--lose-replies",
        type=int,
        default=0,
        metavar="N",
        help="each N-th answer of the store is lost on its way",
    )
    add(
        "--fault",
        action="append",
        default=[],
        include_in_web_ui=False,
        help="pause@5:2, cut@8, "
        "flush@10, restart@12:1: seconds into the run, on a server of its own; may be repeated",
    )
    add(
        "--app",
        action="store_true",
        include_in_web_ui=False,
        help="through the sample web app, which is started; one that runs already: --host http://…",
    )
    add(
        "--reports",
        default="loads",
        include_in_web_ui=False,
        help="each run leaves a folder in this one",
    )
    test.options(add)


class _Shape(LoadTestShape):
    """The users of ``--shape``, in a closed loop."""

    def __init__(self, given: Any, runner: Any) -> None:
        super().__init__()
        self.given, self.runner = given, runner

    def tick(self) -> tuple[int, float] | None:
        share = self.get_run_time() / self.given.run_time
        if share >= 1:
            return None
        users = max(1, round(self.given.num_users * SHAPES[self.given.shape](share)))
        return users, max(users, 100)


class _Run:
    """What Locust's events call."""

    def __init__(self, test: LoadTest, environment: Environment) -> None:
        self.test, self.environment = test, environment
        self.given: Any = environment.parsed_options
        self.is_worker = isinstance(environment.runner, WorkerRunner)
        self.is_master = isinstance(environment.runner, MasterRunner)
        own = vars(self.given).keys() - default_args_dict().keys() - {"reports"}
        self.own_options = sorted(own)
        self.own = contextlib.ExitStack()
        self.server: RunningServer | None = None
        self.plan: list[PlannedFault] = []
        self.faults: list[Fault] = []
        self.users: dict[int, int] = {}
        self.began = 0.0
        self.greenlets: list[gevent.Greenlet] = []
        self.workers: set[str] = set()
        self.refused: str | None = None
        self.unread = 0
        self.said = ""
        share(environment, Process(environment, Evidence(test.facts(self.given))))
        if not self.is_worker:
            try:
                self._prepare()
            except (KvlabError, HttpFailed) as problem:
                self.own.close()
                sys.exit(f"kvlab: {problem}")
        on = environment.events
        on.test_start.add_listener(self._starts)
        on.test_stop.add_listener(self._stops)
        on.quitting.add_listener(lambda **_: self._closes())
        on.quit.add_listener(lambda **_: self._says())  # below Locust's own tables
        if self.is_worker:
            on.report_to_master.add_listener(self._tells)
            environment.runner.register_message(ASKED, self._asked_to_stop)
        if self.is_master:
            on.worker_report.add_listener(self._hears)
            environment.runner.register_message(TOLD, self._hears_the_end)

    @property
    def process(self) -> Process:
        return process_of(self.environment)

    # --- before the run ---

    def _prepare(self) -> None:
        given = self.given
        self.plan = [PlannedFault.parse(text) for text in given.fault]
        if given.num_users is not None and given.num_users < 1:
            raise InvalidArgument(f"users must be at least 1, not {given.num_users}")
        if given.rate < 0 or given.rate != given.rate:
            raise InvalidArgument(f"rate must be arrivals a second, or 0, not {given.rate}")
        if given.lose_replies < 0:
            raise InvalidArgument(f"lose-replies must be 0 or more, not {given.lose_replies}")
        if given.shape != "constant" and not given.run_time:
            raise InvalidArgument(f"--shape {given.shape} needs a --run-time")
        if given.shape != "constant" and not given.rate:
            self.environment.shape_class = _Shape(given, self.environment.runner)
        if not given.headless:
            _port_is_free(given.web_host or "127.0.0.1", given.web_port)
        first = self.test.first(given)
        late = max((fault.seconds for fault in self.plan), default=0.0) + LATE
        # A prefix of its own: two load tests at once must not clear each other's keys.
        prefix = f"{PREFIX}:{time.time_ns():x}"
        given.kvlab = {"prefix": prefix, "seconds": given.run_time, "late": late}
        given.kvlab["store"] = self._store()
        self.process.kv.run(first)
        if given.app:
            settings = {"trusted_proxies": "127.0.0.1", "prefix": given.kvlab["prefix"]}
            settings |= self.test.app_settings(given)
            app = self.own.enter_context(serving(given.kvlab["store"], **settings))
            self.environment.host = app.url
        if self.is_http:
            HttpTarget(self.environment.host).get("/healthz")

    @property
    def is_http(self) -> bool:
        return str(self.environment.host or "").startswith(("http://", "https://"))

    def _store(self) -> str:
        """The URL of the store: a private one for faults, else the host, or what is usual."""
        if not self.plan:
            return resolve(None if self.is_http else self.environment.host)
        if self.environment.host:
            raise InvalidArgument(
                "faults are for a server that nobody else uses: leave --host out and one is started"
            )
        self.server = self.own.enter_context(durable_server())
        return self.server.url

    # --- the run ---

    def _starts(self, **_: Any) -> None:
        given = self.environment.parsed_options
        if not self.is_worker:
            given.kvlab |= {
                "users": given.num_users,
                "tag": time.time_ns(),
                "width": width(given.run_time),
            }
        self.process.close()
        fresh = Process(self.environment, self._nothing_yet())
        share(self.environment, fresh)
        if not self.is_worker:
            self._starts_afresh(fresh)
        if not self.is_master:
            fresh.begin(noop_rate(given, self._nothing_yet()))
            self.greenlets.append(gevent.spawn(self.test.beside, fresh))
        self.began = time.time()
        if not self.is_worker:
            self.greenlets.append(gevent.spawn(self._counts_users))
            self.greenlets += [gevent.spawn(self._inflicts, fault) for fault in self.plan]

    def _starts_afresh(self, process: Process) -> None:
        self.faults, self.users, self.refused, self.unread = [], {}, None, 0
        if self.is_master:
            self.workers = {client.id for client in self.environment.runner.clients.ready}
        try:  # the web UI may have changed an option
            process.kv.run(self.test.first(process.given))
            process.kv.clear()
        except KvlabError as problem:
            self.refused = str(problem)  # and each user says so, when it starts

    def _counts_users(self) -> None:
        while True:
            self.users[int(time.time())] = self.environment.runner.user_count
            gevent.sleep(0.5)

    def _inflicts(self, fault: PlannedFault) -> None:
        assert self.server is not None
        gevent.sleep(max(0.0, self.began + fault.at - time.time()))
        began = time.time()
        fault.inflict(self.server, gevent.sleep)
        at, took = round(began - self.began, 3), round(time.time() - began, 3)
        self.faults.append(Fault(fault.kind, at, took))

    def _stops(self, **_: Any) -> None:
        seconds = time.time() - self.began
        gevent.killall(self.greenlets)
        self.greenlets = []
        if self.server is not None and self.server.has_ended():
            self.server.restart()  # the run ended in the middle of that
        if not self.is_master:
            self.process.end()
        if self.is_worker:
            self.environment.runner.send_message(TOLD, self._seen())
            return
        if self.is_master:
            self._collects()
        self._reports(seconds)

    # --- between processes ---

    def _collects(self) -> None:
        """Wait until every worker has told what it saw, or is gone.

        Locust, when it quits, calls the test over before it stops the workers.
        """
        runner: Any = self.environment.runner
        runner.send_message(ASKED)
        patience = time.monotonic() + self.given.stop_timeout + WORKER_SECONDS
        while time.monotonic() < patience:
            silent = self.workers - self.process.evidence.processes.keys()
            if not silent & {client.id for client in runner.clients.running}:
                return
            gevent.sleep(0.05)

    def _asked_to_stop(self, **_: Any) -> None:
        self.environment.runner.stop()

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
        run = self._judged(seconds)
        folder = Path(self.given.reports) / (
            time.strftime("%Y-%m-%dT%H-%M-%S-", time.localtime(self.began)) + run.pattern
        )
        self.said = f"\n{summary(run)}\n  report: {folder / 'report.html'}"
        self.environment.process_exit_code = 0 if run.holds else 1
        self._cleans_up()
        try:
            run.save(folder)
        except (OSError, InvalidArgument) as problem:
            self.said = f"\n{summary(run)}\n  NO REPORT: {problem}"
            self.environment.process_exit_code = 1
        if not self.given.headless:  # there may be another run before the end
            self._says()

    def _missing(self) -> str | None:
        """What was seen and did not get here."""
        if self.unread:
            return f"{self.unread} reports of workers could not be read: of another version?"
        if silent := self.workers - self.process.evidence.processes.keys():
            return f"{len(silent)} of {len(self.workers)} workers never said what they saw"
        return None

    def _cleans_up(self) -> None:
        with contextlib.suppress(KvlabError):  # a store that is gone holds nothing of ours
            self.process.kv.clear()

    def _says(self) -> None:
        if self.said:
            print(self.said, flush=True)
        self.said = ""

    def _judged(self, seconds: float) -> LoadRun:
        process, given = self.process, self.environment.parsed_options
        evidence = process.evidence
        machine = measured_on()
        try:
            machine = measured_on(process.kv)
            judged = self.test.judge(process, self.began)
        except (KvlabError, redis.RedisError) as problem:
            judged = Judgement((), f"the store could not be asked at the end: {problem}")
        untested = judged.untested
        if problem := self._missing():
            judged, untested = Judgement(()), problem  # part of it is no ground for a verdict
        if not evidence.calls:
            untested = self.refused or "nothing was called"
        return LoadRun(
            pattern=self.test.pattern,
            title=self.test.title(given),
            settings=_settings(given, self.own_options),
            machine=machine,
            began=self.began,
            seconds=seconds,
            timeline=evidence.timeline(self.began, seconds, self.users, open_loop=bool(given.rate)),
            latency=dict(evidence.latency),
            errors=dict(evidence.errors),
            faults=tuple(sorted(self.faults, key=lambda fault: fault.at)),
            findings=tuple(judged.findings),
            untested=untested,
            generator=_generator(evidence, seconds),
            windows=judged.windows,
        )

    def _closes(self) -> None:
        self.process.close()
        self.own.close()


def _settings(given: Any, own: Sequence[str]) -> dict[str, Any]:
    """The options that a reader needs: the load test's own, and a few of Locust's."""
    names = (*own, "spawn_rate", "processes", "tags", "exclude_tags")
    found = {name: getattr(given, name) for name in names}
    settings = {name: value for name, value in found.items() if value not in (None, "", [])}
    return settings | {"users": given.kvlab["users"], "rate": given.rate or None}


def _generator(evidence: Evidence, seconds: float) -> Generator | None:
    processes = evidence.processes
    if not processes:
        return None
    noop = sum(one["noop"] for one in processes.values()) / len(processes)
    cpu = sum(one["cpu"] for one in processes.values()) / len(processes)
    warning = None
    if cpu > BUSY:
        made = evidence.calls / seconds / len(processes)
        warning = (
            f"the generator set the pace, not the store: each process used {cpu:.0%} of a core and "
            f"made {made:,.0f} calls a second ({noop:,.0f} when a call does nothing). Latencies "
            "contain waiting for it. Take --rate, fewer users or more --processes."
        )
    return Generator(len(processes), noop, None, cpu, warning)


def _port_is_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise InvalidArgument(
                f"the web UI cannot have port {port} of {host}: {problem.strerror}; take another "
                "--web-port, or --headless"
            ) from None


__all__ = ["PREFIX", "Judgement", "LoadTest", "install"]
