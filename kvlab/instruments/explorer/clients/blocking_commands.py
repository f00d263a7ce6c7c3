"""The commands that make a client wait at the server: BLPOP and its family, XREAD with BLOCK, WAIT.

A command in a MULTI does not wait, nor does a command whose timeout the server refuses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

from kvlab.instruments.explorer.clients.leftovers import Refused
from kvlab.instruments.explorer.clients.stops import Command

_LAST, _FIRST = -1, 1
_TIMEOUT_AT = {
    **dict.fromkeys((b"BLPOP", b"BRPOP", b"BLMOVE", b"BRPOPLPUSH", b"BZPOPMIN"), _LAST),
    **dict.fromkeys((b"BZPOPMAX", b"WAIT", b"WAITAOF"), _LAST),
    **dict.fromkeys((b"BLMPOP", b"BZMPOP"), _FIRST),
}
_STREAMS = {b"XREAD", b"XREADGROUP"}
_IN_MILLISECONDS = _STREAMS | {b"WAIT", b"WAITAOF"}


def waits_in(commands: Sequence[Command]) -> tuple[Command, float] | None:
    """A blocking command with its timeout set to 0 (for ever), and the timeout in seconds.

    None for any other command, and for several commands that travel together.
    """
    return without_timeout(commands[0]) if len(commands) == 1 else None


def waits_for_replicas(commands: Sequence[Command]) -> bytes | None:
    """How many replicas a WAIT asks for, alone or at the end of a pipeline; else None."""
    name, *words = commands[-1]
    return words[0] if name.upper() == b"WAIT" and len(words) == 2 else None


def refuse_waits(commands: Sequence[Command], *, unseen: bool, replicas: bool) -> None:
    """Raises Refused for a blocking command that travels with others, and not in a MULTI.

    ``unseen``: the server does not tell which clients wait; then for every blocking command.
    ``replicas``: WAIT is answered at once, and may end a pipeline.
    """
    if replicas and waits_for_replicas(commands):
        commands = commands[:-1] or [(b"PING",)]
    alone = len(commands) == 1
    if commands[0][0].upper() == b"MULTI" or (alone and not unseen):
        return
    why = (
        "on fakeredis, which does not tell who waits"
        if alone
        else "inside a pipeline: send it alone"
    )
    for command in commands:
        if without_timeout(command):
            raise Refused(f"{command[0].decode().upper()} cannot be explored {why}")


def without_timeout(command: Command) -> tuple[Command, float] | None:
    """See :func:`waits_in`."""
    name = command[0].upper()
    at = _after_block(command) if name in _STREAMS else _TIMEOUT_AT.get(name)
    if at is None:
        return None
    with suppress(ValueError, IndexError):  # the server will say what is wrong
        seconds = float(command[at]) / (1000 if name in _IN_MILLISECONDS else 1)
        if 0 <= seconds < math.inf:
            changed = list(command)
            changed[at] = b"0"
            return tuple(changed), seconds
    return None


def _after_block(command: Command) -> int | None:
    """Where XREAD or XREADGROUP says how long: after BLOCK, if BLOCK is no stream's name."""
    words = [word.upper() for word in command]
    begin = 4 if words[0] == b"XREADGROUP" else 1
    if b"STREAMS" not in words[begin:]:
        return None
    options = words[begin : words.index(b"STREAMS", begin)]
    return begin + options.index(b"BLOCK") + 1 if b"BLOCK" in options else None
