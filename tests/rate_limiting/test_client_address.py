"""The client's address behind proxies: what a client sends cannot choose it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from kvlab.errors import InvalidArgument
from kvlab.rate_limiting.client_address import client_address
from kvlab.rate_limiting.naive import naive_client_address

PROXIES = ["10.0.0.0/8", "2001:db8:ffff::/48"]


def test_naive_identity_is_the_clients_choice() -> None:
    assert len({naive_client_address(f"1.1.1.{i}") for i in range(100)}) == 100
    assert naive_client_address(None) == naive_client_address("") == "unknown"


def test_a_rotated_header_changes_nothing() -> None:
    direct = {client_address("203.0.113.7", f"1.1.1.{i}", PROXIES) for i in range(100)}
    proxied = {
        client_address("10.0.0.1", f"1.1.1.{i}, 203.0.113.7, 10.0.0.2", PROXIES) for i in range(100)
    }
    assert direct == proxied == {"203.0.113.7"}


@pytest.mark.parametrize(
    ("peer", "header", "expected"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "203.0.113.7:51234", "203.0.113.7"),
        ("10.0.0.1", "[2001:db8::7]:51234", "2001:db8::7"),
        ("10.0.0.1", "[2001:DB8:0::7]", "2001:db8::7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "fe80::1%eth0", "fe80::1"),
        ("10.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("2001:db8:ffff::1", "::1", "::1"),
        # an entry that is no address: the proxy that sent it answers for it
        ("10.0.0.1", "203.0.113.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, <script>, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "203.0.113.7,", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4.5", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.07", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7:", "10.0.0.1"),
        ("10.0.0.1", "x" * 1_000_000, "10.0.0.1"),
    ],
)
def test_the_rightmost_untrusted_address(peer: str, header: Any, expected: str) -> None:
    assert client_address(peer, header, PROXIES) == expected


def test_nobody_is_trusted_unless_named() -> None:
    assert client_address("10.0.0.1", "203.0.113.7", []) == "10.0.0.1"
    assert client_address("10.0.0.1", "203.0.113.7", ["10.0.0.1"]) == "203.0.113.7"


@pytest.mark.parametrize(
    "peer", ["10.0.0.1", " ::FFFF:10.0.0.1 ", "[::ffff:a00:1]:80", "10.0.0.1:5"]
)
@pytest.mark.parametrize(
    "proxy",
    [
        "10.0.0.1",
        "::ffff:10.0.0.1",
        "0:0:0:0:0:FFFF:a00:1",
        " [::ffff:10.0.0.1]:443",
        "10.0.0.1:80",
        "10.0.0.0/8",
        "::ffff:10.0.0.0/104",
        "::ffff:10.0.0.0/120",
        ipaddress.ip_address("10.0.0.1"),
        ipaddress.ip_address("::ffff:10.0.0.1"),
        ipaddress.ip_network("::ffff:10.0.0.0/104"),
    ],
    ids=str,
)
def test_one_address_has_many_spellings(peer: str, proxy: Any) -> None:
    assert client_address(peer, "203.0.113.7", [proxy]) == "203.0.113.7"
    assert client_address(ipaddress.ip_address("203.0.113.7"), "::1", [proxy]) == "203.0.113.7"


@pytest.mark.parametrize("proxy", ["FE80::1%eth0", "[fe80::1]", "fe80::%eth0/64", "fe80::/10"])
def test_a_zone_is_no_part_of_an_address(proxy: str) -> None:
    for peer in ("fe80::1", "fe80::1%eth1", "[FE80::1%25en0]:80"):
        assert client_address(peer, "203.0.113.7", [proxy]) == "203.0.113.7"


def test_a_wide_ipv6_network_holds_no_ipv4() -> None:
    for wide in ("::/0", "::/80", "::fffe:0:0/95"):
        assert client_address("::ffff:10.0.0.1", "203.0.113.7", [wide]) == "10.0.0.1"
    assert client_address("2001:db8::1", "203.0.113.7", ["::/0"]) == "203.0.113.7"


@pytest.mark.parametrize("peer", [None, "", " ", "unix:", "unix:/run/app.sock"])
def test_a_peer_on_a_unix_socket_is_trusted_when_it_is_named(peer: str | None) -> None:
    trusted = ["unix:", "10.0.0.0/8"]
    assert client_address(peer, "1.1.1.1, 203.0.113.7", trusted) == "203.0.113.7"
    assert client_address(peer, ["1.1.1.1", "203.0.113.7, 10.0.0.2"], trusted) == "203.0.113.7"
    for nothing in (None, "", "203.0.113.7, unknown", []):
        assert client_address(peer, nothing, trusted) == "unix:"
    assert client_address("203.0.113.9", "unix:", trusted) == "203.0.113.9"


def test_an_ipv6_customer_can_be_one_client() -> None:
    homes = {client_address(f"2001:db8::{i:x}", None, [], ipv6_prefix=64) for i in range(50)}
    assert homes == {"2001:db8::"}
    assert client_address("203.0.113.7", None, [], ipv6_prefix=64) == "203.0.113.7"


def test_bad_arguments_are_refused() -> None:
    for peer in ("", None, "unix:", "example.org", "10.0.0.256", 1, b"10.0.0.1"):
        with pytest.raises(InvalidArgument, match="peer must be"):
            client_address(peer, None, PROXIES)  # type: ignore[arg-type]
    for proxies in ("10.0.0.1", "", b"10.0.0.1", None, 5, {"10.0.0.1": 1}):
        with pytest.raises(InvalidArgument, match="trusted_proxies must be"):
            client_address("10.0.0.1", None, proxies)  # type: ignore[arg-type]
    for header in (0, False, b"203.0.113.7", {"a": "b"}, [b"203.0.113.7"], [None]):
        with pytest.raises(InvalidArgument, match="forwarded_for must be"):
            client_address("203.0.113.7", header, PROXIES)  # type: ignore[arg-type]
    for proxy in ("10.0.0.1/8", "nginx", "", "unix", "::ffff:10.0.0.1/104", 1, None):
        with pytest.raises(InvalidArgument, match="trusted proxy must be"):
            client_address("10.0.0.1", None, [proxy])  # type: ignore[list-item]
    for prefix in (0, 129, True, 64.5):
        with pytest.raises(InvalidArgument, match="ipv6_prefix must be"):
            client_address("::1", None, [], ipv6_prefix=prefix)  # type: ignore[arg-type]
