"""What a run measured: latencies by outcome, counts over time, violations, and its circumstances.

A result is data: charts and reports read the result and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvlab.instruments.measure.recorder import Recorder

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One run.

    ``outcomes``: a Recorder for each outcome. ``timeline``: for each ``bucket`` seconds from the
    end of the warm-up, counts by outcome. Latencies are measured from the intended start.
    ``violations``: None without a check. ``round_trips``: None without a kv. ``lateness``: from
    the intended start to the start, and ``late``: the requests with more than 1 ms of lateness
    (open loop only).
    """

    name: str
    outcomes: dict[str, Recorder]
    timeline: list[dict[str, int]]
    bucket: float
    seconds: float
    violations: int | None = None
    round_trips: int | None = None
    lateness: Recorder | None = None
    late: int = 0
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Requests by outcome."""
        return {outcome: recorder.count for outcome, recorder in self.outcomes.items()}

    @property
    def count(self) -> int:
        """Requests, without the warm-up."""
        return sum(self.counts.values())

    @property
    def throughput(self) -> float:
        """Requests a second."""
        return self.count / self.seconds

    @property
    def latency(self) -> Recorder:
        """The latencies of all outcomes."""
        merged = Recorder()
        for recorder in self.outcomes.values():
            merged.merge(recorder)
        return merged

    @property
    def late_share(self) -> float:
        """Share of requests that started over 1 ms late; 0 in a closed loop."""
        return self.late / self.count if self.count else 0.0

    def share(self, outcome: str) -> float:
        """Share of the requests with this outcome; ``share("hit")`` is the hit ratio."""
        recorder = self.outcomes.get(outcome)
        return recorder.count / self.count if recorder is not None else 0.0

    def timeline_frame(self) -> pd.DataFrame:
        """One row per bucket: its start in seconds, then a column of counts for each outcome."""
        import pandas as pd

        rows = [
            {"seconds": i * self.bucket} | {o: row.get(o, 0) for o in self.outcomes}
            for i, row in enumerate(self.timeline)
        ]
        return pd.DataFrame(rows)
