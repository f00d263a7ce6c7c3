"""Client programs that move only when told: one thread each, one of them awake at a time.

A lane stops where its program is about to touch what others touch too: before each command it
sends, while the server lets it wait, while it sleeps, and at each ``step``. Its ``time`` and
``sleep`` are its own: a sleep is a stop, not a pause. ``time.time``, ``time_ns``, ``monotonic``
and ``sleep`` mean the lane's while one is running, where they are called through the module; so
does ``os.urandom``, and with it ``secrets`` and ``uuid4``: the same bytes in every run, so that a
key named after a token has the same name in each.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, Literal

from kvlab.errors import KvlabError
from kvlab.instruments.faults.client_gate import ClientCrashed

Command = tuple[bytes, ...]
Order = Literal["go", "crash", "lose reply", "lose request", "time out"]

HANG_SECONDS = 10.0


class Hung(KvlabError):
    """A client neither sent a command nor ended: it waits for something that is not the server."""


@dataclass(frozen=True, slots=True)
class Sending:
    """About to send these commands, all at once."""

    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Blocked:
    """Sent these; the server lets it wait, for so many seconds or (0) for ever.

    Time is up when the lane's clock says ``until``. ``answered`` says whether the wait is over;
    ``connection`` is the server's number for it.
    """

    commands: tuple[Command, ...]
    seconds: float
    until: float
    answered: Callable[[], bool]
    connection: int


@dataclass(frozen=True, slots=True)
class Asleep:
    """Until its clock says ``until``."""

    seconds: float
    until: float


@dataclass(frozen=True, slots=True)
class Local:
    """About to touch ``touches``, which are no keys of the server."""

    label: str
    touches: frozenset[str]
    reads: bool


@dataclass(frozen=True, slots=True)
class ReadsClock:
    """About to learn what time it is."""


@dataclass(frozen=True, slots=True)
class Ended:
    """``value`` returned, or ``error`` raised."""

    value: Any = None
    error: BaseException | None = None


Stop = Sending | Blocked | Asleep | Local | ReadsClock | Ended

_here: ContextVar[Lane] = ContextVar("kvlab_lane")
_time, _time_ns, _monotonic, _sleep = time.time, time.time_ns, time.monotonic, time.sleep
_urandom = os.urandom


class Clock:
    """The time of one run, for all its lanes: it stands still unless somebody sleeps.

    If it went on, what a client does could depend on how long a step took.
    """

    def __init__(self) -> None:
        self.time, self.monotonic = _time(), _monotonic()

    def pass_by(self, seconds: float) -> None:
        """So much time passes, for everybody."""
        self.monotonic += seconds
        self.time += seconds


class _LaneThread(threading.Thread):
    """So that it can be told from those that programs start."""


class Lane:
    """The thread of one client. ``stop`` is where it stands."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stop: Stop = Ended()
        self.replies: list[Any] = []
        self.pending_io = 0  # commands sent whose replies are not read, connections being made
        self.dead = False
        self.hung = False
        self.misuse: KvlabError | None = None
        self.jumps = False
        self.clock = Clock()
        self._random: dict[int, random.Random] = {}
        self._ahead = 0.0
        self._order: Order = "go"
        self._work: Callable[[], Any] | None = None
        self._running = False
        self._go, self._parked = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._parked.acquire()
        self._explorer = threading.current_thread()
        self._thread = _LaneThread(target=self._live, name=f"client {number}", daemon=True)
        self._thread.start()

    # --- the explorer's side ---

    def begin(self, work: Callable[[], Any], clock: Clock, *, jumps: bool) -> None:
        """Run ``work`` to its first stop."""
        self._work, self.clock, self.jumps = work, clock, jumps
        self.dead, self._ahead, self.pending_io = False, 0.0, 0
        self._random.clear()
        self.resume("go")

    def resume(self, order: Order) -> None:
        """Let it go on to its next stop."""
        self.replies = []
        self._order = order
        self._parked.acquire(blocking=False)  # a stop whose waiter was interrupted as it came
        self._running = True
        self._go.release()
        self._wait(HANG_SECONDS)
        if self.misuse is not None and order != "crash":
            raise self.misuse

    def jump(self, seconds: float) -> None:
        """Its wall clock goes forward, or back."""
        self._ahead += seconds

    def kill(self) -> None:
        """Let the program die where it stands."""
        if self.hung:
            return
        if self._running:  # whoever waited for it was interrupted
            self._wait(HANG_SECONDS)
        while not isinstance(self.stop, Ended):
            self.resume("crash")

    def end(self) -> None:
        """Let the thread end; the program has. One that hangs dies at its next stop, if ever."""
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

    def park(self, stop: Stop) -> Order:
        """Stand here until told to go on. Raises ClientCrashed when told to die, and ever after."""
        if (thread := threading.current_thread()) is not self._thread:
            problem = KvlabError(
                f"client {self.number} started a thread that uses the server: a client is one "
                "thread, or several asyncio tasks"
            )
            # else it is a pipeline's __del__, which may run in any of our own threads
            if thread is not self._explorer and not isinstance(thread, _LaneThread):
                self.misuse = problem
            raise problem
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

    def sleep(self, seconds: float) -> None:
        """Others may go on meanwhile. The clock is put forward, nobody waits."""
        self.park(Asleep(seconds, self.monotonic() + max(0.0, seconds)))

    def monotonic(self) -> float:
        return self.clock.monotonic

    def time(self) -> float:
        """What this client takes for the time, in seconds of the Unix epoch."""
        if self.jumps:
            self.park(ReadsClock())
        return self.clock.time + self._ahead

    def random_bytes(self, size: int) -> bytes:
        """The same from run to run, call by call.

        Each size has a sequence of its own: redis-py draws 4 bytes for a pool, which is made in
        the first run and kept.
        """
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
            if self.dead:  # whatever it made of that
                ended = Ended(error=ClientCrashed(f"client {self.number}"))
            self.stop = ended
            self._running = False
            self._parked.release()

    def _run(self, work: Callable[[], Any]) -> Any:
        _here.set(self)
        return work()


def step(label: str, *touches: str, reads: bool = False) -> None:
    """Say that the next lines touch what clients share and the server does not hold.

    An exploration then makes a step of them, to be ordered like a command: a row of a database, a
    file, a global. ``touches`` names these things (``label`` by default); ``reads``: they are only
    read. Outside an exploration it does nothing.
    """
    lane = _here.get(None)
    if lane is not None:
        lane.park(Local(label, frozenset(touches or (label,)), reads))


_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def own_time() -> Iterator[None]:
    """The functions of ``time``, and ``os.urandom``, are each lane's own.

    One exploration at a time in a process.
    """

    def current() -> float:
        lane = _here.get(None)
        return _time() if lane is None else lane.time()

    def current_ns() -> int:
        lane = _here.get(None)
        return _time_ns() if lane is None else int(lane.time() * 1e9)

    def steady() -> float:
        lane = _here.get(None)
        return _monotonic() if lane is None else lane.monotonic()

    def rest(seconds: float) -> None:
        lane = _here.get(None)
        if lane is None:
            _sleep(seconds)
        else:
            lane.sleep(seconds)

    def bytes_of(size: int) -> bytes:
        lane = _here.get(None)
        return _urandom(size) if lane is None else lane.random_bytes(size)

    changed = [
        (time, "time", current),
        (time, "time_ns", current_ns),
        (time, "monotonic", steady),
        (time, "sleep", rest),
        (os, "urandom", bytes_of),
        (random, "_urandom", bytes_of),  # as `secrets` reaches it
    ]
    if not _one_at_a_time.acquire(blocking=False):
        raise KvlabError("another exploration is under way in this process: wait for its end")
    before = [(module, name, getattr(module, name)) for module, name, _ in changed]
    chance = random.getstate()
    try:
        for module, name, function in changed:
            setattr(module, name, function)
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)
        random.setstate(chance)
        _one_at_a_time.release()
