"""``check("05", job)``: tries a learner's function under every order and fault of an exercise.

Guarantee:

* Each promise is tried in a process of its own, on a private server that is empty: nothing stays
  from one check to the next, neither in the kernel nor on a server, and the same function gets the
  same report at the tenth call.
* What the function does is judged, never its text.
* A function that does not end is stopped, and the report says where it was. The promises after it
  are not tried.

Not promised: that prints are shown (a function runs many times); that more than ``MAX_SCHEDULES``
orders are tried; that a loop is stopped where a process cannot fork (Windows).
"""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.instruments.explorer.cores import one_core
from kvlab.instruments.explorer.invariants import is_users
from kvlab.instruments.explorer.search import Nondeterministic
from kvlab.server import engines
from kvlab.server.running_server import RunningServer
from kvlab.workshop.exercises import find
from kvlab.workshop.exercises.exercise import Exercise, Promise, explorer_on
from kvlab.workshop.learner.isolated import Stopped, isolated
from kvlab.workshop.learner.progress import log_here
from kvlab.workshop.learner.report import Check, Report, Schedule

SECONDS = 6.0
"""For one promise. A trial takes well under a second on a quiet laptop."""
_OF_SEARCH = 0.5
"""The part of that time in which an exploration may search."""


_ENDLESS = "of commands and waits: is there a loop without an end, or one that asks too often?"


def check(exercise: str, function: Callable[..., Any]) -> Report:
    """Try ``function`` on the promises of an exercise, such as "05" or "05-short".

    The report is kept in the progress of the working copy, where there is one. Raises
    :class:`InvalidArgument` for an unknown exercise and for a ``function`` that is none.
    """
    chosen = find(exercise)
    if not callable(function):
        raise InvalidArgument(
            f'give the function itself: check("{chosen.number}", {chosen.function}), '
            f"not {function!r:.80}"
        )
    if inspect.iscoroutinefunction(function):
        raise InvalidArgument(
            f"write {chosen.function} as a plain def: the client of an exercise is not async"
        )
    with private_server() as server:
        report = examine(chosen, function, server)
    if log := log_here():
        log.note_report(report)
    return report


@contextmanager
def private_server() -> Iterator[RunningServer]:
    """A server for checks alone: they empty it again and again."""
    with engines.start(engines.first(), unix_socket=True) as server:
        yield server


def examine(
    exercise: Exercise,
    function: Callable[..., Any],
    server: RunningServer,
    seconds: float = SECONDS,
) -> Report:
    """Try each promise, ``seconds`` at most; after one that took all its time, no other."""
    checks: list[Check] = []
    slow = False
    for promise in exercise.promises:
        name, promised = promise.name, promise.promised
        if slow:
            seen = "not tried: the check above took all the time"
            checks.append(Check(name, False, promised, seen, tried=False))
            continue
        began = time.monotonic()
        try:
            trial = partial(_tried, promise, function, server, seconds * _OF_SEARCH)
            checks.append(isolated(trial, seconds))
        except Stopped as problem:
            checks.append(Check(name, False, promised, str(problem)))
        slow = not checks[-1].passed and time.monotonic() - began > seconds * _OF_SEARCH
    return Report(exercise.number, exercise.title, tuple(checks))


def _tried(
    promise: Promise, function: Callable[..., Any], server: RunningServer, seconds: float
) -> Check:
    with server.client(driver_info=None) as client:
        client.flushall()  # a trial that was stopped has left its keys
    try:
        with one_core(server.pid):
            story = promise.trial(function, explorer_on(server.url, seconds))
    except AssertionError as problem:
        return Check(promise.name, False, promise.promised, str(problem))
    except Exception as problem:
        return Check(promise.name, False, promise.promised, _words(problem))
    if story is None:
        return Check(promise.name, True, promise.promised, "it holds")
    if story.shortest is None:
        return Check(promise.name, True, promise.promised, story.summary)
    shortest = story.shortest
    why = shortest.problem or (shortest.undecided or "").replace("(max_steps)", _ENDLESS)
    has_steps = bool(shortest.trace)  # a function that fails before its first command has none
    schedule = Schedule(str(shortest), shortest.diagram(story.summary)) if has_steps else None
    return Check(promise.name, False, promise.promised, why, schedule)


def _words(problem: Exception) -> str:
    """The problem with its line, the learner's own as far as there is one."""
    said = f"{type(problem).__name__}: {problem}"
    if isinstance(problem, Nondeterministic):
        remark = "does it keep something from call to call, in a global or in a cache?"
        return f"called again in the same place, it did something else: {remark} ({problem})"
    if isinstance(problem, KvlabError):  # of the explorer: it says what the function did
        return str(problem)
    frames = traceback.extract_tb(problem.__traceback__)
    own = [frame for frame in frames if is_users(frame.filename)]
    return f"{said} (in {own[-1].name}, line {own[-1].lineno})" if own else said
