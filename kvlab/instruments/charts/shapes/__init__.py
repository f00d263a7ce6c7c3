"""The general figures, for data without a figure of their own: lines, bars, dots.

The caller makes the title, which is the finding, from the same data. The axes need units.
"""

from __future__ import annotations

import pandas as pd

from kvlab.core.checks import instance
from kvlab.errors import InvalidArgument


def need(frame: pd.DataFrame, *columns: str | None) -> None:
    """Raise ``InvalidArgument`` unless the frame has the columns and at least one row."""
    instance("frame", frame, pd.DataFrame, "a DataFrame of pandas")
    missing = [column for column in columns if column and column not in frame.columns]
    if missing:
        raise InvalidArgument(f"the frame lacks {missing}; it has {list(frame.columns)}")
    if frame.empty:
        raise InvalidArgument("the frame must have at least one row, got none")
