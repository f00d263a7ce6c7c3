"""What a soak proves, and what it does not: one finding for each promise."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from kvlab.instruments.judges.admissions import judge
from kvlab.instruments.judges.server_clock import ServerClock
from kvlab.load.record.parts import Finding
from kvlab.load.soak.callers import COUNTS, ERRORS, FENCES, FREE
from kvlab.load.soak.diary import Diary
from kvlab.load.soak.visitors import LOG_OUTS, NO_500, PROFILES, SCORES, SESSIONS

PROMISES = (NO_500, LOG_OUTS, SESSIONS, PROFILES, SCORES, ERRORS, FENCES, FREE, COUNTS)
"""What visitors and callers look at."""
GROWTH = 1.1
"""The app's memory may grow by this factor from the second quarter of a soak to the last."""
_LONG_ENOUGH = 60
"""Samples of memory, one a second, without which nothing is said about it."""
_SPARE = 40
"""Descriptors that the app may open after its first second: its threads and the database's."""
_SHOWN = 5


@dataclass(slots=True)
class Residue:
    """What is left when everybody has gone, filled in as it becomes known.

    ``store_connections``: the app's idle connections to the store, ``most_connections`` of which
    were in use at once. ``left_open``: of the store's clients after the app has ended.
    """

    store_connections: int = 0
    most_connections: int = 0
    descriptors: int = 0
    descriptors_before: int = 0
    left_open: int = 0
    tasks: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    endless: list[str] = field(default_factory=list)
    log: str = ""

    @property
    def is_too_much(self) -> bool:
        return (
            self.store_connections > self.most_connections
            or self.descriptors > self.descriptors_before + _SPARE
        )


def judged(
    diary: Diary, residue: Residue, limit: int, window: float, clock: ServerClock
) -> list[Finding]:
    """A finding for each promise; BROKEN too when a promise was never put to the test."""
    return [
        *(_finding(promise, diary.done[promise], diary.wrong[promise]) for promise in PROMISES),
        _limit(diary, limit, window),
        _server_times(diary, clock),
        _memory(diary.memory),
        *_residue(residue),
    ]


def _finding(promise: str, tried: int, wrong: Iterable[str]) -> Finding:
    seen = [*wrong]
    says = f"{promise}: {len(seen):,} of {tried:,}" if seen else f"{promise}: {tried:,} looks"
    return Finding(promise, bool(tried) and not seen, says, tuple(seen[:_SHOWN]))


def _limit(diary: Diary, limit: int, window: float) -> Finding:
    verdicts = [
        judge("sliding-log", [at for at, _, _ in calls], limit=limit, window=window)
        for calls in diary.admitted.values()
    ]
    over, admitted = sum(v.over for v in verdicts), sum(v.admitted for v in verdicts)
    busiest = max((v.worst for v in verdicts), default=0)
    name = "the limit holds"
    says = f"{name}: {over} too many of {admitted:,} admissions; at most {busiest:g} of {limit}"
    return Finding(name, bool(admitted) and not over, f"{says} in {window:g} s")


def _server_times(diary: Diary, clock: ServerClock) -> Finding:
    name = "each server time lies inside its request"
    calls = [call for of_address in diary.admitted.values() for call in of_address]
    outside = int(clock.outside(calls).sum())
    says = f"{name}, ± {clock.tolerance * 1e3:.1f} ms: {outside:,} of {len(calls):,} outside"
    return Finding(name, bool(calls) and not outside, says)


def _memory(samples: list[int]) -> Finding:
    name = "memory is flat"
    if len(samples) < _LONG_ENOUGH:
        return Finding(name, True, f"{name}: too short a soak to say")
    quarter = len(samples) // 4
    early = statistics.median(samples[quarter : 2 * quarter]) / 1e6
    late = statistics.median(samples[-quarter:]) / 1e6
    return Finding(name, late <= GROWTH * early, f"{name}: {early:.1f} MB, then {late:.1f} MB")


def _residue(residue: Residue) -> Iterable[Finding]:
    most, idle = residue.most_connections, residue.store_connections
    name = "no connection leaks"
    says = f"{name}: {idle} to the store for at most {most} at once, {residue.left_open} in the end"
    yield Finding(name, idle <= most and not residue.left_open, says)
    before, after = residue.descriptors_before, residue.descriptors
    name = "no descriptor leaks"
    yield Finding(name, after <= before + _SPARE, f"{name}: {before} before, {after} after")
    for name, left in (
        ("no task is left", residue.tasks),
        ("no process is left", residue.processes),
        ("every key has a TTL", residue.endless),
    ):
        yield Finding(name, not left, f"{name}: {len(left)} without end", tuple(left[:_SHOWN]))
    traces = residue.log.count("Traceback")
    name = "the app's log has no stack trace"
    yield Finding(name, not traces, f"{name}: {traces}", tuple(residue.log.splitlines()[-_SHOWN:]))
