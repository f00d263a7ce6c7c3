"""Whether a run holds, and why not, in words."""

from __future__ import annotations

import ast
import functools
import linecache
import os
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import redis

from kvlab.errors import BatchFailed, OutcomeUnknown, ServerUnavailable
from kvlab.instruments.explorer.clients.leftovers import Refused
from kvlab.instruments.explorer.run.run import Run
from kvlab.instruments.explorer.run.steps import Invariant, World
from kvlab.instruments.faults.client_gate import ClientCrashed

_OF_A_FAULT = (redis.ConnectionError, redis.TimeoutError, ConnectionError, TimeoutError,
               OutcomeUnknown, ServerUnavailable)  # fmt: skip
"""What a client may raise in a run with a fault or a time-out: no answer came."""
_OURS = os.path.join(Path(__file__).parents[2], "")
_PYTHONS = os.path.join(Path(os.__file__).parent, "")


class Verdict(NamedTuple):
    """``problem``: why the run does not hold, if it does not; ``undecided``: why nobody knows.

    ``excused``: the errors of clients that were no problem, by class. ``denied``: it was the
    invariant that said no.
    """

    problem: str | None = None
    undecided: str | None = None
    excused: tuple[str, ...] = ()
    denied: bool = False


def judged(run: Run) -> Verdict:
    """The verdict on a run that has ended."""
    if run.undecided or run.problem:
        return Verdict(run.problem, run.undecided)
    faulted = any(step.kind != "go" for step in run.trace)
    may_raise = run.settings.expected + (_OF_A_FAULT if faulted else ())
    excused = []
    for number, result in enumerate(run.results):
        if isinstance(result, ClientCrashed) or not isinstance(result, BaseException):
            continue
        kind = type(result).__name__
        if not _is_one_of(result, may_raise):
            name = run.settings.names[number]
            return Verdict(f"{name} raised {kind}: {result}{_place(result)}")
        excused.append(kind)
    problem = _refused_by(run.settings.invariant, run.world)
    return Verdict(problem, None, tuple(excused), problem is not None)


def _refused_by(invariant: Invariant | None, world: World) -> str | None:
    if invariant is None:
        return None
    try:
        answer = invariant(world)
        none = " (it answered None; return True when all is well)" if answer is None else ""
        return None if answer else f"not true: {words_of(invariant)}{none}"
    except AssertionError as problem:
        # pytest adds lines with the values, which would make every run a case of its own
        return str(problem).partition("\n")[0] or f"not true: {words_of(invariant)}"
    except Refused:
        raise
    except Exception as problem:  # often because a fault took a key away
        return f"the invariant raised {type(problem).__name__}: {problem}{_place(problem)}"


def _place(problem: BaseException) -> str:
    """Where in the user's own code the problem was raised."""
    own = [
        f" (in {frame.f_code.co_name}, line {line})"
        for frame, line in traceback.walk_tb(problem.__traceback__)
        if is_users(frame.f_code.co_filename)
    ]
    return own[-1] if own else ""


def is_users(file: str) -> bool:
    """Whether code of this file is the user's: not Python's, not installed, not ours."""
    installed = "site-packages" in file or "dist-packages" in file
    return not (installed or file.startswith((_OURS, _PYTHONS, "<frozen")))


def _is_one_of(problem: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    if isinstance(problem, BatchFailed):
        failed = [one for one in problem.results if isinstance(one, BaseException)]
        return isinstance(problem, kinds) or all(_is_one_of(one, kinds) for one in failed)
    if isinstance(problem, BaseExceptionGroup) and not isinstance(problem, kinds):  # a TaskGroup's
        return all(_is_one_of(one, kinds) for one in problem.exceptions)
    return isinstance(problem, kinds)


def words_of(invariant: Invariant) -> str:
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
