"""The caches of a real server: Valkey under ``maxmemory``, several side by side.

Each cache is a private server of its own. All caches get the same keys at the same pace: the LRU
clock of the server ticks once a second, so a cache that is asked too fast cannot tell old from new.
A cache holds so many items as fit into its memory; how many these were is counted (``held``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvlab.core.checks import real, whole
from kvlab.instruments.measure.workload import Keys
from kvlab.server import engines

TOGETHER = 20
"""Requests in one script: a cache may hold so many items too many for a moment."""
VALUE = "x" * 60
TTL = 3600
LOOKS = 16
"""So often the items in memory are counted after the warm-up."""
FEWEST = 500
"""Items of a cache with a limit: a smaller one has no room beside the buffers of its client."""
BUFFERS = 32_000
"""Bytes of our connection and of the script under way, which the server counts as well."""
_ASK = """
local hits = 0
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) then
    hits = hits + 1
  else
    redis.call('SET', key, ARGV[1], 'EX', ARGV[2])
  end
end
return hits
"""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """``policy``: of ``maxmemory-policy``. ``items``: how many should fit, 0 for no limit."""

    policy: str
    items: int
    samples: int = 5

    def __post_init__(self) -> None:
        whole("items", self.items, FEWEST if self.items else 0)


@dataclass
class Cache:
    """One running cache, and what it has been asked."""

    client: Any
    ask: Any
    hits: int = 0
    sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Measured:
    """``ratio``: hits of the requests after the warm-up. ``held``: items in memory, on average."""

    ratio: float
    held: int
    most: int
    seconds: float


def measure(
    caches: Mapping[str, CacheSettings], keys: Keys, *, rate: float, warm: int = 0
) -> dict[str, Measured]:
    """Ask every cache for every key, ``rate`` requests a second to each; 0 for no pause.

    The first ``warm`` requests, rounded up to whole scripts, do not count.
    """
    real("rate", rate, 0)
    last = (len(keys) - 1) // TOGETHER
    whole("warm", warm, 0, last * TOGETHER)
    first = -(-warm // TOGETHER)
    every = -(-(last - first + 1) // LOOKS)
    names = [f"k{key}" for key in keys.tolist()]
    with contextlib.ExitStack() as stack:
        running = {
            name: stack.enter_context(_started(settings)) for name, settings in caches.items()
        }
        began = time.perf_counter()
        for begin in range(0, len(names), TOGETHER):
            _wait_until(began + begin / rate if rate else 0.0)
            for cache in running.values():
                hits = cache.ask(keys=names[begin : begin + TOGETHER], args=[VALUE, TTL])
                if begin >= warm:
                    cache.hits += hits
                    if (last - begin // TOGETHER) % every == 0:
                        cache.sizes.append(cache.client.dbsize())
        seconds = time.perf_counter() - began
        counted = len(names) - first * TOGETHER
        return {
            name: Measured(
                cache.hits / counted, round(np.mean(cache.sizes)), max(cache.sizes), seconds
            )
            for name, cache in running.items()
        }


@contextlib.contextmanager
def _started(settings: CacheSettings) -> Iterator[Cache]:
    with engines.start("valkey") as server, server.client() as client:
        ask = client.register_script(_ASK)
        if settings.items:
            limit = _memory_of(client, ask, settings.items)
            client.config_set("maxmemory", limit)
            client.config_set("maxmemory-policy", settings.policy)
            client.config_set("maxmemory-samples", settings.samples)
        yield Cache(client, ask)


def _memory_of(client: Any, ask: Any, items: int) -> int:
    """The bytes that the server uses when it holds so many items."""
    for begin in range(0, items, TOGETHER):
        ask(keys=[f"fit{i}" for i in range(begin, begin + TOGETHER)], args=[VALUE, TTL])
    used = int(client.info("memory")["used_memory"])
    client.execute_command("FLUSHALL", "SYNC")  # by default memory is given back later
    return used + BUFFERS


def _wait_until(moment: float) -> None:
    while (left := moment - time.perf_counter()) > 0:
        time.sleep(left)
