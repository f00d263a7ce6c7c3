"""The writes of a run, as a replica gets them, so that a failover can take the last of them back.

Replication is asynchronous: a replica that is promoted holds a prefix of what the primary did. The
server's append-only file has the same commands as its replication stream: the effects of a script,
and not the script; a MULTI as one. So the state of a promoted replica is an empty server to which
the beginning of that file is applied.

What the passing of time does (a TTL that ends) happens on a replica too, and is never taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hiredis
import redis

from kvlab.errors import InvalidArgument

OPTIONS = {"appendonly": "yes", "appendfsync": "no", "auto-aof-rewrite-percentage": "0"}
"""Of a server that keeps such a file."""

Command = Sequence[bytes]


class _Write(NamedTuple):
    """One command, or MULTI with all that is in it. ``by``: the number of the connection of a
    client that made it; None for what a failover cannot lose."""

    commands: tuple[Command, ...]
    by: int | None


class WriteLog:
    """Reads the append-only file of ``server``."""

    def __init__(self, server: redis.Redis) -> None:
        self._server = server
        self._file = _file_of(server).open("rb")
        self._writes: list[_Write] = []

    def close(self) -> None:
        self._file.close()

    def begin(self) -> None:
        """A run begins on an empty server."""
        self._file.seek(0, 2)
        self._writes.clear()

    def note(self, by: int | None) -> bool:
        """Note what has been written since the last note; whether it was anything."""
        reader = hiredis.Reader()
        reader.feed(self._file.read())
        found = [_Write(commands, by) for commands in _whole(reader)]
        self._writes += found
        return bool(found)

    @property
    def at_risk(self) -> int:
        """How many writes a failover can lose."""
        return sum(write.by is not None for write in self._writes)

    def replicated(self, by: int | None) -> None:
        """A WAIT on this connection has been answered: the replicas have its last write, and so all
        that was written before it. A connection that has written nothing is told nothing."""
        last = max((at for at, write in enumerate(self._writes) if write.by == by), default=-1)
        safe = [write._replace(by=None) for write in self._writes[: last + 1]]
        self._writes[: last + 1] = safe

    def lose(self, count: int) -> None:
        """Put the server where it would be without the last ``count`` writes."""
        kept: list[_Write] = []
        for write in reversed(self._writes):
            if count and write.by is not None:
                count -= 1
            else:
                kept.append(write)
        self._writes = kept[::-1]
        again = self._server.pipeline(transaction=False)
        again.execute_command("FLUSHALL")
        for write in self._writes:
            for command in write.commands:
                again.execute_command(*command)
        again.execute()
        self._file.seek(0, 2)


def _whole(reader: hiredis.Reader) -> list[tuple[Command, ...]]:
    """The commands, with those of a MULTI together, and a SELECT with what it is for."""
    found: list[tuple[Command, ...]] = []
    gathered: list[Command] = []
    in_multi = False
    while (command := reader.gets()) is not False:
        name = command[0].upper()
        if name == b"MULTI":
            in_multi = True
        elif name != b"EXEC":
            gathered.append(command)
        if name == b"EXEC" or not (in_multi or name in (b"SELECT", b"MULTI")):
            found.append(tuple(gathered))
            gathered, in_multi = [], False
    return found


def _file_of(server: redis.Redis) -> Path:
    said: Any = {**server.config_get("dir"), **server.config_get("append*")}
    if "appenddirname" not in said:
        raise InvalidArgument("failovers need a server of Redis 7 or later, or any Valkey")
    found: Path = max((Path(said["dir"]) / said["appenddirname"]).glob("*.incr.aof"))
    return found
