"""The writes of a run, as a replica gets them, so that a failover can take the last of them back.

Replication is asynchronous: a replica that is promoted holds a prefix of what the primary did. The
server's append-only file has the same commands as its replication stream: the effects of a script,
and not the script; a MULTI as one. So the state of a promoted replica is an empty server to which
the beginning of that file is applied.

Time passes on a replica too: it brings each TTL that the replica has nearer to its end. That is
never taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hiredis
import redis

from kvlab.errors import InvalidArgument

OPTIONS = {"appendonly": "yes", "appendfsync": "no", "auto-aof-rewrite-percentage": "0"}
"""Of a server that keeps such a file."""

Command = Sequence[bytes]


_END = b"if redis.call('PTTL', KEYS[1]) >= 0 then redis.call('UNLINK', KEYS[1]) end"
_AGE = b"""
local kept = {}
for at = 2, #ARGV do kept[ARGV[at]] = true end
for _, key in ipairs(redis.call('KEYS', '*')) do
  local ends = redis.call('PEXPIRETIME', key)
  if ends >= 0 and not kept[key] then redis.call('PEXPIREAT', key, ends - ARGV[1]) end
end"""


class _Write(NamedTuple):
    """One command, or MULTI with all that is in it, in a database. ``by``: the number of the
    connection of a client that made it; None for what a failover cannot lose."""

    commands: tuple[Command, ...]
    database: bytes
    by: int | None


class WriteLog:
    """Reads the append-only file of ``server``, whose connection is in database 0."""

    def __init__(self, server: redis.Redis) -> None:
        self._server = server
        self._file = _file_of(server).open("rb")
        self._database = b"0"  # of the next write in the file
        self._writes: list[_Write] = []

    def close(self) -> None:
        self._file.close()

    def begin(self) -> None:
        """A run begins on an empty server."""
        self._new()
        self._writes.clear()

    def note(self, by: int | None = None) -> bool:
        """Note what has been written since the last note; whether it was anything."""
        found = [_Write(*write, by) for write in self._new()]
        self._writes += found
        return bool(found)

    def ttl_ended(self, key: bytes) -> None:
        """The explorer has ended the TTL of this key."""
        self._by_time(b"EVAL", _END, b"1", key)

    def time_passed(self, ms: int, kept: Iterable[bytes]) -> None:
        """The explorer has brought every TTL nearer to its end, but those of the kept keys."""
        self._by_time(b"EVAL", _AGE, b"0", b"%d" % ms, *kept)

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
        again.execute_command("FUNCTION", "FLUSH")
        again.execute_command("FLUSHALL")
        for write in self._writes:
            again.execute_command("SELECT", write.database)
            for command in write.commands:
                again.execute_command(*command)
        again.execute_command("SELECT", 0)
        again.execute()
        self._new()

    def _by_time(self, *command: bytes) -> None:
        """Note what does this to other data, too; not what it has done here."""
        self._new()
        self._writes.append(_Write((command,), b"0", None))

    def _new(self) -> list[tuple[tuple[Command, ...], bytes]]:
        """What was written since this was asked last: commands, those of a MULTI together, and
        their database."""
        reader = hiredis.Reader()
        reader.feed(self._file.read())
        found: list[tuple[tuple[Command, ...], bytes]] = []
        gathered: list[Command] = []
        in_multi = False
        while (command := reader.gets()) is not False:
            name = command[0]
            if name == b"SELECT":
                self._database = command[1]
            elif name == b"MULTI":
                in_multi = True
            elif name != b"EXEC":
                gathered.append(command)
            if gathered and (name == b"EXEC" or not in_multi):
                found.append((tuple(gathered), self._database))
                gathered = []
            in_multi = in_multi and name != b"EXEC"
        return found


def _file_of(server: redis.Redis) -> Path:
    said: Any = {**server.config_get("dir"), **server.config_get("append*")}
    if "appenddirname" not in said:
        raise InvalidArgument("failovers need a server of Redis 7 or later, or any Valkey")
    found: Path = max((Path(said["dir"]) / said["appenddirname"]).glob("*.incr.aof"))
    return found
