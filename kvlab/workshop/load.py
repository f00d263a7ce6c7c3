"""The Locust runs behind ``kvlab load``: headless, with sensible defaults, and a verdict."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from kvlab.errors import InvalidArgument, KvlabError

RUNS = {"rate-limiter": "rate_limiter.py"}
_UNITS = {"h": 3600, "m": 60, "s": 1}


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


def run(name: str, *, users: int, length: int, more: Sequence[str] = ()) -> int:
    """Run one load test for ``length`` seconds; its exit code: 0 only when the promise held.

    Raises :class:`InvalidArgument` for an unknown name. ``more`` goes to Locust.
    """
    if name not in RUNS:
        raise InvalidArgument(f"there is no load test {name!r}; there is: {', '.join(RUNS)}")
    if users < 1:
        raise InvalidArgument(f"users must be at least 1, not {users}")
    file = Path(__file__).parents[2] / "loadtests" / RUNS[name]
    if not file.exists():
        raise KvlabError(f"loadtests/{file.name} is missing: run this from the workbook's folder")
    command = [sys.executable, "-m", "locust", "-f", str(file), "--headless", "--only-summary"]
    command += ["--loglevel", "WARNING", "--users", str(users), "--spawn-rate", str(users)]
    command += ["--run-time", f"{length}s", "--stop-timeout", "5", *more]
    process = subprocess.Popen(command)
    try:
        _show_progress(process, length)
        return process.wait()
    except KeyboardInterrupt:
        # Ctrl-C reached Locust too: it stops its users and still gives the verdict.
        return process.wait()


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
