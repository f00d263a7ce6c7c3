"""Errors travel: between processes by pickle, and by copy."""

from __future__ import annotations

import ast
import builtins
import copy
import importlib
import itertools
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvlab
from kvlab import errors
from kvlab.errors import (
    BatchFailed,
    CannotServe,
    KvlabError,
    LockLost,
    Outage,
    OutcomeUnknown,
    ServerRefused,
)

ROOT = Path(kvlab.__file__).parent
FACTS: dict[str, tuple[Any, ...]] = {
    "ServerRefused": ("WRONGTYPE not a list",),
    "CannotServe": ("READONLY a replica",),
    "BatchFailed": ([1, errors.ServerRefused("OOM no memory"), OutcomeUnknown("lost")],),
    "MissingExtra": ("pandas", "the report"),
    "SessionTooLarge": (70_000, 65_536),
    "LockNotAcquired": ("j", 1.0),
    "LockLost": ("j", 7, "its 1 s have passed"),
    "ScoreOutOfRange": ("too much", 9.5),
    "Refused": (409, "somebody else has this name", 2.0),
    "RestRefused": (400, "ERR unknown command"),
    "RoomRefused": (409, "somebody else has this name"),
}
"""The arguments of the errors that carry facts; every other error takes a message."""


def classes() -> Iterator[tuple[str, str]]:
    """Module and name of every error of ``kvlab.errors``, and of those with facts elsewhere.

    Found in the source by the names of their bases: importing every module takes seconds.
    """
    known = {name for name, value in vars(builtins).items() if isinstance(value, type)}
    known = {name for name in known if issubclass(getattr(builtins, name), BaseException)}
    known |= {"ResponseError"}
    defined = [
        (".".join(path.relative_to(ROOT.parent).with_suffix("").parts), node)
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.bases
    ]
    while new := {
        node.name
        for _, node in defined
        if node.name not in known and any(_last(base) in known for base in node.bases)
    }:
        known |= new
    for module, node in defined:
        if any(_last(base) in known for base in node.bases):
            own = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            if module == "kvlab.errors" or own & {"__init__", "__new__"}:
                yield module, node.name


def _last(base: ast.expr) -> str:
    return ast.unparse(base).rpartition(".")[2]


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def test_every_error_keeps_its_facts(subtests: pytest.Subtests) -> None:
    kinds = [getattr(importlib.import_module(module), name) for module, name in classes()]
    assert {kind.__name__ for kind in kinds} > FACTS.keys()
    for kind, way in itertools.product(kinds, WAYS):
        with subtests.test(f"{kind.__name__}, {way}"):
            keeps_its_facts(kind, way)


def keeps_its_facts(kind: type[Exception], way: str) -> None:
    error = kind(*FACTS.get(kind.__name__, ("the message",)))
    error.add_note("a note")
    again = WAYS[way](error)
    assert type(again) is kind
    assert (str(again), again.args, again.__notes__) == (str(error), error.args, ["a note"])
    assert repr(vars(again)) == repr(vars(error))
    if isinstance(error, KvlabError):
        again.add_note("its own")
        assert error.__notes__ == ["a note"]


class TwoFacts(Exception):
    """As many a library's: pickle packs it and cannot unpack it."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Unpackable(Exception):
    def __init__(self) -> None:
        super().__init__("with a lock")
        self.lock = threading.Lock()


@pytest.mark.parametrize("cause", [TwoFacts(1, 2), Unpackable()], ids=repr)
@pytest.mark.parametrize("way", WAYS)
def test_an_error_inside_that_cannot_travel_arrives_as_its_text(cause: Exception, way: str) -> None:
    with pytest.raises(TypeError):
        WAYS["pickle"](cause)
    lost = LockLost("j", 7, "gone")
    lost.__cause__ = cause
    again = WAYS[way](lost)
    told = f"{type(cause).__name__}: {cause}"
    assert (type(again.__cause__), str(again.__cause__)) == (KvlabError, told)
    batch = WAYS[way](BatchFailed([b"x", cause]))
    assert (batch.results[0], str(batch.results[1])) == (b"x", told)


def test_a_cause_and_the_causes_of_results_travel() -> None:
    refused = errors.ServerRefused("OOM no memory")
    refused.__cause__ = ConnectionError("reset")
    again = pickle.loads(pickle.dumps(BatchFailed([refused])))
    assert type(again.results[0]) is CannotServe
    assert again.results[0].code == "OOM"
    assert repr(again.results[0].__cause__) == repr(refused.__cause__)
    chain = KvlabError("0")
    for n in range(1, 40):
        following = KvlabError(str(n))
        following.__cause__, chain = chain, following
    first: Any = pickle.loads(pickle.dumps(chain))
    while first.__cause__:
        first = first.__cause__
    assert str(first) == "0"


def test_who_is_unblocked_by_a_demotion_meets_an_outage() -> None:
    demoted = "UNBLOCKED force unblock from blocking operation, instance state changed"
    assert isinstance(ServerRefused(demoted), CannotServe)
    assert ServerRefused(demoted).code == "UNBLOCKED"
    assert isinstance(ServerRefused("ERR max number of clients + cluster connections"), Outage)
    assert not isinstance(ServerRefused("UNBLOCKED client unblocked via CLIENT UNBLOCK"), Outage)
