"""The URL of the server: the argument, else KVLAB_URL, else the embedded server's.

``valkey://`` and ``valkeys://`` stand for ``redis://`` and ``rediss://``, which redis-py knows.
"""

from __future__ import annotations

import ipaddress
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from redis.connection import Connection, parse_url
from redis.exceptions import (
    RedisError,
)

from kvlab.core.checks import boolean, shown, text
from kvlab.errors import InvalidArgument, RemoteNotAllowed, ServerRefused, ServerUnavailable
from kvlab.rest.address import RestAddress, is_host, is_rest

REST_NAMES = (
    ("KVLAB_URL", "KVLAB_TOKEN"),
    ("KV_REST_API_URL", "KV_REST_API_TOKEN"),
    ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"),
)
"""The URL of a store behind HTTPS and its token, as the environment names them."""

_AT_LOGIN = ("NOAUTH", "WRONGPASS", "ERR AUTH", "ERR invalid password", "ERR DB index")
"""How a refusal of the URL's user, password or database begins."""
_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
_NO_URL = (
    "not a Redis URL, which is cluster:, or begins with redis://, rediss://, valkey://, "
    "valkeys://, unix://, https://, redis+cluster:// or redis+sentinel://"
)


def redis_url(url: str) -> str:
    """The URL as redis-py knows it; a text that is no URL is returned as it is."""
    scheme, found, rest = url.partition("://")
    return f"{_SCHEMES.get(scheme, scheme)}{found}{rest}"


def server_url(url: str | None = None, allow_remote: bool | None = None) -> str:
    """The URL of the server, for redis-py: the argument, ``KVLAB_URL``, or the embedded server's.

    Raises :class:`RemoteNotAllowed` for a host that is not loopback, unless ``allow_remote`` or
    ``KVLAB_ALLOW_REMOTE=1`` allows it; :class:`InvalidArgument` for a text that is no Redis URL.
    """
    if allow_remote is not None:
        boolean("allow_remote", allow_remote)
    variable = "KVLAB_URL" if url is None else None
    url = os.environ.get("KVLAB_URL") if url is None else text("url", url, None)
    if not url:
        from kvlab.server import embedded as server

        embedded = server.join()
        if embedded.note:
            warnings.warn(embedded.note, stacklevel=3)
        return embedded.url
    with naming(variable):
        return _of_one_server(url, allow_remote)


def _of_one_server(url: str, allow_remote: bool | None) -> str:
    if is_rest(url):
        raise InvalidArgument(
            "a Redis URL is needed here: a store behind HTTPS is for connect() alone"
        )
    if url == "cluster:" or url.partition("://")[0].endswith(("+cluster", "+sentinel")):
        raise InvalidArgument(
            "the URL of one server is needed here: a cluster or Sentinels are for connect() alone"
        )
    url = redis_url(url)
    check_hosts([_host(url)], allow_remote)
    return url


@contextmanager
def naming(variable: str | None) -> Iterator[None]:
    """Name the variable of the environment whose value is refused in the block, if it is one."""
    try:
        yield
    except InvalidArgument as problem:
        if variable is None:
            raise
        raise InvalidArgument(f"environment variable {variable}: {problem}") from None


def check_hosts(hosts: Sequence[str | None], allow_remote: bool | None) -> None:
    """Raise :class:`RemoteNotAllowed` for a host of another machine, unless that is allowed."""
    if allow_remote is not None:
        boolean("allow_remote", allow_remote)
    for host in hosts:
        if not _is_loopback(host):
            _check_remote(host, allow_remote)


def rest_address(
    url: str | None = None, token: str | None = None, allow_remote: bool | None = None
) -> RestAddress | None:
    """The store behind HTTP that the argument or the environment names; None for a server on TCP.

    In the environment the first of ``REST_NAMES`` that is set counts; its token goes to the URL
    beside it and to no other. Raises as :func:`server_url`, and :class:`InvalidArgument` for
    ``http://`` to another machine.
    """
    given = os.environ
    variable = name_in_use() if url is None else None
    if url is None:
        url = given[variable] if variable else "redis:"
    if not is_rest(text("url", url, None)):
        if token is not None:
            raise InvalidArgument("a token must come with the https:// URL of a store behind HTTPS")
        return None
    if token is None:
        token = next((given.get(t) for name, t in REST_NAMES if given.get(name) == url), None)
    if token is None:
        beside = (
            f"set {dict(REST_NAMES)[variable]} beside {variable}" if variable else "pass token="
        )
        raise InvalidArgument(f"token is missing: a store behind HTTPS needs one; {beside}")
    with naming(variable):
        address = RestAddress(url, token)
    if not _is_loopback(address.host):
        if not address.secure:
            raise InvalidArgument(f"{address.host} needs https://: http:// would show the token")
        _check_remote(address.host, allow_remote)
    return address


def name_in_use() -> str | None:
    """The variable of the environment that names the store; None for the embedded server."""
    return next((name for name, _ in REST_NAMES if os.environ.get(name)), None)


def with_advice(problem: Exception, option: str | None = None) -> str:
    """The words of a problem; for a server that cannot be reached, or entered, also what to do.

    ``option``: the one of a command that names the server, where it was given.
    """
    name = name_in_use()
    if isinstance(problem, ServerRefused) and str(problem).startswith(_AT_LOGIN):
        return f"{str(problem).rstrip('.')}; correct {option or name or 'the URL'}"
    if not isinstance(problem, ServerUnavailable):
        return str(problem)
    if option:
        to_do = f"start that server, or correct {option}"
    else:
        to_do = f"start that server, correct {name}, or unset it" if name else "see kvlab doctor"
    return f"{str(problem).rstrip('.')}; {to_do}"


def _check_remote(host: str | None, allow_remote: bool | None) -> None:
    if allow_remote is None:
        allow_remote = os.environ.get("KVLAB_ALLOW_REMOTE") == "1"
    if not boolean("allow_remote", allow_remote):
        raise RemoteNotAllowed(
            f"{host} is not this machine. To allow it, pass allow_remote=True or set "
            "KVLAB_ALLOW_REMOTE=1; kvlab reads and removes only keys of its own prefix."
        )


def _host(url: str) -> str | None:
    """The host of a Redis URL; None for a unix socket. No message shows a part of the URL."""
    if url.partition("://")[0] not in ("redis", "rediss", "unix"):
        raise InvalidArgument(_NO_URL)
    try:
        given = parse_url(url)  # a query may have a host too
        path = urlsplit(url).path
        if given.get("max_connections", 1) < 0:  # which a pool refuses, and a connection does not
            raise ValueError
    except ValueError:
        raise InvalidArgument(
            "not a Redis URL: a port must be a number up to 65535, an option after the ? must have "
            "a value of its kind, and user names and passwords need %-escapes for all but letters "
            "and digits"
        ) from None
    kind, options = given.get("connection_class", Connection), dict(given)
    for pools in ("connection_class", "max_connections"):
        options.pop(pools, None)
    try:
        kind(**{"driver_info": None} | options)  # else redis-py reads files of its package
    except (TypeError, ValueError, RedisError):
        raise InvalidArgument("not a Redis URL: an option after its ? is unknown") from None
    check_files(given)
    if url.startswith("unix:"):
        return None
    host = str(given.get("host") or "localhost")
    if not is_host(host):
        raise InvalidArgument("not a Redis URL: no host can have such a name")
    if path.strip("/") and not path.strip("/").isdigit():
        raise InvalidArgument("not a Redis URL: redis://HOST:PORT/DATABASE is expected")
    return host


def check_files(options: Mapping[str, Any]) -> None:
    """Refuse an option of TLS that names a missing file: TLS would not say which file it is."""
    for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        if (file := options.get(name)) is not None and not os.path.exists(file):
            raise InvalidArgument(f"{name} names no file: {shown(file)}")


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
