"""A hot key and a big key, seen by a neighbour: the latency of a client that asks for another key.

The load comes from processes of its own, so that the neighbour's clock is not slowed by Python.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd

from kvlab.core.checks import real
from kvlab.instruments.measure.recorder import Recorder
from kvlab.server import engines

FIELDS = 100_000
_LOAD = """
import sys, time, redis
client = redis.Redis.from_url(sys.argv[1])
command, pause = sys.argv[2].split(), float(sys.argv[3])
print("ready", flush=True)
while True:
    client.execute_command(*command)
    time.sleep(pause)
"""
SITUATIONS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "alone": (),
    "a hot key: two clients ask for one key": (("GET hot", 0.0), ("GET hot", 0.0)),
    f"a big key: HGETALL of {FIELDS:,} fields": (("HGETALL big", 0.2),),
}
"""What else the server gets: commands, and the seconds between two of them."""


def latencies(seconds: float = 1.5) -> pd.DataFrame:
    """The neighbour's p50, p99 and maximum in ms, in each situation."""
    real("seconds", seconds, 0, above=True)
    rows = []
    with engines.start("valkey") as server, server.client() as client:
        client.set("small", "x" * 60)
        client.set("hot", "x" * 60)
        for begin in range(0, FIELDS, 10_000):
            fields = {f"f{i}": "x" * 10 for i in range(begin, begin + 10_000)}
            client.hset("big", mapping=fields)
        for name, loads in SITUATIONS.items():
            with _loaded(server.url, loads):
                seen = _asked(client, seconds)
            times = {f"p{p}": seen.percentile(p) * 1e3 for p in (50, 99)}
            rows.append({"situation": name, **times, "max": seen.max * 1e3})
    return pd.DataFrame(rows)


def _asked(client: Any, seconds: float) -> Recorder:
    """One client in a closed loop."""
    recorder, until = Recorder(), time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        client.get("small")
        recorder.record(time.perf_counter() - began)
    return recorder


@contextmanager
def _loaded(url: str, loads: tuple[tuple[str, float], ...]) -> Iterator[None]:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _LOAD, url, command, str(pause)], stdout=subprocess.PIPE
        )
        for command, pause in loads
    ]
    try:
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in running:
            process.kill()
            process.communicate()
