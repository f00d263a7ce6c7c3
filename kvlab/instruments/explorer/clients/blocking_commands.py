"""The commands that make a client wait at the server: BLPOP and its family, XREAD with BLOCK."""

from __future__ import annotations

from kvlab.instruments.explorer.clients.stops import Command

_TIMEOUT_LAST = {b"BLPOP", b"BRPOP", b"BLMOVE", b"BRPOPLPUSH", b"BZPOPMIN", b"BZPOPMAX"}
_TIMEOUT_FIRST = {b"BLMPOP", b"BZMPOP"}
_STREAMS = {b"XREAD", b"XREADGROUP"}
_BLOCKING = _TIMEOUT_LAST | _TIMEOUT_FIRST | _STREAMS


def without_timeout(command: Command) -> tuple[Command, float] | None:
    """A blocking command with its timeout set to 0 (for ever), and the timeout in seconds.

    None for any other command.
    """
    name = command[0].upper()
    if name not in _BLOCKING:
        return None
    if name in _TIMEOUT_LAST:
        at = len(command) - 1
    elif name in _TIMEOUT_FIRST:
        at = 1
    elif (block := _block_option(command)) is not None:
        at = block + 1
    else:
        return None
    seconds = float(command[at]) / (1000 if name in _STREAMS else 1)
    return (*command[:at], b"0", *command[at + 1 :]), seconds


def _block_option(command: Command) -> int | None:
    """Where XREAD or XREADGROUP says BLOCK: among its options, not as the name of a stream."""
    words = [word.upper() for word in command]
    begin = 4 if words[0] == b"XREADGROUP" else 1
    if b"STREAMS" not in words[begin:]:
        return None
    options = words[begin : words.index(b"STREAMS", begin)]
    return begin + options.index(b"BLOCK") if b"BLOCK" in options else None
