"""The server, as the connections of setup, invariant and client programs see it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import redis

from kvlab.instruments.explorer.clients.leftovers import Leftovers, Refused

_RECEIVED = re.compile(rb"total_connections_received:(\d+)")
_FLAGS = re.compile(rb" flags=(\S+)")


class ServerSide:
    """``leftovers`` notes what the connections leave there; ``answers``: what setup was told;
    ``tells_who_waits``: fakeredis does not. ``opened``: how many connections the explorer has
    opened for setup, invariant and clients; ``own_connections``: those that setup or the invariant
    has made itself. ``has_replica``: WAIT is answered as by a server that
    has replicas. ``refused``: what a thread that a client has started was refused.

    Questions go by a connection of their own: bytes that have left the server can lie in a
    socket, an event loop or a parser, and not all of them are a reply; so only the server knows
    whether a client waits.
    """

    def __init__(
        self, url: str, client: redis.Redis, leftovers: Leftovers, *, tells_who_waits: bool = True
    ) -> None:
        self.url, self.leftovers, self.tells_who_waits = url, leftovers, tells_who_waits
        self.answers: list[Any] = []
        self.opened = 0
        self.has_replica = False
        self.own_connections: set[Any] = set()
        self.refused: Refused | None = None
        self._client = client
        self._before = self._received()

    @property
    def asked_by(self) -> Collection[object]:
        """The connections of the explorer's own questions that wait for the next one."""
        return self._client.connection_pool._available_connections

    def only_ours(self) -> None:
        """Raises Refused when somebody else has opened a connection to a private server."""
        self.none_refused()
        others = self._received() - self._before - self.opened
        if self.leftovers.private and not self.leftovers.kills and others > 0:
            raise Refused(
                "a client, setup or the invariant opened a connection of its own to the server, "
                "and nobody sees what it sends there: set own_connections=True for a library that "
                "connects with redis-py, or give a library its connections, as "
                "redis.Redis(connection_pool=kv.connection_pool)"
            )

    def refuse(self, why: str) -> Refused:
        """The exception for who asks, and at the next look for the exploration."""
        self.refused = Refused(why)
        return self.refused

    def none_refused(self) -> None:
        """Raises what was refused where no client of the exploration could raise it."""
        if self.refused is not None:
            raise self.refused

    def _received(self) -> int:
        try:
            found = _RECEIVED.search(self._client.execute_command(b"INFO", b"stats"))
        except redis.ResponseError:  # fakeredis has no INFO
            return 0
        return int(found[1]) if found else 0

    def settle(self) -> None:
        """Returns when the server has done all that was written to it before."""
        for _ in range(2):  # at the second answer, all that came before the first is answered
            self._client.ping()

    def waits(self, connection: int) -> bool:
        """Whether a blocking command of this connection (its CLIENT ID) still waits."""
        # in bytes: redis-py would parse the line
        said = self._client.execute_command(b"CLIENT", b"LIST", b"ID", str(connection))
        flags = _FLAGS.search(said)
        return flags is not None and b"b" in flags[1]
