"""Runs a piece of work in a process of its own: nothing that it changes stays here.

The process is forked, so that it has the learner's functions and variables as they are. Whatever a
learner's code does to variables ends with the process. A loop without an end is stopped.

Where there is no fork (Windows) the work runs in this process: a loop is not stopped there.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, TypeVar

from kvlab.errors import KvlabError
from kvlab.instruments.explorer.invariants import is_users
from kvlab.instruments.explorer.processes import can_fork

T = TypeVar("T")
_GRACE_SECONDS = 2.0
"""After its time a process says where it was; one that cannot even do that is killed."""


class Stopped(KvlabError):
    """The work did not end in its time, or its process ended."""


def isolated(work: Callable[[], T], seconds: float) -> T:
    """What ``work()`` returns; the value is pickled. Its prints are dropped.

    Raises :class:`Stopped` when the work has not ended after ``seconds``, with the line where the
    learner's code was, and when its process ended without an answer.
    """
    if not can_fork():
        return work()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_live, args=(work, theirs, seconds), daemon=True)
    try:
        with warnings.catch_warnings():  # the child uses no thread of this process
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
            child.start()
        theirs.close()
        if not ours.poll(seconds + _GRACE_SECONDS):
            raise Stopped(_too_long(seconds, ""))
        try:
            answer: T | Stopped = ours.recv()
        except EOFError:
            raise Stopped("its process ended without an answer") from None
    finally:
        ours.close()
        if child.pid is not None:
            child.kill()
            child.join()
        child.close()
    if isinstance(answer, Stopped):
        raise answer
    return answer


def _live(work: Callable[[], Any], pipe: Connection, seconds: float) -> None:
    """The whole life of the child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends the child
    over = threading.Timer(seconds, _stop, (pipe, seconds, threading.main_thread().ident))
    over.daemon = True
    over.start()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            answer: Any = work()
        except BaseException as problem:
            answer = Stopped(f"{type(problem).__name__}: {problem}")
    with contextlib.suppress(OSError):
        pipe.send(answer)
    os._exit(0)


def _stop(pipe: Connection, seconds: float, main: int | None) -> None:
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)
    ordered = sorted(frames.items(), key=lambda item: item[0] == main)  # clients first
    places = [place for _, frame in ordered if (place := _place(frame))]
    with contextlib.suppress(OSError):
        pipe.send(Stopped(_too_long(seconds, places[0] if places else "")))
    os._exit(0)


def _place(frame: FrameType | None) -> str:
    """Where in the learner's code a thread is."""
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return f" (in {frame.f_code.co_name}, line {frame.f_lineno})"
        frame = frame.f_back
    return ""


def _too_long(seconds: float, place: str) -> str:
    return f"it did not end within {seconds:g} s{place}: is there a loop without an end?"
