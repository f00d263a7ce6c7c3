"""Which keys a command reads and writes, as the server itself says (COMMAND INFO, GETKEYS)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

from kvlab.instruments.explorer.clients.stops import Command

_NOTHING = {b"PING", b"ECHO", b"TIME", b"MULTI", b"EXEC", b"DISCARD", b"UNWATCH"}
_SCRIPTS = {b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"FCALL", b"FCALL_RO"}
SCRIPT_CACHE = "the script cache"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a step reads and writes. Two steps commute unless one writes what the other touches."""

    reads: frozenset[bytes | str] = frozenset()
    writes: frozenset[bytes | str] = frozenset()
    everything: bool = False

    def meets(self, other: Footprint) -> bool:
        """Whether the order of the two matters."""
        if self.everything or other.everything:
            return True
        return bool(
            self.writes & other.writes or self.writes & other.reads or self.reads & other.writes
        )

    def without_change(self) -> Footprint:
        """The footprint of a step that was to write keys and changed none: the step read them."""
        keys = frozenset(name for name in self.writes if isinstance(name, bytes))
        return Footprint(self.reads | keys, self.writes - keys, self.everything)

    def __or__(self, other: Footprint) -> Footprint:
        return Footprint(
            self.reads | other.reads,
            self.writes | other.writes,
            self.everything or other.everything,
        )


EVERYTHING = Footprint(everything=True)


class Footprints:
    """Asks a server, once for each command. A command that the server does not describe touches
    everything."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._described: dict[bytes, Any] = {}
        self._known: dict[Command, Footprint] = {}

    def changes(self) -> int | None:
        """The server's count of changes made to its data; None when it does not say."""
        try:
            said = self._client.execute_command(b"INFO", b"persistence")
        except redis.ResponseError:
            return None
        found = re.search(rb"rdb_changes_since_last_save:(\d+)", said)
        return int(found[1]) if found else None

    def of(self, commands: Iterable[Command]) -> Footprint:
        whole = Footprint()
        for command in commands:
            if command not in self._known:
                self._known[command] = self._of(command)
            whole |= self._known[command]
        return whole

    def _of(self, command: Command) -> Footprint:
        name = command[0].upper()
        if name in _NOTHING:
            return Footprint()
        if name in _SCRIPTS:
            count = int(command[2])
            if count == 0:  # the script may touch keys that it does not name
                return EVERYTHING
            keys = frozenset(command[3 : 3 + count])
            cache = frozenset({SCRIPT_CACHE})
            if name.endswith(b"_RO"):
                return Footprint(reads=keys | cache)
            if name == b"EVAL":  # the server keeps the script in its cache
                return Footprint(writes=keys | cache)
            return Footprint(reads=cache, writes=keys)
        if name in (b"SORT", b"SORT_RO") and {b"BY", b"GET"} & {w.upper() for w in command[2:]}:
            return EVERYTHING
        if name == b"SCRIPT":
            return Footprint(writes=frozenset({SCRIPT_CACHE}))
        described = self._describe(name)
        if described is None:
            return EVERYTHING
        flags = {flag.decode() if isinstance(flag, bytes) else flag for flag in described[2]}
        found = self._keys(command, flags, *described[3:6])
        if not found:
            return EVERYTHING
        return Footprint(writes=found) if "write" in flags else Footprint(reads=found)

    def _keys(
        self, command: Command, flags: set[str], first: int, last: int, every: int
    ) -> frozenset[bytes]:
        if "movablekeys" in flags:
            try:
                return frozenset(self._client.execute_command(b"COMMAND", b"GETKEYS", *command))
            except redis.ResponseError:
                return frozenset()
        if first == 0:
            return frozenset()
        end = len(command) + last if last < 0 else last
        return frozenset(command[first : end + 1 : every])

    def _describe(self, name: bytes) -> Any:
        if name not in self._described:
            try:
                # a name in bytes: redis-py's own decoding of this reply fails for unknown commands
                answer = self._client.execute_command(b"COMMAND", b"INFO", name)
            except redis.ResponseError:
                answer = [None]
            self._described[name] = answer[0] if answer else None
        return self._described[name]
