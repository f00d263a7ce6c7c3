"""Where a request ends: as RFC 9112 says; what two readers may read in two ways is refused."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
from urllib.parse import urlsplit

import pytest

from kvlab.rest_gateway import ServedGateway
from kvlab.server.running_server import RunningServer

_numbers = itertools.count(1)
HELLO = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
PINGS = b'8\r\n["PING"]\r\n0\r\n\r\n'
FRAMES = {
    "chunked": (HELLO + CHUNKED + b"\r\n" + PINGS, 200),
    "a chunk with an extension": (HELLO + CHUNKED + b"\r\n8;a=b" + PINGS[1:], 200),
    "a trailer": (HELLO + CHUNKED + b"\r\n" + PINGS[:-2] + b"Content-Length: 99\r\n\r\n", 200),
    "one length, twice": (HELLO + b"Content-Length: 8\r\n" * 2 + b'\r\n["PING"]', 200),
    "folded": (HELLO + b'X: a\r\n b\r\nContent-Length:\r\n 8\r\n\r\n["PING"]', 200),
    "lines end by LF": (HELLO.replace(b"\r", b"") + b'Content-Length: 8\n\n["PING"]', 200),
    "a whole URL": (b"GET HTTP://x/ping HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "HTTP/1.7": (b"GET /ping HTTP/1.7\r\nHost: x\r\n\r\n", 200),
    "2,000 headers": (HELLO + b"a:b\r\n" * 2000 + b'Content-Length: 8\r\n\r\n["PING"]', 200),
    "chunked, and a length": (HELLO + CHUNKED + b"Content-Length: 3\r\n\r\n" + PINGS, 400),
    "a length, and chunked": (HELLO + b"Content-Length: 23\r\n" + CHUNKED + b"\r\n" + PINGS, 400),
    "chunked by HTTP/1.0": (HELLO.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + PINGS, 400),
    "chunked, twice": (HELLO + CHUNKED * 2 + b"\r\n" + PINGS, 501),
    **{
        f"Transfer-Encoding: {coding}": (
            HELLO + f"Transfer-Encoding: {coding}\r\n\r\n".encode() + PINGS,
            501,
        )
        for coding in ("identity", "gzip", "gzip, chunked", "chunked, identity", "xchunked")
    },
    "Transfer-Encoding after a space": (HELLO + b"Transfer-Encoding : chunked\r\n\r\n", 400),
    "Transfer-Encoding after a tab": (HELLO + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    "two lengths": (HELLO + b"Content-Length: 0\r\nContent-Length: 8\r\n\r\n", 400),
    "two lengths in a line": (HELLO + b"Content-Length: 0, 8\r\n\r\n", 400),
    **{
        f"Content-Length: {length}": (HELLO + f"Content-Length: {length}\r\n\r\n".encode(), status)
        for length, status in [
            *((odd, 400) for odd in ("-1", "+0", "", "0x0", "0_0", "1e3", "٠", "9" * 21)),
            *((large, 413) for large in (str(2**31), str(2**64 + 1))),
        ]
    },
    **{
        f"a chunk of {size!r}": (HELLO + CHUNKED + b"\r\n" + size + b"\r\n" + PINGS, 400)
        for size in (b"-8", b"+8", b"0x8", b" 8", b"", b"8\n", b"8;a\n0", b"f" * 21)
    },
    "a chunk's line without an end": (HELLO + CHUNKED + b"\r\n8;" + b"a" * 200_000, 400),
    "a chunk that ends by LF": (HELLO + CHUNKED + b'\r\n8\r\n["PING"]\n0\r\n\r\n', 400),
    "a fold before all headers": (HELLO.replace(b"Host", b" Host") + b"\r\n", 400),
    "a CR alone": (HELLO + b"X: a\rContent-Length: 8\r\n\r\n", 400),
    "a NUL": (HELLO + b"X: a\0b\r\n\r\n", 400),
    "no host": (b"GET /ping HTTP/1.1\r\n\r\n", 400),
    "two hosts": (HELLO + b"Host: y\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /ping\r\n", 400),
    "HTTP/0.9, said": (b"GET /ping HTTP/0.9\r\n\r\n", 505),
    "HTTP/2.0": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "TLS": (b"\x16\x03\x01\r\n\r\n", 400),
    "a line without an end": (b"GET /get/" + b"a" * 200_000, 414),
    "100,000 headers": (HELLO + b"a:\r\n" * 100_000, 431),
    "a header without an end": (HELLO + b"X: " + b"a" * 200_000, 431),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_framing_is_as_rfc_9112_says_and_no_request_hides_in_another(
    gateway: ServedGateway, server: RunningServer, frame: str
) -> None:
    sent, status = FRAMES[frame]
    where, counter = urlsplit(gateway.url), f"framing:{next(_numbers)}"
    token = f"Authorization: Bearer {gateway.token}\r\n".encode()
    sent = sent.replace(b"Host: x", token + b"Host: x", 1)
    next_one = b"GET /incr/%b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n"
    with socket.create_connection((where.hostname, where.port or 0), 30) as client:
        answers = bytearray()
        with contextlib.suppress(ConnectionError):  # closed before all of it was sent
            client.sendall(sent + next_one % (counter.encode(), token))
        with contextlib.suppress(ConnectionError):  # the system says so after the answer
            while part := client.recv(1 << 16):
                answers += part
    found = [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]
    assert found == ([200, 200] if status == 200 else [status])
    assert answers.endswith(b"}")
    with server.client() as direct:
        assert direct.get(counter) == (b"1" if status == 200 else None)
