"""The check of arguments that are rows of numbers: lists, tuples, NumPy's arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kvlab.core.checks import shown
from kvlab.errors import InvalidArgument


def numbers(name: str, values: Any, *, nan: bool = True) -> npt.NDArray[np.float64]:
    """``values`` as floats. Texts and booleans are no numbers; without ``nan`` no NaN either."""
    try:
        found = np.asarray(values if hasattr(values, "__array__") else list(values))
        good = found.size == 0 or found.dtype.kind in "iuf"
        row = found.astype(np.float64) if good else found
    except (TypeError, ValueError):  # no iterable, or rows of different lengths
        good = False
    if not good or (not nan and np.isnan(row).any()):
        raise InvalidArgument(f"{name} must be a row of numbers, not {shown(values)}")
    return row


def pairs(name: str, values: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """``values``, rows of two numbers each, as two columns."""
    found = numbers(name, values)
    if found.size and (found.ndim != 2 or found.shape[1] != 2):
        raise InvalidArgument(f"{name} must be pairs of numbers, not {shown(values)}")
    first, second = found.reshape(-1, 2).T
    return first, second
