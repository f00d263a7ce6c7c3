"""fakeredis behind a TCP port of 127.0.0.1, as a process: the engine of last resort.

``main`` takes the port as its only argument, says when it has it, and ends when its standard input
does.
Not promised: any latency, memory figure or concurrency of a real server.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from redis.exceptions import ResponseError


def main() -> None:
    """Serve until standard input ends."""
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", int(sys.argv[1])))
    server.RequestHandlerClass = _keeps_connections_open(server.RequestHandlerClass)
    print(f"serving, process id {os.getpid()}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()
    os._exit(0)  # its handler threads are not daemons


def _keeps_connections_open(handler: Any) -> Any:
    """fakeredis closes a connection after every error reply; a server does not."""

    class Handler(handler):  # type: ignore[misc]
        def setup(self) -> None:
            super().setup()
            read = self.current_client.read_response

            def read_response(**kwargs: Any) -> Any:
                try:
                    return read(**kwargs)
                except ResponseError as error:
                    return error

            self.current_client.read_response = read_response

    return Handler
