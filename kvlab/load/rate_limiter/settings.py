"""The options of the rate limiter's load test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from kvlab.core.checks import whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.theory import (
    fixed_window_worst,
    sliding_counter_worst,
    sliding_log_worst,
    token_bucket_worst,
)
from kvlab.load.settings import LoadSettings
from kvlab.sample_app.settings import LIMITERS

CONTROL_EVERY = 5
"""With --control, one user of this many is naive."""


class Bounds(NamedTuple):
    """The most admissions in a window of the clock, and in any interval of a window's length."""

    window: float
    interval: float


@dataclass(frozen=True, kw_only=True)
class LimiterSettings(LoadSettings):
    """``window``: seconds."""

    algorithm: str
    limit: int
    window: float
    keys: int
    control: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        self.limiter()
        whole("keys", self.keys, 1)
        least = CONTROL_EVERY * (self.processes or 1)
        if self.control and self.users is not None and self.users < least:
            raise InvalidArgument(
                f"--control needs at least {least} users: one naive user in {CONTROL_EVERY} users "
                "of a process"
            )

    def recorded(self) -> dict[str, Any]:
        """The options that a reader of the record needs; the naive window is no ``algorithm``."""
        return super().recorded() | ({"algorithm": "naive-sliding-window"} if self.naive else {})

    @property
    def bounds(self) -> Bounds:
        """What the limiter that the options ask for may admit at most."""
        limit = self.limit
        bucket = token_bucket_worst(limit, limit / self.window, self.window)
        return {
            "fixed-window": Bounds(limit, fixed_window_worst(limit)),
            "sliding-log": Bounds(limit, sliding_log_worst(limit)),
            "sliding-counter": Bounds(limit, sliding_counter_worst(limit)),
            "token-bucket": Bounds(bucket, bucket),
        }[self.algorithm]

    @property
    def naive_bounds(self) -> Bounds:
        """What the naive sliding window may admit. It does not say when it decided, so what it
        admits in any interval is not known from outside."""
        return Bounds(self.limit, math.nan)

    def limiter(self) -> Any:
        """The limiter that the options ask for."""
        return LIMITERS[self.algorithm]("load", limit=self.limit, window=self.window)


def add_options(add: Callable[..., Any]) -> None:
    """Add the options of this load test."""
    add("--algorithm", choices=list(LIMITERS), default="sliding-log", help="which limiter")
    add("--limit", type=int, default=10, help="admissions of a key in a window")
    add("--window", type=float, default=1.0, help="length of the window in seconds")
    add("--keys", type=int, default=2, help="how many keys share the load")
    add(
        "--control",
        action="store_true",
        help="let one user of five use the tutorial's sliding window, on keys of its own: the "
        "run must catch that limiter",
    )
