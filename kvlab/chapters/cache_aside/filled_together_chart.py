"""The chart of entries that were filled together: loads over time."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from kvlab.chapters.cache_aside.filled_together import DURATION
from kvlab.instruments import charts
from kvlab.instruments.measure.result import Result


def loads_over_time(result: Result) -> pd.Series[int]:
    """The loads in each bucket; the index is the middle of the bucket in seconds.

    The last bucket is left out when the run ended in the middle of it.
    """
    frame = result.timeline_frame()
    full = frame[frame["seconds"] + result.bucket <= DURATION + 1e-9]
    return pd.Series(full["loads"].to_numpy(), index=full["seconds"] + result.bucket / 2)


def peak(result: Result, after: float, until: float) -> int:
    """The most loads in one bucket between two moments, in seconds."""
    return int(loads_over_time(result).loc[after:until].max())


def filled_together_chart(runs: Mapping[str, Result], *, title: str) -> Figure:
    """Loads over time, a line per variant."""
    series = {variant: loads_over_time(result) for variant, result in runs.items()}
    bucket = next(iter(runs.values())).bucket
    return charts.timeline(
        series,
        next(iter(series.values())).index,
        ylabel=f"loads in {bucket * 1e3:.0f} ms",
        events={"TTL of the first fill": 1.0},
        title=title,
    )
