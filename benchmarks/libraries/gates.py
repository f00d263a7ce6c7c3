"""A gate before a server: it lets the requests of one client through when it is told to.

One thread a direction and a connection. What a client sends when it connects passes by itself. A
write of the client is held as a whole, as the explorer makes one step of it.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import hiredis

from kvlab.instruments.faults.resp import HANDSHAKE

PATIENCE = 20.0  # seconds for a client's next request, retries with their pauses included
PASSES = HANDSHAKE | {"PING"}
"""What is not held: what a client sends when it connects, a check of its health included."""
Order = Literal["go", "lose reply", "lose request"]


class _Held:
    """A write that waits at the gate: its bytes, and how many replies answer it."""

    def __init__(self, link: _Link, raw: bytes, count: int) -> None:
        self.link, self.raw, self.count = link, raw, count


class _Link:
    """One connection of the client, and its own to the server."""

    def __init__(self, gate: Gate, client: socket.socket, server: socket.socket) -> None:
        self.gate, self.client, self.server = gate, client, server
        self.due, self.lost = 0, False
        self.answered = threading.Event()
        for work in (self._requests, self._replies):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        for one in (self.client, self.server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _requests(self) -> None:
        reader, raw, names = hiredis.Reader(), b"", []
        with suppress(OSError):
            while piece := self.client.recv(65536):
                raw += piece
                reader.feed(piece)
                while (command := reader.gets()) is not False:
                    names.append(command[0].decode().upper())
                if reader.has_data():  # the rest of a command is still to come
                    continue
                if PASSES.issuperset(names):
                    self.server.sendall(raw)
                else:
                    self.gate.held.put(_Held(self, raw, len(names)))
                raw, names = b"", []
        self.close()

    def _replies(self) -> None:
        reader = hiredis.Reader()
        with suppress(OSError):
            while piece := self.server.recv(65536):
                reader.feed(piece)
                while reader.gets() is not False:
                    self.due -= self.due > 0
                if not self.lost:
                    self.client.sendall(piece)
                if not self.due:
                    self.answered.set()
                    if self.lost:
                        break
        self.close()


class Gate:
    """``url``: where the client connects to. ``held``: the writes that wait."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.held: queue.Queue[_Held] = queue.Queue()
        self._links: list[_Link] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def let(self, order: Order, came: Callable[[], None], *, waits: bool = False) -> _Link:
        """Let the next write through; returns when it is answered, or at once if it ``waits``.

        ``came`` is called when the write is here. Raises queue.Empty and TimeoutError.
        """
        held = self.held.get(timeout=PATIENCE)
        came()
        link = held.link
        if order == "lose request":
            link.close()
            return link
        link.due, link.lost = held.count, order == "lose reply"
        link.answered.clear()
        link.server.sendall(held.raw)
        if not waits and not link.answered.wait(PATIENCE):
            raise TimeoutError("the server has not answered")
        return link

    def close(self) -> None:
        self._listener.close()
        for link in self._links:
            link.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._links.append(_Link(self, client, socket.create_connection(self._target)))


@contextmanager
def gates(target: tuple[str, int], count: int) -> Iterator[list[Any]]:
    """A gate for each client."""
    made = [Gate(target) for _ in range(count)]
    try:
        yield made
    finally:
        for gate in made:
            gate.close()
