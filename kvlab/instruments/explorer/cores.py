"""Keep this thread and a server on one processor core, where only one of them is ever at work.

A handover between two threads or processes is some five times faster there than between cores;
and less still in batch scheduling, where one that is woken does not push aside the one that woke
it, which would still hold the interpreter's lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def one_core(server: int | None) -> Iterator[None]:
    """Both stay on the core that this thread is on; without a server, or where cores cannot be
    chosen (macOS), nothing changes. Threads started inside stay there as well."""
    if server is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    core = {_current(cores)}
    with ExitStack() as ends:
        with suppress(PermissionError):  # it is slower without, no more
            os.sched_setaffinity(0, core)
            ends.callback(os.sched_setaffinity, 0, cores)
            os.sched_setaffinity(server, core)
            if policy == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
                ends.callback(os.sched_setscheduler, 0, policy, os.sched_param(0))
        yield


def different_cores(count: int) -> list[int | None]:
    """Cores for so many processes, each another one as far as there are. None: any, where cores
    cannot be chosen."""
    if not hasattr(os, "sched_getaffinity"):
        return [None] * count
    cores = sorted(os.sched_getaffinity(0))
    first = cores.index(_current(set(cores)))
    return [cores[(first + number) % len(cores)] for number in range(count)]


def stay_on(core: int | None) -> None:
    """This process does, from now on, and so do its children."""
    if core is not None:
        with suppress(PermissionError):
            os.sched_setaffinity(0, {core})


def _current(allowed: set[int]) -> int:
    """The core in use: two processes that explore at once are then seldom on the same."""
    try:
        stat = Path("/proc/thread-self/stat").read_text()
    except OSError:
        return max(allowed)
    core = int(stat.rpartition(")")[2].split()[36])  # field 39 of proc(5), "processor"
    return core if core in allowed else max(allowed)
