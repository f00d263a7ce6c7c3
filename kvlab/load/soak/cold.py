"""The cold figures: how many calls fail until all is well, when a fault meets idle connections.

Twelve connections are idle. A fault comes, lasts for one call, and is healed; then twenty calls,
of an op that may not be repeated, come 20 ms apart. redis-py stands beside kvlab: with the
same timeout, and like kvlab without a retry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab import Key, Kv, Op
from kvlab.errors import Outage
from kvlab.instruments.faults.proxy import Proxy
from kvlab.load.soak.faults import OPTIONS, Target, inflicted
from kvlab.server import engines
from kvlab.server.running_server import RunningServer

IDLE, CALLS, APART, TIMEOUT = 12, 20, 0.02, 0.5
CUT_OFF, DEMOTED = "cut off while idle", "demoted behind one name"
KINDS = (
    "connections reset",
    "connections refused",
    "CLIENT KILL",
    "frozen",
    "kill -9",
    "restart",
    CUT_OFF,
    DEMOTED,
)
CLIENTS = ("kvlab", "redis-py")


def cold_figures() -> dict[str, dict[str, int]]:
    """By kind of fault and client: how many of ``CALLS`` calls failed."""
    with (
        engines.start("valkey", options=OPTIONS, unix_socket=True) as server,
        engines.start("valkey") as other,
    ):
        return {kind: {c: failures(kind, c, server, other) for c in CLIENTS} for kind in KINDS}


def failures(kind: str, client: str, server: RunningServer, other: RunningServer) -> int:
    """``other``: the server that is the primary, when ``server`` is demoted."""
    with ExitStack() as ends:
        proxy = ends.enter_context(Proxy(server.url))
        plain = ends.enter_context(
            redis.Redis(port=proxy.port, socket_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0))
        )
        kv = ends.enter_context(Kv(plain, prefix="cold", timeout=TIMEOUT))
        add: Op[int] = Op("INCR", Key("n"))
        call = (lambda: kv.run(add)) if client == "kvlab" else (lambda: plain.incr("cold:n"))
        proxy.delay(TIMEOUT / 2)  # so that each call needs a connection of its own
        with ThreadPoolExecutor(IDLE) as threads:
            list(threads.map(lambda _: _fails(call), range(IDLE)))
        proxy.delay(0)
        if kind == CUT_OFF:
            proxy.blackhole()
        elif kind == DEMOTED:
            proxy.move(other.url)
            target = Target(server, proxy)
            target.ask("REPLICAOF", "127.0.0.1", "1")
            ends.callback(target.ask, "REPLICAOF", "NO", "ONE")
        else:
            with inflicted(kind, Target(server, proxy)):
                _fails(call)
        return sum(_fails(call, after=APART) for _ in range(CALLS))


def _fails(call: Callable[[], object], after: float = 0) -> bool:
    time.sleep(after)
    try:
        call()
    except (Outage, redis.RedisError):
        return True
    return False


def table(figures: dict[str, dict[str, int]]) -> str:
    lines = [f"of {CALLS} calls after a fault, over {IDLE} idle connections, failed:", ""]
    lines.append(f"{'fault':26}" + "".join(f"{client:>10}" for client in CLIENTS))
    for kind, failed in figures.items():
        lines.append(f"{kind:26}" + "".join(f"{failed[client]:>10}" for client in CLIENTS))
    return "\n".join(lines)
