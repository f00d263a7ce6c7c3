"""What the load generator costs, and long loads with faults and their verdicts.

``python -m benchmarks.load`` first compares, in turns on one private Valkey, the seconds of a call
of one Locust process with those of a bare redis-py loop with the same limiter script, and those of
two processes with those of one. ``--short`` ends here.

Then come a million decisions of the rate limiter, with a naive limiter beside it, while the server
is paused, cut off and flushed; and 200,000 submissions to the hardened leaderboard and to the
naive one, some of whose replies are lost. The exit code is 1 when a promise broke, or when a naive
version was not caught.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys

from benchmarks._common import report
from kvlab.instruments import compare
from kvlab.load.command import record
from kvlab.load.record.run import LoadRun
from kvlab.load.record.summary import summary
from kvlab.server import engines

SECONDS, TURNS, USERS = 4, 5, 20
DECISIONS, SUBMISSIONS = 1_000_000, 200_000
SUBMITTED = 0.5
"""The share of submissions among the calls to a leaderboard."""
LOSE = 200
"""Every reply of this number is lost."""

BARE = """
import sys, time
import redis
from kvlab import SlidingWindowLog
from kvlab.core.wire import encode
url, seconds = sys.argv[1], float(sys.argv[2])
client = redis.Redis.from_url(url)
op = SlidingWindowLog("load", 10, 1.0).hit("bare")
_, sha, *rest = encode(op, "bare:")
client.script_load(op.command.source)
calls, end = 0, time.perf_counter() + seconds
while time.perf_counter() < end:
    client.evalsha(sha, *rest)
    calls += 1
print(calls / seconds)
"""


def bare(url: str) -> float:
    """Calls a second of a plain redis-py loop, in a process of its own."""
    command = [sys.executable, "-c", BARE, url, str(SECONDS)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def locust(url: str, processes: int = 1) -> float:
    """Calls a second of a Locust run. Exits when a promise of the run broke."""
    more = {"processes": processes} if processes > 1 else {}
    run = record("rate-limiter", seconds=SECONDS, users=USERS, host=url, **more)
    if not run.holds:
        raise SystemExit(summary(run))
    return run.rate


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
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--short", action="store_true", help="measure only what the generator costs"
    )
    short = parser.parse_args().short
    with engines.start("valkey") as server:
        url = server.url
        print(f"closed loop, {USERS} users, {TURNS} turns of {SECONDS} s")
        over_bare = compare(lambda: 1 / locust(url), lambda: 1 / bare(url), turns=TURNS)
        report("one Locust process / a bare redis-py loop", over_bare)
        two = compare(lambda: 1 / locust(url, 2), lambda: 1 / locust(url), turns=TURNS)
        report("two Locust processes / one", two)
    if short:
        return
    seconds = math.ceil(DECISIONS * max(two.a) / 0.7)
    passed = as_expected(
        record(
            "rate-limiter",
            seconds=seconds,
            users=USERS,
            processes=2,
            control=True,
            limit=5,
            fault=faults(seconds),
        )
    )
    seconds = math.ceil(SUBMISSIONS / SUBMITTED * max(two.b) / 0.6)
    passed &= as_expected(record("leaderboard", seconds=seconds, users=USERS, lose_replies=LOSE))
    passed &= as_expected(
        record("leaderboard", seconds=10, users=USERS, lose_replies=LOSE, naive=True),
        should_hold=False,
    )
    sys.exit(not passed)


if __name__ == "__main__":
    main()
