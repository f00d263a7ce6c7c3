"""Keep this thread and a server on one processor core: only one of them works at a time.

On one core, a thread hands over to another thread or process about five times faster than between
two cores. Batch scheduling makes it faster still: a thread that is woken does not interrupt the
thread that woke it, which still holds the interpreter's lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def one_core(server: int | None) -> Iterator[None]:
    """Both stay on the core that this thread is on now, and so do threads started in the block.

    Without a server, or where a core cannot be chosen (macOS), nothing changes.
    """
    if server is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    core = {_current(cores)}
    with ExitStack() as ends:
        with suppress(PermissionError):  # then it is only slower
            os.sched_setaffinity(0, core)
            ends.callback(os.sched_setaffinity, 0, cores)
            os.sched_setaffinity(server, core)
            if policy == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
                ends.callback(os.sched_setscheduler, 0, policy, os.sched_param(0))
        yield


def different_cores(count: int) -> list[int | None]:
    """A core for each of so many processes, as different as there are cores.

    None means any core, where a core cannot be chosen.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [None] * count
    cores = sorted(os.sched_getaffinity(0))
    first = cores.index(_current(set(cores)))
    return [cores[(first + number) % len(cores)] for number in range(count)]


def stay_on(core: int | None) -> None:
    """Keep this process, and its children, on the core."""
    if core is not None:
        with suppress(PermissionError):
            os.sched_setaffinity(0, {core})


def _current(allowed: set[int]) -> int:
    """The core in use now, so that two processes that explore at once seldom choose the same."""
    try:
        stat = Path("/proc/thread-self/stat").read_text()
    except OSError:
        return max(allowed)
    core = int(stat.rpartition(")")[2].split()[36])  # field 39 of proc(5), "processor"
    return core if core in allowed else max(allowed)
