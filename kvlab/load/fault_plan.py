"""Faults at set times of a load run: the server is paused, cut off, flushed or restarted.

A fault is written as its kind and its second of the run: ``pause@5`` (for one second),
``pause@5:2`` (for two seconds), ``cut@8``, ``flush@10``, ``restart@12``.

* ``pause``: SIGSTOP; the server keeps its connections and answers nothing.
* ``cut``: every client connection is closed; answers on their way are lost.
* ``flush``: the server forgets its scripts.
* ``restart``: kill -9; ``seconds`` later the server starts from its append-only file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kvlab.errors import InvalidArgument
from kvlab.load.record.parts import FAULTS
from kvlab.server import engines
from kvlab.server.running_server import RunningServer

_LASTING = ("pause", "restart")
_WRITTEN = re.compile(r"(?P<kind>[a-z]+)@(?P<at>\d+(\.\d+)?)s?(:(?P<seconds>\d+(\.\d+)?)s?)?")


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """``at``: seconds from the begin of the run; ``seconds``: the length of the fault."""

    kind: str
    at: float
    seconds: float = 0.0

    @classmethod
    def parse(cls, text: str) -> PlannedFault:
        """The fault in ``text``. Raises InvalidArgument for any other form."""
        written = _WRITTEN.fullmatch(text)
        if written is None or written["kind"] not in FAULTS:
            raise InvalidArgument(
                f"a fault is written like pause@5:2, cut@8, flush@10 or restart@12, not {text!r}"
            )
        lasting = written["kind"] in _LASTING
        if written["seconds"] is not None and not lasting:
            raise InvalidArgument(f"a {written['kind']} has no length: {text!r}")
        return cls(written["kind"], float(written["at"]), float(written["seconds"] or lasting))

    def inflict(self, server: RunningServer, sleep: Callable[[float], None] = time.sleep) -> None:
        """Do the fault to a private server; returns at the end of the fault."""
        match self.kind:
            case "pause":
                server.pause()
                try:
                    sleep(self.seconds)
                finally:
                    server.resume()
            case "restart":
                server.kill()
                sleep(self.seconds)
                server.restart()
            case "cut":
                with server.client() as client:
                    client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            case "flush":
                with server.client() as client:
                    client.script_flush()


@contextmanager
def durable_server() -> Iterator[RunningServer]:
    """A private Valkey whose answered writes survive ``restart``.

    The server writes to its append-only file before it answers, and leaves syncing to the
    operating system. That is enough for a killed server; a loss of power may lose writes.
    """
    with engines.start("valkey", options={"appendonly": "yes", "appendfsync": "no"}) as server:
        yield server
