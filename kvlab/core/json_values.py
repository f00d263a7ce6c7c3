"""Values as JSON that comes back unchanged; any other value is refused."""

from __future__ import annotations

import json
from typing import Any

from kvlab.core.checks import shown
from kvlab.errors import NotJson


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# json.dumps and json.loads make a new one at each call that has options.
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_refuse)


def encoded(value: Any) -> bytes:
    """The value as JSON; :class:`~kvlab.errors.NotJson` for a value that JSON would change."""
    try:
        text = _ENCODER.encode(value)
        same = json.loads(text) == value
    except (TypeError, ValueError, RecursionError) as problem:
        raise NotJson(f"JSON cannot carry {shown(value)}: {problem}") from problem
    if not same:
        raise NotJson(f"{shown(value)} would come back from JSON as {text:.80}")
    return text.encode()


def decoded(raw: bytes) -> Any:
    """The value of a JSON text; ValueError for any other text, NaN included."""
    try:
        return _DECODER.decode(raw.decode())
    except RecursionError as problem:
        raise ValueError(str(problem)) from problem
