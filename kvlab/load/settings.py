"""What one load run is made with: the options that were parsed, and what the run adds. Frozen.

Each load test derives a class of its own that adds the options of its pattern. The master sends
the settings to its workers as plain values (``to_dict``), in one option of Locust.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Self

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.load.arrivals import SHAPES
from kvlab.load.evidence import interval_seconds
from kvlab.load.fault_plan import PlannedFault

LATE = 1.0
"""Seconds after its client gave up in which a command may still run on a healthy server."""
MOST_ARRIVALS = 1e7
"""A second."""

_LOCUST_NAMES = {"users": "num_users", "seconds": "run_time"}
_NOT_RECORDED = {"seconds", "headless", "stop_timeout", "reports", "no_page"}


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """Fields without a default are options. Raises InvalidArgument for a value of no use.

    ``users``: how many in all processes, None while Locust's page has not asked for it.
    ``seconds``: the length of the run, None for a run without an end. ``rate``: arrivals a second,
    0 for a closed loop.
    """

    users: int | None
    seconds: int | None
    spawn_rate: float | None
    processes: int | None
    tags: tuple[str, ...]
    exclude_tags: tuple[str, ...]
    headless: bool
    stop_timeout: float
    rate: float
    shape: str
    naive: bool
    lose_replies: int
    fault: tuple[str, ...]
    app: bool
    reports: str
    no_page: bool

    store: str = ""
    """The URL of the store."""
    app_url: str | None = None
    """The URL of the app, when users reach the store through an app."""
    prefix: str = ""
    """Of all keys of the run."""
    tag: int = 0
    """A number that no other run has."""
    workers: int = 1
    """The processes with users, which share the rate."""
    refused: str = ""
    """Why no user of this run may call anything."""

    def __post_init__(self) -> None:
        for name in ("tags", "exclude_tags", "fault"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))
        if self.users is not None:
            whole("users", self.users, 1)
        if self.processes == 0:
            raise InvalidArgument("processes must be at least 1, or -1 for one on each core, not 0")
        real("rate", self.rate, 0, MOST_ARRIVALS)
        whole("lose-replies", self.lose_replies, 0)
        if self.shape not in SHAPES:
            raise InvalidArgument(f"shape must be one of {', '.join(SHAPES)}, not {self.shape!r}")
        if self.shape != "constant" and not self.seconds:
            raise InvalidArgument(f"--shape {self.shape} needs a --run-time")
        for fault in self.planned_faults:
            if self.seconds and fault.at >= self.seconds:
                raise InvalidArgument(
                    f"a {fault.kind} at {fault.at:g} s is after the end of a run of "
                    f"{self.seconds:g} s"
                )

    @classmethod
    def parsed(cls, options: Namespace, **added: Any) -> Self:
        """The settings of parsed options, and what the run adds to them."""
        names = [field.name for field in fields(cls) if field.default is MISSING]
        return cls(**{n: getattr(options, _LOCUST_NAMES.get(n, n)) for n in names}, **added)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The settings that ``to_dict`` wrote. InvalidArgument for those of another class."""
        if strange := {field.name for field in fields(cls)} ^ {*data}:
            raise InvalidArgument(
                f"the master runs another load test, or another kvlab: {', '.join(sorted(strange))}"
            )
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a worker."""
        return asdict(self)

    @property
    def planned_faults(self) -> tuple[PlannedFault, ...]:
        """The faults that ``--fault`` asks for."""
        return tuple(map(PlannedFault.parse, self.fault))

    @property
    def late(self) -> float:
        """Seconds after its client gave up in which a command may still run."""
        return max((fault.seconds for fault in self.planned_faults), default=0.0) + LATE

    @property
    def interval(self) -> float:
        """The length of an interval of the timeline, in seconds."""
        return interval_seconds(self.seconds)

    def recorded(self) -> dict[str, Any]:
        """The options that a reader of the record needs. ``rate`` is None in a closed loop."""
        options = {field.name for field in fields(self) if field.default is MISSING}
        shown = {name: getattr(self, name) for name in sorted(options - _NOT_RECORDED)}
        kept = {name: value for name, value in shown.items() if value not in (None, "", ())}
        return kept | {"rate": self.rate or None}
