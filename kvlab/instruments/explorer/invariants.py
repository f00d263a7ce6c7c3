"""Why a run does not hold, in words."""

from __future__ import annotations

import ast
import functools
import linecache
import traceback
from contextlib import suppress
from typing import Any

import redis

from kvlab.errors import KvlabError
from kvlab.instruments.explorer.clients.leftovers import Refused
from kvlab.instruments.explorer.run.run import Run
from kvlab.instruments.explorer.run.steps import Invariant, World
from kvlab.instruments.faults.client_gate import ClientCrashed

_EXPECTED = (redis.RedisError, KvlabError, ConnectionError, TimeoutError)
"""What a client may raise in a run with a fault or a time-out."""


def broken_by(run: Run) -> str | None:
    """Why a run that has ended does not hold; None when it does."""
    return failure_of(run) or _refused_by(run.settings.invariant, run.world)


def failure_of(run: Run) -> str | None:
    """Why a run does not hold, whatever the invariant says of it."""
    if run.problem is not None:
        return run.problem
    faulted = any(step.kind != "go" for step in run.trace)
    for number, result in enumerate(run.results):
        if isinstance(result, ClientCrashed) or not isinstance(result, BaseException):
            continue
        if not faulted or not _is_expected(result):
            said = f"{type(result).__name__}: {result}"
            return f"{run.settings.names[number]} raised {said}{_place(result)}"
    return None


def _refused_by(invariant: Invariant | None, world: World) -> str | None:
    if invariant is None:
        return None
    try:
        answer = invariant(world)
        none = " (it answered None; return True when all is well)" if answer is None else ""
        return None if answer else f"not true: {_words(invariant)}{none}"
    except AssertionError as problem:
        # pytest adds lines with the values, which would make every run a case of its own
        return str(problem).partition("\n")[0] or f"not true: {_words(invariant)}"
    except Refused:
        raise
    except Exception as problem:  # often because a fault took a key away
        return f"the invariant raised {type(problem).__name__}: {problem}{_place(problem)}"


def _place(problem: BaseException) -> str:
    """Where in the user's own code the problem was raised."""
    own = [
        f" (in {frame.f_code.co_name}, line {line})"
        for frame, line in traceback.walk_tb(problem.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] != "kvlab"
        and "site-packages" not in frame.f_code.co_filename
    ]
    return own[-1] if own else ""


def _is_expected(problem: BaseException) -> bool:
    if isinstance(problem, BaseExceptionGroup):  # of a TaskGroup
        return all(map(_is_expected, problem.exceptions))
    return isinstance(problem, _EXPECTED)


def _words(invariant: Invariant) -> str:
    """What the invariant demands: its docstring, its name, or a lambda's own text."""
    while isinstance(invariant, functools.partial):
        invariant = invariant.func
    said = (getattr(invariant, "__doc__", None) or "").strip().split("\n")[0]
    name: str = getattr(invariant, "__name__", type(invariant).__name__)
    return said or (_text(invariant) if name == "<lambda>" else name.replace("_", " "))


@functools.cache
def _text(function: Any) -> str:
    """A lambda's own text: of the lambdas in its file, the one whose body is where its code is."""
    code = function.__code__
    places = [place for place in code.co_positions() if None not in place and place[3]]
    begin = min(((line, column) for line, _, column, _ in places), default=None)
    end = max(((line, column) for _, line, _, column in places), default=None)
    lines = linecache.getlines(code.co_filename, function.__globals__)
    with suppress(SyntaxError):
        for node in ast.walk(ast.parse("".join(lines))):
            if isinstance(node, ast.Lambda):
                body = node.body
                if begin == (body.lineno, body.col_offset) and end == (
                    body.end_lineno,
                    body.end_col_offset,
                ):
                    return ast.unparse(body)
    return "the invariant"
