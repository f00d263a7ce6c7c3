"""The server's script cache, the same at the beginning of every run.

A script that is missing costs a client another command, so that a run that finds it missing has
other choices than one that does not. What a run has loaded is loaded again after a flush.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from kvlab.instruments.explorer.run.lanes import Command

_ABOUT_SCRIPTS = {b"EVAL", b"EVAL_RO", b"EVALSHA", b"EVALSHA_RO", b"SCRIPT"}


class ScriptCache:
    """What the clients have loaded, and what they have missed."""

    def __init__(self, server: redis.Redis) -> None:
        self._server = server
        self._sources: dict[bytes, None] = {}
        self._missed: set[bytes] = set()
        self._incomplete = False

    def begin(self) -> None:
        """A run begins: everything known is there."""
        if self._incomplete:
            for source in self._sources:
                self._server.script_load(source)
            self._incomplete = False

    def flush(self) -> None:
        """Forget everything, as SCRIPT FLUSH does."""
        self._server.script_flush()
        self._incomplete = True

    def note(self, commands: Sequence[Command], replies: Sequence[Any]) -> bool:
        """What was sent and answered. True if it met a script missing that no run will miss again:
        that run began unlike the others. Not so after a flush, or where it is always missing."""
        if not any(command[0].upper() in _ABOUT_SCRIPTS for command in commands):
            return False
        asked: set[bytes] = set()
        missing = any(isinstance(reply, redis.exceptions.NoScriptError) for reply in replies)
        for command in commands:
            match [word.upper() for word in command[:2]]:
                case [b"EVAL" | b"EVAL_RO", _]:
                    self._sources[command[1]] = None
                case [b"EVALSHA" | b"EVALSHA_RO", _]:
                    asked.add(command[1])
                case [b"SCRIPT", b"LOAD"]:
                    self._sources[command[2]] = None
                case [b"SCRIPT", b"EXISTS"]:
                    asked.update(command[2:])
                    missing |= any(0 in reply for reply in replies if isinstance(reply, list))
                case [b"SCRIPT", b"FLUSH"]:
                    self._incomplete = True
        if self._incomplete or not missing:
            return False
        new = asked - self._missed
        self._missed |= asked
        return bool(new)
