"""A line for each variant."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvlab.instruments.charts.labels import label_right, limit_line, note
from kvlab.instruments.charts.scales import PLAIN, from_zero, log_x, log_y, whole_numbers
from kvlab.instruments.charts.shapes import need
from kvlab.instruments.charts.style import DASHES, MARKERS, THEORY, colour, drawing

MOST_TICKS = 8


def lines(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str,
    title: str,
    xlabel: str,
    ylabel: str,
    theory: str | None = None,
    limit: float | None = None,
    logx: bool = False,
    logy: bool = False,
    top: float | None = None,
    remark: str | None = None,
) -> Figure:
    """A line per value of column ``by``, named at its right end.

    ``theory``: a column drawn dashed over each line. ``limit``: a dashed horizontal line.
    ``top``: the upper end of the y axis, for a chart that is drawn again with other data.
    ``remark``: a small line under the title.
    """
    need(frame, x, y, by, theory)
    with drawing(title) as (figure, axes):
        for i, (name, rows) in enumerate(frame.groupby(by, sort=False)):
            rows, shade = rows.sort_values(x), colour(str(name), i)
            look: Any = {"color": shade, "marker": MARKERS[i % len(MARKERS)], "ms": 6}
            axes.plot(rows[x], rows[y], ls=DASHES[0 if theory else i % len(DASHES)], **look)
            if theory is not None:
                axes.plot(rows[x], rows[theory], **THEORY)
            label_right(axes, [(float(rows[y].iloc[-1]), str(name), shade)])
        _scale_x(axes, frame[x], log=logx)
        if logy:
            log_y(axes)
        else:
            highest = max(float(frame[c].max()) for c in (y, theory) if c)
            from_zero(axes, top or max(highest, limit or 0) * 1.12)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if limit is not None:
            limit_line(axes, limit)
        if remark:
            note(axes, remark)
    return figure


def _scale_x(axes: Axes, values: pd.Series, *, log: bool) -> None:
    ticks = sorted(values.unique())
    if log:
        log_x(axes, ticks if len(ticks) <= MOST_TICKS else ())
        return
    axes.margins(x=0.02)
    axes.xaxis.set_major_formatter(PLAIN)
    if pd.api.types.is_integer_dtype(values):
        whole_numbers(axes.xaxis)
