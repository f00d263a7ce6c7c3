"""fakeredis behind a TCP port of 127.0.0.1, as a process: the engine of last resort.

``main`` takes the port as its only argument, says when it has it, and ends when its standard input
does.
Not promised: any latency, memory figure or concurrency of a real server.
"""

from __future__ import annotations

import os
import sys
import threading


def main() -> None:
    """Serve until standard input ends."""
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", int(sys.argv[1])))
    print(f"serving, process id {os.getpid()}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()
    os._exit(0)  # its handler threads are not daemons
