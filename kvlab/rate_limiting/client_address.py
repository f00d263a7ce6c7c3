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

from kvlab.core.checks import whole
from kvlab.errors import InvalidArgument

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]*)\](:[0-9]{1,5})?|(?P<v4>[0-9.]+):[0-9]{1,5}")


def client_address(
    peer: str,
    forwarded_for: str | Iterable[str] | None,
    trusted_proxies: Iterable[str | Network],
    *,
    ipv6_prefix: int = 128,
) -> str:
    """The address of the client, in its shortest spelling, without port or zone.

    * ``peer``: the other end of the socket, as an IP address.
    * ``forwarded_for``: the X-Forwarded-For field, or its several lines in order; None if absent.
    * ``trusted_proxies``: the addresses or networks of your own proxies. The header of any other
      peer is ignored.
    * ``ipv6_prefix``: bits of an IPv6 address that are kept, 1 to 128.

    An entry that is no address ends the walk: the proxy that sent it is the client. When every
    entry is a trusted proxy, the first entry is the client. Raises InvalidArgument for an
    unusable ``peer``, network or prefix.
    """
    address = _address(peer)
    if address is None:
        raise InvalidArgument(f"peer must be an IP address, not {peer!r:.80}")
    ipv6_prefix = whole("ipv6_prefix", ipv6_prefix, 1, 128)
    trusted = [_network(proxy) for proxy in trusted_proxies]
    lines = [forwarded_for] if isinstance(forwarded_for, str) else list(forwarded_for or ())
    entries = ",".join(lines).split(",") if lines else []
    while entries and any(address in network for network in trusted):
        said = _address(entries.pop())
        if said is None:
            break
        address = said
    if address.version == 6:
        return str(ipaddress.IPv6Network((int(address), ipv6_prefix), strict=False).network_address)
    return str(address)


def _address(text: str) -> Address | None:
    """The address in ``text``, which may have a port; IPv4 inside IPv6 comes out as IPv4."""
    text = text.strip(" \t")
    if port := _WITH_PORT.fullmatch(text):
        text = port["v6"] if port["v6"] is not None else port["v4"]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = ipaddress.IPv6Address(int(address))  # without its zone
        return address.ipv4_mapped or address
    return address


def _network(text: str | Network) -> Network:
    if not isinstance(text, str | ipaddress.IPv4Network | ipaddress.IPv6Network):
        raise InvalidArgument(f"a trusted proxy must be an address or a network, not {text!r:.80}")
    try:
        return ipaddress.ip_network(text)
    except ValueError as problem:
        raise InvalidArgument(
            f"a trusted proxy must be an address or a network: {problem}"
        ) from None
