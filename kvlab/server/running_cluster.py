"""A private cluster: three primaries, each with a replica, as processes on free ports of 127.0.0.1.

The nodes are born with their places: each gets a ``nodes.conf`` that names all six and their slots,
so nothing has to be negotiated. The cluster serves about two seconds later: a primary that starts
waits for so long. All nodes end with the process that started them (``guarded_process``).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from kvlab.errors import ServerUnavailable
from kvlab.server.running_server import Engine, RunningServer, free_port

PRIMARIES = 3
SLOTS = 16_384
_READY_SECONDS = 30.0
_LEAN = {"repl-backlog-size": "64kb", "repl-diskless-sync-delay": "0", "io-threads": "1"}
_OPTIONS = {"cluster-enabled": "yes", "cluster-require-full-coverage": "no", **_LEAN}


class RunningCluster:
    """``nodes``: the primaries, then their replicas in the same order.

    ``node_timeout``: seconds after which a node that is silent counts as failed, and its replica
    takes over.
    """

    name = "cluster"

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        options: Mapping[str, str] | None = None,
        node_timeout: float = 2.0,
    ) -> None:
        self.nodes: list[RunningServer] = []
        timeout = {"cluster-node-timeout": str(round(node_timeout * 1000))}
        self._options = {**_OPTIONS, **timeout, **(options or {})}
        try:
            for attempt in range(10):
                if self._start(engine, directory / str(attempt)):
                    break
                self.kill()
            else:
                raise ServerUnavailable("the nodes of a cluster lost the race for free ports")
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        self.version = self.nodes[0].version

    @property
    def primaries(self) -> list[RunningServer]:
        """The nodes that were primaries at the start; a failover changes that."""
        return self.nodes[:PRIMARIES]

    @property
    def url(self) -> str:
        """For ``kvlab.connect``: the addresses of all nodes."""
        password = self._options.get("requirepass")
        addresses = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{f':{password}@' if password else ''}{addresses}"

    def client(self, **kwargs: Any) -> redis.RedisCluster:
        """A new redis-py client; the caller closes it."""
        nodes: Any = [redis.cluster.ClusterNode("127.0.0.1", node.port) for node in self.nodes]
        password = self._options.get("requirepass")
        return redis.RedisCluster(startup_nodes=nodes, password=password, **kwargs)

    def has_ended(self) -> bool:
        """Whether some slots have no node left: their primary and its replica have ended."""
        pairs = zip(self.nodes[:PRIMARIES], self.nodes[PRIMARIES:], strict=True)
        return any(one.has_ended() and other.has_ended() for one, other in pairs)

    def kill(self) -> None:
        """Kill every node (SIGKILL) and wait for their end. May be called again."""
        for node in self.nodes:
            node.kill()

    def _start(self, engine: Engine, directory: Path) -> bool:
        """Start the nodes on free ports; False when another process took one first."""
        ports = [free_port() for _ in range(2 * PRIMARIES)]
        self.nodes = []
        if len({*ports, *(port + 10_000 for port in ports)}) < 2 * len(ports):
            return False
        told = _nodes_conf(ports)
        for number, port in enumerate(ports):
            home = directory / str(number)
            home.mkdir(parents=True)
            (home / "nodes.conf").write_text(told[number])
            try:
                self.nodes.append(RunningServer(engine, home, self._options, {}, port=port))
            except ServerUnavailable as problem:
                if "in use" in str(problem) or "taken" in str(problem):
                    return False
                raise
        return True

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        waiting = [*self.nodes]
        while waiting and time.monotonic() < deadline:
            waiting = [node for node in waiting if not _serves(node)]
            time.sleep(0.02 if waiting else 0)
        if waiting:
            raise ServerUnavailable(
                f"{len(waiting)} nodes of the cluster were not ready within {_READY_SECONDS:.0f} s"
            )


def _serves(node: RunningServer) -> bool:
    with contextlib.suppress(redis.RedisError), node.client(socket_timeout=1) as client:
        info: Any = client.info("replication")
        state: Any = client.execute_command("CLUSTER INFO")
        ready = "cluster_state:ok" in str(state) or dict(state).get("cluster_state") == "ok"
        linked = info["role"] == "master" or info.get("master_link_status") == "up"
        return bool(ready and linked)
    return False


def _nodes_conf(ports: list[int]) -> list[str]:
    """What each node knows of all of them, in the format in which a node keeps it."""
    ids = [secrets.token_hex(20) for _ in ports]
    texts = []
    for me in range(len(ports)):
        lines = []
        for i, port in enumerate(ports):
            flags, above, slots, epoch = "master", "-", "", i + 1
            if i < PRIMARIES:
                low, high = (SLOTS * n // PRIMARIES for n in (i, i + 1))
                slots = f" {low}-{high - 1}"
            else:
                flags, above, epoch = "slave", ids[i - PRIMARIES], i - PRIMARIES + 1
            flags = f"myself,{flags}" if i == me else flags
            address = f"127.0.0.1:{port}@{port + 10_000}"
            lines.append(f"{ids[i]} {address} {flags} {above} 0 0 {epoch} connected{slots}\n")
        texts.append("".join(lines) + f"vars currentEpoch {PRIMARIES} lastVoteEpoch 0\n")
    return texts
