"""What a load test says of its pattern, and the record of a run made of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
import redis
from locust.argument_parser import default_args_dict

import kvlab
from kvlab.errors import KvlabError
from kvlab.instruments.measure.machine import environment as measured_on
from kvlab.load.evidence import Evidence, Facts
from kvlab.load.http_target import HttpFailed
from kvlab.load.record.run import Fault, Finding, Generator, LoadRun
from kvlab.load.user import OVER, Process

UNSENT = 0.001
"""From this share of arrivals that were never sent on, a percentile of those that were misleads."""
BUSY = 0.9
"""From this share of a core on, a generator keeps its own calls waiting."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """``untested``: why the run shows nothing, if so; ``windows``: see ``LoadRun``."""

    findings: Sequence[Finding]
    untested: str | None = None
    windows: pd.DataFrame | None = None


class LoadTest(Protocol):
    """One pattern under load. ``given`` are the options of the command line or the web UI."""

    pattern: str

    def options(self, add: Callable[..., Any]) -> None:
        """Add options, by ``add_argument`` of Locust's parser."""

    def first(self, given: Any) -> kvlab.Op[Any]:
        """An op to try before the load. Raises InvalidArgument for options of no use."""

    def title(self, given: Any) -> str:
        """What is loaded, in one line."""

    def app_settings(self, given: Any) -> dict[str, Any]:
        """Settings of the sample app, see ``kvlab.sample_app.settings``."""

    def facts(self, given: Any) -> Facts:
        """What the users note for the judge."""

    def beside(self, process: Process) -> None:
        """What else goes on in each process that has users, in a greenlet, until the run ends."""

    def judge(self, process: Process, began: float) -> Judgement:
        """Judge what was seen; the server may be asked what it holds."""


def recorded(
    test: LoadTest,
    process: Process,
    began: float,
    seconds: float,
    users: Mapping[int, int],
    faults: Sequence[Fault],
    problem: str | None,
) -> LoadRun:
    """The run of ``process``, judged. ``problem``: why it shows nothing, whatever it saw."""
    given, evidence = process.given, process.evidence
    machine, judged = measured_on(), Judgement((), problem)
    if problem is None:
        try:
            machine = measured_on(process.kv)
            judged = test.judge(process, began)
        except (KvlabError, HttpFailed, redis.RedisError) as raised:
            judged = Judgement((), f"the store could not be asked at the end: {raised}")
    return LoadRun(
        pattern=test.pattern,
        title=test.title(given),
        settings=_settings(given),
        machine=machine,
        began=began,
        seconds=seconds,
        timeline=evidence.timeline(began, seconds, users, open_loop=bool(given.rate)),
        latency=dict(evidence.latency),
        errors=dict(evidence.errors),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
        findings=(*judged.findings, *_unanswered(given, evidence)),
        untested=judged.untested if evidence.calls else problem or "nothing was called",
        generator=_generator(evidence, seconds, open_loop=bool(given.rate)),
        windows=judged.windows,
    )


def _unanswered(given: Any, evidence: Evidence) -> tuple[Finding, ...]:
    """Calls that failed although nothing was done to the store."""
    failed = sum(n for said, n in evidence.errors.items() if not said.endswith(OVER))
    if not failed or given.fault or given.lose_replies:
        return ()
    says = f"every call is answered, as nothing was done to the store; failed: {failed:,}"
    return (Finding("answers", False, f"{says} of {evidence.calls:,}"),)


def _settings(given: Any) -> dict[str, Any]:
    """The options that a reader needs: the load test's own, and a few of Locust's."""
    own = vars(given).keys() - default_args_dict().keys() - {"reports", "no_page", "kvlab"}
    names = (*sorted(own), "spawn_rate", "processes", "tags", "exclude_tags")
    found = {name: getattr(given, name) for name in names}
    settings = {name: value for name, value in found.items() if value not in (None, "", [])}
    return settings | {"users": given.kvlab["users"], "rate": given.rate or None}


def _generator(evidence: Evidence, seconds: float, *, open_loop: bool) -> Generator | None:
    processes = evidence.processes
    if not processes:
        return None
    busiest = max(one["cpu"] for one in processes.values())
    noop = sum(one["noop"] for one in processes.values()) / len(processes)
    cpu = sum(one["cpu"] for one in processes.values()) / len(processes)
    warning = None
    if busiest > BUSY:
        made = evidence.calls / seconds / len(processes)
        warning = (
            f"the generator set the pace, not the store: one process used {busiest:.0%} of a "
            f"core, each made {made:,.0f} calls a second ({noop:,.0f} when a call does nothing). "
            "Latencies contain waiting for it. Take --rate, fewer users or more --processes."
        )
    due = sum(interval.due for interval in evidence.intervals.values())
    if open_loop and (unsent := due - evidence.calls) > UNSENT * due:
        late = (
            f"{unsent:,} of {due:,} arrivals were never sent: each of the users still waited for "
            "an answer. The percentiles leave out those who waited longest. Take more users or a "
            "lower --rate."
        )
        warning = late if warning is None else f"{warning} {late}"
    return Generator(len(processes), noop, None, cpu, warning)
