"""What ``kvlab load`` makes of its words, without a run."""

from __future__ import annotations

import io
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from kvlab import cli
from kvlab.errors import InvalidArgument
from kvlab.load import command
from kvlab.load.command import record, seconds
from kvlab.load.evidence import Evidence
from kvlab.load.generator.progress import show_progress
from kvlab.load.options import JUDGED, ExitCode, NoReport, check_reports, page_address
from kvlab.load.rate_limiter.decisions import Decisions
from kvlab.version import __version__


@pytest.mark.parametrize(
    ("typed", "name", "more"),
    [
        ("", "rate-limiter", ""),
        ("leaderboard --members 5", "leaderboard", "--members 5"),
        ("--members 5 leaderboard --skew 0", "leaderboard", "--members 5 --skew 0"),
        ("--rate 20", "rate-limiter", "--rate 20"),
        ("--rate 20 leaderboard", "leaderboard", "--rate 20"),
        ("--app --users 5 leaderboard", "leaderboard", "--app"),
        ("--naive leaderboard", "leaderboard", "--naive"),
        ("--limit 1 --naive --keys=1", "rate-limiter", "--limit 1 --keys=1 --naive"),
        ("rate_limiter --limit 1", "rate-limiter", "--limit 1"),
        ("leaderboard -- --help", "leaderboard", "--help"),
        ("--find-rate --slo p99=5ms -- --help", "rate-limiter", "--help"),
    ],
)
def test_the_name_may_stand_anywhere(
    typed: str, name: str, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    monkeypatch.setattr(command, "run", lambda *given, **options: runs.append((given, options)))
    CliRunner().invoke(cli.app, ["load", *typed.split()])
    ((given, options),) = runs
    assert given == (name,)
    assert options["more"] == more.split()


def test_another_word_in_the_place_of_the_name_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="there is no load test 'sessions'"):
        command.chosen(["sessions", "--rate", "3"])


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("--slo p99=5ms", "--slo is for --find-rate"),
        ("--find-rate --slo p99=5ms --members 5", "--members is an option of leaderboard, not of"),
        ("--find-rate --slo p99=5ms --rate=9", "--rate is not for --find-rate, which sets"),
        ("--find-rate --slo p99=5ms --worker", "--worker is not for --find-rate"),
        ("--find-rate --slo p99=5ms --master", "--master is not for --find-rate"),
        ("--find-rate --slo p99=5ms --web", "--web is not for --find-rate"),
        ("--members 5", "--members is an option of leaderboard, not of rate-limiter"),
        ("leaderboard --limit=5", "--limit is an option of rate-limiter, not of leaderboard"),
    ],
)
def test_an_option_out_of_place_is_refused(typed: str, says: str) -> None:
    refused = CliRunner().invoke(cli.app, ["load", *typed.split()]).exception
    assert isinstance(refused, InvalidArgument)
    assert says in str(refused)


@pytest.mark.parametrize("rate", ["0", "0.0", "ten"])
def test_a_rate_is_above_zero(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command._parser("leaderboard").parse_args(["--rate", rate])
    assert "argument --rate: a number above 0" in capsys.readouterr().err
    assert command._parser("leaderboard").parse_args([]).rate == 0


def test_help_is_no_markup_and_is_not_broken_amid_a_sentence() -> None:
    said = {name: CliRunner().invoke(cli.app, [name, "--help"]).output for name in ("bench", "lab")}
    assert 'pip install "kvlab[peers]"' in " ".join(said["bench"].split())
    assert "JupyterLab; the first time, make" in said["lab"]


def test_ctrl_c_says_that_nothing_was_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvlab.workshop.site.build.write", stopped)
    ended = CliRunner().invoke(cli.app, ["site"])
    assert (ended.exit_code, ended.stderr) == (130, "\nkvlab: stopped; nothing was kept\n")


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(cli.app, ["--version"]).output == f"kvlab {__version__}\n"


class _Locust:
    """Stands for the process of Locust."""

    def __init__(self, ended: int) -> None:
        self.wait = lambda: ended
        self.terminate = lambda: None


@pytest.mark.parametrize(
    ("locust", "code"),
    [
        *((JUDGED + code, code) for code in ExitCode),
        (1, ExitCode.USAGE),  # Locust's own: an unknown user class
        (2, ExitCode.USAGE),
        (ExitCode.SERVER, ExitCode.SERVER),
        (ExitCode.REPORT, ExitCode.REPORT),
        (-9, -9),
    ],
)
def test_the_exit_code_tells_a_verdict_from_a_failure(
    locust: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.subprocess, "Popen", lambda *_, **__: _Locust(locust))
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    assert command.run("leaderboard", length=1) == code


def test_a_page_gets_the_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(command.subprocess, "Popen", lambda c, **_: given.append(c) or _Locust(0))
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    command.run("leaderboard", length=77, web=True)
    assert given[0][-2:] == ["--run-time", "77s"]
    assert "--headless" not in given[0]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8089"),
        ("*", "http://127.0.0.1:8089"),
        ("::1", "http://[::1]:8089"),
        ("box", "http://box:8089"),
    ],
)
def test_the_page_has_an_address(host: str, address: str) -> None:
    options = SimpleNamespace(
        web_host=host, web_port=8089, tls_cert=None, tls_key=None, web_base_path=""
    )
    assert page_address(options) == address


@pytest.mark.parametrize("place", ["file", "file/deeper", "/proc/none"])
def test_a_folder_for_reports_is_tried_before_the_run(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_reports(tmp_path / "new" / "deeper")
    assert list((tmp_path / "new" / "deeper").iterdir()) == []
    with pytest.raises(NoReport, match="no report can be written to"):
        check_reports(tmp_path / place)


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "out", "said"),
    [
        (
            12.0,
            io.StringIO(),
            "  5 of 12 s: 1 calls, 1 errors\n  10 of 12 s: 1 calls, 1 errors\n",
        ),
        (2.0, _Screen(), "\r  1 of 2 s: 1 calls, 1 errors\n"),
        (2.0, io.StringIO(), ""),
    ],
)
def test_a_run_says_how_far_it_is(seconds: float, out: io.StringIO, said: str) -> None:
    seen = Evidence(Decisions())
    seen.record("hit", 100.0, 0.1, "lost")
    now = [50.0]

    def sleep(pause: float) -> None:
        now[0] += pause

    show_progress(50.0, seconds, lambda: seen, out=out, clock=lambda: now[0], sleep=sleep)
    assert out.getvalue() == said


def test_what_cannot_run_is_an_error() -> None:
    with pytest.raises(InvalidArgument, match="there is no load test 'sessions'"):
        record("sessions")
    with pytest.raises(InvalidArgument, match="users must be a whole number of at least 1"):
        record("leaderboard", users=0)
    with pytest.raises(InvalidArgument, match="members must be"):
        record("leaderboard", members=0)


def test_all_threads_fork_from_one_process_and_from_a_new_one_when_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "_IMPORTS", ["wave"])
    monkeypatch.setattr(command, "_PREPARED", {})
    with ThreadPoolExecutor(4) as threads:
        first, *others = threads.map(command._prepared, [os.getpid()] * 4)
    assert all(one is first for one in others)
    os.kill(first.pid, signal.SIGKILL)
    while not first.has_ended:
        time.sleep(0.01)
    with command._prepared(os.getpid()) as second:
        assert second.pid != first.pid


def test_help_lists_the_options_of_the_load_test(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run("leaderboard", more=["--help"]) == 0
    said = capsys.readouterr().out
    for option in ("--rate", "--fault", "--lose-replies N", "--ties {first,shared,dense}"):
        assert option in said
    assert "--algorithm" not in said


def test_times_are_read_as_people_write_them() -> None:
    assert [seconds(t) for t in ("45", "30s", "2m", "1h1m1s")] == [45, 30, 120, 3661]
    for bad in ("²", "", "0", "0s", "-3s", "3x", "s", "1s1m"):
        with pytest.raises(InvalidArgument):
            seconds(bad)
