"""What a load run saw: gathered in each process of it, merged in one, then judged.

Every call is counted under its name and in the interval in which it ended (of the Unix clock, which
the processes of one machine share). Latencies go to a ``Recorder``,
from the moment the call was due, so that merging them loses nothing. What the oracle of a pattern
needs besides is its ``facts``, any object with ``to_dict`` and ``add``.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd

from kvlab.instruments.measure.recorder import Recorder
from kvlab.load.record.run import TIMELINE

SHORT, FINE, COARSE = 20.0, 0.25, 1.0
MOST, UNKNOWN = 600, 5.0
_PERCENTILES = {"p50_us": 50, "p99_us": 99, "p999_us": 99.9, "max_us": 100}


def width(run_time: float | None) -> float:
    """The seconds of an interval: a quarter of one in a run of up to ``SHORT``, then whole ones.

    There are ``MOST`` of them or fewer, since each holds a histogram; of a run without an end
    ``UNKNOWN`` seconds each.
    """
    if run_time is None:
        return UNKNOWN
    return FINE if run_time <= SHORT else max(COARSE, math.ceil(run_time / MOST))


class Facts(Protocol):
    """What the oracle of one pattern needs."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for another process."""

    def add(self, data: Mapping[str, Any]) -> None:
        """Take in what another process saw."""


@dataclass
class Interval:
    """The calls that ended in it, and how many were due in it (open loop)."""

    calls: int = 0
    errors: int = 0
    due: int = 0
    latency: Recorder = field(default_factory=Recorder)


class Evidence:
    """What one process saw since it last reported, or all of them since the run began.

    ``width``: the seconds of an interval, the same in all processes.
    """

    def __init__(self, facts: Facts, width: float = COARSE) -> None:
        self.facts, self.width = facts, width
        self.latency: dict[str, Recorder] = defaultdict(Recorder)
        self.intervals: dict[int, Interval] = defaultdict(Interval)
        self.errors: Counter[str] = Counter()
        self.processes: dict[str, dict[str, float]] = {}

    @property
    def calls(self) -> int:
        return sum(interval.calls for interval in self.intervals.values())

    def record(self, name: str, ended: float, latency: float, problem: object = None) -> None:
        """One call: when it ended, in Unix seconds, and the seconds it took since it was due."""
        self.latency[name].record(latency)
        interval = self._at(ended)
        interval.calls += 1
        interval.latency.record(latency)
        if problem is not None:
            interval.errors += 1
            self.errors[f"{name}: {problem}"[:200]] += 1

    def due(self, at: float) -> None:
        """A call was due at that moment, in Unix seconds, made or not."""
        self._at(at).due += 1

    def _at(self, moment: float) -> Interval:
        return self.intervals[math.floor(moment / self.width)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`add` takes, in another process too."""
        return {
            "facts": self.facts.to_dict(),
            "latency": {name: one.to_dict() for name, one in self.latency.items()},
            "intervals": [
                [number, i.calls, i.errors, i.due, i.latency.to_dict()]
                for number, i in self.intervals.items()
            ],
            "errors": dict(self.errors),
            "processes": self.processes,
        }

    def add(self, data: Mapping[str, Any]) -> None:
        """Take in what another process saw."""
        self.facts.add(data["facts"])
        for name, latency in data["latency"].items():
            self.latency[name].merge(Recorder.from_dict(latency))
        for number, calls, errors, due, latency in data["intervals"]:
            interval = self.intervals[number]
            interval.calls += calls
            interval.errors += errors
            interval.due += due
            interval.latency.merge(Recorder.from_dict(latency))
        self.errors.update(data["errors"])
        self.processes |= data["processes"]

    def timeline(
        self, began: float, seconds: float, users: Mapping[int, int], *, open_loop: bool
    ) -> pd.DataFrame:
        """A row for each interval of the run: see ``TIMELINE``.

        ``began``: Unix seconds; ``users``: how many there were, by Unix second. The run begins
        and ends within an interval: its first and its last row are shorter. ``due`` is NaN in a
        closed loop.
        """
        first, last = (math.floor(at / self.width) for at in (began, began + seconds))
        rows, there = [], 0
        for number in range(first, last + 1):
            starts = max(began, number * self.width)
            there = users.get(int(starts), there)
            interval = self.intervals.get(number, Interval())
            row: dict[str, float] = {
                "second": round(starts - began, 6),
                "users": there,
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
