"""The load tests distinguish right from wrong, and refuse in one line what they cannot do."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis
from typer.testing import CliRunner

from kvlab import cli
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.load import command
from kvlab.load.command import record, seconds
from kvlab.load.record.run import LoadRun
from kvlab.server.running_server import RunningServer

ROOT = Path(__file__).parents[2]
KVLAB_LOAD = (sys.executable, "-m", "kvlab", "load")
# Ten windows a second, with a race at the begin of every window.
RACY = ("--keys", "1", "--limit", "1", "--window", "0.1")

# Importing Locust patches the interpreter and takes two seconds: all cases share one process of
# their own. The script prints what the interpreter would print when Locust exits.
REFUSALS = """
import contextlib, io, json, sys
from locust import events
from kvlab.load import lifecycle
from kvlab.load.rate_limiter.load import RateLimiterLoad
from locust.argument_parser import parse_options
from locust.env import Environment

lifecycle.install(RateLimiterLoad())
ends = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            given = parse_options(["-f", "rate_limiter.py", "--headless", *arguments])
            environment = Environment(parsed_options=given, host=given.host)
            environment.create_local_runner()
            events.init.fire(environment=environment, runner=environment.runner, web_ui=None)
        except SystemExit as ended:
            ends.append(said.getvalue() if ended.code == 2 else ended.code)
        else:
            ends.append("")
print(json.dumps(ends))
"""


def load(
    server: RunningServer, reports: Path, name: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """``kvlab load`` for a second."""
    return subprocess.run(
        [*KVLAB_LOAD, name, "--time", "1s", "--reports", str(reports), *arguments],
        cwd=ROOT,
        env=os.environ | {"KVLAB_URL": server.url},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def only_run(reports: Path) -> LoadRun:
    (folder,) = reports.iterdir()
    return LoadRun.read(folder)


# --- the rate limiter ---


def test_a_hardened_limiter_holds(server: RunningServer, tmp_path: Path) -> None:
    ended = load(server, tmp_path, "rate-limiter", "--algorithm", "token-bucket")
    run = only_run(tmp_path)
    assert [(one.name, one.holds) for one in run.findings] == [
        ("over-admission", True),
        ("denials", True),
    ]
    assert run.holds
    assert ended.returncode == 0, ended.stderr
    assert "admissions too many: 0" in ended.stdout


def test_the_naive_limiter_fails_the_same_run(server: RunningServer, tmp_path: Path) -> None:
    # Twenty users who all count before anyone adds.
    ended = load(server, tmp_path, "rate-limiter", "--naive", *RACY)
    assert "BROKEN: at most the limit in any interval" in ended.stdout, ended.stderr
    assert ended.returncode == 1
    assert not only_run(tmp_path).holds


def test_a_naive_limiter_that_denies_nobody_shows_nothing(
    server: RunningServer, tmp_path: Path
) -> None:
    ended = load(server, tmp_path, "rate-limiter", "--naive", "--limit", "1000000")
    assert "no request was denied" in ended.stdout, ended.stderr
    assert ended.returncode == 1


def test_two_processes_report_all_that_their_users_saw(
    server: RunningServer, tmp_path: Path
) -> None:
    load(server, tmp_path, "rate-limiter", "--processes", "2", "--control", *RACY)
    run = only_run(tmp_path)
    assert [(one.name, one.holds) for one in run.findings] == [
        ("over-admission", True),
        ("denials", True),
        ("control", True),
    ]
    assert run.generator is not None
    assert run.generator.processes == 2
    with server.client() as client:
        assert client.keys("kvlab:load*") == []  # the run leaves no key


def test_a_server_that_fails_meanwhile(tmp_path: Path) -> None:
    run = record(
        "rate-limiter",
        seconds=4,
        limit=1,
        control=True,
        fault=["pause@0.8:0.5", "cut@1.7", "flush@2", "restart@2.2:0.3"],
    )
    assert [fault.kind for fault in run.faults] == ["pause", "cut", "flush", "restart"]
    assert run.errors  # users felt the faults
    assert [(one.name, one.holds) for one in run.findings] == [
        ("over-admission", True),
        ("denials", True),
        ("control", True),
    ]


def test_a_fault_that_outlasts_the_run_is_recorded_and_so_are_the_calls_that_waited() -> None:
    # The client itself would give up two seconds later.
    run = record("rate-limiter", seconds=2, users=4, fault=["pause@1:9"], stop_timeout=0)
    assert [fault.kind for fault in run.faults] == ["pause"]
    assert run.latency["hit"].max > 0.5
    assert run.errors == {"hit: the run was over before the answer came": 4}


def test_a_run_that_denies_nobody_shows_nothing(server: RunningServer, tmp_path: Path) -> None:
    ended = load(server, tmp_path, "rate-limiter", "--limit", "1000000")
    assert "SHOWS NOTHING: no request was denied" in ended.stdout, ended.stderr
    assert ended.returncode == 1


# --- the leaderboard ---


def test_scores_are_exact_although_answers_are_lost() -> None:
    run = record("leaderboard", seconds=1, members=20, lose_replies=20)
    assert [(one.name, one.holds) for one in run.findings] == [
        ("scores", True),
        ("linearizable", True),
    ]


def test_the_naive_board_counts_twice_and_answers_ranks_that_never_were() -> None:
    run = record("leaderboard", seconds=2, naive=True, members=20, lose_replies=20)
    assert [(one.name, one.holds) for one in run.findings] == [
        ("scores", False),
        ("linearizable", False),
    ]
    assert run.findings[0].evidence


EMPTY = """
from types import SimpleNamespace
from kvlab.load.leaderboard import verdict
from kvlab.load.leaderboard.facts import BoardFacts

verdict.board_of = lambda process: SimpleNamespace(scores=lambda: {"m1": 3})
facts = BoardFacts("add")
facts.submissions.add("m1", 3)
facts.histories = [[], []]
settings, evidence = SimpleNamespace(app_url=None), SimpleNamespace(facts=facts)
conclusion = verdict.conclude(SimpleNamespace(settings=settings, evidence=evidence))
print([finding.name for finding in conclusion.findings], conclusion.untested)
"""


# Two calls admitted, and one that the end of the run cut off: that call was not denied.
CUT_OFF = """
from types import SimpleNamespace
from kvlab.load.evidence import Evidence
from kvlab.load.rate_limiter import verdict
from kvlab.load.rate_limiter.decisions import Decisions

evidence = Evidence(Decisions())
for moment in (1.0, 2.0):
    evidence.facts.admitted_within("naive-0", moment, moment + 0.001)
    evidence.record("naive hit", moment, 0.001)
evidence.record("naive hit", 3.0, 0.001, "the run was over before the answer came")
settings = SimpleNamespace(naive=True, control=False, limit=10, window=1.0)
conclusion = verdict.conclude(SimpleNamespace(settings=settings, evidence=evidence), 0.0)
print(conclusion.untested)
"""


def test_a_call_that_the_end_cut_off_is_no_denial() -> None:
    assert output_of(CUT_OFF).startswith("no request was denied")


def test_histories_without_an_operation_show_nothing() -> None:
    assert output_of(EMPTY).startswith("['scores'] no history was sampled")


def output_of(script: str) -> str:
    """What a script prints in a process of its own: importing Locust patches the interpreter."""
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_two_loads_at_once_leave_each_other_alone(server: RunningServer, tmp_path: Path) -> None:
    begin = [*KVLAB_LOAD, "rate-limiter", "--time", "2s", "--processes=1", "--reports"]
    both = [
        subprocess.Popen(
            [*begin, str(tmp_path / name)],
            cwd=ROOT,
            env=os.environ | {"KVLAB_URL": server.url},
            stdout=subprocess.DEVNULL,
        )
        for name in ("one", "other")
    ]
    assert [running.wait(90) for running in both] == [0, 0]
    assert only_run(tmp_path / "one").holds
    assert only_run(tmp_path / "other").holds


# --- through the web app ---


@pytest.mark.parametrize(
    ("name", "findings"),
    [("rate-limiter", ["over-admission", "denials"]), ("leaderboard", ["scores"])],
)
def test_the_app_keeps_the_promises_too(name: str, findings: list[str]) -> None:
    run = record(name, seconds=2, app=True)
    assert [one.name for one in run.findings] == findings
    assert run.holds
    assert not run.errors


class _Failing(http.server.BaseHTTPRequestHandler):
    """An app that is healthy and does no work."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(500)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_calls_that_fail_with_no_fault_break_the_run() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as app:
        threading.Thread(target=app.serve_forever).start()
        try:
            run = record("rate-limiter", seconds=1, host=f"http://127.0.0.1:{app.server_port}")
        finally:
            app.shutdown()
    assert [(one.name, one.holds) for one in run.findings] == [("answers", False)]
    assert sum(run.errors.values()) == run.calls > 0


# --- time ---


def test_an_open_loop_counts_from_when_a_call_was_due() -> None:
    # The server sleeps for a second of three: at least every fourth call was due meanwhile.
    run = record("rate-limiter", seconds=3, rate=200, users=5, fault=["pause@1:1"])
    assert run.latency["hit"].percentile(75) > 0.01
    assert 400 < run.timeline["due"].sum() < 800


def test_arrivals_that_were_never_sent_are_counted() -> None:
    run = record("rate-limiter", seconds=2, rate=100_000, users=1)
    assert run.timeline["due"].sum() > run.calls
    assert run.generator is not None
    assert "arrivals were never sent" in (run.generator.warning or "")


def test_a_closed_loop_does_not_ask_meanwhile() -> None:
    run = record("rate-limiter", seconds=3, users=4, shape="step", fault=["pause@1:1"])
    latencies, share = run.latency["hit"].curve()
    waited = run.calls - round(run.calls * float(share[latencies <= 0.5][-1]))
    assert 1 <= waited <= 4  # each user once, however many calls the pause had room for
    users = run.timeline["users"]
    assert users.is_monotonic_increasing  # in steps
    assert users.nunique() > 1


# --- what goes wrong ---


def test_ctrl_c_ends_with_a_verdict_and_leaves_nothing(tmp_path: Path) -> None:
    arguments = ["--time", "60s", "--reports", str(tmp_path), "--fault", "pause@50", "--limit", "1"]
    running = subprocess.Popen(
        [*KVLAB_LOAD, "rate-limiter", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    server, port = _own_server(psutil.Process(running.pid))
    with redis.Redis("127.0.0.1", port) as client:
        _until(
            lambda: client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0) > 1000
        )
    os.killpg(running.pid, signal.SIGINT)
    said, problems = running.communicate(timeout=60)
    assert "HOLDS: at most the limit" in said, problems
    assert "Traceback" not in problems
    assert running.returncode == 0
    assert only_run(tmp_path).holds
    assert not server.is_running()


def test_a_load_ends_with_the_process_that_started_it(
    server: RunningServer, tmp_path: Path
) -> None:
    arguments = ["--time", "60s", "--reports", str(tmp_path)]
    running = subprocess.Popen(
        [*KVLAB_LOAD, "leaderboard", *arguments],
        cwd=ROOT,
        env=os.environ | {"KVLAB_URL": server.url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with server.client() as client:
        _until(lambda: client.keys("kvlab:load*"))  # the load has begun
        (locust,) = psutil.Process(running.pid).children()
        running.kill()
        running.wait()
        psutil.wait_procs([locust], 30)
        assert not locust.is_running()
        assert client.keys("kvlab:load*") == []


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 60 s"
        time.sleep(0.02)


def _own_server(parent: psutil.Process) -> tuple[psutil.Process, int]:
    """The server that a load has started, and its port, which its title says once it listens."""
    found: list[tuple[psutil.Process, int]] = []

    def look() -> bool:
        for child in parent.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                title = " ".join(child.cmdline())
                if port := re.fullmatch(r"\S*valkey-server 127\.0\.0\.1:(\d+)\s*", title):
                    found.append((child, int(port[1])))
        return bool(found)

    _until(look)
    return found[0]


def test_a_worker_that_is_killed_leaves_no_verdict(server: RunningServer, tmp_path: Path) -> None:
    arguments = ["--processes", "2", "--time", "5s", "--reports", str(tmp_path)]
    running = subprocess.Popen(
        [*KVLAB_LOAD, "rate-limiter", *arguments],
        cwd=ROOT,
        env=os.environ | {"KVLAB_URL": server.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with server.client() as client:
        _until(lambda: client.keys("kvlab:load*"))  # the load has begun
    locust = psutil.Process(running.pid).children()[0]
    locust.children()[0].send_signal(signal.SIGKILL)
    said, _ = running.communicate(timeout=60)
    assert "SHOWS NOTHING: 1 of 2 workers never said what their users saw" in " ".join(said.split())
    assert running.returncode == 1


REFUSED = [
    (["--algorithm", "leaky"], "invalid choice: 'leaky'"),
    (["--shape", "wave"], "invalid choice: 'wave'"),
    (["--users", "0"], "kvlab: users must be a whole number of at least 1"),
    (["--limit", "0"], "kvlab: limit must be a whole number"),
    (["--window", "-1"], "kvlab: window must be a number of seconds"),
    (["--keys", "0"], "kvlab: keys must be"),
    (["--rate", "-1"], "kvlab: rate must be"),
    (["--rate", "nan"], "kvlab: rate must be"),
    (["--control", "--users", "4"], "kvlab: --control needs at least 5 users"),
    (["--lose-replies", "-1"], "kvlab: lose-replies must be"),
    (["--fault", "explode@2"], "kvlab: a fault is written like"),
    (["--fault", "cut@9", "--run-time", "5s"], "kvlab: a cut at 9 s is after the end"),
    (["--fault", "pause@1", "--host", "redis://127.0.0.1:1"], "kvlab: faults are for a server"),
    (["--host", "redis://127.0.0.1:1"], "kvlab: no connection to 127.0.0.1:1, nothing was sent"),
    (["--host", "http://127.0.0.1:1"], "kvlab: no answer from 127.0.0.1:1"),
    (["--host", "http://bob:secret@127.0.0.1:1"], "kvlab: no answer from 127.0.0.1:1"),
    (["--host", "http://[::1"], "kvlab: the app's address must be like"),
    (["--host", "http://127.0.0.1:99999"], "kvlab: the app's address must be like"),
    (["--host", "redis://10.1.2.3:6379"], "kvlab: 10.1.2.3 is not this machine"),
    (["--host", "nonsense"], "kvlab: not a Redis URL"),
]


def test_what_cannot_be_is_one_line(server: RunningServer) -> None:
    cases = [arguments for arguments, _ in REFUSED]
    ended = subprocess.run(
        [sys.executable, "-c", REFUSALS, json.dumps(cases)],
        env=os.environ | {"KVLAB_URL": server.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    ends = json.loads(ended.stdout.splitlines()[-1])
    for (arguments, says), said in zip(REFUSED, map(str.strip, ends), strict=True):
        assert says in said.splitlines()[-1], (arguments, said)
        assert said.count("\n") == 0 or said.startswith("usage: "), (arguments, said)


def test_no_server_ends_with_one_line(server: RunningServer, tmp_path: Path) -> None:
    ended = load(server, tmp_path, "leaderboard", "--host", "redis://127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr.startswith("kvlab: no connection to 127.0.0.1:1, nothing was sent")
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line(server: RunningServer, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = load(server, tmp_path, "rate-limiter", "--web", "--web-port", port)
    assert f"Locust's page cannot have port {port}" in ended.stderr
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr


def test_what_cannot_run_is_an_error() -> None:
    with pytest.raises(InvalidArgument, match="there is no load test 'sessions'"):
        record("sessions")
    with pytest.raises(InvalidArgument, match="users must be a whole number of at least 1"):
        record("leaderboard", users=0)
    with pytest.raises(KvlabError, match="members must be"):
        record("leaderboard", members=0)


def test_help_lists_the_options_of_the_load_test(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*KVLAB_LOAD, "leaderboard", "--", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for option in ("--rate", "--fault", "--lose-replies N", "--ties {first,shared,dense}"):
        assert option in ended.stdout
    assert "--algorithm" not in ended.stdout


@pytest.mark.parametrize(
    ("typed", "name", "more"),
    [
        ([], "rate-limiter", []),
        (["leaderboard", "--members", "5"], "leaderboard", ["--members", "5"]),
        (["--limit", "1", "--naive", "--keys=1"], "rate-limiter", ["--limit", "1", "--keys=1"]),
    ],
)
def test_a_load_test_needs_no_name_before_its_options(
    typed: list[str], name: str, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    monkeypatch.setattr(command, "run", lambda *given, **options: runs.append((given, options)))
    CliRunner().invoke(cli.app, ["load", *typed])
    ((given, options),) = runs
    assert given == (name,)
    assert options["more"] == [*more, *(["--naive"] if "--naive" in typed else [])]


def test_times_are_read_as_people_write_them() -> None:
    assert [seconds(t) for t in ("45", "30s", "2m", "1h1m1s")] == [45, 30, 120, 3661]
    for bad in ("²", "", "0", "0s", "-3s", "3x", "s", "1s1m"):
        with pytest.raises(InvalidArgument):
            seconds(bad)
