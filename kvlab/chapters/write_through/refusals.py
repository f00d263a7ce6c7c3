"""What a write that changed no row leaves in the cache: an unknown id, or a refused value."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pandas as pd
from sqlalchemy.exc import IntegrityError

from kvlab import CacheAside, Key, Kv, NaiveWriteThrough, Op, WriteThrough
from kvlab.instruments import Origin

UNKNOWN_ID, KNOWN_ID = 5000, 8

Update = Callable[[], "tuple[Any, int] | None"]


def cached_after_no_write(kv: Kv, origin: Origin) -> pd.DataFrame:
    """A row for each case: what the naive and the hardened version have in the cache afterwards."""
    cases = {
        "update of an unknown id": (UNKNOWN_ID, lambda: origin.update(UNKNOWN_ID, name="Nobody")),
        "an empty name": (KNOWN_ID, lambda: origin.update(KNOWN_ID, name="")),
    }
    rows = [(case, *_cached(kv, key, update)) for case, (key, update) in cases.items()]
    return pd.DataFrame(rows, columns=["case", "naive has", "hardened has"])


def _cached(kv: Kv, key: int, update: Update) -> tuple[str, str]:
    naive = NaiveWriteThrough(kv.client, ttl=300, prefix=kv.prefix)
    cache = CacheAside("customers", ttl=300)
    with contextlib.suppress(IntegrityError):
        naive.save(key, lambda: _rows_changed(update()))
    with contextlib.suppress(IntegrityError):
        kv.run(WriteThrough(cache).save(key, update))
    in_naive: Op[bytes | None] = Op("GET", Key(f"user:{key}"))
    in_hardened: Op[bytes | None] = Op("HGET", cache.key(key, "entry"), "value")
    return _shown(kv.run(in_naive)), _shown(kv.run(in_hardened))


def _rows_changed(written: tuple[Any, int] | None) -> list[Any]:
    """The list of changed rows, which is empty when there was no row to change."""
    return [] if written is None else [written[0]]


def _shown(value: bytes | None) -> str:
    return "nothing" if value is None else value.decode()
