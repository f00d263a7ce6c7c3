"""What one save costs without its database: hardened over naive."""

from __future__ import annotations

import itertools
from timeit import timeit

from kvlab import CacheAside, Kv, NaiveWriteThrough, WriteThrough
from kvlab.instruments import Comparison, compare

SAVES = 40


def compare_saves(kv: Kv) -> Comparison:
    """The time of ``SAVES`` saves whose write costs nothing, measured in turns."""
    naive = NaiveWriteThrough(kv.client, ttl=300, prefix=kv.prefix)
    hardened = WriteThrough(CacheAside("customers", ttl=300))
    versions = itertools.count(1)

    def save_hardened() -> None:
        kv.run(hardened.save("x", lambda: ("row", next(versions))))

    def save_naive() -> None:
        naive.save("x", lambda: ["row"])

    return compare(
        lambda: timeit(save_hardened, number=SAVES),
        lambda: timeit(save_naive, number=SAVES),
    )
