"""The time of one run, for all its clients. The clock stands still unless a client waits.

If the clock ran by itself, what a client does could depend on how long a step took.
"""

from __future__ import annotations

import math
import time

_time, _monotonic = time.time, time.monotonic
"""The real ones, also while ``time_functions`` has put others in their place."""

_SECONDS = 2  # for so long, all runs begin at the same time


class RunClock:
    """``time``: seconds since 1970; ``monotonic``: as ``time.monotonic`` counts.

    ``since``: the clock of an exploration's beginning. The runs begin at the same times as it, or,
    since some clients give the server a time, a whole number of seconds later.
    """

    def __init__(self, since: RunClock | None = None) -> None:
        self.time, self.monotonic = float(math.ceil(_time())), float(math.ceil(_monotonic()))
        if since is not None:
            spent = (self.monotonic - since.monotonic) // _SECONDS * _SECONDS
            self.time, self.monotonic = since.time + spent, since.monotonic + spent

    def pass_by(self, seconds: float) -> None:
        """So much time passes, for every client."""
        self.monotonic += seconds
        self.time += seconds
