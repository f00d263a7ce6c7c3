"""The recorded trace that ships: which keys a real cache was asked for, and when.

    python -m kvlab.chapters.cache_lab.recorded    records it anew

A page reads a profile by Zipf through ``CacheAside``, and now and then a product that is in an
offer, which changes every few seconds. What is kept is what the executor ran: key and seconds.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
import time
from importlib import resources
from pathlib import Path

from kvlab import CacheAside, Kv
from kvlab.instruments.measure.access_log import read_access_log
from kvlab.instruments.measure.workload import Trace, Zipf
from kvlab.server import engines

PROFILES, OFFERS, REQUESTS, SECONDS_AN_OFFER = 3_000, 20, 8_000, 2.0
RATE = 800.0


def path() -> Path:
    """The file: gz, CSV with the columns ``seconds`` and ``key``."""
    return Path(str(resources.files(__package__) / "requests.csv.gz"))


def trace() -> Trace:
    """The recorded trace."""
    return read_access_log(path(), key="key", time="seconds")


def record(kv: Kv, requests: int = REQUESTS) -> list[tuple[float, str]]:
    """Make the requests, and return when each was made and for which key."""
    cache, chance = CacheAside("shop", 300), random.Random(12)
    profiles = Zipf(PROFILES, 0.9).keys(requests, 12).tolist()
    made, began, due = [], time.perf_counter(), 0.0
    for profile in profiles:
        due += chance.expovariate(RATE)
        while (left := began + due - time.perf_counter()) > 0:
            time.sleep(left)
        at = time.perf_counter() - began
        offer = f"offer:{int(at / SECONDS_AN_OFFER)}:{chance.randrange(OFFERS)}"
        key = offer if chance.random() < 0.3 else f"profile:{profile}"
        kv.run(cache.fetch(key, lambda: {"of": "a row"}))
        made.append((at, key))
    return made


def main() -> None:
    """Record the trace anew."""
    with engines.start("valkey") as server, server.client() as client, Kv(client) as kv:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("seconds", "key"))
        writer.writerows((f"{at:.4f}", key) for at, key in record(kv))
    path().write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


if __name__ == "__main__":
    main()
