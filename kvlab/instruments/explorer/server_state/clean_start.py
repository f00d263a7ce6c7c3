"""Every run begins on a server as it was found: no keys, and nothing else that a run left."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import redis

from kvlab.errors import KvlabError
from kvlab.instruments.explorer.clients.leftovers import Leftovers


class CleanStart:
    """Remembers how the server was found, and puts that back.

    ``private``: all databases are emptied, and not only the one of ``server``.
    """

    def __init__(self, server: redis.Redis, leftovers: Leftovers, *, private: bool) -> None:
        self._server, self._leftovers = server, leftovers
        self._flush = b"FLUSHALL" if private else b"FLUSHDB"
        self._config, self._users = self._config_now(), self._users_now()
        self._functions = self._ask(b"FUNCTION", b"DUMP")

    def put_back(self) -> bool:
        """Whether all clients must be made anew: connections were closed, or refusals remembered.

        Raises KvlabError when the server can no longer be put back.
        """
        left = self._leftovers.on_server
        try:
            if "replication" in left:
                self._server.execute_command(b"REPLICAOF", b"NO", b"ONE")
            if "config" in left:
                self._put_back_config()
            if "users" in left:
                self._put_back_users()
            if "functions" in left:
                self._server.execute_command(b"FUNCTION", b"FLUSH")
                if self._functions:
                    self._server.execute_command(b"FUNCTION", b"RESTORE", self._functions)
            self._server.execute_command(self._flush)
        except redis.ResponseError as problem:
            raise KvlabError(
                f"a run has left the server in a state that cannot be put back: {problem}"
            ) from problem
        everywhere = not left.isdisjoint({"all connections", "replication", "config", "users"})
        left.clear()
        return everywhere

    def _put_back_config(self) -> None:
        for name, value in self._config_now().items():
            if value != self._config[name]:
                self._server.execute_command(b"CONFIG", b"SET", name, self._config[name])

    def _put_back_users(self) -> None:
        for name in self._users_now().keys() - self._users.keys():
            self._server.execute_command(b"ACL", b"DELUSER", name)
        for name, rules in self._users.items():
            self._server.execute_command(b"ACL", b"SETUSER", name, b"reset", *rules)

    def _config_now(self) -> Mapping[bytes, bytes]:
        found = self._ask(b"CONFIG", b"GET", b"*") or {}
        return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))

    def _users_now(self) -> Mapping[bytes, list[bytes]]:
        lines = [line.split(b" ") for line in self._ask(b"ACL", b"LIST") or []]
        return {name: rules for _, name, *rules in lines}

    def _ask(self, *command: bytes) -> Any:
        """The reply; None from a server that has no such command."""
        with suppress(redis.ResponseError):
            return self._server.execute_command(*command)
        return None
