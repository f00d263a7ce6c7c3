"""fakeredis behind a TCP port of 127.0.0.1, as a process: the engine where no other one exists.

``main`` takes the port as its only argument, prints a line when it listens, and ends at the end of
its standard input.

Not promised: any latency, memory figure or concurrency of a real server.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Any

from redis.exceptions import ResponseError

PATIENCE = 60.0  # seconds without a byte taken, after which a client counts as gone


def main() -> None:
    """Serve until standard input ends."""
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", int(sys.argv[1])))
    server.RequestHandlerClass = _like_a_server(server.RequestHandlerClass)
    print(f"serving, process id {os.getpid()}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()
    os._exit(0)  # its handler threads are not daemons


def _like_a_server(handler: Any) -> Any:
    """A handler without three habits of fakeredis that no server has.

    fakeredis closes a connection after an error reply, and also when the client's buffers are full.
    In a batch, fakeredis sends a reply only after the acknowledgement of the reply before (40 ms).
    """

    class Handler(handler):  # type: ignore[misc]
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            # fakeredis reads without blocking, and so made this socket's writes give up as well.
            patient = self.connection.dup()
            patient.settimeout(PATIENCE)
            self.writer.writer = self.wfile = patient.makefile("wb")
            patient.close()  # the file keeps it open
            read = self.current_client.read_response

            def read_response(**kwargs: Any) -> Any:
                try:
                    return read(**kwargs)
                except ResponseError as error:
                    return error

            self.current_client.read_response = read_response

        def finish(self) -> None:
            with contextlib.suppress(OSError):  # a reply that its client did not wait for
                self.wfile.close()
            super().finish()

    return Handler
