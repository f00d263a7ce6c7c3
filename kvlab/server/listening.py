"""The socket that a server of HTTP listens on, and the address that others can use."""

from __future__ import annotations

import errno
import ipaddress
import socket

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.server.running_server import free_port

_ANOTHER_PORT_HELPS = (errno.EADDRINUSE, errno.EACCES)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on ``host`` and ``port``; 0 is a free port.

    Raises :class:`~kvlab.errors.InvalidArgument` for a number that is no port, and
    :class:`~kvlab.errors.KvlabError` when the address cannot be had.
    """
    if not 0 <= port <= 65535:
        raise InvalidArgument(f"port must be 0 to 65535, not {port}")
    made = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio turns Nagle's algorithm off only for a socket whose protocol is TCP, not 0. With
        # Nagle, every answer on an open connection waits 40 ms for an acknowledgement.
        made = socket.socket(family, kind, protocol or socket.IPPROTO_TCP)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(2048)
    except (OSError, UnicodeError) as problem:
        if made is not None:
            made.close()
        why, number = getattr(problem, "strerror", problem), getattr(problem, "errno", None)
        more = f"; use another, such as --port {free_port()}" * (number in _ANOTHER_PORT_HELPS)
        raise KvlabError(f"cannot listen on {host}, port {port}: {why}{more}") from None
    return made


def address(host: str, port: int) -> str:
    """``http://…``, as other machines can use it where ``host`` is open to them."""
    if host in ("", "0.0.0.0", "::"):
        host = _own_address()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_open(host: str) -> bool:
    """Whether other machines can reach what listens on ``host``."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _own_address() -> str:
    """The address of this machine that most of its network sees; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation (RFC 5737)
        except OSError:
            return "127.0.0.1"
        own: str = probe.getsockname()[0]
        return own
