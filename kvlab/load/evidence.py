"""What a load run saw: gathered in each of its processes, merged in one process, then judged.

Every call is counted under its name and in the interval in which it ended. Intervals are those of
the Unix clock, which the processes of one machine share. A latency is measured from the intended
start and goes to a ``Recorder``; merging recorders loses nothing. The ``facts`` are what the judge
of a pattern needs besides.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import pandas as pd

from kvlab.instruments.measure.recorder import Recorder
from kvlab.load.record.parts import ANSWERED, TIMELINE, WAITED

SHORT, FINE, COARSE = 20.0, 0.25, 1.0
MOST_INTERVALS, ENDLESS = 600, 5.0
CUT_OFF = "the run was over before the answer came"
"""What is recorded of a call that was still under way when the drain ended."""
_PERCENTILES = {"p50_us": 50, "p99_us": 99, "p999_us": 99.9, "max_us": 100}


def interval_seconds(run_seconds: float | None) -> float:
    """The length of an interval: ``FINE`` in a run of up to ``SHORT`` seconds, else whole seconds.

    A run has at most ``MOST_INTERVALS`` intervals, because an interval holds a
    histogram. The intervals of a run without an end take ``ENDLESS`` seconds.
    """
    if run_seconds is None:
        return ENDLESS
    if run_seconds <= SHORT:
        return FINE
    return max(COARSE, math.ceil(run_seconds / MOST_INTERVALS))


class Facts(Protocol):
    """What the judge of one pattern needs."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for another process."""

    def add(self, data: Mapping[str, Any]) -> None:
        """Add what another process noted."""


F = TypeVar("F", bound=Facts)


@dataclass
class Interval:
    """The calls that ended in this interval, and the intended starts in it (open loop)."""

    calls: int = 0
    errors: int = 0
    due: int = 0
    latency: Recorder = field(default_factory=Recorder)


class Evidence(Generic[F]):
    """What one process saw since its last report, or what all processes saw since the run began.

    ``width``: the seconds of an interval, the same in all processes. ``warm_up``: calls before the
    run, in no figure. ``drained``: calls of the run that were answered after its end.
    ``stages``: see ``LoadRun``. ``processes``: what each process says of itself at its end, see
    ``kvlab.load.generator.user``.
    """

    def __init__(self, facts: F, width: float = COARSE) -> None:
        self.facts, self.width = facts, width
        self.latency: dict[str, Recorder] = defaultdict(Recorder)
        self.stages: dict[str, Recorder] = defaultdict(Recorder)
        self.intervals: dict[int, Interval] = defaultdict(Interval)
        self.errors: Counter[str] = Counter()
        self.warm_up = self.drained = 0
        self.processes: dict[str, dict[str, Any]] = {}

    @property
    def calls(self) -> int:
        """Calls that began in the run."""
        return sum(interval.calls for interval in self.intervals.values())

    @property
    def never_sent(self) -> int:
        """Arrivals that were due and whose call never began."""
        return sum(interval.due for interval in self.intervals.values()) - self.calls

    def record(
        self,
        name: str,
        ended: float,
        latency: float,
        problem: object = None,
        waited: float | None = None,
    ) -> None:
        """Count a call: when it ended, in Unix seconds, and its seconds from the intended start.

        ``waited``: seconds between the intended start and the start, None in a closed loop.
        """
        self.latency[name].record(latency)
        if waited is not None:
            self.stages[WAITED].record(waited)
            self.stages[ANSWERED].record(latency - waited)
        interval = self._at(ended)
        interval.calls += 1
        interval.latency.record(latency)
        if problem is not None:
            interval.errors += 1
            self.errors[f"{name}: {problem}"[:200]] += 1

    def due(self, at: float) -> None:
        """Count an intended start, in Unix seconds, whether the call was made or not."""
        self._at(at).due += 1

    def _at(self, moment: float) -> Interval:
        return self.intervals[math.floor(moment / self.width)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`add` reads, in another process too."""
        return {
            "facts": self.facts.to_dict(),
            "latency": {name: one.to_dict() for name, one in self.latency.items()},
            "stages": {name: one.to_dict() for name, one in self.stages.items()},
            "intervals": [
                [number, i.calls, i.errors, i.due, i.latency.to_dict()]
                for number, i in self.intervals.items()
            ],
            "errors": dict(self.errors),
            "warm_up": self.warm_up,
            "drained": self.drained,
            "processes": self.processes,
        }

    def add(self, data: Mapping[str, Any]) -> None:
        """Add what another process saw."""
        self.facts.add(data["facts"])
        for mine, added in ((self.latency, data["latency"]), (self.stages, data["stages"])):
            for name, recorder in added.items():
                mine[name].merge(Recorder.from_dict(recorder))
        for number, calls, errors, due, latency in data["intervals"]:
            interval = self.intervals[number]
            interval.calls += calls
            interval.errors += errors
            interval.due += due
            interval.latency.merge(Recorder.from_dict(latency))
        self.errors.update(data["errors"])
        self.warm_up += data["warm_up"]
        self.drained += data["drained"]
        self.processes |= data["processes"]

    def timeline(
        self, began: float, seconds: float, users: Mapping[int, int], *, open_loop: bool
    ) -> pd.DataFrame:
        """A row for each interval of the run, with the columns of ``TIMELINE``.

        ``began``: Unix seconds. ``users``: their number by interval of the Unix clock. The run
        begins and ends inside an interval, so that its first and its last row are shorter. ``due``
        is NaN in a closed loop.
        """
        first, last = (math.floor(at / self.width) for at in (began, began + seconds))
        rows, present = [], next((users[n] for n in sorted(users, reverse=True) if n <= first), 0)
        for number in range(first, last + 1):
            starts = max(began, number * self.width)
            present = users.get(number, present)
            interval = self.intervals.get(number, Interval())
            row: dict[str, float] = {
                "second": round(starts - began, 6),
                "users": present,
                "calls": interval.calls,
                "errors": interval.errors,
                "due": interval.due if open_loop else float("nan"),
            }
            row |= {
                name: interval.latency.percentile(percent) * 1e6
                for name, percent in _PERCENTILES.items()
            }
            rows.append(row)
        return pd.DataFrame(rows, columns=list(TIMELINE))
