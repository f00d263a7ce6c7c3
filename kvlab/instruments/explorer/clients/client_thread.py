"""A client program in a thread of its own, which runs only when the explorer lets it.

One thread runs at a time. A program stops where it is about to touch what other clients touch too:
before each command that it sends, while the server makes it wait, while it sleeps, and at each
``step``. A sleep is a stop, not a pause.
"""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

from kvlab.core import checks
from kvlab.errors import KvlabError
from kvlab.instruments.explorer.clients.clock import RunClock
from kvlab.instruments.explorer.clients.leftovers import Refused
from kvlab.instruments.explorer.clients.stops import (
    Asleep,
    Ended,
    Local,
    Order,
    ReadsClock,
    Sending,
    Stop,
)
from kvlab.instruments.faults.client_gate import ClientCrashed

HANG_SECONDS = 10.0


class Hung(KvlabError):
    """A client neither sent a command nor ended: it waits for something that is not the server."""


_current: ContextVar[ClientThread] = ContextVar("kvlab_client_thread")


def current_client() -> ClientThread | None:
    """The client whose program calls this; None outside an exploration.

    None too in a thread that a client has started: it lives in real time. And None while Python
    collects garbage: a finalizer that runs then may belong to anybody.
    """
    client = _current.get(None)
    if client is None or client.collects or not client.runs_here():
        return None
    return client


@contextmanager
def collections_noted() -> Iterator[None]:
    """While Python collects garbage in a client's thread, nothing there is the client's: neither a
    finalizer nor the other functions of ``gc.callbacks``."""
    gc.callbacks.insert(0, _collection_begins)
    gc.callbacks.append(_collection_ends)
    try:
        yield
    finally:
        gc.callbacks.remove(_collection_begins)
        gc.callbacks.remove(_collection_ends)


def _collection_begins(phase: str, _: object) -> None:
    client = current_client()
    if client is not None and phase == "start":
        client.collects = True


def _collection_ends(phase: str, _: object) -> None:
    client = _current.get(None)
    if client is not None and phase == "stop" and client.runs_here():
        client.collects = False


def step(label: str, *touches: str, reads: bool = False) -> None:
    """Say that the next lines touch what clients share and the server does not hold.

    An exploration then makes a step of these lines, and orders it like a command: for a row of a
    database, a file, a global. ``touches`` names these things (``label`` by default); ``reads``
    says that the lines only read them. Outside an exploration ``step`` does nothing.
    """
    checks.text("label", label, None)
    for name in touches:
        checks.text("touches", name, None)
    checks.boolean("reads", reads)
    client = _current.get(None)
    if client is not None:
        client.park(Local(label, frozenset(touches or (label,)), reads))


class ThreadOfClient(threading.Thread):
    """A class of its own, to tell these threads from those that programs start."""


class ClientThread:
    """The thread of one client. ``stop`` is where its program stands.

    ``replies``: those that the program has read since the last stop. ``pending_io``: commands
    whose replies are not read yet, and connections that are being made. ``unclean``: connections
    on which the program has left something; ``own_connections``: those that it has made itself.
    ``sent_by``: the number of the connection of the last command that the server got.
    ``closed``: the connection of the next command was idle when a failover closed it.
    ``told_time``: the program has read a clock. ``collects``: Python collects garbage in it.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.stop: Stop = Ended()
        self.replies: list[Any] = []
        self.pending_io = 0
        self.unclean: set[object] = set()
        self.own_connections: set[Any] = set()
        self.dead = False
        self.hung = False
        self.misuse: KvlabError | None = None
        self.sent_by = 0
        self.closed = False
        self.told_time = False
        self.collects = False
        self.jumps = False
        self.clock = RunClock()
        self._random: dict[int, random.Random] = {}
        self._ahead = 0.0
        self._order: Order = "go"
        self._work: Callable[[], Any] | None = None
        self._running = False
        self._go, self._parked = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._parked.acquire()
        self._explorer = threading.current_thread()
        self._thread = ThreadOfClient(target=self._live, name=f"client {number}", daemon=True)
        self._thread.start()

    # --- the explorer's side ---

    def begin(self, work: Callable[[], Any], clock: RunClock, *, jumps: bool) -> None:
        """Run ``work`` to its first stop."""
        self._work, self.clock, self.jumps = work, clock, jumps
        self.dead, self._ahead, self.pending_io, self.told_time = False, 0.0, 0, False
        self.closed = False
        self._random.clear()
        self.resume("go")

    def resume(self, order: Order) -> None:
        """Let the program run to its next stop."""
        self.replies = []
        self._order = order
        self._parked.acquire(blocking=False)  # of a stop that an interrupted wait missed
        self._running = True
        self._go.release()
        self._wait(HANG_SECONDS)
        if self.misuse is not None and order != "crash":
            raise self.misuse

    def jump(self, seconds: float) -> None:
        """The client's wall clock goes forward, or back."""
        self._ahead += seconds

    def kill(self) -> None:
        """Let the program crash where it stands."""
        if self.hung:
            return
        if self._running:  # an interrupt ended the wait for its stop
            self._wait(HANG_SECONDS)
        while not isinstance(self.stop, Ended):
            self.resume("crash")

    def end(self) -> None:
        """End the thread, whose program has ended. A thread that hangs ends at its next stop."""
        self._work = None
        self.dead, self._order = self.hung, "crash"
        self._go.release()
        if not self.hung:
            self._thread.join()

    def _wait(self, seconds: float) -> None:
        if not self._parked.acquire(timeout=seconds):
            self.hung = True
            raise Hung(
                f"client {self.number} has neither sent a command nor ended in {seconds:g} s: it "
                "waits for something that is not the server, which may be another client"
            )

    # --- the program's side ---

    def runs_here(self) -> bool:
        """Whether this is the client's own thread, and none that its program has started."""
        return threading.current_thread() is self._thread

    def park(self, stop: Stop) -> Order:
        """Stop here until the explorer lets the client go on.

        Raises ClientCrashed when the client is to crash, and at every later stop.
        """
        if (thread := threading.current_thread()) is not self._thread:
            raise self._foreign(thread, stop)
        if self.dead:
            raise ClientCrashed("this client has crashed before")
        self.stop = stop
        self._running = False
        self._parked.release()
        self._go.acquire()
        if self._order == "crash":
            self.dead = True
            raise ClientCrashed(f"client {self.number}")
        return self._order

    def _foreign(self, thread: threading.Thread, stop: Stop) -> Refused:
        """What a thread that is not this client's gets, and the exploration with it."""
        if (user := current_client()) is not None:
            problem = Refused(
                f"client {user.number} uses the connections of client {self.number}: each client "
                "is given its own"
            )
        else:
            problem = Refused(
                f"client {self.number} started a thread that uses the server: a client is one "
                "thread, or several asyncio tasks"
            )
        # A pipeline's __del__ can run in any thread.
        if thread is not self._explorer and stop != Sending(((b"UNWATCH",),)):
            (user or self).misuse = problem
        return problem

    def sleep(self, seconds: float) -> None:
        """Other clients may go on. Then the clock is put forward: nobody really waits."""
        self.park(Asleep(seconds, self.monotonic() + max(0.0, seconds)))

    def monotonic(self) -> float:
        return self.clock.monotonic

    def time(self) -> float:
        """The time by this client's wall clock, in seconds since 1970."""
        self.told_time = True
        if self.jumps:
            self.park(ReadsClock())
        return self.clock.time + self._ahead

    def random_again(self) -> None:
        """Begin again: redis-py has drawn for a pool that is not made in every run."""
        self._random.clear()

    def random_bytes(self, size: int) -> bytes:
        """The same bytes in every run, call by call; each size has a sequence of its own."""
        if size not in self._random:
            self._random[size] = random.Random(f"client {self.number}, {size} bytes")
        return self._random[size].randbytes(size)

    def _live(self) -> None:
        while True:
            self._go.acquire()
            work = self._work
            if work is None:
                return
            try:
                ended = Ended(copy_context().run(self._run, work))
            except BaseException as problem:
                ended = Ended(error=problem)
            if self.dead:  # whatever the program made of that
                ended = Ended(error=ClientCrashed(f"client {self.number}"))
            self.stop = ended
            self._running = False
            self._parked.release()

    def _run(self, work: Callable[[], Any]) -> Any:
        _current.set(self)
        return work()
