"""Caches made of arithmetic: exact LRU at every size, and Belady's optimum.

Both get the whole sequence of keys, and count hits from request ``warm`` on.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from kvlab.core.checks import whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.workload import Keys

NEVER = 2**62


def optimum(keys: Keys, capacity: int, *, warm: int = 0) -> float:
    """The hit ratio of Belady's cache, which evicts the key that is asked for last again.

    No cache that stores each missed key can do better, because this cache knows the future (Belady,
    "A study of replacement algorithms for a virtual-storage computer", 1966). After the warm-up it
    holds the keys seen so far that are asked for soonest: hits in the warm-up do not count, so a
    cache may have given them up.
    """
    whole("capacity", capacity, 1)
    counted = _counted(keys, warm)
    requests = [*zip(keys.tolist(), next_uses(keys).tolist(), strict=True)]
    seen = dict(requests[:warm])
    held = {key: seen[key] for key in sorted(seen, key=seen.__getitem__)[:capacity]}
    queue = [(-use, key) for key, use in held.items()]
    heapq.heapify(queue)
    hits = 0
    for key, use in requests[warm:]:
        if key in held:
            hits += 1
        elif len(held) >= capacity:
            _evict(held, queue)
        held[key] = use
        heapq.heappush(queue, (-use, key))
    return hits / counted


def _evict(held: dict[int, int], queue: list[tuple[int, int]]) -> None:
    """Forget the key whose next use is farthest; entries of the queue may be out of date."""
    while True:
        use, key = heapq.heappop(queue)
        if held.get(key) == -use:
            del held[key]
            return


def next_uses(keys: Keys) -> npt.NDArray[np.int64]:
    """For each request, the place of the next request for the same key; ``NEVER`` for none."""
    later = np.full(len(keys), NEVER, dtype=np.int64)
    seen: dict[int, int] = {}
    for place in range(len(keys) - 1, -1, -1):
        key = int(keys[place])
        later[place] = seen.get(key, NEVER)
        seen[key] = place
    return later


def no_limit(keys: Keys, *, warm: int = 0) -> float:
    """The hit ratio of a cache that forgets nothing: only the first request of a key misses."""
    first = np.zeros(len(keys), dtype=bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return float((~first[warm:]).sum() / _counted(keys, warm))


def lru_curve(keys: Keys, sizes: list[int], *, warm: int = 0) -> dict[int, float]:
    """The hit ratio of an exact LRU of each size, in one pass (Mattson's stack distances, 1970)."""
    distances = stack_distances(keys)[warm:]
    return {size: float((distances < size).sum() / _counted(keys, warm)) for size in sizes}


def stack_distances(keys: Keys) -> npt.NDArray[np.int64]:
    """For each request, how many other keys were asked for since the last one for this key.

    ``NEVER`` for the first. An LRU of more items than this distance hits. A Fenwick tree counts the
    keys that were asked for after a place: O(n log n).
    """
    n = len(keys)
    tree, last = [0] * (n + 1), dict[int, int]()
    found = np.full(n, NEVER, dtype=np.int64)

    def add(place: int, what: int) -> None:
        place += 1
        while place <= n:
            tree[place] += what
            place += place & -place

    def upto(place: int) -> int:
        total = 0
        while place > 0:
            total += tree[place]
            place -= place & -place
        return total

    for now, key in enumerate(keys.tolist()):
        if key in last:
            found[now] = len(last) - upto(last[key] + 1)
            add(last[key], -1)
        last[key] = now
        add(now, 1)
    return found


def _counted(keys: Keys, warm: int) -> int:
    if not 0 <= warm < len(keys):
        raise InvalidArgument(f"warm must leave a request of {len(keys)}, got {warm}")
    return len(keys) - warm
