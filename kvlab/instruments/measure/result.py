"""What a run found: latencies by outcome, counts over time, violations, and its circumstances.

A result is data. It saves as one JSON file and loads back equal; charts and reports read it and
nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.recorder import PERCENTILES, Recorder

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One run.

    ``outcomes``: a Recorder for each outcome. ``timeline``: for each ``bucket`` seconds from the
    end of the warm-up, counts by outcome. Latencies are measured from the intended start.
    ``violations``: None when nobody looked. ``round_trips``: None without a kv. ``lateness``: from
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
        """Requests, warm-up left out."""
        return sum(self.counts.values())

    @property
    def throughput(self) -> float:
        """Requests a second."""
        return self.count / self.seconds

    @property
    def latency(self) -> Recorder:
        """All outcomes together."""
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

    def to_frame(self) -> pd.DataFrame:
        """One row per outcome and one for all: count, share, mean, percentiles, max (ms)."""
        import pandas as pd

        rows = []
        for outcome, recorder in [*self.outcomes.items(), ("all", self.latency)]:
            row: dict[str, Any] = {
                "name": self.name,
                "outcome": outcome,
                "count": recorder.count,
                "share": recorder.count / self.count if self.count else 0.0,
                "mean_ms": recorder.mean * 1e3,
            }
            row |= {f"p{p:g}_ms": recorder.percentile(p) * 1e3 for p in PERCENTILES}
            row |= {"max_ms": recorder.max * 1e3, "violations": self.violations}
            rows.append(row)
        return pd.DataFrame(rows)

    def timeline_frame(self) -> pd.DataFrame:
        """One row per bucket: its start in seconds, then a column of counts for each outcome."""
        import pandas as pd

        rows = [
            {"seconds": i * self.bucket} | {o: row.get(o, 0) for o in self.outcomes}
            for i, row in enumerate(self.timeline)
        ]
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "format": "kvlab-result-1",
            "name": self.name,
            "outcomes": {o: r.to_dict() for o, r in self.outcomes.items()},
            "timeline": self.timeline,
            "bucket": self.bucket,
            "seconds": self.seconds,
            "violations": self.violations,
            "round_trips": self.round_trips,
            "lateness": None if self.lateness is None else self.lateness.to_dict(),
            "late": self.late,
            "environment": self.environment,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Result:
        """The inverse of ``to_dict``; ``InvalidArgument`` for anything else."""
        fields = dict(data)
        if fields.pop("format", None) != "kvlab-result-1":
            raise InvalidArgument(f"not a saved result: format is {data.get('format')!r}")
        fields["outcomes"] = {o: Recorder.from_dict(r) for o, r in data["outcomes"].items()}
        if data["lateness"] is not None:
            fields["lateness"] = Recorder.from_dict(data["lateness"])
        return cls(**fields)

    def save(self, directory: str | PathLike[str]) -> Path:
        """Write ``result.json`` into ``directory`` (made if absent); returns the file."""
        path = Path(directory) / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")
        return path

    @classmethod
    def load(cls, directory: str | PathLike[str]) -> Result:
        """Read what ``save`` wrote."""
        text = (Path(directory) / "result.json").read_text(encoding="utf-8")
        data: dict[str, Any] = json.loads(text)
        return cls.from_dict(data)
