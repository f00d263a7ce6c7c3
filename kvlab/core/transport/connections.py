"""How an executor connects. ``pool`` keeps its connections, and ``link`` speaks on them.

An executor opens connections of its own. They are configured like the connections of its client,
but without redis-py's silent retries (ten by default, of any command), in RESP2 (so that
``decode`` gets the same reply from every client), and with the executor's timeouts.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis.driver_info import DriverInfo
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    RedisError,
    ResponseError,
)

from kvlab.core.checks import shown
from kvlab.core.wire import Command, TransportError, refusal, transport_error
from kvlab.errors import InvalidArgument

MAX_CONNECTIONS = 500
"""The most connections of a client made by ``connect``; further threads wait."""

BROKEN = (RedisError, OSError, UnicodeError)
"""The errors of a connection that fails; error replies are among them. UnicodeError: no host can
have such a name."""
_LONGEST_WAIT = 20 * 86_400
"""Seconds; a socket's own timeout ends at 24 days."""

# redis-py raises some error replies as connection errors; there too the command did not run.
REFUSED = (AuthenticationError, AuthorizationError, BusyLoadingError, ResponseError)
_NOT_TAKEN_OVER = {"retry", "retry_on_error", "retry_on_timeout", "cache", "cache_config"}
_NOT_TAKEN_OVER |= {"himport_registry", "event_dispatcher", "health_check_interval"}
_OF_A_CLUSTER = {"redis_connect_func", "address_remap", "max_connections", "policy_resolver"}


def own_connection(
    client: Any, timeout: float, retry: Any, *, awaited: bool
) -> functools.partial[Any]:
    """Makes connections like the client's, without retries, caches and conversions."""
    pool = pool_of(client)
    if inspect.iscoroutinefunction(pool.connection_class.connect) != awaited:
        wanted = "an async" if awaited else "a sync"
        raise InvalidArgument(f"client must be {wanted} redis-py client, not {client!r:.80}")
    kwargs = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if name not in _NOT_TAKEN_OVER and not name.startswith(("maint", "oss_", "orig_"))
    }
    if is_cluster(client):
        # Its redis_connect_func may make each connection READONLY: reads of a replica may be old.
        kwargs = {name: value for name, value in kwargs.items() if name not in _OF_A_CLUSTER}
        if (users := getattr(client, "user_on_connect_func", None)) is not None:
            kwargs["redis_connect_func"] = functools.partial(_greeted, users)
    kwargs |= {"protocol": 2, "socket_timeout": timeout, "socket_connect_timeout": timeout}
    kwargs |= {"encoding": "utf-8", "encoding_errors": "strict", "decode_responses": False}
    if "lib_name" not in kwargs and "lib_version" not in kwargs:
        kwargs.setdefault("driver_info", _driver())
    if kwargs.get("db"):  # sent by SELECT; as text for the reason that encode() says
        kwargs["db"] = str(kwargs["db"])
    kind = pool.connection_class
    if is_sentinel(pool):  # its own read_response makes a lost connection of READONLY
        plain = redis.asyncio.Connection if awaited else redis.Connection
        kind = type(kind.__name__, (kind,), {"read_response": plain.read_response})
    return functools.partial(kind, **kwargs, retry=retry)


@functools.cache
def _driver() -> DriverInfo:
    """As redis-py has it, which reads the metadata of its package for each connection: 2 ms."""
    return DriverInfo()


def _greeted(users: Any, connection: Any) -> None:
    connection.on_connect()
    users(connection)  # as redis-py's cluster calls it: after AUTH and the like


def pool_of(client: Any) -> Any:
    """What says how a client connects: its pool, or one of a node of its cluster."""
    if is_cluster(client):
        manager = client.nodes_manager
        nodes = [*manager.nodes_cache.values(), *manager.startup_nodes.values()]
        if hasattr(nodes[0], "connection_class"):
            return nodes[0]  # on asyncio a node is its own pool
        client = next(node.redis_connection for node in nodes if node.redis_connection)
    if not hasattr(client, "connection_pool"):
        raise InvalidArgument(
            f"client must be a redis-py client with a connection pool, not {shown(client)}"
        )
    return client.connection_pool


def is_cluster(client: Any) -> bool:
    """Whether this is redis-py's client of a cluster."""
    return hasattr(client, "nodes_manager")


def is_sentinel(pool: Any) -> bool:
    """Whether the server's address comes from a Sentinel, so that it may change."""
    return hasattr(pool, "sentinel_manager")


def where_of(pool: Any) -> str:
    """Where the server is, as errors name it: an address, a socket's path, a Sentinel's service."""
    kwargs = pool.connection_kwargs
    if service := getattr(pool, "service_name", None):
        return str(service)
    if pool.connection_class.__module__.startswith("fakeredis"):
        return "fakeredis"
    # What the arguments leave out is redis-py's default.
    host, port = kwargs.get("host") or "localhost", kwargs.get("port") or 6379
    return str(kwargs.get("path") or (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))


def packed(commands: list[Command]) -> bytes:
    """The commands as the server reads them."""
    pack, requests = hiredis.pack_command, []
    for command in commands:
        name = command[0]
        requests.append(pack(command if name.isalpha() else (*_words(name), *command[1:])))
    return b"".join(requests)


@functools.lru_cache(maxsize=1000)
def _words(name: str) -> tuple[bytes, ...]:
    return tuple(name.encode().split())  # CONFIG GET is two


def not_connected(problem: Exception, where: str) -> TransportError:
    if isinstance(problem, REFUSED):
        raise refusal(problem)
    return transport_error(problem, sent=False, where=where)


def patience(blocking: float | None, timeout: float) -> float | None:
    """Seconds to wait for an answer; None: for ever."""
    if blocking is None:
        return timeout
    return None if blocking > _LONGEST_WAIT else blocking + timeout
