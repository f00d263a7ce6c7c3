"""Run a subject under a workload, and say what happened in numbers that can be checked.

Guarantee: one call per request of the workload, in order of its schedule. In an open loop every
latency counts from the moment the request was due, and the result says how late its own generator
was (``late_share``, ``lateness``): when that is not small, the numbers describe the generator.
Warm-up calls happen and are not counted. An exception of the subject ends the run and is raised,
unless its class is listed in ``expected``; then its name is the outcome.

Not promised: a rate beyond what Python threads can start (about 10,000 a second on one core), or
a start more exact than the operating system's sleep (about 0.1 ms).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.machine import HasClient, environment
from kvlab.instruments.measure.progress import progress_bar
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.schedule import Plan
from kvlab.instruments.measure.workload import ClosedLoop, OpenLoop, Popularity, Trace

__all__ = [
    "Clock",
    "experiment",
]

Subject = Callable[[int], str | None]

LATE = 1e-3
DONE = "done"


class Clock:
    """Real time. Tests and simulations pass their own with the same two methods."""

    def now(self) -> float:
        """Seconds, monotonic."""
        return time.perf_counter()

    def wait_until(self, moment: float) -> None:
        """Return at ``moment``, at once if it has passed."""
        while (left := moment - time.perf_counter()) > 0:
            # the kernel wakes a sleeper some 60 µs late: sleep short of it, then yield
            time.sleep(left - 2e-4 if left > 3e-4 else 0)


def experiment(
    subject: Subject,
    workload: Popularity,
    seed: int,
    *,
    arrivals: ClosedLoop | OpenLoop | None = None,
    count: int | None = None,
    duration: float | None = None,
    warmup: int = 0,
    warmup_seconds: float = 0.0,
    bucket: float = 1.0,
    check: Callable[[], int] | None = None,
    expected: tuple[type[Exception], ...] = (),
    kv: HasClient | None = None,
    name: str = "",
    progress: bool = True,
    clock: Clock | None = None,
) -> Result:
    """Call ``subject(key)`` for ``count`` requests or ``duration`` seconds after the warm-up.

    The subject returns an outcome ("hit", "denied" …) or None. ``arrivals`` defaults to a closed
    loop of one worker, for a ``Trace`` to the trace's own times. Warm-up is ``warmup`` calls or
    ``warmup_seconds``. ``bucket`` is the width in seconds of the result's timeline. ``check`` is
    called once at the end and returns the number of violations; without it they stay None,
    which means nobody looked. ``kv`` adds round trips and the engine's name. A progress bar shows
    up after one second.
    """
    ended_by = _checked(count, duration, warmup, warmup_seconds, workload)
    real("bucket", bucket, 0, above=True)
    if arrivals is None and not isinstance(workload, Trace):
        arrivals = ClosedLoop()
    plan = Plan(workload, arrivals, seed, *ended_by, warmup, warmup_seconds)
    tick = clock or Clock()
    tally = _Tally(bucket, plan.open)
    workers = arrivals.workers if arrivals else 1
    crew = _Crew(subject, plan, tick, expected, workers)
    start = crew.phase(tick.now(), 0, plan.warm, plan.warm_deadline, None)
    trips_before = kv.round_trips if kv is not None else 0
    total = None if plan.end is None else plan.end - crew.next
    with progress_bar(total, name, show=progress) as bar:
        tally.bar = bar
        begin = start + plan.warm_time if plan.open else tick.now()
        tally.begin = begin
        crew.phase(start if plan.open else begin, crew.next, plan.end, duration, tally)
    seconds = tick.now() - begin
    return Result(
        name=name,
        outcomes=dict(sorted(tally.outcomes.items())),
        timeline=tally.rows(),
        bucket=bucket,
        seconds=seconds,
        violations=None if check is None else int(check()),
        round_trips=kv.round_trips - trips_before if kv is not None else None,
        lateness=tally.lateness,
        late=tally.late,
        environment=environment(kv)
        | {
            "loop": plan.describe(),
            "seed": seed,
            "workload": _describe(workload),
            "warmup": f"{warmup_seconds:g} s" if warmup_seconds else f"{warmup} calls",
            "repetitions": 1,
        },
    )


def _checked(
    count: int | None,
    duration: float | None,
    warmup: int,
    warmup_seconds: float,
    workload: Popularity,
) -> tuple[int | None, float | None]:
    whole("warmup", warmup, 0)
    real("warmup_seconds", warmup_seconds, 0)
    if warmup and warmup_seconds:
        raise InvalidArgument(
            f"give warmup or warmup_seconds, got {warmup!r} calls and {warmup_seconds!r} s"
        )
    if count is None and duration is None and isinstance(workload, Trace):
        count = max(len(workload) - warmup, 1)
    if (count is None) == (duration is None):
        raise InvalidArgument(
            f"give either count or duration, got count={count!r}, duration={duration!r}"
        )
    if count is not None:
        whole("count", count, 1)
    if duration is not None:
        real("duration", duration, 0, above=True)
    return count, duration


def _describe(workload: Popularity) -> str:
    return f"Trace of {len(workload)}" if isinstance(workload, Trace) else repr(workload)


class _Tally:
    """Outcomes so far, by kind and by time bucket. One lock, shared by the workers."""

    def __init__(self, bucket: float, open_loop: bool) -> None:
        self.outcomes: dict[str, Recorder] = {}
        self.lateness = Recorder() if open_loop else None
        self.late = 0
        self.begin = 0.0
        self.bar: Any = None
        self._bucket = bucket
        self._cells: Counter[tuple[int, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, outcome: str, due: float, started: float, finished: float) -> None:
        cell = int(max(due - self.begin, 0.0) / self._bucket)
        with self._lock:
            recorder = self.outcomes.get(outcome)
            if recorder is None:
                recorder = self.outcomes[outcome] = Recorder()
            recorder.record(finished - started, started=started, intended=due)
            self._cells[cell, outcome] += 1
            if self.lateness is not None:
                self.lateness.record(started - due)
                self.late += started - due > LATE
            self.bar.update()

    def rows(self) -> list[dict[str, int]]:
        """Counts by outcome for each bucket, empty ones included."""
        last = max((cell for cell, _ in self._cells), default=-1)
        rows: list[dict[str, int]] = [{} for _ in range(last + 1)]
        for (cell, outcome), n in sorted(self._cells.items()):
            rows[cell][outcome] = n
        return rows


class _Crew:
    """The worker threads of one run; with one worker, the caller's own thread."""

    def __init__(
        self,
        subject: Subject,
        plan: Plan,
        clock: Clock,
        expected: tuple[type[Exception], ...],
        workers: int,
    ) -> None:
        self._subject, self._plan, self._clock = subject, plan, clock
        self._expected, self._workers = expected, workers
        self._lock = threading.Lock()
        self.next = 0

    def phase(
        self, start: float, first: int, end: int | None, seconds: float | None, tally: _Tally | None
    ) -> float:
        """Do requests ``first``…``end``-1, or as many as begin within ``seconds``."""
        self.next = first
        deadline = None if seconds is None or self._plan.open else start + seconds
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for i in self._claims(end, deadline, failures):
                    self._one(i, start, tally)
            except BaseException as failure:
                failures.append(failure)

        if self._workers == 1:
            work()
        else:
            threads = [threading.Thread(target=work, daemon=True) for _ in range(self._workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if failures:
            raise failures[0]
        return start

    def _claims(
        self, end: int | None, deadline: float | None, failures: list[BaseException]
    ) -> Iterator[int]:
        while not failures:
            if deadline is not None and self._clock.now() >= deadline:
                return
            with self._lock:
                i = self.next
                if end is not None and i >= end:
                    return
                self.next = i + 1
            yield i

    def _one(self, i: int, start: float, tally: _Tally | None) -> None:
        key = self._plan.key(i)
        times = self._plan.times
        due = None if times is None else start + float(times[i])
        if due is not None:
            self._clock.wait_until(due)
        started = self._clock.now()
        try:
            outcome = self._subject(key)
        except self._expected as error:
            outcome = type(error).__name__
        finished = self._clock.now()
        if tally is not None:
            tally.add(outcome or DONE, started if due is None else due, started, finished)
