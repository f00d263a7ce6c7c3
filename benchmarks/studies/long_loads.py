"""Long loads with faults, and their verdicts.

``python -m benchmarks.studies.long_loads``: a million decisions of the rate limiter, with a naive
limiter beside it, while the server is paused, cut off and flushed; and 200,000 submissions to the
hardened leaderboard and to the naive one, some of whose replies are lost. The exit code is 1 when a
promise broke, or when a naive version was not caught.
"""

from __future__ import annotations

import math
import sys

from kvlab.load.command import record
from kvlab.load.record.run import LoadRun
from kvlab.load.record.summary import summary
from kvlab.server import engines

SECONDS, USERS = 4, 20
DECISIONS, SUBMISSIONS = 1_000_000, 200_000
SUBMITTED = 0.5
"""The share of submissions among the calls to a leaderboard."""
LOSE = 200
"""Every reply of this number is lost."""


def usual_rate(processes: int) -> float:
    """Calls a second of a short run on a private server."""
    with engines.start("valkey") as server:
        more = {"processes": processes} if processes > 1 else {}
        return record("rate-limiter", seconds=SECONDS, users=USERS, host=server.url, **more).rate


def faults(seconds: int) -> list[str]:
    """A pause, a cut and a flush in every ten seconds of the run."""
    planned = []
    for at in range(2, seconds - 8, 10):
        planned += [f"pause@{at}:0.5", f"cut@{at + 3}", f"flush@{at + 5}"]
    return planned


def as_expected(run: LoadRun, *, should_hold: bool = True) -> bool:
    """Print a run; whether its promise held, or broke, as it should."""
    print(f"\n{summary(run)}", flush=True)
    return run.holds == should_hold


def main() -> None:
    """Run the three loads."""
    seconds = math.ceil(DECISIONS / usual_rate(2) / 0.7)
    limiter = record(
        "rate-limiter",
        seconds=seconds,
        users=USERS,
        processes=2,
        control=True,
        limit=5,
        fault=faults(seconds),
    )
    passed = as_expected(limiter)
    seconds = math.ceil(SUBMISSIONS / SUBMITTED / usual_rate(1) / 0.6)
    passed &= as_expected(record("leaderboard", seconds=seconds, users=USERS, lose_replies=LOSE))
    naive = record("leaderboard", seconds=10, users=USERS, lose_replies=LOSE, naive=True)
    passed &= as_expected(naive, should_hold=False)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
