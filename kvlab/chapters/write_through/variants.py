"""Three ways to keep a cache and a database together, for the measurement of stale reads.

* **cache-aside**: the writer deletes the key after its commit, and the next reader loads the row.
* **naive** write-through: the writer stores its row after its commit.
* **hardened** write-through: the writer stores its row under the row's version.
"""

from __future__ import annotations

from typing import Any

from kvlab import CacheAside, Kv, NaiveCacheAside, NaiveWriteThrough, WriteThrough
from kvlab.chapters.write_through.staleness import Commit, Load, Row, Variant

TTL = 300


def variants(kv: Kv) -> dict[str, Variant]:
    """The three ways, with caches in the namespace of ``kv``."""
    aside = NaiveCacheAside(kv.client, ttl=TTL, prefix=kv.prefix)
    naive = NaiveWriteThrough(kv.client, ttl=TTL, prefix=kv.prefix)
    hardened = WriteThrough(CacheAside("customers", ttl=TTL))

    def write_and_delete(key: int, commit: Commit) -> None:
        commit()
        aside.invalidate(key)

    def write_and_store(key: int, commit: Commit) -> None:
        naive.save(key, lambda: [commit()[0]])

    def read_with_version(key: int, load: Load) -> Any:
        return kv.run(hardened.fetch(key, lambda: with_version(load())))

    def write_with_version(key: int, commit: Commit) -> None:
        kv.run(hardened.save(key, commit))

    return {
        "cache-aside": Variant(aside.get, write_and_delete),
        "naive": Variant(aside.get, write_and_store),
        "hardened": Variant(read_with_version, write_with_version),
    }


def with_version(row: Row | None) -> tuple[Row, int] | None:
    """What the loader of ``WriteThrough.fetch`` returns: (row, version), or None for no row."""
    return None if row is None else (row, row["version"])
