"""How busy the load generator was, what it can do at most, and when its pace misleads.

Each process measures the calls a second that its users can make when a call does nothing: the same
loop, recorders and events as in a run. The measurement follows the run, because before the run it
would delay the users of one process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from gevent.pool import Group
from locust import task
from locust.env import Environment
from locust.exception import StopUser

from kvlab.load.evidence import Evidence
from kvlab.load.process import Process, share
from kvlab.load.record.parts import Generator
from kvlab.load.user import KvUser

NOOP_SECONDS = 0.3
NEVER_SENT = 0.001
"""From this share of arrivals that were never sent, the percentiles of the others mislead."""
BUSY = 0.9
"""From this share of a core, a generator delays its own calls."""


class _IdleUser(KvUser):
    """Makes calls that do nothing, for ``NOOP_SECONDS``."""

    def on_start(self) -> None:
        self.until = time.perf_counter() + NOOP_SECONDS

    @task
    def nothing(self) -> None:
        self.timed("nothing", lambda: None, lambda began, now: None)
        if time.perf_counter() > self.until:
            raise StopUser


def end_process(process: Process[Any, Any], name: str) -> None:
    """The run is over in this process: note what is known only now."""
    cpu = process.end()
    process.evidence.processes[name] = {"cpu": cpu, "noop": _noop_rate(process)}


def _noop_rate(process: Process[Any, Any]) -> float:
    evidence = Evidence(process.evidence.facts)
    alone = Environment(user_classes=[_IdleUser])
    alone.create_local_runner()
    share(alone, Process(process.settings, evidence))
    began = time.perf_counter()
    _IdleUser(alone).start(Group()).join()
    return evidence.calls / (time.perf_counter() - began)


def generator_of(evidence: Evidence[Any], seconds: float, *, open_loop: bool) -> Generator | None:
    """What the processes say of themselves; None when no process has said anything."""
    processes = list(evidence.processes.values())
    if not processes:
        return None
    noop = sum(process["noop"] for process in processes) / len(processes)
    cpu = sum(process["cpu"] for process in processes) / len(processes)
    warnings = [*_busy(evidence, processes, noop, seconds), *_never_sent(evidence, open_loop)]
    return Generator(len(processes), noop, cpu, " ".join(warnings) or None)


def _busy(
    evidence: Evidence[Any], processes: list[dict[str, float]], noop: float, seconds: float
) -> Iterator[str]:
    busiest = max(process["cpu"] for process in processes)
    if busiest > BUSY:
        made = evidence.calls / seconds / len(processes)
        yield (
            f"the generator set the pace, not the store: one process used {busiest:.0%} of a "
            f"core; a process made {made:,.0f} calls a second ({noop:,.0f} when a call does "
            "nothing). Latencies contain the wait for the generator. Use --rate, fewer users or "
            "more --processes."
        )


def _never_sent(evidence: Evidence[Any], open_loop: bool) -> Iterator[str]:
    due = sum(interval.due for interval in evidence.intervals.values())
    if open_loop and (missing := due - evidence.calls) > NEVER_SENT * due:
        yield (
            f"{missing:,} of {due:,} arrivals were never sent, because every user still waited "
            "for an answer. The percentiles leave out the longest waits. Use more users or a "
            "lower --rate."
        )
