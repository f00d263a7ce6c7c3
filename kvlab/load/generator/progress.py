"""What a run prints while it lasts: a line now and then; in a terminal, one line that changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import gevent

from kvlab.load.evidence import Evidence

_SHORTEST, _MOST_LINES = 5.0, 60


def progress(passed: float, seconds: float | None, evidence: Evidence[Any]) -> str:
    """How far a run is. ``passed``, ``seconds``: of the run; None for a run without an end."""
    of = f" of {seconds:g} s" if seconds else " s"
    failed = sum(evidence.errors.values())
    return f"  {passed:.0f}{of}: {evidence.calls:,} calls, {failed:,} errors"


def show_progress(
    began: float,
    seconds: float | None,
    evidence: Callable[[], Evidence[Any]],
    *,
    out: TextIO | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = gevent.sleep,
) -> None:
    """Print the progress of a run until its end. ``began``: seconds of ``clock``."""
    out = out or sys.stdout
    every = max(_SHORTEST, (seconds or 0) / _MOST_LINES)
    begin, end, pause = ("\r", "", 1.0) if out.isatty() else ("", "\n", every)
    try:
        sleep(pause)
        while not seconds or clock() - began < seconds:
            out.write(f"{begin}{progress(clock() - began, seconds, evidence())}{end}")
            out.flush()
            sleep(pause)
    finally:
        out.write("\n" if begin else "")
