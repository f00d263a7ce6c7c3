"""Whether a time that the server says lies inside the call that got it.

A judge of a limiter relies on the server's times. A limiter that says a wrong time could otherwise
admit too much and still pass. All times are Unix seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kvlab.errors import KvlabError

CLOCKS = 0.005
"""Seconds by which a server time may lie outside its call: clocks are adjusted during a run."""

Calls = npt.NDArray[np.float64] | Sequence[tuple[float, float, float]]
"""A row for each call: the time that the server said, then begin and end by the caller's clock."""


class ServerTimeOutsideCall(KvlabError):
    """The server said a time at which the call was not under way; the message names the first."""


@dataclass(frozen=True, slots=True)
class ServerClock:
    """``ahead``: seconds by which the server's clock is ahead of ours. ``unsure``: ± seconds."""

    ahead: float
    unsure: float

    @property
    def tolerance(self) -> float:
        """Seconds by which a server time may lie outside its call."""
        return CLOCKS + self.unsure

    def outside(self, calls: Calls) -> npt.NDArray[np.bool_]:
        """For each call, whether the server's time lies outside the call."""
        rows = np.asarray(calls, dtype=float).reshape(-1, 3)
        at = rows[:, 0] - self.ahead
        early, late = rows[:, 1] - self.tolerance, rows[:, 2] + self.tolerance
        return np.asarray((at < early) | (at > late))

    def require(self, calls: Calls) -> None:
        """Raise :class:`ServerTimeOutsideCall` unless each server time lies inside its call."""
        wrong = np.flatnonzero(self.outside(calls))
        if len(wrong):
            at, began, ended = calls[wrong[0]]
            raise ServerTimeOutsideCall(
                f"{len(wrong):,} of {len(calls):,} server times lie outside their calls; the "
                f"first, {at - self.ahead:.6f} by our clock, belongs to a call from {began:.6f} "
                f"to {ended:.6f} (± {self.tolerance * 1e3:.1f} ms)"
            )


def server_clock(client: Any, clock: Callable[[], float] = time.time) -> ServerClock:
    """Compare the clock of ``client``'s server with ours: the shortest of ten calls of TIME."""
    best = (math.inf, 0.0)
    for _ in range(10):
        began = clock()
        seconds, micros = client.time()
        ended = clock()
        best = min(best, ((ended - began) / 2, seconds + micros / 1e6 - (began + ended) / 2))
    return ServerClock(ahead=best[1], unsure=best[0])
