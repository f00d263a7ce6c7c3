"""Which commands a token may run: asked of the store itself, which knows its commands.

COMMAND lists the categories of each command and subcommand. So a command that a newer server adds
is known as well, and nothing has to be changed on a server that is not ours, such as its users.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvlab.core.executors.async_client import AsyncKv
from kvlab.core.op import Op
from kvlab.rest_gateway.request import Command

_REFUSED = frozenset({b"@admin", b"@blocking", b"@connection", b"@transaction", b"@pubsub"})
_ALLOWED = frozenset({"PING", "ECHO", "COMMAND", "PUBLISH", "SPUBLISH", "PUBSUB"})
"""What is harmless of the refused categories."""
_HARMFUL = frozenset(
    {"WAIT", "WAITAOF", "SWAPDB", "MOVE", "MIGRATE"}
    | {"SCRIPT DEBUG", "SCRIPT KILL", "FUNCTION KILL"}
)
"""What is in none of them on every server, and waits, or reaches beyond one database or request."""
_OPTIONS = {"XREAD": b"BLOCK", "XREADGROUP": b"BLOCK", "COPY": b"DB"}
"""Commands that are refused with this option alone."""
_POWERFUL = frozenset({"SCAN", "CLUSTERSCAN", "RANDOMKEY"})
"""Read commands that show the names of all keys, and that the store does not call dangerous."""
_HARMLESS = frozenset({"PING", "ECHO", "TIME"})
"""What reads nothing, and so is not in the category "@read"."""


class Rights:
    """The commands of one store. ``await Rights.of(kv)`` asks it; one round trip."""

    def __init__(self, categories: dict[bytes, frozenset[bytes]]) -> None:
        self._categories = categories
        self._containers = {name.partition(b"|")[0] for name in categories if b"|" in name}

    @classmethod
    async def of(cls, kv: AsyncKv) -> Rights:
        """The rights on the store of ``kv``."""
        return cls(dict(_categories(await kv.run(Op("COMMAND", idempotent=True)))))

    def refusal(self, command: Command, *, read_only: bool) -> str | None:
        """Why the command may not run, in the protocol's words; None when it may."""
        name, arguments = command
        listed, whole = name.encode(), name
        if arguments:
            whole = f"{name} {_word(arguments[0]).decode('latin-1')}"
            if listed in self._containers:
                # With a NUL too, which the store may ignore: then no row has this name.
                listed += b"|" + _bytes(arguments[0]).upper()
        categories = self._categories.get(listed)
        if categories is None:  # or renamed in the store's configuration: the list has its old name
            return f"ERR unknown command '{name}', or its subcommand: not available over REST"
        if {name, whole} & _HARMFUL or not _may_run(name, arguments, categories):
            return f"ERR {name} is not available over REST"
        if read_only and (name in _POWERFUL or not (_reads(categories) or name in _HARMLESS)):
            return f"NOPERM this token has no permission to run the '{name.lower()}' command"
        return None


def _may_run(name: str, arguments: tuple[str | bytes, ...], categories: frozenset[bytes]) -> bool:
    if name in _OPTIONS:
        return _OPTIONS[name] not in _options(name, arguments)
    return name in _ALLOWED or not categories & _REFUSED


def _reads(categories: frozenset[bytes]) -> bool:
    # No script is in "@read": a script sees every key and database.
    return b"@read" in categories and b"@dangerous" not in categories


def _options(name: str, arguments: tuple[str | bytes, ...]) -> list[bytes]:
    """The words that may be options; a key may be named like an option."""
    words = [_word(argument) for argument in arguments]
    if name == "COPY":
        return words[2:]
    # To the last STREAMS: an earlier one may be the name of a group or of a consumer.
    return words[: len(words) - words[::-1].index(b"STREAMS")] if b"STREAMS" in words else words


def _word(argument: str | bytes) -> bytes:
    """A word as the store compares it: in ASCII capitals, and to the first NUL, like C."""
    return _bytes(argument).partition(b"\0")[0].upper()


def _bytes(argument: str | bytes) -> bytes:
    return argument if isinstance(argument, bytes) else argument.encode()


def _categories(rows: list[Any]) -> Iterator[tuple[bytes, frozenset[bytes]]]:
    """The categories of each command, and of each subcommand, which is named "config|set"."""
    for row in rows:
        yield row[0].upper(), frozenset(row[6])
        yield from _categories(row[9] if len(row) > 9 else [])
