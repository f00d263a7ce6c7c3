"""Several processes that search together, each with a server and a core of its own.

Parts of one search wander between them:

1. The parent gives the whole search to one child; the others have nothing to do.
2. The child sees after a run that somebody has nothing to do, and sends the parent a part.
3. The parent passes it on. Who is through with a part sends what was found, and gets another.

So they come to their end together, whatever the shape of the search, and no run is made twice.

The children are forked, since clients, setup and invariant are functions that no pipe carries. Of
what these leave in variables the parent sees nothing. The exploration has no thread and no server
yet when it forks; but a lock that another thread of the program holds then stays held in a child.

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
from typing import Any

from kvlab.errors import KvlabError
from kvlab.instruments.explorer.cores import different_cores, stay_on
from kvlab.instruments.explorer.findings import Findings, RunSearch, found_in
from kvlab.instruments.explorer.run.events import Choice
from kvlab.instruments.explorer.run.scene import Run, Stage
from kvlab.instruments.explorer.run.setting import theatre
from kvlab.instruments.explorer.run.settings import Settings
from kvlab.instruments.explorer.search import Part, Search
from kvlab.instruments.measure.progress import progress_bar

_LOOK_SECONDS = 0.1  # how often the parent shows its progress
_GRACE_SECONDS = 15.0  # for the end of a child; longer than it waits for a client that hangs


class Board(ctypes.Structure):
    """What every process sees at once."""

    _fields_ = (("left", ctypes.c_longlong), ("idle", ctypes.c_int), ("over", ctypes.c_bool))

    left: int  # runs that may still begin
    idle: int  # children with nothing to do
    over: bool


def can_fork() -> bool:
    return "fork" in multiprocessing.get_all_start_methods()


def found_together(settings: Settings) -> Findings:
    """What one process finds alone, in less time.

    Raises what a child raised, and KvlabError for a child that was killed.
    """
    board = Board.from_buffer(mmap.mmap(-1, ctypes.sizeof(Board)))
    board.left = settings.max_schedules
    lock = multiprocessing.get_context("fork").Lock()
    parent, began = os.getpid(), time.perf_counter()

    def may_begin() -> bool:
        with lock:
            if board.over or board.left == 0:
                return False
            board.left -= 1
            return True

    def search_part(part: Part[Choice], stage: Stage, pipe: Connection) -> Findings:
        search: RunSearch = Search(lambda: Run(stage), part=part)

        def go_on(_: Findings) -> bool:
            if board.idle and (given := search.split()):
                pipe.send(given)
            if not search.unexplored:
                return True
            if os.getppid() != parent or time.perf_counter() - began >= settings.max_seconds:
                return False
            return may_begin()

        if not may_begin():
            return Findings(unexplored=1)
        return found_in(search, go_on)

    def work(pipe: Connection) -> None:
        with theatre(settings) as stage:
            while (part := _order(pipe)) is not None:
                pipe.send(search_part(part, stage, pipe))

    with _forked(settings.processes, work, board) as pipes:
        with progress_bar(None, "schedules", show=settings.progress) as bar:
            most = settings.max_schedules
            found = led(pipes, board, lambda: bar.update(most - board.left - bar.n))
        found.seconds = time.perf_counter() - began
    return found


def led(pipes: Sequence[Connection], board: Board, look: Callable[[], object]) -> Findings:
    """The parent's share of the work."""
    idle: list[Connection] = list(pipes)
    stock: list[Part[Choice]] = [()]  # the whole search
    total = Findings()
    while True:
        while idle and stock and not board.over:
            idle.pop().send(stock.pop(0))
        board.idle = len(idle)
        if len(idle) == len(pipes):
            total.unexplored += len(stock)
            return total
        for pipe in wait(pipes, _LOOK_SECONDS):
            assert isinstance(pipe, Connection)
            match _news(pipe):
                case BaseException() as problem:
                    raise problem
                case Findings() as found:
                    total.add(found)
                    idle.append(pipe)
                    if found.unexplored:  # no more may begin
                        board.over = True
                case part:
                    stock.append(part)
        look()


def _news(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError) as problem:
        raise KvlabError(
            "a process of the exploration ended before its work was done: it was killed, perhaps "
            "when memory ran out, or a client ended it"
        ) from problem


def _order(pipe: Connection) -> Part[Choice] | None:
    """A part to search; None when there will be no more."""
    try:
        part: Part[Choice] = pipe.recv()
    except (EOFError, OSError):
        return None
    return part


@contextmanager
def _forked(
    count: int, work: Callable[[Connection], None], board: Board
) -> Iterator[list[Connection]]:
    """Children that do ``work``, and the pipes to them; gone at the end."""
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(count)]
    ends = [end for pair in pipes for end in pair]
    children = [
        context.Process(target=_live, args=(work, theirs, ends, core))
        for (_, theirs), core in zip(pipes, different_cores(count), strict=True)
    ]
    try:
        with warnings.catch_warnings():  # the top of this file says what it warns of
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
            for child in children:
                child.start()
        for _, theirs in pipes:
            theirs.close()
        yield [ours for ours, _ in pipes]
    finally:
        board.over = True
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
    """A child, from its first to its last."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends the children
    for end in ends:
        if end is not pipe:  # or nobody would see who has closed it
            end.close()
    stay_on(core)
    try:
        work(pipe)
    except BaseException as problem:
        with contextlib.suppress(OSError):  # the parent has gone, or wants no more
            pipe.send(_portable(problem))


def _portable(problem: BaseException) -> BaseException:
    """It, with its traceback in words; or its words, where a pipe does not carry it as it is."""
    told = f"in a process of the exploration:\n{''.join(traceback.format_exception(problem))}"
    words = str(problem)
    problem.add_note(told)
    try:
        same = pickle.loads(pickle.dumps(problem))
        if type(same) is type(problem) and str(same) == words:
            return problem
    except Exception:  # whatever its class makes of that
        told += "(which cannot be sent to another process)"
    other = KvlabError(f"{type(problem).__name__}: {words}")
    other.add_note(told)
    return other
