"""What functions keep from one run to the next: the variables around them that have changed.

Looked at are the variables that a function uses and does not make: of its module, of the functions
around it, its arguments that were bound before, and the same of the functions, modules, objects and
classes that it finds there. What lies in C, and what an object hides behind others, is not found.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import FunctionType, MethodType, ModuleType
from typing import Any

_SIMPLE = (int, float, str, bytes, bool, type(None))
_CONTAINERS = (list, dict, set, frozenset, tuple, deque)
_NOT_LOOKED_AT = sys.stdlib_module_names | {"kvlab", "redis", "hiredis", "pytest", "_pytest"}
_MOST = 1000  # variables, and as many objects around them
_LONG, _LONGEST = 200, 2000  # items of a container, characters of a text


class Kept:
    """How the variables around some functions look now."""

    def __init__(self, functions: Iterable[object]) -> None:
        self._functions = [function for function in functions if function is not None]
        self._before = self._looks()

    def changed(self) -> list[str]:
        """The names of those that look otherwise now."""
        now = self._looks()
        both = self._before.keys() | now.keys()
        return sorted(name for name in both if self._before.get(name) != now.get(name))

    def _looks(self) -> Mapping[str, str]:
        seen: dict[str, str] = {}
        known: set[int] = set()
        waiting = deque(("", function) for function in self._functions)
        while waiting and len(seen) < _MOST:
            name, value = waiting.popleft()
            if isinstance(value, _SIMPLE + _CONTAINERS):
                with suppress(Exception):  # a repr of somebody else's
                    seen[name] = _look(value)
            elif id(value) not in known and len(known) < _MOST:
                known.add(id(value))
                waiting.extend(_around(name, value))
        return seen


def _look(value: Any) -> str:
    """Cheap for a long value: of one, its length."""
    size = len(value) if hasattr(value, "__len__") else 0
    return f"{size} long" if size > _LONG else repr(value)[:_LONGEST]


def _around(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The variables of a function, a module, an object or a class."""
    if isinstance(value, functools.partial):
        yield from ((name, part) for part in (value.func, *value.args))
        yield from value.keywords.items()
    elif isinstance(value, MethodType):
        yield from ((name, part) for part in (value.__self__, value.__func__))
    elif isinstance(value, FunctionType):
        if _is_users(value.__module__):
            yield from _of_function(value)
    else:
        yield from _of_owner(name, value)


def _of_owner(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The variables of a module, a class, or an object and its class."""
    if isinstance(value, ModuleType):
        module: object = value.__name__
    else:
        module = (value if isinstance(value, type) else type(value)).__module__
    if not _is_users(module):
        return
    for each, found in list(getattr(value, "__dict__", {}).items()):
        if not each.startswith("__") and not callable(found) and not isinstance(found, ModuleType):
            yield f"{name}.{each}", found
    if not isinstance(value, ModuleType | type):
        yield type(value).__name__, type(value)


def _of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    for name in code.co_names:
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # not set yet
            yield name, cell.cell_contents
    for name, default in (function.__kwdefaults__ or {}).items():
        yield name, default
    positional = code.co_varnames[: code.co_argcount]
    yield from zip(reversed(positional), reversed(function.__defaults__ or ()), strict=False)


def _is_users(module: object) -> bool:
    name = module if isinstance(module, str) else ""
    return name.partition(".")[0] not in _NOT_LOOKED_AT or name == "__main__"
