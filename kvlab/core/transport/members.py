"""URLs that name several servers, and redis-py's clients for them.

* ``redis+cluster://[user:password@]host:port,host:port``: nodes of a cluster; one that answers is
  enough. ``cluster:`` is the embedded cluster.
* ``redis+sentinel://[user:password@]host:port,host:port/service[/database]``: Sentinels, and the
  name of the service whose primary they know. User and password are those of the primary; those
  of the Sentinels stand behind a ``?``: ``sentinel_username=…&sentinel_password=…``.

``rediss`` is for TLS, of all these servers, and ``valkey`` and ``valkeys`` mean the same as
``redis`` and ``rediss``. Behind the ``?`` are redis-py's options of TLS: ``ssl_ca_certs``,
``ssl_certfile``, ``ssl_keyfile``, ``ssl_cert_reqs`` and ``ssl_check_hostname``. For all else pass a
redis-py client to ``Kv``. The embedded servers speak no TLS.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from kvlab.core.server_url import check_files, check_hosts, naming
from kvlab.core.transport.connections import MAX_CONNECTIONS
from kvlab.errors import InvalidArgument, ServerRefused, ServerUnavailable
from kvlab.rest.address import is_host

_PORTS = {"cluster": 6379, "sentinel": 26379}
_SENTINEL_OPTIONS = {"sentinel_username": "username", "sentinel_password": "password"}
_TLS_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"}
_TLS_OPTIONS |= {"ssl_check_hostname"}
# No message shows a part of the URL: with a / in a password, the password stands in another place.
_ESCAPED = "user names and passwords need %-escapes for all but letters and digits"


@dataclass(frozen=True, slots=True)
class Members:
    """What a URL says of several servers."""

    kind: str
    addresses: tuple[tuple[str, int], ...]
    tls: bool
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    service: str = ""
    database: int = 0
    of_sentinels: Mapping[str, str] = field(default_factory=dict, repr=False)
    of_tls: Mapping[str, Any] = field(default_factory=dict, repr=False)
    allow_remote: bool | None = None

    def client(self, timeout: float) -> Any:
        """A client for threads; of a cluster one that has asked for the slots already.

        Raises :class:`ServerUnavailable` when no node of the cluster answers.
        """
        settings = self._settings(timeout)
        retry = Retry(NoBackoff(), 0)
        if self.kind == "sentinel":
            own = self._for_sentinels(timeout, retry)
            sentinels: Any = _Sentinel(self.addresses, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
            sentinels.check = self._checked
            return sentinels.master_for(self.service, db=self.database, retry=retry, **settings)
        nodes: Any = [redis.cluster.ClusterNode(*address) for address in self.addresses]
        try:
            return redis.RedisCluster(
                startup_nodes=nodes, retry=retry, address_remap=self._checked, **settings
            )
        except RedisClusterException as problem:
            if isinstance(problem.__cause__, AuthenticationError):
                raise ServerRefused(str(problem.__cause__)) from None
            if "Cluster mode is not enabled" in str(problem):
                raise InvalidArgument("the server is no cluster: use redis://") from None
            raise ServerUnavailable(str(problem)) from problem

    def async_client(self, timeout: float) -> Any:
        """A client for asyncio; nothing is sent yet."""
        settings = self._settings(timeout)
        retry = AsyncRetry(NoBackoff(), 0)
        if self.kind == "sentinel":
            own = self._for_sentinels(timeout, retry)
            sentinels: Any = _AsyncSentinel(self.addresses, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
            sentinels.check = self._checked
            return sentinels.master_for(self.service, db=self.database, retry=retry, **settings)
        nodes = [redis.asyncio.cluster.ClusterNode(*address) for address in self.addresses]
        return redis.asyncio.RedisCluster(
            startup_nodes=nodes, retry=retry, address_remap=self._checked, **settings
        )

    def _checked(self, address: tuple[str, int]) -> tuple[str, int]:
        """An address that a server named: it may lie on another machine, and must be allowed."""
        check_hosts([address[0]], self.allow_remote)
        return address

    def _settings(self, timeout: float) -> dict[str, Any]:
        waits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        who = {"username": self.user, "password": self.password, "ssl": self.tls}
        return {**waits, **who, **self.of_tls, "max_connections": MAX_CONNECTIONS}

    def _for_sentinels(self, timeout: float, retry: Any) -> dict[str, Any]:
        # Without one of ours redis-py asks a dead Sentinel ten times before it asks the next.
        waits = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": retry}
        return {**waits, "ssl": self.tls, **self.of_tls, **self.of_sentinels}


class _Sentinel(redis.sentinel.Sentinel):
    """Of which a primary is ``check``-ed."""

    check: Callable[[tuple[str, int]], tuple[str, int]]

    def discover_master(self, service_name: str) -> Any:
        try:
            address: Any = super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError as problem:
            raise _not_found(problem) from None
        return self.check(address)


class _AsyncSentinel(redis.asyncio.sentinel.Sentinel):
    """The same for asyncio."""

    check: Callable[[tuple[str, int]], tuple[str, int]]

    async def discover_master(self, service_name: str) -> Any:
        try:
            return self.check(await super().discover_master(service_name))
        except redis.asyncio.sentinel.MasterNotFoundError as problem:
            raise _not_found(problem) from None


def _not_found(problem: Exception) -> MasterNotFoundError:
    """redis-py's error without the inside of each client that it asked by."""
    said, _, clients = str(problem).partition(" : ")
    failed = re.findall(r"host=([^,)]*).*?port=(\d+).*?> - (.*?)(?=, <redis|$)", clients)
    reasons = ", ".join(f"{host}:{port} {reason}" for host, port, reason in failed)
    return MasterNotFoundError(f"{said}; {reasons}" if reasons else said)


def members(url: str | None = None, allow_remote: bool | None = None) -> Members | None:
    """The servers that the argument or ``KVLAB_URL`` names; None for a URL of one server.

    Raises :class:`InvalidArgument` for a part that makes no sense there, and
    :class:`~kvlab.errors.RemoteNotAllowed` as ``server_url``. So does a run, before it sends
    anything, for a node or a primary on another machine that these servers name.
    """
    variable = "KVLAB_URL" if url is None else None
    url = os.environ.get("KVLAB_URL") if url is None else url
    if url in ("cluster:", "cluster://"):
        from kvlab.server import embedded

        url = embedded.join("cluster").url
    scheme, _, rest = (url if isinstance(url, str) else "").partition("://")
    base, _, kind = scheme.partition("+")
    if kind not in _PORTS or base not in ("redis", "rediss", "valkey", "valkeys"):
        return None
    with naming(variable):
        found = _parsed(kind, base in ("rediss", "valkeys"), rest)
    check_hosts([host for host, _ in found.addresses], allow_remote)
    return replace(found, allow_remote=allow_remote)


def _parsed(kind: str, tls: bool, rest: str) -> Members:
    where, _, query = rest.partition("?")
    authority, _, path = where.partition("/")
    who, _, hosts = authority.rpartition("@")
    user, _, password = who.partition(":")
    addresses = tuple(_address(part, _PORTS[kind]) for part in hosts.split(","))
    account = unquote(user) or None, unquote(password) or None
    if kind == "cluster":
        if path not in ("", "0"):
            raise InvalidArgument(f"a cluster has database 0 alone; {_ESCAPED}")
        of_tls, _ = _options(query, tls, {})
        return Members(kind, addresses, tls, *account, of_tls=of_tls)
    service, _, database = path.partition("/")
    if not service:
        raise InvalidArgument("the name of the service is missing: redis+sentinel://HOST/SERVICE")
    if database and not database.isdecimal():
        raise InvalidArgument(f"a database must be a number; {_ESCAPED}")
    of_tls, of_sentinels = _options(query, tls, _SENTINEL_OPTIONS)
    return Members(
        kind,
        addresses,
        tls,
        *account,
        service=unquote(service),
        database=int(database or 0),
        of_sentinels=of_sentinels,
        of_tls=of_tls,
    )


def _options(
    query: str, tls: bool, names: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The options of TLS behind the ``?``, and the others by the names that they have inside."""
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted({*options} - {*names} - _TLS_OPTIONS):
        names_alone = all(name.isidentifier() and options[name] for name in unknown)
        listed = ", ".join(unknown) if names_alone else f"an option without a value; {_ESCAPED}"
        raise InvalidArgument(f"unknown behind the ?: {listed}; pass a redis-py client to Kv")
    of_tls = {name: value for name, value in options.items() if name in _TLS_OPTIONS}
    if of_tls and not tls:
        raise InvalidArgument(f"{', '.join(of_tls)} needs TLS: the URL must begin with rediss+")
    try:
        of_tls = parse_url(f"rediss://localhost?{urlencode(of_tls)}")
        of_tls.pop("connection_class")(**of_tls)
    except (ValueError, RedisError) as problem:
        raise InvalidArgument(f"an option of TLS is wrong: {problem}") from None
    del of_tls["host"]
    check_files(of_tls)
    return of_tls, {names[name]: value for name, value in options.items() if name in names}


def _address(text: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or default
    except ValueError:
        host, port = "", 0
    if not is_host(host):
        raise InvalidArgument(f"an address must be HOST:PORT, with a port up to 65535; {_ESCAPED}")
    return host, port
