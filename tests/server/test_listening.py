"""Where servers of HTTP listen, and what they say of it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.server.listening import address, is_open, listening


def test_a_taken_port_is_answered_with_a_free_one() -> None:
    taken = pytest.raises(KvlabError, match="use another, such as --port ")
    with listening("127.0.0.1", 0) as first, taken as raised:
        listening("127.0.0.1", first.getsockname()[1])
    with listening("127.0.0.1", int(str(raised.value).split()[-1])):
        pass


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(InvalidArgument, match="port must be 0 to 65535"):
        listening("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused_without_advice_on_ports() -> None:
    with pytest.raises(KvlabError, match="cannot listen on") as raised:
        listening("192.0.2.1", 0)
    assert "--port" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "opened", "shown"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:80"),
        ("localhost", False, "http://localhost:80"),
        ("::1", False, "http://[::1]:80"),
        ("192.0.2.1", True, "http://192.0.2.1:80"),
        ("box", True, "http://box:80"),
        ("0.0.0.0", True, ""),
        ("::", True, ""),
    ],
)
def test_an_address_is_one_that_others_can_use(host: str, opened: bool, shown: str) -> None:
    assert is_open(host) == opened
    said = address(host, 80)
    assert said == shown or not ipaddress.ip_address(urlsplit(said).hostname or "").is_unspecified
    assert bool(shown) == (said == shown)
