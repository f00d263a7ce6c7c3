"""How many bytes of replies the server keeps for a client that does not read them."""

from __future__ import annotations

import secrets
import threading

import redis

from kvlab.chapters.pipeline.lost_connection import (
    NotObserved,
    Work,
    clients_named,
    wait_for_server,
)
from kvlab.instruments.faults.client_gate import gated


def bytes_held(url: str, command: str, work: Work) -> int:
    """Bytes of replies that the server keeps for a client that has read only the first reply.

    1. client: sends; reads the reply to its first ``command``, and stops
    2. server: answers all commands that it got; what the sockets cannot take stays in its memory
    3. client: reads on

    Returns what the server kept after step 2. Raises what ``work(client)`` raises.
    """
    name = f"stops-after-{command}-{secrets.token_hex(4)}"
    client = gated(url, after=command, client_name=name)
    problems: list[Exception] = []

    def do() -> None:
        try:
            work(client)
        except Exception as problem:
            problems.append(problem)

    thread = threading.Thread(target=do)
    thread.start()
    seen: list[tuple[int, int]] = []

    def settled(admin: redis.Redis) -> bool:
        """Whether three samples in a row were equal, and the server has read every command."""
        seen.extend((int(row["omem"]), int(row["qbuf"])) for row in clients_named(admin, name))
        return len(seen) >= 3 and len(set(seen[-3:])) == 1 and seen[-1][1] == 0

    try:
        if not client.gate.reached.wait(10):
            raise NotObserved(f"no reply to {command} came")
        wait_for_server(url, settled, "the server to have answered")
    finally:
        client.gate.open()
        thread.join()
    for problem in problems:
        raise problem
    return seen[-1][0]
