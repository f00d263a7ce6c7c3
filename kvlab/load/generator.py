"""How busy the load generator was, what it can do at most, and when its pace misleads.

Each process measures the calls a second that its users can make when a call does nothing: the same
loop, recorders and events as in a run. The measurement follows the run, because before the run it
would delay the users of one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvlab.load.evidence import Evidence
from kvlab.load.record.parts import Generator

NEVER_SENT = 0.001
"""From this share of arrivals that were never sent, the percentiles of the others mislead."""
BUSY = 0.9
"""From this share of a core, a generator delays its own calls."""


def generator_of(evidence: Evidence[Any], seconds: float, *, open_loop: bool) -> Generator | None:
    """What the processes say of themselves; None when no process has said anything."""
    processes = list(evidence.processes.values())
    if not processes:
        return None
    noop = sum(process["noop"] for process in processes) / len(processes)
    cpu = sum(process["cpu"] for process in processes) / len(processes)
    warnings = [*_busy(evidence, processes, noop, seconds), *_never_sent(evidence, open_loop)]
    return Generator(
        len(processes),
        noop,
        cpu,
        " ".join(warnings) or None,
        evidence.warm_up,
        evidence.drained,
    )


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
    missing = evidence.never_sent
    due = evidence.calls + missing
    if open_loop and missing > NEVER_SENT * due:
        yield (
            f"{missing:,} of {due:,} arrivals were never sent, because every user still waited "
            "for an answer. The percentiles leave out the longest waits. Use more users or a "
            "lower --rate."
        )
