"""What every Locust run of kvlab shares: one executor a process, microseconds, a verdict.

Locust rounds response times below 100 ms to whole milliseconds, so a call of 0.3 ms counts as 0.
Its own tables stay usable; the latencies printed at the end come from a recorder of our own.
With ``--processes`` or ``--worker`` what each worker saw travels to the master, which judges.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from locust import User, events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

import kvlab
from kvlab.instruments.machine import environment as measured_on
from kvlab.instruments.recorder import Recorder

PREFIX = "kvlab:load"


class Evidence:
    """What a run saw: latencies, and the facts that the oracle judges, as [key, …] lists."""

    def __init__(self) -> None:
        self.facts: list[list[Any]] = []
        self.latency = Recorder()
        self.calls = 0

    def to_dict(self) -> dict[str, Any]:
        return {"facts": self.facts, "latency": self.latency.to_dict(), "calls": self.calls}

    def add(self, data: dict[str, Any]) -> None:
        self.facts += data["facts"]
        self.latency = self.latency.merge(Recorder.from_dict(data["latency"]))
        self.calls += data["calls"]


class KvUser(User):
    """A user whose calls go straight to the store; subclasses call :meth:`timed`."""

    abstract = True

    @property
    def kv(self) -> kvlab.Kv:
        return self.environment.kvlab_kv

    @property
    def evidence(self) -> Evidence:
        return self.environment.kvlab_evidence

    def timed(self, name: str, call: Callable[[], Any]) -> tuple[Any, float, float]:
        """The result of a call with its begin and end in Unix seconds; None when it failed.

        Locust hears of the call, and of its failure; the recorder has the microseconds.
        """
        result, problem, began, start = None, None, time.time(), time.perf_counter()
        try:
            result = call()
        except kvlab.errors.KvlabError as error:
            problem = error
        taken = time.perf_counter() - start
        self.evidence.latency.record(taken)
        self.evidence.calls += 1
        self.environment.events.request.fire(
            request_type="kv",
            name=name,
            response_time=taken * 1e3,
            response_length=0,
            exception=problem,
            context={},
        )
        return result, began, began + taken


@events.init.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    environment.kvlab_evidence = Evidence()
    try:
        environment.kvlab_kv = kvlab.connect(environment.host, prefix=PREFIX)
        environment.kvlab_kv.run(kvlab.Op("PING"))
    except kvlab.errors.KvlabError as problem:
        sys.exit(f"kvlab: {problem}")
    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(
            lambda client_id, data: data.update(kvlab=_taken(environment))
        )
    if isinstance(environment.runner, MasterRunner):
        environment.events.worker_report.add_listener(
            lambda client_id, data: environment.kvlab_evidence.add(data["kvlab"])
        )


def _taken(environment: Environment) -> dict[str, Any]:
    seen, environment.kvlab_evidence = environment.kvlab_evidence, Evidence()
    return seen.to_dict()


@events.test_start.add_listener
def _afresh(environment: Environment, **_: Any) -> None:
    environment.kvlab_evidence = Evidence()
    if not isinstance(environment.runner, WorkerRunner):
        environment.kvlab_kv.clear()


def report(environment: Environment, title: str, facts: str, verdict: str, *, holds: bool) -> None:
    """Print the end of a run; a broken promise, or no call at all, makes the exit code 1."""
    evidence, machine = environment.kvlab_evidence, measured_on(environment.kvlab_kv)
    lines = [f"{title}, {machine['engine']} {machine['engine_version']}", f"  {facts}"]
    if evidence.latency.count:
        shown = ", ".join(
            f"p{p:g} {evidence.latency.percentile(p) * 1e6:,.0f}" for p in (50, 90, 99, 99.9)
        )
        lines.append(f"  latency in µs, from the call to its answer: {shown}")
    if not evidence.calls:
        holds, verdict = False, "nothing was called, so nothing was shown"
    lines.append(f"  {'HOLDS' if holds else 'BROKEN'}: {verdict}")
    print("\n" + "\n".join(lines), flush=True)
    if not holds:
        environment.process_exit_code = 1
