"""The parts of a run's record: faults, findings, the generator, and the columns of its tables."""

from __future__ import annotations

from dataclasses import dataclass

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument

FAULTS = ("pause", "cut", "flush", "restart")
"""The kinds of faults, see ``kvlab.load.fault_plan``."""
TIMELINE = {
    "second": "float64",
    "users": "int64",
    "calls": "int64",
    "errors": "int64",
    "due": "float64",
    "p50_us": "float64",
    "p99_us": "float64",
    "p999_us": "float64",
    "max_us": "float64",
}
"""``second``: when the interval starts. ``due``: arrivals in the interval, NaN in a closed loop."""
WINDOWS = {
    "key": "str",
    "second": "float64",
    "admitted": "int64",
    "bound": "float64",
    "busiest": "int64",
}
"""``second``: when the window starts. ``bound``: the admissions that are allowed in the window, NaN
without a stated bound. ``busiest``: the most admissions in any interval of a window's length that
ends in this window."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to the server: one of ``FAULTS``, ``at`` seconds into the run."""

    kind: str
    at: float
    seconds: float

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise InvalidArgument(f"kind must be one of {', '.join(FAULTS)}, not {self.kind!r}")
        real("at", self.at, 0)
        real("seconds", self.seconds, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether one invariant held. ``says`` reads well after "HOLDS: " and after "BROKEN: "."""

    name: str
    holds: bool
    says: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generator:
    """What the load generator itself can do, in one process on average.

    ``noop_per_second``: calls that do nothing. ``cpu_share``: the share of a core that a process
    used in this run. ``warning``: why latencies or percentiles mislead. ``warm_up``: calls before
    the run began, which are in no figure. ``drained``: calls of the run that were answered after
    its end; they are in the figures.
    """

    processes: int
    noop_per_second: float
    cpu_share: float
    warning: str | None = None
    warm_up: int = 0
    drained: int = 0

    def __post_init__(self) -> None:
        whole("processes", self.processes, 1)
        real("noop_per_second", self.noop_per_second, 0)
        real("cpu_share", self.cpu_share, 0)
