"""The load tests distinguish right from wrong, and refuse in one line what they cannot do.

A run costs seconds of a core, and so does each import of Locust: the runs of one load test share
a process (``support.load_runs``), and what a recorded run can show is tested beside
(``test_verdict``, ``test_process``).
"""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis
from support.load_runs import Ended, prepared_locust, runs

import kvlab
from kvlab.instruments.faults.proxy import Proxy
from kvlab.load import command
from kvlab.load.options import ExitCode
from kvlab.load.record.parts import ANSWERED, WAITED
from kvlab.load.record.run import LoadRun
from kvlab.server.prepared import Prepared
from kvlab.server.running_server import RunningServer, free_port

ROOT = Path(__file__).parents[2]
KVLAB_LOAD = (sys.executable, "-m", "kvlab", "load")
# Ten windows a second, with a race at the begin of every window.
LIMITER_HOLDS = {"over-admission": True, "denials": True, "server times": True}
RACY = ("--keys", "1", "--limit", "1", "--window", "0.1")


def started(
    server: RunningServer | None, reports: Path, *arguments: str, **more: object
) -> subprocess.Popen[str]:
    """``kvlab load``, running."""
    return subprocess.Popen(
        [*KVLAB_LOAD, *arguments, "--reports", str(reports), "--no-page"],
        cwd=ROOT,
        env=os.environ | ({"KVLAB_URL": server.url} if server is not None else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def only_run(reports: Path) -> LoadRun:
    (folder,) = reports.iterdir()
    return LoadRun.read(folder)


def found(run: LoadRun) -> dict[str, bool]:
    return {one.name: one.holds for one in run.findings}


# --- by the command ---


def test_a_hardened_limiter_holds_and_the_verdict_stands_last(
    server: RunningServer, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [*KVLAB_LOAD, "--algorithm", "token-bucket", "--time=1s", f"--reports={tmp_path}"],
        cwd=ROOT,
        env=os.environ | {"KVLAB_URL": server.url},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    run = only_run(tmp_path)
    assert found(run) == LIMITER_HOLDS
    assert run.holds
    assert ended.returncode == 0, ended.stderr
    assert "admissions too many: 0" in ended.stdout
    verdict = ended.stdout[ended.stdout.index("  HOLDS: each server time lies inside") :]
    assert "  HOLDS: nobody is denied" in verdict
    assert "generator:" not in verdict
    assert "Response time percentiles" not in ended.stdout + ended.stderr  # Locust's own tables
    (page,) = tmp_path.glob("*/report.html")
    assert "<title>" in page.read_text()


def test_two_loads_at_once_leave_each_other_alone(server: RunningServer, tmp_path: Path) -> None:
    """One has two processes, which report all that users saw. The other's calls are counted."""
    hits: list[bytes] = []
    with Proxy(server.url) as proxy, kvlab.connect(server.url) as kv:
        kv.run(kvlab.SlidingWindowLog("load", 10, 1.0).hit("loads the script"))
        proxy.watch(lambda sent, *_: hits.append(sent.raw) if sent.name == "EVALSHA" else None)
        control = ["--processes=2", "--control", *RACY]
        both = {
            "one": started(server, tmp_path / "one", "--time=1s", *control),
            "other": started(
                server, tmp_path / "other", "--time=1s", "--rate=300", f"--host={proxy.url}"
            ),
        }
        for running in both.values():
            said, problems = running.communicate(timeout=90)
            assert running.returncode == 0, said + problems
    run, other = only_run(tmp_path / "one"), only_run(tmp_path / "other")
    assert found(run) == LIMITER_HOLDS | {"control": True}
    assert run.generator is not None
    assert run.generator.processes == 2
    assert run.generator.warm_up == 20
    assert run.timeline["calls"].sum() == run.calls
    assert other.holds
    assert other.generator is not None
    of_users = [hit for hit in hits if b"client-" in hit]
    assert len(of_users) - other.generator.warm_up == other.calls == other.timeline["calls"].sum()
    waited, answered = (other.stages[stage] for stage in (WAITED, ANSWERED))
    assert waited.count == answered.count == other.calls
    assert waited.mean + answered.mean == pytest.approx(other.latency_all.mean, rel=1e-3)
    with server.client() as client:
        assert client.keys("kvlab:load*") == []  # the runs leave no key


# --- the rate limiter, in one process ---


def naive(ended: Ended) -> None:
    """The first calls of the users meet between count and add: the run fails, and names a call."""
    assert not ended.run.holds
    assert ended.run.settings["algorithm"] == "naive-sliding-window"
    assert ended.code == ExitCode.BROKEN
    assert "BROKEN: at most the limit in any interval" in ended.said
    assert re.search(
        r"naive-first-\d+: the last of 20 calls at [-\d., ]+ s answered allowed; promised: at most",
        " ".join(ended.said.split()),
    )


def faults(ended: Ended) -> None:
    """A server that fails meanwhile: users feel it, and the limiter holds."""
    run = ended.run
    assert [fault.kind for fault in run.faults] == ["pause", "cut", "flush", "restart"]
    assert run.errors
    assert found(run) == LIMITER_HOLDS | {"control": True}


def outlasting_fault(ended: Ended) -> None:
    """A fault that outlasts the run is recorded, and so are the calls that waited.

    The client itself would give up two seconds later.
    """
    run = ended.run
    assert [fault.kind for fault in run.faults] == ["pause"]
    assert run.latency["hit"].max > 0.5
    assert run.errors == {"hit: the run was over before the answer came": 4}


def open_loop(ended: Ended) -> None:
    """The server sleeps for a second of three: at least every fourth call was due meanwhile."""
    run = ended.run
    assert run.latency["hit"].percentile(75) > 0.01
    assert 400 < run.timeline["due"].sum() < 800
    assert run.timeline["calls"].sum() == run.calls
    assert not run.errors
    assert run.generator.warm_up == 5


def never_sent(ended: Ended) -> None:
    """All of the 100,000 arrivals of a second were due, however few a user could send."""
    run = ended.run
    due = run.timeline["due"].sum()
    assert due == pytest.approx(100_000, rel=0.02)
    assert f"{due - run.calls:,.0f} of {due:,.0f} arrivals were never sent" in (
        run.generator.warning or ""
    )


def closed_loop(ended: Ended) -> None:
    """A closed loop does not ask during a pause: each user waits once."""
    run = ended.run
    latencies, share = run.latency["hit"].curve()
    waited = run.calls - round(run.calls * float(share[latencies <= 0.5][-1]))
    assert 1 <= waited <= 4  # however many calls the pause had room for
    users = run.timeline["users"]
    assert users.is_monotonic_increasing  # in steps
    assert users.nunique() > 1
    assert not run.errors


def app(ended: Ended) -> None:
    """The app keeps the promises too."""
    run = ended.run
    assert set(found(run)) in (LIMITER_HOLDS.keys(), {"scores"})
    assert run.holds
    assert not run.errors


def failing_app(ended: Ended) -> None:
    """Calls that fail with no fault break the run, which says how they failed."""
    run = ended.run
    assert found(run) == {"answers": False}
    assert sum(run.errors.values()) == run.calls > 0
    assert "status 500" in run.findings[0].evidence[0]
    assert ended.code == ExitCode.BROKEN


LIMITER: dict[Callable[[Ended], None], list[str]] = {
    naive: ["--run-time", "1s", "--naive", "--keys", "1", "--limit", "1"],
    faults: [
        *("--run-time", "3s", "--limit", "1", "--control", "--fault", "pause@0.8:0.5"),
        *("--fault", "cut@1.7", "--fault", "flush@2", "--fault", "restart@2.2:0.3"),
    ],
    outlasting_fault: [
        *("--run-time", "2s", "--users", "4", "--fault", "pause@1:9", "--stop-timeout", "0")
    ],
    open_loop: ["--run-time", "3s", "--rate", "200", "--users", "5", "--fault", "pause@1:1"],
    never_sent: ["--run-time", "1s", "--rate", "100000", "--users", "1"],
    closed_loop: ["--run-time", "3s", "--users", "4", "--shape", "step", "--fault", "pause@1:1"],
    app: ["--run-time", "1s", "--app"],
}


@pytest.fixture(scope="module")
def locust() -> Iterator[Prepared]:
    with prepared_locust() as prepared:
        yield prepared


def test_runs_of_the_rate_limiter(
    locust: Prepared,
    server: RunningServer,
    tmp_path: Path,
    subtests: pytest.Subtests,
    failing_url: str,
) -> None:
    cases = {
        **LIMITER,
        failing_app: ["--run-time", "1s", "--users", "2", "--host", failing_url],
    }
    check_all(locust, "rate_limiter", cases, tmp_path, server, subtests)


def check_all(
    locust: Prepared,
    name: str,
    cases: dict[Callable[[Ended], None], list[str]],
    folder: Path,
    server: RunningServer,
    subtests: pytest.Subtests,
) -> None:
    given = {check.__name__: ["--headless", *words] for check, words in cases.items()}
    ends = runs(locust, name, given, folder, server.url)
    for check in cases:
        with subtests.test(check.__name__):
            check(ends[check.__name__])


# --- the leaderboard, in one process ---


def lossy(ended: Ended) -> None:
    """Scores are exact although answers are lost."""
    assert found(ended.run) == {"scores": True, "linearizable": True}


def lossy_naive(ended: Ended) -> None:
    """The naive board counts twice, and answers ranks that never were."""
    run = ended.run
    assert found(run) == {"scores": False, "linearizable": False}
    assert run.findings[0].evidence


BOARD: dict[Callable[[Ended], None], list[str]] = {
    lossy: ["--run-time", "1s", "--members", "20", "--lose-replies", "20"],
    lossy_naive: ["--run-time", "2s", "--members", "20", "--lose-replies", "20", "--naive"],
    app: ["--run-time", "1s", "--app"],
}


def test_runs_of_the_leaderboard(
    locust: Prepared, server: RunningServer, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    check_all(locust, "leaderboard", BOARD, tmp_path, server, subtests)


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


@pytest.fixture
def failing_url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as served:
        threading.Thread(target=served.serve_forever).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


# --- what goes wrong ---


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupt_ends_with_a_verdict_and_leaves_nothing(
    tmp_path: Path, processes: int
) -> None:
    """Of kvlab alone, as a script sends it; a terminal's Ctrl-C reaches no other process either."""
    arguments = ["--time", "60s", "--fault", "pause@50", "--limit", "1", "--users", "2"]
    arguments += ["--processes", str(processes)] if processes > 1 else []
    running = started(None, tmp_path, *arguments, start_new_session=True)
    server, port = _own_server(psutil.Process(running.pid))
    with redis.Redis("127.0.0.1", port) as client:
        _until(
            lambda: client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0) > 1000
        )
    running.send_signal(signal.SIGINT)
    said, problems = running.communicate(timeout=60)
    assert "HOLDS: at most the limit" in said, problems
    assert "of 60 s" in said.partition("CUT SHORT at ")[2]
    assert "Traceback" not in problems
    assert running.returncode == 0
    run = only_run(tmp_path)
    assert run.holds
    assert not run.errors
    assert not server.is_running()


def test_a_load_ends_with_the_process_that_started_it(
    server: RunningServer, tmp_path: Path
) -> None:
    running = started(server, tmp_path, "leaderboard", "--time=60s", "--rate=10")
    with server.client() as client:
        _until(lambda: client.keys("kvlab:load*"))  # the load has begun
        (locust,) = psutil.Process(running.pid).children()
        running.kill()
        running.communicate()
        psutil.wait_procs([locust], 30)
        assert not locust.is_running()
        assert client.keys("kvlab:load*") == []


def test_an_interrupted_record_ends_its_run(server: RunningServer) -> None:
    """The run is a fork in a session of its own: the terminal's Ctrl-C does not reach the fork."""
    code = "from kvlab.load.command import record; record('leaderboard', seconds=60, rate=10)"
    env = os.environ | {"KVLAB_URL": server.url}
    running = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL)
    with server.client() as client:
        _until(lambda: client.keys("kvlab:load*"))  # the load has begun
        started = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == -signal.SIGINT
        assert psutil.wait_procs(started, 30)[1] == []
        assert client.keys("kvlab:load*") == []


def test_workers_end_with_a_master_that_has_no_server(tmp_path: Path) -> None:
    running = started(None, tmp_path, "--processes=2", "--host=redis://127.0.0.1:1")
    said, problems = running.communicate(timeout=45)  # of all who write; Locust would take 60 s
    assert running.returncode == ExitCode.SERVER
    assert problems.startswith("kvlab: no connection to 127.0.0.1:1, nothing was sent"), said
    assert list(tmp_path.iterdir()) == []


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
    running = started(server, tmp_path, "--processes=2", "--time=3s", "--rate=100")
    with server.client() as client:
        _until(lambda: client.keys("kvlab:load*"))  # the load has begun
    locust = psutil.Process(running.pid).children()[0]
    locust.children()[0].send_signal(signal.SIGKILL)
    said, _ = running.communicate(timeout=60)
    assert "SHOWS NOTHING: 1 of 2 workers never said what their users saw" in " ".join(said.split())
    assert running.returncode == ExitCode.SHOWS_NOTHING


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

UNREACHABLE = {"redis://127.0.0.1:1", "http://127.0.0.1:1", "http://bob:secret@127.0.0.1:1"}


def test_what_cannot_be_is_one_line(
    locust: Prepared, server: RunningServer, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    (tmp_path / "file").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = [
            *((["--headless", *words], says) for words, says in REFUSED),
            (["--web-port", port], f"Locust's page cannot have port {port}"),
        ]
        cases = {str(number): words for number, (words, _) in enumerate(refused)}
        ends = runs(locust, "rate_limiter", cases, tmp_path / "runs", server.url)
    for (words, says), ended in zip(refused, ends.values(), strict=True):
        with subtests.test(" ".join(words)):
            said = ended.said.strip()
            assert says in said.splitlines()[-1]
            assert said.count("\n") == 0 or said.startswith("usage: ")
            lost = words[-2] == "--host" and words[-1] in UNREACHABLE and "--fault" not in words
            assert ended.code == (ExitCode.SERVER if lost else ExitCode.USAGE)
    assert list(tmp_path.glob("runs/*")) == []


def test_a_master_and_its_workers_are_a_command_each_and_merge_exactly(
    locust: Prepared, server: RunningServer, tmp_path: Path
) -> None:
    port = str(free_port())
    words = ["--worker", "--master-port", port]
    worker = started(server, tmp_path / "worker", "leaderboard", *words)
    words = command._arguments_of("leaderboard", 1, words, tmp_path / "fork")
    # A second worker costs no second of imports.
    locust.start(command._FORKED, ["locust", *words], env=os.environ)
    options = ["--master", "--expect-workers", "2", "--time=1s", "--master-bind-port", port]
    master = started(server, tmp_path / "master", "leaderboard", *options)
    said, problems = master.communicate(timeout=90)
    of_worker = worker.communicate(timeout=30)[0]
    assert "a worker of leaderboard: it waits for its master" in of_worker
    run = only_run(tmp_path / "master")
    # Every score is the sum of what both workers had acknowledged: a lost report would show.
    assert master.returncode == ExitCode.HOLDS, said + problems
    assert run.generator is not None
    assert run.generator.processes == 2
    assert run.calls == run.timeline["calls"].sum()
