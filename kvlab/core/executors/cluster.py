"""What an executor knows of a cluster: which node serves which slot, and how its nodes are.

redis-py's cluster client says how to connect, where the first nodes are, and which slots they had
when the executor was made; the executor never changes that client. From then on the executor asks
the nodes themselves: when a node fails or says MOVED, but at most every ``REREAD`` seconds.
"""

from __future__ import annotations

from typing import Any

from kvlab.core.executors.requests import Address
from kvlab.core.settings import Settings
from kvlab.core.transport.health import Downtime, Health

SLOTS = 16_384
REREAD = 0.2
"""Seconds for which an answer about the slots is enough."""


class Cluster:
    """The map of slots, and the health of each node. Shared by executors ``within``.

    Without locks, which a fork could copy taken: a map that two threads read at the same time is
    read twice, and the older one may win; the nodes correct it by MOVED.
    """

    def __init__(self, client: Any, settings: Settings) -> None:
        manager = client.nodes_manager
        self._remap, self._settings = manager.remap_host_port, settings
        self._start = [(str(n.host), int(n.port)) for n in manager.startup_nodes.values()]
        self._nodes: list[Address] = []
        self._homes: list[Address | None] = [None] * SLOTS
        named: dict[str, Address] = {}  # few, while the slots are many
        for slot, (home, *_) in manager.slots_cache.items():
            if home.name not in named:
                named[home.name] = (str(home.host), int(home.port))
            self._homes[slot] = named[home.name]
        self.suspects = set() if manager.slots_cache else {*self._start}
        """The nodes whose answers made the map doubtful: it is to be read again, from them last."""
        self._asked_at = float("-inf")
        self._healths: dict[Address, Health] = {}
        self.refusing: dict[int | Address, float] = {}
        """Since when a slot, or a node, is refused for now."""

    def __str__(self) -> str:
        return f"the cluster at {', '.join(f'{host}:{port}' for host, port in self._start[:3])}"

    def home(self, slot: int | None) -> Address:
        """The node of the slot; some node when that is not known: the node will say MOVED."""
        home = None if slot is None else self._homes[slot]
        return home or next((h for h in self._homes if h), self._start[0])

    def primaries(self) -> list[Address]:
        """The nodes that have slots."""
        return sorted({home for home in self._homes if home})

    def health(self, address: Address) -> Health:
        """How the node answers."""
        known = self._healths.get(address)
        fresh = known or Health(self._settings.clock, self._settings.timeout)
        return self._healths.setdefault(address, fresh)

    @property
    def outage(self) -> Downtime | None:
        """The longest outage among the nodes that have slots."""
        found = [self.health(one).outage for one in self.primaries()]
        return min((o for o in found if o), key=lambda outage: outage.since, default=None)

    def is_due(self) -> bool:
        """Whether the nodes are to be asked now."""
        now = self._settings.clock()
        if not self.suspects or now < self._asked_at + REREAD:
            return False
        self._asked_at = now
        return True

    def to_ask(self) -> list[Address]:
        """The nodes in the order in which to ask them: those that answer come first."""
        known = dict.fromkeys([*self.primaries(), *self._nodes, *self._start])
        silent = {one for one in known if self.health(one).outage is not None}
        return sorted(known, key=lambda one: (one in silent, one in self.suspects))

    def learn(self, ranges: Any, asked: Address) -> None:
        """Take the answer to CLUSTER SLOTS of the node ``asked``."""
        homes: list[Address | None] = [None] * SLOTS
        nodes: list[Address] = []
        for first, last, *members in ranges:
            addresses = [self._address(host, port, asked) for host, port, *_ in members]
            homes[first : last + 1] = [addresses[0]] * (last + 1 - first)
            nodes += addresses
        self._homes, self._nodes, self.suspects = homes, list(dict.fromkeys(nodes)), set()
        kept = {*self.primaries()}
        self.refusing = {k: t for k, t in self.refusing.items() if isinstance(k, int) or k in kept}

    def moved(self, error: Any, asked: Address) -> Address:
        """The node that a MOVED or an ASK of the node ``asked`` names."""
        return self._address(error.host, error.port, asked)

    def keep(self, slot: int, address: Address, asked: Address) -> None:
        """Take what a MOVED of ``asked`` says of one slot; other slots may have moved as well."""
        self._homes[slot] = address
        self.suspects.add(asked)

    def _address(self, host: Any, port: Any, asked: Address) -> Address:
        host = host.decode() if isinstance(host, bytes) else host
        there = asked[0] if host in (None, "", "?") else host  # it does not know its own
        remapped, port = self._remap(there, int(port))
        return str(remapped), int(port)
