"""Several processes that search together, each with a server and a processor core of its own.

They hand each other parts of one search:

1. The parent gives the whole search to one child; the others have nothing to do.
2. After a run, the child sees that another child has nothing to do, and sends the parent a part.
3. The parent passes the part on. A child that has searched its part sends its findings, and gets
   another part.

So the children end together, whatever the shape of the search, and no run is made twice.

The children are forked, because clients, setup and invariant are functions, which cannot be sent
through a pipe. What these functions leave in variables, the parent does not see. When it forks,
the exploration has no thread and no server yet; but a lock that another thread of the program
holds at that moment stays held in a child.

When the parent ends, also by kill -9, the children end after their next run.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import pickle
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Lock
from typing import Any

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.instruments.explorer.cores import different_cores, stay_on
from kvlab.instruments.explorer.findings import Findings, RunSearch, cost, findings_of
from kvlab.instruments.explorer.run.choices import Choice
from kvlab.instruments.explorer.run.exploration import Exploration, prepared
from kvlab.instruments.explorer.run.run import Run
from kvlab.instruments.explorer.run.settings import Settings
from kvlab.instruments.explorer.search import Part, Search
from kvlab.instruments.progress import progress_bar

_PROGRESS_SECONDS = 0.1  # from one update of the parent's progress bar to the next
_GRACE_SECONDS = 15.0  # for a child to end; longer than a child waits for a client that hangs


class SharedCounts(ctypes.Structure):
    """In memory that all the processes share.

    ``runs_left``: how many may still begin; ``idle``: how many children have nothing to do;
    ``over``: no run may begin any more.
    """

    _fields_ = (("runs_left", ctypes.c_longlong), ("idle", ctypes.c_int), ("over", ctypes.c_bool))

    runs_left: int
    idle: int
    over: bool


def can_fork() -> bool:
    """Whether this system has fork."""
    return "fork" in multiprocessing.get_all_start_methods()


def _must_be_splittable(settings: Settings) -> None:
    if settings.reduce:
        why = "with reduce=True: what may be left out of a part depends on the parts before it"
    elif settings.url is not None:
        why = "with url: it is one database, and each process needs one of its own"
    elif not can_fork():
        why = "here: functions get into another process by fork alone, and this system has none"
    else:
        return
    raise InvalidArgument(f"processes must be 1, not {settings.processes}, {why}")


def found_together(settings: Settings) -> Findings:
    """What one process finds alone, in less time.

    Raises InvalidArgument for a search that cannot be split, what a child raised, and KvlabError
    for a child that was killed.
    """
    _must_be_splittable(settings)
    shared = SharedCounts.from_buffer(mmap.mmap(-1, ctypes.sizeof(SharedCounts)))
    shared.runs_left = most = settings.max_schedules
    child = _Child(settings, shared)
    with _forked(settings.processes, child.work, shared) as pipes:
        with progress_bar(None, "schedules", show=settings.progress) as bar:
            found = hand_out(pipes, shared, lambda: bar.update(most - shared.runs_left - bar.n))
        found.seconds = time.perf_counter() - child.began
    return found


class _Child:
    """What each child does; made in the parent, before it forks."""

    def __init__(self, settings: Settings, shared: SharedCounts) -> None:
        self._settings, self._shared = settings, shared
        self._lock: Lock = multiprocessing.get_context("fork").Lock()
        self._parent = os.getpid()
        self.began = time.perf_counter()

    def work(self, pipe: Connection) -> None:
        """Search one part after another, until the parent closes the pipe."""
        with prepared(self._settings) as exploration:
            while (part := _receive_part(pipe)) is not None:
                pipe.send(self._search(part, exploration, pipe))

    def _search(self, part: Part[Choice], exploration: Exploration, pipe: Connection) -> Findings:
        search: RunSearch = Search(lambda: Run(exploration, repeats=True), part=part, cost=cost)

        def goes_on(_: Findings) -> bool:
            if self._shared.idle and (given := search.split()):
                pipe.send(given)
            if not search.unexplored:
                return True
            spent = time.perf_counter() - self.began
            if os.getppid() != self._parent or spent >= self._settings.max_seconds:
                return False
            return self._may_begin()

        if not self._may_begin():
            return Findings(unexplored=1)
        found = findings_of(search, goes_on)
        exploration.side.only_ours()
        found.first = None  # its replies may be such that cannot be pickled
        return found

    def _may_begin(self) -> bool:
        """Whether one more run may begin; counts it."""
        with self._lock:
            if self._shared.over or self._shared.runs_left == 0:
                return False
            self._shared.runs_left -= 1
            return True


def hand_out(
    pipes: Sequence[Connection], shared: SharedCounts, progress: Callable[[], object]
) -> Findings:
    """What the parent does: hand out the parts of the search, and add up what is found."""
    idle: list[Connection] = list(pipes)
    stock: list[Part[Choice]] = [()]  # the whole search
    total = Findings()
    while True:
        while idle and stock and not shared.over:
            idle.pop().send(stock.pop(0))
        shared.idle = len(idle)
        if len(idle) == len(pipes):
            total.unexplored += len(stock)
            return total
        for pipe in wait(pipes, _PROGRESS_SECONDS):
            assert isinstance(pipe, Connection)
            match _receive(pipe):
                case BaseException() as problem:
                    raise problem
                case Findings() as found:
                    total.add(found)
                    idle.append(pipe)
                    if found.unexplored:  # the child met a limit
                        shared.over = True
                case part:
                    stock.append(part)
        progress()


def _receive(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError) as problem:
        raise KvlabError(
            "a process of the exploration ended before its work was done: it was killed, perhaps "
            "when memory ran out, or a client ended it"
        ) from problem


def _receive_part(pipe: Connection) -> Part[Choice] | None:
    """A part to search; None when the parent has closed the pipe."""
    try:
        part: Part[Choice] = pipe.recv()
    except (EOFError, OSError):
        return None
    return part


@contextmanager
def _forked(
    count: int, work: Callable[[Connection], None], shared: SharedCounts
) -> Iterator[list[Connection]]:
    """Children that do ``work``, and the pipes to them. The children end with the block."""
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(count)]
    ends = [end for pair in pipes for end in pair]
    children = [
        context.Process(target=_live, args=(work, theirs, ends, core))
        for (_, theirs), core in zip(pipes, different_cores(count), strict=True)
    ]
    try:
        with warnings.catch_warnings():  # this module's docstring says what they warn of
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
            for child in children:
                child.start()
        for _, theirs in pipes:
            theirs.close()
        yield [ours for ours, _ in pipes]
    finally:
        shared.over = True
        for end in ends:
            end.close()
        for child in children:
            if child.pid is not None:
                child.join(_GRACE_SECONDS)
                child.kill()
                child.join()
            child.close()


def _live(
    work: Callable[[Connection], None],
    pipe: Connection,
    ends: Sequence[Connection],
    core: int | None,
) -> None:
    """The whole life of a child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends the children
    for end in ends:
        if end is not pipe:  # an end that stays open here would hide that its process has closed it
            end.close()
    stay_on(core)
    try:
        work(pipe)
    except BaseException as problem:
        with contextlib.suppress(OSError):  # the parent has ended, or listens no more
            pipe.send(_portable(problem))


def _portable(problem: BaseException) -> BaseException:
    """The problem with its traceback as a note; if it cannot be pickled, a KvlabError with its
    words."""
    note = f"in a process of the exploration:\n{''.join(traceback.format_exception(problem))}"
    words = str(problem)
    problem.add_note(note)
    try:
        same = pickle.loads(pickle.dumps(problem))
        if type(same) is type(problem) and str(same) == words:
            return problem
    except Exception:  # whatever the problem's class does when it is pickled
        note += "(which cannot be sent to another process)"
    other = KvlabError(f"{type(problem).__name__}: {words}")
    other.add_note(note)
    return other
