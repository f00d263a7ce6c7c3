"""Checks of arguments: one function for each kind, one wording, one error.

Each function returns the value that was checked, or raises
:class:`~kvlab.errors.InvalidArgument`: "<name> must be <kind and range>, not <value>". A bool is
never a number; NaN is always refused, infinity wherever it is not allowed by name.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from contextlib import suppress
from numbers import Real
from typing import TypeVar

from kvlab.errors import InvalidArgument

T = TypeVar("T")

MAX_EXACT = 2**53 - 1
"""The largest whole number up to which a double, and so a Lua script, holds each one exactly."""
TEN_YEARS = 315_576_000
"""The longest duration that is accepted by default, in seconds."""


def whole(name: str, value: int, low: int, high: int | None = None) -> int:
    """``value`` as an int from ``low`` to ``high``. NumPy's integers are whole numbers too."""
    try:
        number = operator.index(value)
    except TypeError:
        raise _wrong(name, f"a whole number {_range(low, high)}", value) from None
    if isinstance(value, bool) or number < low or (high is not None and number > high):
        raise _wrong(name, f"a whole number {_range(low, high)}", value)
    return number


def real(
    name: str,
    value: float,
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    infinite: bool = False,
    kind: str = "a number",
) -> float:
    """``value`` as a float from ``low`` to ``high``; ``above``: more than ``low``.

    The float is finite; with ``infinite`` it may also be ``math.inf``.
    """
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):  # an int of more than 308 digits
            number = float(value)
    fits = low < number <= high if above else low <= number <= high
    if not fits or (math.isinf(number) and not infinite):
        raise _wrong(name, f"{kind} {_range(low, high, above)}", value)
    return number


def seconds(
    name: str,
    value: float,
    low: float = 0.001,
    high: float = TEN_YEARS,
    *,
    infinite: bool = False,
) -> float:
    """``value`` as a duration in seconds: from a millisecond to ten years by default."""
    high = math.inf if infinite else high
    return real(name, value, low, high, infinite=infinite, kind="a number of seconds")


def one_of(name: str, value: T, allowed: Iterable[T]) -> T:
    """``value``, which is one of ``allowed``."""
    choices = tuple(allowed)
    if value not in choices:
        raise _wrong(name, f"one of {', '.join(map(str, choices))}", value)
    return value


def text(name: str, value: str, longest: int | None = None) -> str:
    """``value``, a text that is not empty; with ``longest`` also printable and not longer."""
    good = isinstance(value, str) and value != ""
    if longest is None:
        kind = "text that is not empty"
    else:
        kind = f"printable text of 1 to {longest} characters"
        good = good and len(value) <= longest and value.isprintable()
    if not good:
        raise _wrong(name, kind, value)
    return value


def shown(value: object) -> str:
    """The beginning of a value's repr, for an error; some values, as 10**5000, have none."""
    try:
        return f"{value!r:.80}"
    except Exception:
        return f"an unprintable {type(value).__name__}"


def _range(low: float, high: float | None, above: bool = False) -> str:
    if high is None or high == math.inf:
        return f"above {_digits(low)}" if above else f"of at least {_digits(low)}"
    return f"{'above' if above else 'from'} {_digits(low)} {'and up ' * above}to {_digits(high)}"


def _digits(bound: float) -> str:
    return str(int(bound)) if float(bound).is_integer() else f"{bound:g}"


def _wrong(name: str, kind: str, value: object) -> InvalidArgument:
    return InvalidArgument(f"{name} must be {kind}, not {shown(value)}")
