"""A proxy between a REST executor and its gateway that counts requests, and fails on command."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx

Fault = str | tuple[int, dict[str, str], bytes]
"""What happens to one request. "lose the request": it is not forwarded, the connection ends.
"lose the answer": it is forwarded, the connection ends. "reset": likewise, by RST. "silence": it is
forwarded, and no answer comes. A tuple is an answer of the proxy's own; nothing is forwarded."""


class HttpProxy:
    """Forwards to ``target``; ``faults`` has one item for each of the next requests."""

    def __init__(self, target: str, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self.tokens: list[str] = []
        self.connections = 0
        self.faults: deque[Fault | None] = deque()
        self.gone = threading.Event()
        self._http = httpx.Client(base_url=target, timeout=30)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def setup(self) -> None:
                super().setup()
                proxy.connections += 1

            def do_POST(self) -> None:
                proxy.handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def requests(self) -> int:
        return len(self.seen)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.seen]

    def handle(self, client: Any) -> None:
        body = client.rfile.read(int(client.headers["Content-Length"]))
        self.seen.append((client.path, body))
        self.tokens.append(client.headers["Authorization"])
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, tuple):
            self._answer(client, *fault)
            return
        if fault != "lose the request":
            headers = {k: v for k, v in client.headers.items() if k.lower() != "host"}
            answer = self._http.post(client.path, content=body, headers=headers)
        if fault is None:
            kind = {"Content-Type": answer.headers["content-type"]}
            self._answer(client, answer.status_code, kind, answer.content)
            return
        if fault == "silence":
            self.gone.wait(30)
        if fault == "reset":
            no_linger = struct.pack("ii", 1, 0)
            client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        client.close_connection = True
        client.connection.close()

    def _answer(self, client: Any, status: int, headers: dict[str, str], body: bytes) -> None:
        client.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            client.send_header(name, value)
        client.end_headers()
        client.wfile.write(body)
        client.wfile.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.gone.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._http.close()
