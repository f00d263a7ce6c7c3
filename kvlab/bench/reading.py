"""Reads run.json of ``kvlab bench``: every field is checked, so that what is read can be judged.

The file may come from another machine, or from a person who edited it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kvlab.core.checks import instance, real, shown, whole
from kvlab.errors import InvalidArgument

Check = Callable[[str, Any], object]


def facts_in(file: Path, form: str) -> dict[str, Any]:
    """The fields of the run in ``file``, all checked. Raises ``InvalidArgument`` for another file.

    ``form``: the format that the file must have.
    """
    try:
        facts = _object("the file", json.loads(file.read_text(encoding="utf-8")))
        if facts.get("format") != form:
            raise InvalidArgument(f"its format is not {form}")
        json.dumps(facts, ensure_ascii=False).encode()  # half a surrogate fits into no page
        return _checked("", {k: v for k, v in facts.items() if k != "format"}, _RUN)
    except (OSError, ValueError, RecursionError) as problem:
        raise InvalidArgument(f"{file} cannot be read: {problem}") from problem


def _checked(place: str, facts: Any, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Exactly these fields, each as its check returns it."""
    given = _object(place or "the file", facts)
    if strange := [*(checks.keys() ^ given.keys())]:
        word = "misses" if strange[0] in checks else "has the unknown field"
        raise InvalidArgument(f"{place or 'the file'} {word} {shown(strange[0])}")
    dot = f"{place}." if place else ""
    return {name: check(f"{dot}{name}", given[name]) for name, check in checks.items()}


def _object(name: str, value: Any) -> dict[str, Any]:
    return instance(name, value, dict, "an object")


def _words(name: str, value: Any) -> str:
    words: str = instance(name, value, str, "text")
    return words


def _number(low: float, high: float) -> Check:
    return lambda name, value: real(name, value, low, high)


def _count(name: str, value: Any) -> int:
    return whole(name, value, 0)


def _each(check: Check, least: int = 0) -> Check:
    """A check of a list."""

    def checked(name: str, value: Any) -> tuple[Any, ...]:
        found = instance(name, value, list, "a list")
        whole(f"the length of {name}", len(found), least)
        return tuple(check(f"{name}[{at}]", one) for at, one in enumerate(found))

    return checked


def _settings(name: str, value: Any) -> dict[str, Any]:
    """As they are; the page reads turns and seed of each round."""

    def seeded(place: str, one: Any) -> None:
        for field in ("turns", "seed"):
            _count(f"{place}.{field}", _object(place, one).get(field))

    settings = _object(name, value)
    _each(seeded)(f"{name}.rounds", settings.get("rounds", []))
    return settings


def _turn(name: str, value: Any) -> dict[str, Any]:
    return _checked(name, value, _TURN)


def _row(name: str, value: Any) -> dict[str, Any]:
    return _checked(name, value, _ROW)


def _failed(name: str, value: Any) -> dict[str, str]:
    return {key: _words(f"{name}[{shown(key)}]", why) for key, why in _object(name, value).items()}


_SECONDS = _number(1e-12, 1e6)  # of a call
_TURN: Mapping[str, Check] = {
    "round": _count,
    "turn": _count,
    "ours": _SECONDS,
    "peer": _SECONDS,
    "after": _number(-1000, 1000),
}
_ROW: Mapping[str, Check] = dict.fromkeys(
    ("benchmark", "case", "what", "subject", "peer", "version", "less"), _words
) | {"turns": _each(_turn, least=2)}
_RUN: Mapping[str, Check] = {
    "began": _number(0, 2e11),  # up to the year 8307: it is shown as a date
    "seconds": _number(0, 1e9),
    "settings": _settings,
    "environment": _object,
    "rows": _each(_row),
    "absent": _each(_words),
    "failed": _failed,
}
