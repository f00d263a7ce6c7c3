"""What a client asks: the commands in a path or a JSON body. Pure: no network here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote_to_bytes

from kvlab.rest_gateway.answer import RestRefused

MAX_COMMANDS = 100_000
"""The most commands of a pipeline or of a transaction."""
MAX_ARGUMENTS = 1_000_000
"""The most arguments of a command: with 2**20 or more, servers end the connection."""

_AUTHORITY = re.compile(rb"https?://[^/]*", re.IGNORECASE)  # said to a proxy (RFC 9112, 3.2.2)
_NAME = re.compile(r"[!-~]{1,64}")
_BATCHES = {"pipeline": False, "multi-exec": True}

Command = tuple[str, tuple[str | bytes, ...]]
"""The name of a command in capitals, and its arguments."""


@dataclass(frozen=True, slots=True)
class Asked:
    """``batch`` is answered by an array; ``atomic``: all commands in one transaction."""

    commands: list[Command]
    batch: bool = False
    atomic: bool = False


def asked(path: bytes, query: bytes, body: bytes) -> Asked:
    """The commands of a request; raises :class:`RestRefused` for what is not of the protocol."""
    if said := _AUTHORITY.match(path):
        path = path[said.end() :]
    words = [unquote_to_bytes(part) for part in path.removeprefix(b"/").split(b"/")]
    first = words[0].decode("latin-1").lower()
    if first in _BATCHES and len(words) == 1:
        rows = _parsed(body)
        if not isinstance(rows, list) or not rows:
            raise RestRefused(400, "ERR an array of commands is expected, each an array")
        if len(rows) > MAX_COMMANDS:
            raise RestRefused(400, f"ERR at most {MAX_COMMANDS} commands in a request")
        return Asked([_command(row) for row in rows], True, _BATCHES[first])
    if words == [b""]:
        return Asked([_command(_parsed(body))])
    pairs = parse_qsl(query, keep_blank_values=True)
    options = [part for pair in pairs if pair[0] != b"_token" for part in pair]
    given = [*words[1:], *([body] if body else []), *filter(None, options)]
    return Asked([(_name(first), tuple(given))])


def _parsed(body: bytes) -> Any:
    try:
        # Numbers keep their digits: 2**53 + 1 and 1.10 are what the client meant.
        return json.loads(
            body.decode(), parse_int=_Number, parse_float=_Number, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as problem:
        why = "nested too deeply" if isinstance(problem, RecursionError) else "not JSON in UTF-8"
        raise RestRefused(400, f"ERR the body cannot be read: {why}") from None


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _command(row: Any) -> Command:
    if not isinstance(row, list) or not row or type(row[0]) is not str:
        raise RestRefused(400, "ERR a command is an array that begins with the command's name")
    if len(row) > MAX_ARGUMENTS:
        raise RestRefused(400, f"ERR a command has at most {MAX_ARGUMENTS} arguments")
    return _name(row[0]), tuple(map(_argument, row[1:]))


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise RestRefused(400, "ERR unknown command")
    return text.upper()


def _argument(value: Any) -> str:
    if isinstance(value, str):
        try:
            value.isascii() or value.encode()
        except UnicodeEncodeError:
            raise RestRefused(400, "ERR an argument has half of a surrogate pair") from None
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    kind = "null" if value is None else "an object" if isinstance(value, dict) else "an array"
    raise RestRefused(400, f"ERR an argument is text or a number, not {kind}")
