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
    "busiest_bound": "float64",
}
"""``second``: when the window starts. ``bound``: the admissions that are allowed in the window, NaN
without a stated bound. ``busiest``: the most admissions in any interval of a window's length that
ends in this window. ``busiest_bound``: how many its kind may admit in such an interval, or NaN."""


WAITED, ANSWERED, LATE = "due to sent", "sent to answered", "generator late by"
"""The stages of a call in an open loop, and the lateness of the generator's timers."""


BUSY, TOO_LATE = 0.9, 0.002
"""From this share of a core, and with timers as late as this (s), a generator delays its calls."""


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
    """Whether one invariant held. ``says`` reads well after "HOLDS: " and after "BROKEN: ".

    ``least``: the smallest violation that the run could have shown, empty if unknown.
    """

    name: str
    holds: bool
    says: str
    evidence: tuple[str, ...] = ()
    least: str = ""


@dataclass(frozen=True, slots=True)
class Generator:
    """What the load generator did in this run, and what it can do.

    ``cpu_share``: the share of a core that a process used, on average. ``busiest``: this share in
    the busiest interval of the busiest process. ``latest``: the seconds by which half of the timers
    were late in the worst interval. ``bare_per_second``: calls of a bare loop in one process after
    the run, None when it was not measured. ``noop_per_second``: the same of PING, which does
    nothing. ``under_way``: calls without an answer, on average over the run. ``warning``: why
    latencies or percentiles mislead. ``warm_up``: calls before the run began, which are in no
    figure. ``drained``: calls of the run that were answered after its end; they are in the figures.
    """

    processes: int
    cpu_share: float
    warning: str | None = None
    busiest: float = 0.0
    latest: float = 0.0
    bare_per_second: float | None = None
    noop_per_second: float | None = None
    under_way: float = 0.0
    warm_up: int = 0
    drained: int = 0

    @property
    def is_overloaded(self) -> bool:
        """Whether the generator delayed its calls, judged by its worst interval."""
        return self.busiest > BUSY or self.latest > TOO_LATE

    def __post_init__(self) -> None:
        whole("processes", self.processes, 1)
        for name in ("cpu_share", "busiest", "latest", "under_way"):
            real(name, getattr(self, name), 0)
        for name in ("bare_per_second", "noop_per_second"):
            if getattr(self, name) is not None:
                real(name, getattr(self, name), 0)
