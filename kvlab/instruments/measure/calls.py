"""The calls of one experiment: workers that make the calls, and the tally of their outcomes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.schedule import Schedule

Subject = Callable[[int], str | None]

LATE = 1e-3
DONE = "done"


class Clock:
    """Real time. Tests and simulations pass their own with the same two methods."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return time.perf_counter()

    def wait_until(self, moment: float) -> None:
        """Return at ``moment``, at once if it has passed."""
        while (left := moment - time.perf_counter()) > 0:
            # The kernel wakes a sleeper some 60 µs late: sleep for less, then yield.
            time.sleep(left - 2e-4 if left > 3e-4 else 0)


class Tally:
    """Outcomes so far, by kind and by time bucket. One lock, shared by the workers."""

    def __init__(self, bucket: float, *, open_loop: bool) -> None:
        self.outcomes: dict[str, Recorder] = {}
        self.lateness = Recorder() if open_loop else None
        self.late = 0
        self.begin = 0.0
        self.bar: Any = None
        self._bucket = bucket
        self._cells: Counter[tuple[int, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, outcome: str, intended: float, started: float, finished: float) -> None:
        """Count one call; its latency is measured from its intended start."""
        cell = int(max(intended - self.begin, 0.0) / self._bucket)
        with self._lock:
            recorder = self.outcomes.get(outcome)
            if recorder is None:
                recorder = self.outcomes[outcome] = Recorder()
            recorder.record(finished - started, started=started, intended=intended)
            self._cells[cell, outcome] += 1
            if self.lateness is not None:
                self.lateness.record(started - intended)
                self.late += started - intended > LATE
            self.bar.update()

    def rows(self) -> list[dict[str, int]]:
        """Counts by outcome for each bucket, empty ones included."""
        last = max((cell for cell, _ in self._cells), default=-1)
        rows: list[dict[str, int]] = [{} for _ in range(last + 1)]
        for (cell, outcome), n in sorted(self._cells.items()):
            rows[cell][outcome] = n
        return rows


class Workers:
    """The worker threads of one run; a single worker is the caller's own thread."""

    def __init__(
        self,
        subject: Subject,
        schedule: Schedule,
        clock: Clock,
        expected: tuple[type[Exception], ...],
        count: int,
    ) -> None:
        self._subject, self._schedule, self._clock = subject, schedule, clock
        self._expected, self._count = expected, count
        self._lock = threading.Lock()
        self._failures: list[BaseException] = []
        self._next = 0
        self._start = 0.0

    def warm_up(self) -> int:
        """Make the calls of the warm-up; returns their number."""
        self._start = self._clock.now()
        self._make_calls(self._schedule.warm, self._schedule.warm_deadline, None)
        return self._next

    def measure(self, tally: Tally, duration: float | None) -> float:
        """Make the calls that count; returns the seconds that they took."""
        if not self._schedule.open:
            self._start = self._clock.now()
        tally.begin = self._start + (self._schedule.warm_time if self._schedule.open else 0)
        self._make_calls(self._schedule.end, duration, tally)
        return self._clock.now() - tally.begin

    def _make_calls(self, end: int | None, seconds: float | None, tally: Tally | None) -> None:
        """Make the calls up to number ``end`` - 1, or as many as start within ``seconds``."""
        deadline = None if seconds is None or self._schedule.open else self._start + seconds
        if self._count == 1:
            self._work(end, deadline, tally)
        else:
            arguments = (end, deadline, tally)
            threads = [
                threading.Thread(target=self._work, args=arguments, daemon=True)
                for _ in range(self._count)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def _work(self, end: int | None, deadline: float | None, tally: Tally | None) -> None:
        try:
            for number in self._claims(end, deadline):
                self._call(number, tally)
        except BaseException as failure:
            self._failures.append(failure)

    def _claims(self, end: int | None, deadline: float | None) -> Iterator[int]:
        while not self._failures:
            if deadline is not None and self._clock.now() >= deadline:
                return
            with self._lock:
                number = self._next
                if end is not None and number >= end:
                    return
                self._next = number + 1
            yield number

    def _call(self, number: int, tally: Tally | None) -> None:
        key = self._schedule.key(number)
        times = self._schedule.times
        intended = None if times is None else self._start + float(times[number])
        if intended is not None:
            self._clock.wait_until(intended)
        started = self._clock.now()
        try:
            outcome = self._subject(key)
        except self._expected as error:
            outcome = type(error).__name__
        finished = self._clock.now()
        if tally is not None:
            tally.add(outcome or DONE, started if intended is None else intended, started, finished)
