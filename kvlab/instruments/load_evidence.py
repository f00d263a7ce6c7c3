"""What a load run saw: gathered in each process of it, merged in one, then judged.

Every call is counted under its name and in the second in which it ended (of the Unix clock, which
the processes of one machine share). Latencies go to :class:`~kvlab.instruments.recorder.Recorder`,
from the moment the call was due, so that merging them loses nothing. What the oracle of a pattern
needs besides is its ``facts``, any object with ``to_dict`` and ``add``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd

from kvlab.instruments.load_run import TIMELINE
from kvlab.instruments.recorder import Recorder

_PERCENTILES = {"p50_us": 50, "p99_us": 99, "p999_us": 99.9, "max_us": 100}


class Facts(Protocol):
    """What the oracle of one pattern needs."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for another process."""

    def add(self, data: Mapping[str, Any]) -> None:
        """Take in what another process saw."""


@dataclass
class Second:
    """The calls that ended in one second, and how many were due in it (open loop)."""

    calls: int = 0
    errors: int = 0
    due: int = 0
    latency: Recorder = field(default_factory=Recorder)


class Evidence:
    """What one process saw since it last reported, or all of them since the run began."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.latency: dict[str, Recorder] = defaultdict(Recorder)
        self.seconds: dict[int, Second] = defaultdict(Second)
        self.errors: Counter[str] = Counter()
        self.processes: dict[str, dict[str, float]] = {}

    @property
    def calls(self) -> int:
        return sum(second.calls for second in self.seconds.values())

    def record(self, name: str, ended: float, latency: float, problem: object = None) -> None:
        """One call: when it ended, in Unix seconds, and the seconds it took since it was due."""
        self.latency[name].record(latency)
        second = self.seconds[int(ended)]
        second.calls += 1
        second.latency.record(latency)
        if problem is not None:
            second.errors += 1
            self.errors[f"{name}: {problem}"[:200]] += 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`add` takes, in another process too."""
        return {
            "facts": self.facts.to_dict(),
            "latency": {name: one.to_dict() for name, one in self.latency.items()},
            "seconds": [
                [at, s.calls, s.errors, s.due, s.latency.to_dict()]
                for at, s in self.seconds.items()
            ],
            "errors": dict(self.errors),
            "processes": self.processes,
        }

    def add(self, data: Mapping[str, Any]) -> None:
        """Take in what another process saw."""
        self.facts.add(data["facts"])
        for name, latency in data["latency"].items():
            self.latency[name].merge(Recorder.from_dict(latency))
        for at, calls, errors, due, latency in data["seconds"]:
            second = self.seconds[at]
            second.calls += calls
            second.errors += errors
            second.due += due
            second.latency.merge(Recorder.from_dict(latency))
        self.errors.update(data["errors"])
        self.processes |= data["processes"]

    def timeline(
        self, began: float, seconds: float, users: Mapping[int, int], *, open_loop: bool
    ) -> pd.DataFrame:
        """A row for each second of the run: see ``TIMELINE``.

        ``began``: Unix seconds; ``users``: how many there were, by Unix second. The first and the
        last row may be parts of a second. ``due`` is NaN in a closed loop.
        """
        first, last = int(began), int(began + seconds)
        rows, there = [], 0
        for at in range(first, last + 1):
            there = users.get(at, there)
            second = self.seconds.get(at, Second())
            row: dict[str, float] = {
                "second": at - first,
                "users": there,
                "calls": second.calls,
                "errors": second.errors,
                "due": second.due if open_loop else float("nan"),
            }
            row |= {
                name: second.latency.percentile(percent) * 1e6
                for name, percent in _PERCENTILES.items()
            }
            rows.append(row)
        return pd.DataFrame(rows, columns=list(TIMELINE))
