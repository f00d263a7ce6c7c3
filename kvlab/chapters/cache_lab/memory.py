"""What an entry costs in memory, by how it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from kvlab.core.checks import whole
from kvlab.server import engines

VALUE = "x" * 20
IN_ONE = 100
"""Fields of a small hash: up to ``hash-max-listpack-entries`` the fields lie in one block."""
Line = tuple[str, ...]


def strings(entries: int) -> Iterator[Line]:
    return (("SET", f"user:{i:06d}", VALUE) for i in range(entries))


def strings_with_ttl(entries: int) -> Iterator[Line]:
    return (("SET", f"user:{i:06d}", VALUE, "EX", "3600") for i in range(entries))


def one_hash(entries: int) -> Iterator[Line]:
    return (("HSET", "users", f"{i:06d}", VALUE) for i in range(entries))


def small_hashes(entries: int) -> Iterator[Line]:
    return (("HSET", f"users:{i // IN_ONE}", f"{i % IN_ONE:02d}", VALUE) for i in range(entries))


LAYOUTS = {
    "string": strings,
    "string with TTL": strings_with_ttl,
    "one big hash": one_hash,
    "small hashes": small_hashes,
}


def bytes_an_entry(entries: int = 20_000) -> pd.DataFrame:
    """Bytes of an entry, key included, for values of 20 bytes; each layout on an empty server."""
    whole("entries", entries, 1)
    rows = []
    with engines.start("valkey") as server, server.client() as client:
        client.config_set("hash-max-listpack-entries", 128)
        for name, lines in LAYOUTS.items():
            before = _used(client)
            with server.client() as loader:  # its buffers end with it, before the memory is read
                pipe = loader.pipeline(transaction=False)
                for line in lines(entries):
                    pipe.execute_command(*line)
                pipe.execute()
            rows.append({"layout": name, "bytes": round((_used(client) - before) / entries)})
            client.execute_command("FLUSHALL", "SYNC")
    return pd.DataFrame(rows)


def _used(client: Any) -> int:
    return int(client.info("memory")["used_memory"])
