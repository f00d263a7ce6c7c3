"""What every Locust run of kvlab shares: one executor a process, microseconds, a verdict.

Locust rounds response times below 100 ms to whole milliseconds, so a call of 0.3 ms counts as 0.
Its own tables stay usable; the latencies printed at the end come from a recorder of our own.
With ``--processes`` or ``--worker`` what each worker saw travels to the master, which judges.
"""

from __future__ import annotations

import sys
import threading
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
_CONNECTING = threading.Lock()


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
        return connected(self.environment)

    @property
    def evidence(self) -> Evidence:
        return evidence_of(self.environment)

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


def connected(environment: Environment) -> kvlab.Kv:
    """The executor of this process, made when first asked for: a worker may have users first."""
    with _CONNECTING:
        if not hasattr(environment, "kvlab_kv"):
            environment.kvlab_kv = kvlab.connect(environment.host, prefix=PREFIX)
        return environment.kvlab_kv


def evidence_of(environment: Environment) -> Evidence:
    """What this process has seen since it last reported."""
    return environment.__dict__.setdefault("kvlab_evidence", Evidence())


def ready(environment: Environment, first: kvlab.Op[Any]) -> None:
    """Run the first op of a load; what is wrong with it ends the run with one line."""
    if isinstance(environment.runner, WorkerRunner):
        return
    try:
        connected(environment).run(first)
    except kvlab.errors.KvlabError as problem:
        sys.exit(f"kvlab: {problem}")


@events.test_start.add_listener
def _afresh(environment: Environment, **_: Any) -> None:
    if not isinstance(environment.runner, WorkerRunner):
        environment.kvlab_evidence = Evidence()
        connected(environment).clear()


@events.init.add_listener
def _gather(environment: Environment, **_: Any) -> None:
    """Let what the workers saw travel to the master with Locust's own statistics."""

    def send(client_id: str, data: dict[str, Any]) -> None:
        seen, environment.kvlab_evidence = evidence_of(environment), Evidence()
        data["kvlab"] = seen.to_dict()

    def receive(client_id: str, data: dict[str, Any]) -> None:
        if "kvlab" in data:
            evidence_of(environment).add(data["kvlab"])

    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(send)
    if isinstance(environment.runner, MasterRunner):
        environment.events.worker_report.add_listener(receive)


def report(
    environment: Environment,
    title: str,
    facts: str,
    verdict: str,
    *,
    holds: bool,
    untested: str | None = None,
) -> None:
    """Print the end of a run; its exit code is 1 when a promise broke, or was not put to a test.

    ``untested`` says why the run shows nothing.
    """
    evidence, machine = evidence_of(environment), measured_on(connected(environment))
    lines = [f"{title}, {machine['engine']} {machine['engine_version']}", f"  {facts}"]
    if evidence.latency.count:
        shown = ", ".join(
            f"p{p:g} {evidence.latency.percentile(p) * 1e6:,.0f}" for p in (50, 90, 99, 99.9)
        )
        lines.append(f"  latency in µs, from the call to its answer: {shown}")
    if not evidence.calls:
        untested = "nothing was called"
    if holds and untested:
        lines.append(f"  SHOWS NOTHING: {untested}")
    else:
        lines.append(f"  {'HOLDS' if holds else 'BROKEN'}: {verdict}")
    print("\n" + "\n".join(lines), flush=True)
    if untested or not holds:
        environment.process_exit_code = 1
