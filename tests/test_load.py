"""The load test can tell right from wrong, and says in one line what it cannot do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvlab.engines import RunningServer
from kvlab.errors import InvalidArgument
from kvlab.workshop.load import seconds

ROOT = Path(__file__).parents[1]


def load(server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kvlab", "load", "rate-limiter", "--time", "3s", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"KVLAB_URL": server.url},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_a_hardened_limiter_holds_over_two_processes(server: RunningServer) -> None:
    ended = load(server, "--algorithm", "sliding-log", "--processes", "2")
    assert "HOLDS: at most the limit in any interval" in ended.stdout, ended.stderr
    assert "the most seen is 10, the bound 10, admissions too many: 0" in ended.stdout
    assert ended.returncode == 0


def test_the_naive_limiter_fails_the_same_run(server: RunningServer) -> None:
    # One key, one admission a second, twenty users who all count before anyone adds.
    ended = load(server, "--naive", "--keys", "1", "--limit", "1")
    assert "BROKEN: at most the limit in any interval" in ended.stdout, ended.stderr
    assert ended.returncode == 1


def test_a_run_that_denies_nobody_shows_nothing(server: RunningServer) -> None:
    ended = load(server, "--limit", "1000000")
    assert "SHOWS NOTHING: no request was denied" in ended.stdout, ended.stderr
    assert ended.returncode == 1


def test_no_server_is_one_line(server: RunningServer) -> None:
    ended = load(server, "--host", "redis://127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr.startswith("kvlab: no connection to 127.0.0.1:1, nothing was sent")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--algorithm", "leaky"], "invalid choice: 'leaky'"),
        (["--users", "0"], "users must be at least 1"),
        (["--limit", "0"], "limit must be a whole number"),
        (["--window", "-1"], "window must be from"),
        (["--time", "soon"], "the time must be like 30s"),
    ],
)
def test_bad_arguments_are_refused(server: RunningServer, arguments: list[str], says: str) -> None:
    ended = load(server, *arguments)
    assert says in ended.stderr
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr


def test_times_are_read_as_people_write_them() -> None:
    assert [seconds(t) for t in ("45", "30s", "2m", "1h1m1s")] == [45, 30, 120, 3661]
    for bad in ("²", "", "0", "0s", "-3s", "3x", "s", "1s1m"):
        with pytest.raises(InvalidArgument):
            seconds(bad)
