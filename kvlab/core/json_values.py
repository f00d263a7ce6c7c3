"""What may be stored and passed: JSON that comes back as it was, versions, durations. Pure."""

from __future__ import annotations

import json
import reprlib
from typing import Any

from kvlab.errors import InvalidArgument, NotJson

TEN_YEARS = 315_576_000.0
MAX_VERSION = 2**53 - 1


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# json.dumps and json.loads make a new one at each call that has options.
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_refuse)


def encoded(value: Any) -> bytes:
    """The value as JSON; :class:`~kvlab.errors.NotJson` if it would come back as another."""
    try:
        text = _ENCODER.encode(value)
        same = json.loads(text) == value
    except (TypeError, ValueError, RecursionError) as problem:
        raise NotJson(f"JSON cannot carry {reprlib.repr(value)}: {problem}") from problem
    if not same:
        raise NotJson(f"{reprlib.repr(value)} would come back from JSON as {text:.80}")
    return text.encode()


def checked_version(version: Any) -> int:
    """A row version: an int that a script's numbers can hold, 0 ≤ version < 2**53."""
    if type(version) is not int or not 0 <= version <= MAX_VERSION:
        raise InvalidArgument(f"version must be an int, 0 ≤ version < 2**53, not {version!r:.80}")
    return version


def number(name: str, value: Any, low: float, high: float) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not fits:
        raise InvalidArgument(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")
    return float(value)


def seconds(name: str, value: Any) -> float:
    return number(name, value, 0.001, TEN_YEARS)


def milliseconds(duration: float) -> int:
    return max(1, round(duration * 1000))


def decoded(raw: bytes) -> Any:
    """The value of a piece of JSON; ValueError for anything else, NaN included."""
    try:
        return _DECODER.decode(raw.decode())
    except RecursionError as problem:
        raise ValueError(str(problem)) from problem
