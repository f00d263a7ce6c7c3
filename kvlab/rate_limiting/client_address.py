"""The address of a client behind proxies.

Guarantee: a client cannot choose its address. X-Forwarded-For is a list to which each proxy
appends the peer that it saw. The entries on the right come from the proxies; the entries on the
left are whatever the client sent. Read from the right, the first address that is no trusted
proxy's is the client's.

Not promised: that one client has one address. An IPv6 customer holds a whole network, often a /64;
``ipv6_prefix=64`` makes one address of it. Nor that one address is one client (NAT).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from kvlab.core.checks import instance, items, shown, whole
from kvlab.errors import InvalidArgument

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX_SOCKET = "unix:"
"""Among trusted proxies: the peers on a unix socket. As an answer: a client without an address."""

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # IPv4 inside IPv6
_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]*)\](:[0-9]{1,5})?|(?P<v4>[0-9.]+):[0-9]{1,5}")


def client_address(
    peer: str | Address | None,
    forwarded_for: str | Iterable[str] | None,
    trusted_proxies: Iterable[str | Address | Network],
    *,
    ipv6_prefix: int = 128,
) -> str:
    """The address of the client, in its shortest spelling, without port or zone.

    * ``peer``: the other end of the socket, as an IP address; None, "" or "unix:…" for a unix
      socket.
    * ``forwarded_for``: the X-Forwarded-For field, or its several lines in order; None if absent.
    * ``trusted_proxies``: the addresses or networks of your own proxies; "unix:" is every peer on
      a unix socket. The header of any other peer is ignored.
    * ``ipv6_prefix``: bits of an IPv6 address that are kept, 1 to 128.

    Every address may have a port, brackets, a zone or spaces around it. IPv4 inside IPv6
    (``::ffff:10.0.0.1``) is IPv4, in networks too; such an address is in no wider IPv6 network.

    An entry that is no address ends the walk: the proxy that sent it is the client. When every
    entry is a trusted proxy, the first entry is the client. A trusted unix socket that sent no
    address is the client "unix:". Raises InvalidArgument for an unusable ``peer`` (a unix socket
    that is not trusted is one), header, network or prefix.
    """
    ipv6_prefix = whole("ipv6_prefix", ipv6_prefix, 1, 128)
    trusted = [_network(proxy) for proxy in items("trusted_proxies", trusted_proxies)]
    entries = _entries(forwarded_for)
    address = _address(peer)
    if address is None:
        unix = peer is None or (isinstance(peer, str) and re.match(r"\s*(unix:|$)", peer))
        if not unix or None not in trusted:
            kind = "an IP address, or on a unix socket that is trusted as 'unix:'"
            raise InvalidArgument(f"peer must be {kind}, not {shown(peer)}")
    while entries and (address is None or any(n is not None and address in n for n in trusted)):
        said = _address(entries.pop())
        if said is None:
            break
        address = said
    if address is None:
        return UNIX_SOCKET
    if address.version == 6:
        return str(ipaddress.IPv6Network((int(address), ipv6_prefix), strict=False).network_address)
    return str(address)


def _entries(forwarded_for: str | Iterable[str] | None) -> list[str]:
    lines = [forwarded_for] if isinstance(forwarded_for, str) else forwarded_for
    if lines is None:
        return []
    entries: list[str] = []
    for line in items("forwarded_for", lines):
        entries += instance("a line of forwarded_for", line, str, "text").split(",")
    return entries


def _address(said: str | Address | None) -> Address | None:
    """The address that was said, which may have a port; IPv4 inside IPv6 comes out as IPv4."""
    if isinstance(said, str):
        text = said.strip()
        if port := _WITH_PORT.fullmatch(text):
            text = port["v6"] if port["v6"] is not None else port["v4"]
        try:
            said = ipaddress.ip_address(text)
        except ValueError:
            return None
    if isinstance(said, ipaddress.IPv6Address):
        return said.ipv4_mapped or said
    return said if isinstance(said, ipaddress.IPv4Address) else None


def _network(proxy: str | Address | Network) -> Network | None:
    """The network of trusted proxies; None for the peers on a unix socket."""
    if proxy == UNIX_SOCKET:
        return None
    if (address := _address(proxy)) is not None:  # type: ignore[arg-type]
        return ipaddress.ip_network(address)
    try:
        if not isinstance(proxy, str | ipaddress.IPv4Network | ipaddress.IPv6Network):
            raise ValueError(f"not {shown(proxy)}")
        network = ipaddress.ip_network(proxy.strip() if isinstance(proxy, str) else proxy)
    except ValueError as problem:
        raise InvalidArgument(
            f"a trusted proxy must be an address or a network: {problem}"
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        first = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((first, network.prefixlen - 96))
    return network
