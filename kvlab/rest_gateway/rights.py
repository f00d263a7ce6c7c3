"""Which commands a token may run: asked of the store itself, which knows its commands.

COMMAND lists the categories and the flags of each command. So a command that a newer server adds
is known as well, and nothing has to be changed on a server that is not ours, such as its users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvlab.core.async_client import AsyncKv
from kvlab.core.op import Op
from kvlab.rest_gateway.request import Command

_REFUSED = frozenset({b"@admin", b"@blocking", b"@connection", b"@transaction", b"@pubsub"})
_ALLOWED = frozenset({"PING", "ECHO", "COMMAND", "PUBLISH", "SPUBLISH", "PUBSUB"})
"""What is harmless of the refused categories."""
_HARMFUL = frozenset({"WAIT", "WAITAOF", "SWAPDB", "MIGRATE", "SCRIPT DEBUG", "SCRIPT KILL"})
"""What is in none of them on every server, and waits, or reaches beyond one database or request."""
_READ = frozenset({"XREAD", "XREADGROUP"})
"""Blocking with the option BLOCK alone."""
_POWERFUL = frozenset({"KEYS", "SCAN", "RANDOMKEY"})
"""Read commands that show the names of all keys: not for the read-only token."""
_HARMLESS = frozenset({"PING", "ECHO", "TIME"})
"""What reads nothing, and so has no flag "readonly"."""


@dataclass(frozen=True, slots=True)
class _Kind:
    categories: frozenset[bytes]
    reads: bool
    subcommands: dict[str, _Kind]


class Rights:
    """The commands of one store. ``await Rights.of(kv)`` asks it; one round trip."""

    def __init__(self, kinds: dict[str, _Kind]) -> None:
        self._kinds = kinds

    @classmethod
    async def of(cls, kv: AsyncKv) -> Rights:
        """The rights on the store of ``kv``."""
        return cls(_kinds(await kv.run(Op("COMMAND", idempotent=True))))

    def refusal(self, command: Command, *, read_only: bool) -> str | None:
        """Why the command may not run, in the protocol's words; None when it may."""
        name, arguments = command
        whole = f"{name} {_upper(arguments[0])}" if arguments else name
        kind = self._kinds.get(name)
        if kind is not None and kind.subcommands and arguments:
            kind = kind.subcommands.get(_upper(arguments[0]), kind)
        if kind is None:  # the store knows what to say
            return None if not read_only else _no_permission(name)
        if {name, whole} & _HARMFUL or not _may_run(name, arguments, kind):
            return f"ERR {name} is not available over REST"
        if read_only and (name in _POWERFUL or not (kind.reads or name in _HARMLESS)):
            return _no_permission(name)
        return None


def _may_run(name: str, arguments: tuple[str | bytes, ...], kind: _Kind) -> bool:
    if name in _READ:
        return not any(_upper(argument) == "BLOCK" for argument in arguments)
    return name in _ALLOWED or not kind.categories & _REFUSED


def _no_permission(name: str) -> str:
    return f"NOPERM this token has no permission to run the '{name.lower()}' command"


def _upper(argument: str | bytes) -> str:
    text = argument.decode("latin-1") if isinstance(argument, bytes) else argument
    return text.upper()


def _kinds(rows: list[Any]) -> dict[str, _Kind]:
    return {
        # A subcommand is named "config|set".
        row[0].decode().rpartition("|")[2].upper(): _Kind(
            categories=frozenset(row[6]),
            reads=b"readonly" in row[2],
            subcommands=_kinds(row[9]) if len(row) > 9 else {},
        )
        for row in rows
    }
