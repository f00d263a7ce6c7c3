"""What a load test must provide, and the record that its verdict makes of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import pandas as pd
import redis

import kvlab
from kvlab.errors import KvlabError
from kvlab.instruments.measure.machine import environment as measured_on
from kvlab.load.evidence import CUT_OFF, Evidence, Facts
from kvlab.load.process import Process
from kvlab.load.record.parts import ANSWERED, BUSY, TOO_LATE, Fault, Finding, Generator
from kvlab.load.record.run import LoadRun
from kvlab.load.record.words import duration
from kvlab.load.settings import LoadSettings
from kvlab.load.target.app_client import AppFailed

NEVER_SENT = 0.001
"""From this share of arrivals that were never sent, the percentiles of the others mislead."""
_WHOLE = 0.98
"""The share of its time from which a run is no shorter than its clock and its workers make it."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a load test concludes from the evidence.

    ``untested``: why the run shows nothing, if so. ``windows``: see ``LoadRun``.
    """

    findings: Sequence[Finding]
    untested: str | None = None
    windows: pd.DataFrame | None = None


def rarest(chances: int, what: str) -> str:
    """What so many independent chances show with 95 % certainty, by the rule of three."""
    return f"a fault in one of {max(1, chances // 3):,} {what}, with 95 % certainty"


S = TypeVar("S", bound=LoadSettings)
F = TypeVar("F", bound=Facts)


class LoadTest(Protocol[S, F]):
    """One pattern under load."""

    pattern: str
    settings: type[S]

    def add_options(self, add: Callable[..., Any]) -> None:
        """Add the options of this pattern with ``add_argument`` of Locust's parser."""

    def first(self, settings: S) -> kvlab.Op[Any]:
        """An op to try before the load."""

    def title(self, settings: S) -> str:
        """What is loaded, in one line."""

    def app_settings(self, settings: S) -> dict[str, Any]:
        """Settings of the sample app, see ``kvlab.sample_app.settings``."""

    def facts(self, settings: S) -> F:
        """An empty record of what users note for the judge."""

    def beside(self, process: Process[S, F]) -> None:
        """What else runs in a process with users: in a greenlet that ends with the run."""

    def bare(self, process: Process[S, F]) -> Callable[[], object]:
        """A call as users make it, which changes nothing that is judged: for a bare loop."""

    def judge(self, process: Process[S, F], began: float) -> Conclusion:
        """Judge the evidence. The judge may ask the store for what it holds."""


@dataclass
class RunFrame:
    """What is known of a run besides the evidence. ``users``: their number by interval."""

    began: float
    seconds: float = 0.0
    users: dict[int, int] = field(default_factory=dict)
    faults: Sequence[Fault] = ()
    problem: str | None = None
    """Why the run shows nothing, whatever its users saw."""


def recorded(test: LoadTest[Any, Any], process: Process[Any, Any], frame: RunFrame) -> LoadRun:
    """The record of a run, judged. It lasted from the first begin to the last end of a process."""
    settings, evidence = process.settings, process.evidence
    spans = [*evidence.processes.values()]
    frame.began = min((span["began"] for span in spans), default=frame.began)
    ended = max((span["ended"] for span in spans), default=time.time())
    frame.seconds = max(ended - frame.began, 1e-3)
    machine, conclusion = _judged(test, process, frame)
    open_loop = bool(settings.rate)
    untested = conclusion.untested
    if not evidence.calls:
        untested = frame.problem or "nothing was called"
    return LoadRun(
        pattern=test.pattern,
        title=test.title(settings) + _cut_short(settings, frame.seconds),
        settings=settings.recorded(),
        machine=machine,
        began=frame.began,
        seconds=frame.seconds,
        timeline=evidence.timeline(frame.began, frame.seconds, frame.users, open_loop=open_loop),
        latency=dict(evidence.latency),
        stages=dict(evidence.stages),
        errors=dict(evidence.errors),
        faults=tuple(frame.faults),
        findings=(*conclusion.findings, *_unanswered(settings, evidence)),
        untested=untested,
        generator=_generator(evidence, frame.seconds, open_loop=open_loop),
        windows=conclusion.windows,
    )


def _cut_short(settings: LoadSettings, seconds: float) -> str:
    """For the title of a run that Ctrl-C or Locust's page has ended before its time."""
    if not settings.seconds or seconds > settings.seconds * _WHOLE:
        return ""
    return f", CUT SHORT at {seconds:.1f} of {settings.seconds:g} s"


def _judged(
    test: LoadTest[Any, Any], process: Process[Any, Any], frame: RunFrame
) -> tuple[Mapping[str, Any], Conclusion]:
    """The machine, with its engine when the store answers, and the conclusion."""
    if frame.problem is not None:
        return measured_on(), Conclusion((), frame.problem)
    machine = measured_on()
    try:
        machine = measured_on(process.kv)
        return machine, test.judge(process, frame.began)
    except (KvlabError, AppFailed, redis.RedisError) as problem:
        return machine, Conclusion((), f"at the end the store did not answer: {problem}")


def _unanswered(settings: LoadSettings, evidence: Evidence[Any]) -> tuple[Finding, ...]:
    """Calls that failed although the run had no faults."""
    messages = [text for text in evidence.errors if not text.endswith(CUT_OFF)]
    failed = sum(evidence.errors[text] for text in messages)
    if not failed or settings.fault or settings.lose_replies:
        return ()
    says = f"every call is answered in a run without faults; failed: {failed:,}"
    counted = tuple(f"{evidence.errors[text]:,} x {text}" for text in messages)
    return (Finding("answers", False, f"{says} of {evidence.calls:,}", counted),)


def _generator(evidence: Evidence[Any], seconds: float, *, open_loop: bool) -> Generator | None:
    """What the processes say of themselves; None when no process has said anything."""
    processes = list(evidence.processes.values())
    if not processes:
        return None
    busiest = max(process["busiest"] for process in processes)
    latest = max(process["latest"] for process in processes)
    bare = [process["bare"] for process in processes if process["bare"] is not None]
    noop = [process["noop"] for process in processes if process.get("noop") is not None]
    answered = [evidence.stages[ANSWERED]] if open_loop else evidence.latency.values()
    warnings = [*_overloaded(busiest, latest), *_never_sent(evidence, open_loop)]
    return Generator(
        processes=len(processes),
        cpu_share=sum(process["cpu"] for process in processes) / len(processes),
        warning=" ".join(warnings) or None,
        busiest=busiest,
        latest=latest,
        bare_per_second=sum(bare) / len(bare) if bare else None,
        noop_per_second=sum(noop) / len(noop) if noop else None,
        under_way=sum(one.count * one.mean for one in answered if one.count) / seconds,
        warm_up=evidence.warm_up,
        drained=evidence.drained,
    )


def _overloaded(busiest: float, latest: float) -> Iterator[str]:
    """Whether the generator delayed its calls, judged by its worst interval."""
    reasons = []
    if busiest > BUSY:
        reasons.append(f"one process used {busiest:.0%} of a core")
    if latest > TOO_LATE:
        reasons.append(f"half of its timers were late by more than {duration(latest)}")
    if reasons:
        yield (
            "the generator set the pace, not the store: in the worst interval "
            f"{' and '.join(reasons)}. Latencies contain the wait for the generator. Use a lower "
            "--rate, fewer users, more --processes, or a machine with less other work."
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
