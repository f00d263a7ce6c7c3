"""Scripts that are written for the product: Upstash's own flag is taken out.

``@upstash/ratelimit`` begins its scripts with ``#!lua flags=allow-key-locking``: on Upstash such a
script locks its keys instead of the store. Valkey and Redis run one script at a time anyway, and
refuse a flag that they do not know. The script is then another text with another SHA-1, so the
gateway remembers which SHA-1 stands for which.
"""

from __future__ import annotations

import hashlib
from typing import Any

from kvlab.rest_gateway.request import Command

_FLAG = "allow-key-locking"
_REMEMBERED = 1000
"""The most scripts that are remembered; the client of a forgotten script sends its text again."""


class Scripts:
    """The scripts of one gateway that stand for others."""

    def __init__(self) -> None:
        self._sent: dict[str, str] = {}

    def translated(self, command: Command) -> Command:
        """The command as the store understands it."""
        name, arguments = command
        if name in ("EVAL", "EVAL_RO") and arguments:
            return name, (self._plain(arguments[0]), *arguments[1:])
        if name in ("EVALSHA", "EVALSHA_RO") and arguments:
            sha = _text(arguments[0]).lower()
            return name, (self._sent.get(sha, arguments[0]), *arguments[1:])
        if name == "SCRIPT" and len(arguments) == 2 and _text(arguments[0]).upper() == "LOAD":
            return name, (arguments[0], self._plain(arguments[1]))
        return command

    def answered(self, command: Command, reply: Any) -> Any:
        """The reply: of SCRIPT LOAD the SHA-1 of the script that the client knows."""
        if command[0] == "SCRIPT" and isinstance(reply, bytes):
            return next((k.encode() for k, v in self._sent.items() if v.encode() == reply), reply)
        return reply

    def _plain(self, source: str | bytes) -> str | bytes:
        first, newline, rest = _text(source).partition("\n")
        engine, _, flags = first.partition("flags=")
        if not first.startswith("#!lua") or _FLAG not in flags:
            return source
        left = ",".join(flag for flag in flags.strip().split(",") if flag != _FLAG)
        # The line stays, so that the numbers of lines in errors do.
        plain = (f"{engine}flags={left}" if left else "") + newline + rest
        if len(self._sent) >= _REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self._sent[_sha(_text(source))] = _sha(plain)
        return plain


def _text(argument: str | bytes) -> str:
    return argument if isinstance(argument, str) else argument.decode(errors="surrogateescape")


def _sha(source: str) -> str:
    text = source.encode(errors="surrogateescape")
    return hashlib.sha1(text, usedforsecurity=False).hexdigest()
