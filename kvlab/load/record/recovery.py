"""How far the throughput of a load run fell at each fault, and when it was back.

"Before" is the median rate of the complete intervals that ended before the fault. Intervals in
which an earlier fault still showed do not count. An interval is low when its rate is below
``BACK`` of "before". The throughput is back at the begin of the first interval after the fault's
last low interval; when the fault ends inside that interval, it is back at the end of the fault.
Times count from the begin of the fault, with the resolution of the intervals.

Not promised: that the fault was the cause. A load whose users or rate change during the run
(step, spike) has no single rate to come back to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvlab.load.record.parts import Fault
from kvlab.load.record.run import LoadRun
from kvlab.load.record.words import percent

__all__ = ["BACK", "Recovery", "recoveries"]

BACK = 0.9
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recovery:
    """Rates in calls a second. ``before``: None without a complete interval before the fault.

    ``lowest``: the lowest interval from the fault on, None when no interval was low. ``seconds``:
    from the begin of the fault until the rate was back; 0 when no interval was low; None when the
    rate never came back, or not before the next fault.
    """

    fault: Fault
    before: float | None
    lowest: float | None
    seconds: float | None

    @property
    def says(self) -> str:
        """The recovery in one line."""
        fault, length = self.fault, f" for {self.fault.seconds:g} s" if self.fault.seconds else ""
        text = f"{fault.kind} at {fault.at:g} s{length}: "
        if self.before is None:
            return text + "no complete interval before the fault to compare with"
        if self.lowest is None:
            return text + f"no interval below {percent(BACK)} of the {self.before:,.0f}/s before"
        text += f"from {self.before:,.0f}/s down to {self.lowest:,.0f}/s, "
        if self.seconds is None:
            return text + f"not back at {percent(BACK)} before the next fault or the end"
        return text + f"back at {percent(BACK)} after {self.seconds:.3g} s"


def recoveries(run: LoadRun) -> tuple[Recovery, ...]:
    """The recovery from each fault, in order of time."""
    frame = run.intervals()
    begin = frame["second"].to_numpy()
    end = begin + frame["width"].to_numpy()
    rate = frame["rate"].to_numpy()
    usual = np.ones(len(rate), dtype=bool)
    found = []
    for fault in run.faults:
        horizon = min((f.at for f in run.faults if f.at > fault.at), default=float("inf"))
        recovery = _recovery(fault, horizon, begin, end, rate, usual)
        found.append(recovery)
        over = horizon if recovery.seconds is None else fault.at + recovery.seconds
        usual &= ~((end > fault.at) & (begin < max(over, fault.at + fault.seconds)))
    return tuple(found)


def _recovery(
    fault: Fault,
    horizon: float,
    begin: Floats,
    end: Floats,
    rate: Floats,
    usual: npt.NDArray[np.bool_],
) -> Recovery:
    earlier = rate[usual & (end <= fault.at)]
    if not len(earlier):
        return Recovery(fault, None, None, None)
    before = float(np.median(earlier))
    low = rate < BACK * before
    touched = (end > fault.at) & (begin < horizon)
    # Low during the fault, then high for one interval, then low again: not yet back.
    held = touched & low & (begin < fault.at + fault.seconds)
    since = float(end[held].max()) if held.any() else fault.at
    back = np.flatnonzero(touched & ~low & (begin >= since))
    over = float(begin[back[0]]) if len(back) else horizon
    dip = rate[touched & low & (begin < over)]
    until = fault.at + fault.seconds
    if len(back) and over < until < end[back[0]]:
        over = until  # the calls of this interval came after the fault
    if not len(dip):
        return Recovery(fault, before, None, 0.0)
    return Recovery(fault, before, float(dip.min()), over - fault.at if len(back) else None)
