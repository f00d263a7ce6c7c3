"""The Locust runs behind ``kvlab load`` and chapter 10: headless, with a verdict and a folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.load.record.run import LoadRun
from kvlab.server.running_server import free_port

RUNS = {"rate-limiter": "rate_limiter.py", "leaderboard": "leaderboard.py"}
REPORTS = "loads"
_UNITS = {"h": 3600, "m": 60, "s": 1}
_BROKEN = 1  # the exit code of a run that was made, and whose promise broke


def seconds(text: str) -> int:
    """``30s``, ``2m``, ``1h30m`` or plain seconds, in seconds."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if not re.fullmatch(r"(\d+h)?(\d+m)?(\d+s)?", text) or not text:
        raise InvalidArgument(f"the time must be like 30s, 2m or 1h30m, not {text!r}")
    total = sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([hms])", text))
    if not total:
        raise InvalidArgument(f"the time must be at least a second, not {text!r}")
    return total


def run(
    name: str,
    *,
    users: int = 20,
    length: int | None = 30,
    more: Sequence[str] = (),
    reports: str | Path = REPORTS,
    web: bool = False,
) -> int:
    """Run one load test for ``length`` seconds; its exit code: 0 only when the promise held.

    ``more`` goes to Locust; ``reports`` is where the run's folder goes. ``web``: on Locust's page
    instead, which starts and ends the runs. Raises :class:`InvalidArgument` for an unknown name.
    """
    command = _command(name, users, more, reports)
    if not web:
        command += ["--headless", "--only-summary", "--run-time", f"{length}s"]
    process = subprocess.Popen(command, env=_environment())
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        if not web:
            _show_progress(process, length or 0)
        return process.wait()
    except KeyboardInterrupt:
        # Ctrl-C reached Locust too: it stops its users and still gives the verdict.
        return process.wait()


def record(
    name: str, *, seconds: int = 5, users: int = 20, **options: bool | float | str | Sequence[str]
) -> LoadRun:
    """Make one run, quietly, and give its record, whether its promise held or not.

    ``options`` are those of the locust file: ``record("rate-limiter", algorithm="fixed-window",
    naive=True, fault=["pause@2:1"])``. Raises :class:`KvlabError` with what Locust said when there
    was no run.
    """
    with tempfile.TemporaryDirectory(prefix="kvlab-load-") as reports:
        command = _command(name, users, [*_arguments(options), "--no-page"], reports)
        command += ["--headless", "--only-summary", "--run-time", f"{seconds}s"]
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, env=_environment()
        )
        folders = list(Path(reports).iterdir())
        if ended.returncode not in (0, _BROKEN) or not folders:
            said = ended.stderr.strip().splitlines()[-5:]
            raise KvlabError("the load test made no run:\n" + "\n".join(said))
        return LoadRun.read(folders[0])


def _command(name: str, users: int, more: Sequence[str], reports: str | Path) -> list[str]:
    if name not in RUNS:
        raise InvalidArgument(f"there is no load test {name!r}; there is: {', '.join(RUNS)}")
    if users < 1:
        raise InvalidArgument(f"users must be at least 1, not {users}")
    file = Path(__file__).parents[2] / "loadtests" / RUNS[name]
    if not file.exists():
        raise KvlabError(f"loadtests/{file.name} is missing: run this from the workbook's folder")
    command = [sys.executable, "-m", "locust", "-f", str(file), "--loglevel", "WARNING"]
    command += ["--users", str(users), "--spawn-rate", str(users), "--reports", str(reports)]
    if any(word.partition("=")[0] == "--processes" for word in more):
        # By its usual port the workers of one load test would find the master of another.
        port = str(free_port())
        command += ["--master-port", port, "--master-bind-port", port]
    return [*command, *more]


def _environment() -> dict[str, str]:
    return os.environ | {"KVLAB_LOAD_PARENT": str(os.getpid())}  # the run ends with this process


def _arguments(options: Mapping[str, bool | float | str | Sequence[str]]) -> list[str]:
    arguments = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            arguments += [option] * value
        elif isinstance(value, int | float | str):
            arguments += [option, str(value)]
        else:
            arguments += [word for one in value for word in (option, one)]
    return arguments


def _show_progress(process: subprocess.Popen[bytes], length: int) -> None:
    started = time.monotonic()
    form = "{desc} {bar} {n:.0f}/{total} s"
    # Shown to a person only: a log gets the summary.
    with tqdm(total=length, desc="loading", bar_format=form, leave=False, disable=None) as bar:
        while process.poll() is None and bar.n < length:
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                bar.n = min(time.monotonic() - started, length)
                bar.refresh()
