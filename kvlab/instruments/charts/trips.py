"""What an op costs in round trips."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from kvlab.instruments.charts.shapes import need
from kvlab.instruments.charts.shapes.bars import bars


def round_trips(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Round trips of each op, a bar per variant. Columns: ``op``, ``variant``, ``round_trips``."""
    need(frame, "op", "variant", "round_trips")
    if title is None:
        total = frame.groupby("variant", sort=False)["round_trips"].sum()
        title = "Round trips in all: " + ", ".join(f"{v} {n:g}" for v, n in total.items())
    return bars(
        frame, x="op", y="round_trips", by="variant", title=title, ylabel="round trips for one op"
    )
