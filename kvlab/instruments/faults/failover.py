"""A primary, its replica, and failovers between the two: real servers, on command.

Guarantee: :meth:`Failover.part` returns when the replica has all that the primary did before, and
gets nothing more. :meth:`Failover.promote` returns when the replica is the primary at the same
address, and all connections of clients are closed. So exactly the writes between the two are lost.

    with Failover() as pair, kvlab.connect(pair.url) as kv:
        pair.part()
        kv.run(lock.try_acquire())
        pair.promote()
        pair.rejoin()      # the old primary follows the new one: another failover may come
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from kvlab.core import checks
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server import engines

_PATIENCE = 20.0
"""Seconds within which a replica must have what its primary has."""
_NOBODY = ("127.0.0.1", "1")
"""An address at which no server listens."""
_QUICK = {"repl-diskless-sync": "no", "repl-diskless-load": "swapdb", "hz": "500"}
"""A replica is up to date in some 10 ms; as servers are set by default it takes a second."""


class Failover:
    """Two servers of ``engine``, behind one address ``url``. Use as a context manager.

    Raises InvalidArgument for an engine that is no real server, and KvlabError when a replica
    does not get the primary's data within 20 s.
    """

    def __init__(self, engine: str = "valkey") -> None:
        checks.text("engine", engine)
        if engine == "fakeredis":
            raise InvalidArgument("engine must be a real server, not fakeredis: it has no replica")
        self._ends = ExitStack()
        with ExitStack() as ends:
            pair = [ends.enter_context(engines.start(engine, options=_QUICK)) for _ in range(2)]
            self._primary, self._replica = pair
            self._clients = {one: ends.enter_context(one.client()) for one in pair}
            self._proxy = ends.enter_context(Proxy(self._primary.url))
            self.rejoin()
            self._ends = ends.pop_all()

    @property
    def url(self) -> str:
        """The address that clients connect to, before and after a failover."""
        return self._proxy.url

    def part(self) -> None:
        """Cut the replica off from its primary, when it has all that the primary did."""
        self._wait_for_the_replica()
        self._clients[self._replica].replicaof(*_NOBODY)

    def promote(self) -> None:
        """Put the replica in the primary's place; every connection of a client is closed.

        The old primary goes on by itself, and no client reaches it.
        """
        self._clients[self._replica].replicaof("NO", "ONE")
        self._proxy.move(self._replica.url)
        self._proxy.cut()
        self._primary, self._replica = self._replica, self._primary

    def rejoin(self) -> None:
        """Let the other server follow the primary. What it alone has is lost."""
        self._clients[self._replica].replicaof(self._primary.host, str(self._primary.port))
        self._wait_for_the_replica()

    def _wait_for_the_replica(self) -> None:
        until = time.monotonic() + _PATIENCE
        while not self._replica_has_all():
            if time.monotonic() > until:
                raise KvlabError(f"the replica has not got the primary's data within {_PATIENCE} s")
            time.sleep(0.002)

    def _replica_has_all(self) -> bool:
        here: Any = self._clients[self._primary].info("replication")
        there: Any = self._clients[self._replica].info("replication")
        linked = there.get("master_link_status") == "up"
        return bool(linked and here["master_repl_offset"] == there["slave_repl_offset"])

    def close(self) -> None:
        """End both servers and the proxy."""
        self._ends.close()

    def __enter__(self) -> Failover:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
