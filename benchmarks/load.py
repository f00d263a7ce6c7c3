"""What the load generator costs: a Locust process beside a bare redis-py loop.

Both call the same limiter script, in processes of their own. Long loads with faults and their
verdicts: ``python -m benchmarks.studies.long_loads``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from kvlab.bench import Bench, Case, Peer
from kvlab.errors import KvlabError
from kvlab.load.command import record
from kvlab.load.record.summary import summary

SECONDS, USERS = 4, 20

BARE = """
import sys, time
import redis
from kvlab import SlidingWindowLog
from kvlab.core.wire import encode
url, seconds = sys.stdin.read(), float(sys.argv[1])
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
    command = [sys.executable, "-c", BARE, str(SECONDS)]
    done = subprocess.run(command, input=url, capture_output=True, text=True, check=True)
    return float(done.stdout)


def locust(url: str, processes: int = 1) -> float:
    """Calls a second of a Locust run. Raises KvlabError when a promise of the run broke."""
    more = {"processes": processes} if processes > 1 else {}
    run = record("rate-limiter", seconds=SECONDS, users=USERS, host=url, **more)
    if not run.holds:
        raise KvlabError(summary(run))
    return run.rate


def cases(bench: Bench) -> Iterator[Case]:
    """Seconds of a call, one over the rate. Left out of a short run: a turn takes 15 s."""
    if bench.short:
        return
    yield Case(
        "a call of one process",
        f"closed loop of {USERS} users, {SECONDS} s",
        lambda: [1 / locust(bench.url)],
        {
            "a bare redis-py loop": Peer(lambda: [1 / bare(bench.url)]),
            "two processes": Peer(lambda: [1 / locust(bench.url, 2)]),
        },
        subject="Locust",
        long=True,
    )
