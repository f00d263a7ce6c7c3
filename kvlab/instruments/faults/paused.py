"""A process that is frozen: its sockets stay open, and it answers nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from kvlab.core.checks import whole


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Freeze the process ``pid`` inside the block (SIGSTOP); it continues afterwards."""
    os.kill(whole("pid", pid, 2), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
