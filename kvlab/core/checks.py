"""Checks of arguments: one function for each kind, one wording, one error.

Each function returns the value that was checked, as a plain value of Python, or raises
:class:`~kvlab.errors.InvalidArgument`: "<name> must be <kind and range>, not <value>".

* **An id** is what the data of a program calls something: a key, a member, a user, an operation, a
  lock. Every id is a str, a whole number or a UUID; enums that are str or int count by their value.
  One id has one text: 7 and "7" are the same id, and so are a UUID and its canonical text. A bool,
  a float and None are refused, since they are usually mistakes; bytes, since their encoding is
  unknown; all else, since its text is not certain.
* **A name** is what the author of a program calls something: a cache, a limiter, a flag. It is
  printable text of 1 to ``MAX_NAME`` characters.
* **A number** is an int, a float, or a value of NumPy like these. A bool, a Decimal, a Fraction and
  a number in a text are refused; NaN always, infinity wherever it is not allowed by name.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from contextlib import suppress
from numbers import Rational, Real
from typing import Any, TypeVar
from uuid import UUID

from kvlab.errors import InvalidArgument

T = TypeVar("T")
Id = str | int | UUID
"""An id: see above. NumPy's whole numbers and enums that are str or int are ids too."""

MAX_NAME = 200
"""The most characters of a name."""
WIDEST = 1 << 2048
"""Bound of every int: 617 digits. Python refuses to print 4300 digits, or fewer by its settings."""
MAX_EXACT = 2**53 - 1
"""The largest whole number up to which a double, and so a Lua script, holds each one exactly."""
TEN_YEARS = 315_576_000
"""The longest duration that is accepted by default, in seconds."""


def identifier(name: str, value: Id, *, empty: bool = True) -> str | int:
    """``value``, an id, as plain str or int; the text may be empty unless ``empty`` is False."""
    if isinstance(value, str):
        if value or empty:
            return str.__str__(value)  # of an enum its value, whatever its own str() says
    elif isinstance(value, UUID):
        return UUID.__str__(value)
    elif (number := _index(value)) is not None and -WIDEST < number < WIDEST:
        return number
    raise _wrong(name, f"an id (str, int or UUID{'' if empty else '; not empty'})", value)


def id_text(name: str, value: Id, *, empty: bool = True) -> str:
    """The text of ``value``, an id: the same text wherever the id is used."""
    return value if type(value) is str and value else str(identifier(name, value, empty=empty))


def whole(name: str, value: int, low: int, high: int | None = None) -> int:
    """``value`` as an int from ``low`` to ``high``. NumPy's integers are whole numbers too."""
    number = _index(value)
    if number is None or number < low or (high is not None and number > high):
        raise _wrong(name, f"a whole number {_range(low, high)}", value)
    return number


def _index(value: object) -> int | None:
    if type(value) is int:
        return value
    if not isinstance(value, bool):
        with suppress(TypeError):
            return operator.index(value)  # type: ignore[arg-type]
    return None


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
    number = value if type(value) is float else _float(value)
    fits = low < number <= high if above else low <= number <= high
    if not fits or (math.isinf(number) and not infinite):
        raise _wrong(name, f"{kind} {_range(low, high, above)}", value)
    return number


def _float(value: object) -> float:
    with suppress(OverflowError):  # an int of more than 308 digits
        if (index := _index(value)) is not None:
            return float(index)
        if isinstance(value, Real) and not isinstance(value, Rational | bool):
            return float(value)
    return math.nan


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
    """The one of ``allowed`` that ``value`` is."""
    choices = tuple(allowed)
    for choice in choices:
        if isinstance(value, type(choice)) and value == choice:
            return choice
    raise _wrong(name, f"one of {', '.join(map(str, choices))}", value)


def text(name: str, value: str, longest: int | None = MAX_NAME) -> str:
    """``value``, a name: printable text of 1 to ``longest`` characters.

    With ``longest`` None: any text that is not empty.
    """
    kind = "text that is not empty"
    good = isinstance(value, str) and value != ""
    if longest is not None:
        kind = f"printable text of 1 to {longest} characters"
        good = good and len(value) <= longest and value.isprintable()
    if not good:
        raise _wrong(name, kind, value)
    return str.__str__(value)


def instance(name: str, value: T, kind: Any, words: str) -> T:
    """``value``, an instance of ``kind``; ``words`` describe the kind."""
    if not isinstance(value, kind):
        raise _wrong(name, words, value)
    return value


def boolean(name: str, value: bool) -> bool:
    """``value``, which is True or False: "no" and 0 are neither."""
    return instance(name, value, bool, "True or False")


def function(name: str, value: T) -> T:
    """``value``, which can be called."""
    if not callable(value):
        raise _wrong(name, "callable", value)
    return value


def mapping(name: str, value: Mapping[Any, T]) -> Mapping[Any, T]:
    """``value``, a mapping."""
    return instance(name, value, Mapping, "a mapping")


def items(name: str, value: Iterable[T]) -> Iterable[T]:
    """``value``, an iterable of items; neither text nor a mapping, whose items are not meant."""
    if isinstance(value, str | bytes | Mapping):
        raise _wrong(name, "an iterable of items", value)
    return instance(name, value, Iterable, "an iterable of items")


def keep(checked: object, **fields: object) -> None:
    """Set fields of a frozen dataclass while it is made: the values that were checked."""
    for name, value in fields.items():
        object.__setattr__(checked, name, value)


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
