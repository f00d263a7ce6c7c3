"""What a command leaves behind beside the keys of its database, and which commands are refused.

What is left on a connection goes with the connection; what is left on the server is put back
before the next run (``run.clean_start``). A command whose effect cannot be put back is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from kvlab.errors import KvlabError
from kvlab.instruments.explorer.clients.stops import Command

Left = Literal["connection", "all connections", "replication", "config", "users", "functions"]

_OPEN, _CLOSE = {b"WATCH", b"MULTI"}, {b"EXEC", b"DISCARD", b"UNWATCH", b"RESET"}
_LEFT: dict[bytes, Left] = {
    **dict.fromkeys((b"SELECT", b"AUTH", b"HELLO", b"RESET", b"READONLY"), "connection"),
    **dict.fromkeys((b"READWRITE", b"ASKING", b"QUIT"), "connection"),
    **dict.fromkeys((b"REPLICAOF", b"SLAVEOF"), "replication"),
    b"CLIENT": "connection",
    b"CLIENT KILL": "all connections",
    b"CONFIG SET": "config",
    **dict.fromkeys((b"ACL SETUSER", b"ACL DELUSER"), "users"),
    **dict.fromkeys((b"FUNCTION LOAD", b"FUNCTION DELETE"), "functions"),
    **dict.fromkeys((b"FUNCTION FLUSH", b"FUNCTION RESTORE"), "functions"),
}
_LEAVES_NOTHING = {
    b"CLIENT " + word
    for word in (b"ID", b"INFO", b"LIST", b"GETNAME", b"GETREDIR", b"TRACKINGINFO", b"UNBLOCK")
}

_NO_REPLY = "each command must have one reply"
_NO_WAY_BACK = "what it changes cannot be put back for the next run"
_REFUSED = {
    **dict.fromkeys((b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"), "there is no pub/sub here"),
    **dict.fromkeys((b"MONITOR", b"SYNC", b"PSYNC", b"CLIENT REPLY"), _NO_REPLY),
    **dict.fromkeys((b"SHUTDOWN", b"FAILOVER", b"CONFIG REWRITE", b"SCRIPT DEBUG"), _NO_WAY_BACK),
    **dict.fromkeys((b"MODULE LOAD", b"MODULE LOADEX", b"MODULE UNLOAD"), _NO_WAY_BACK),
    **dict.fromkeys((b"ACL LOAD", b"ACL SAVE", b"DEBUG"), _NO_WAY_BACK),
    b"CLIENT PAUSE": "it lets real time pass, and time stands still here",
}
_OTHER_DATABASES = {b"SELECT", b"SWAPDB", b"MOVE", b"FLUSHALL"}
_TOUCHED = {name.partition(b" ")[0] for name in (*_LEFT, *_REFUSED)}
_TOUCHED |= _OPEN | _CLOSE | _OTHER_DATABASES | {b"COPY"}


class Refused(KvlabError):
    """A command that cannot be explored."""


class Leftovers:
    """Notes what the commands of an exploration leave on its server.

    ``private``: the server is the exploration's own, with all its databases; ``kills``: a command
    has closed connections of the explorer too.
    """

    def __init__(self, *, private: bool) -> None:
        self.private, self.kills = private, False
        self.on_server: set[Left] = set()

    def note(self, commands: Sequence[Command], was_open: bool) -> tuple[bool, bool]:
        """Note what these commands of one connection leave.

        ``was_open``: a WATCH or MULTI is open on the connection. Returns whether one is open
        after the commands, and whether they leave anything else on the connection. Raises
        :class:`Refused`.
        """
        is_open, changed = was_open, False
        for command in commands:
            if (name := command[0].upper()) not in _TOUCHED:
                continue
            is_open = name in _OPEN or (is_open and name not in _CLOSE)
            both = b" ".join((name, *(word.upper() for word in command[1:2])))
            self._refuse(name, both, command)
            left = None if both in _LEAVES_NOTHING else _LEFT.get(both, _LEFT.get(name))
            if left == "connection":
                changed = True
            elif left is not None:
                self.on_server.add(left)
                self.kills |= left in ("all connections", "replication", "users")
        return is_open, changed

    def _refuse(self, name: bytes, both: bytes, command: Command) -> None:
        said = name if name in _REFUSED else both
        why = _REFUSED.get(said)
        if both == b"ACL SETUSER" and command[2:3] == (b"default",):
            why = "the exploration is this user itself; name another user"
        elsewhere = name in _OTHER_DATABASES or (
            name == b"COPY" and b"DB" in [word.upper() for word in command[3:]]
        )
        if elsewhere and not self.private:
            said, why = name, "with url an exploration owns one database of the server, no other"
        if why is not None and both != b"DEBUG OBJECT":
            raise Refused(f"{said.decode()} cannot be explored: {why}")
