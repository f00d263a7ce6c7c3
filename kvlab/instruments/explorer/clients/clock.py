"""The time of one run, for all its clients. The clock stands still unless a client waits.

If the clock ran by itself, what a client does could depend on how long a step took.
"""

from __future__ import annotations

import time

_time, _monotonic = time.time, time.monotonic
"""The real ones, also while ``time_functions`` has put others in their place."""


class RunClock:
    """``time``: seconds since 1970; ``monotonic``: as ``time.monotonic`` counts."""

    def __init__(self) -> None:
        self.time, self.monotonic = _time(), _monotonic()

    def pass_by(self, seconds: float) -> None:
        """So much time passes, for every client."""
        self.monotonic += seconds
        self.time += seconds
