"""What limiters admit, against the limit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import limit_line
from kvlab.instruments.charts.scales import in_seconds, whole_numbers
from kvlab.instruments.charts.shapes import need
from kvlab.instruments.charts.shapes.bars import bars
from kvlab.instruments.charts.style import colour, drawing
from kvlab.instruments.palette import COLOURS, INK

Floats = npt.NDArray[np.float64]


def admissions_per_window(
    times: npt.ArrayLike,
    limit: int,
    window: float,
    *,
    variant: str = "naive",
    title: str | None = None,
) -> Figure:
    """How many were admitted in the ``window`` seconds up to each moment, against the limit.

    ``times``: seconds of the admitted requests. The count slides, so a burst over the edge of a
    window shows.
    """
    moments = np.sort(np.asarray(times, dtype=np.float64))
    if not len(moments):
        raise InvalidArgument("times must hold at least one admission, got none")
    moments = moments - moments[0]
    # The count falls again when an admission leaves the interval.
    steps = np.sort(np.concatenate([moments, moments + window]))
    level = _admitted_in(moments, steps, window)
    most = int(_admitted_in(moments, moments, window).max())
    if title is None:
        title = f"Up to {most} admitted in {in_seconds(window)}, the limit is {limit}"
    with drawing(title) as (figure, axes):
        axes.step(steps, level, where="post", color=colour(variant))
        over = (level > limit).tolist()
        axes.fill_between(
            steps, level, limit, where=over, step="post", color=COLOURS["naive"], alpha=0.25, lw=0
        )
        axes.plot(moments, np.zeros(len(moments)), "|", color=INK, ms=12, clip_on=False)
        limit_line(axes, limit)
        axes.set_xlim(0, steps[-1])
        axes.set_ylim(0, max(most, limit) * 1.18)
        whole_numbers(axes.yaxis)
        axes.set(
            xlabel="seconds since the first admission (ticks: admissions)",
            ylabel=f"admitted in the last {in_seconds(window)}",
        )
    return figure


def over_admission(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Bars of admitted requests, naive beside hardened, with the limit.

    Columns: ``case``, ``variant``, ``admitted``, ``limit`` (one for all).
    """
    need(frame, "case", "variant", "admitted", "limit")
    limit = int(frame["limit"].max())
    if title is None:
        worst = frame.groupby("variant", sort=False)["admitted"].max()
        title = f"Limit {limit}: " + ", ".join(f"{v} admits up to {n}" for v, n in worst.items())
    return bars(
        frame,
        x="case",
        y="admitted",
        by="variant",
        title=title,
        ylabel="requests admitted",
        limit=limit,
    )


def _admitted_in(moments: Floats, ends: Floats, window: float) -> npt.NDArray[np.int64]:
    """The admissions in the half-open interval of ``window`` seconds up to each of ``ends``."""
    return np.searchsorted(moments, ends, "right") - np.searchsorted(
        moments, ends - window, "right"
    )
