"""The server's script cache, the same at the beginning of every run.

A client that finds a script missing sends another command to load it. A run in which that happens
has other choices than a run in which the script is there. So the scripts that any run has loaded
are loaded again after a flush, before the next run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import redis

from kvlab.instruments.explorer.clients.stops import Command

_BY_SHA = {b"EVALSHA", b"EVALSHA_RO"}
_ABOUT_SCRIPTS = {b"EVAL", b"EVAL_RO", b"SCRIPT"} | _BY_SHA


class ScriptCache:
    """Knows the scripts that the clients have loaded, and those that they have found missing."""

    def __init__(self, server: redis.Redis) -> None:
        self._server = server
        self._sources: dict[bytes, bytes] = {}  # by their SHA-1, in hexadecimal
        self._missed: set[bytes] = set()
        self._incomplete = False

    def begin(self) -> None:
        """Load every known script: a run begins."""
        if self._incomplete:
            for source in self._sources.values():
                self._server.script_load(source)
            self._incomplete = False

    def flush(self) -> None:
        """Let the server forget its scripts."""
        self._server.script_flush()
        self._incomplete = True

    def texts(self, commands: Sequence[Command]) -> dict[bytes, bytes]:
        """The texts of the scripts that these commands name by their SHA-1."""
        asked = [command[1] for command in commands if command[0].upper() in _BY_SHA]
        return {sha: self._sources[sha] for sha in asked if sha in self._sources}

    def _keep(self, source: bytes) -> None:
        sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
        self._sources[sha.encode()] = source

    def note(self, commands: Sequence[Command], replies: Sequence[Any]) -> bool:
        """Note what was sent and answered. True if the run began unlike the runs after it: a
        script was missing that no later run will find missing. A script that is missing after a
        flush, or in every run, does not count."""
        if not any(command[0].upper() in _ABOUT_SCRIPTS for command in commands):
            return False
        asked: set[bytes] = set()
        missing = any(isinstance(reply, redis.exceptions.NoScriptError) for reply in replies)
        for command in commands:
            match [word.upper() for word in command[:2]]:
                case [b"EVAL" | b"EVAL_RO", _]:
                    self._keep(command[1])
                case [b"EVALSHA" | b"EVALSHA_RO", _]:
                    asked.add(command[1])
                case [b"SCRIPT", b"LOAD"]:
                    self._keep(command[2])
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
