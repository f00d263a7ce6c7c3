"""A row of points for each value: for a log axis, where bars would have no zero to begin at."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import note
from kvlab.instruments.charts.scales import PLAIN, log_x
from kvlab.instruments.charts.shapes import need
from kvlab.instruments.charts.style import colour, drawing


def dots(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str | None = None,
    title: str,
    xlabel: str,
    logx: bool = False,
    form: str = "{:.3g}",
    remark: str | None = None,
) -> Figure:
    """A row per value of column ``y``, with a point at ``x`` for each of its lines in the frame.

    Several points of one row: the median is marked. The number beside the points is the median,
    in the format ``form``. ``by``: the column that gives the colour; several values of it in one
    row stand below each other. ``remark``: a small line under the title.
    """
    need(frame, x, y, by)
    if logx and frame[x].min() <= 0:
        raise InvalidArgument(f"a log axis has no place for {frame[x].min():g}: above 0 is needed")
    names = list(frame[y].unique())
    variants = list(frame[by].unique()) if by else []
    with drawing(title) as (figure, axes):
        for place, name in enumerate(names):
            row = frame[frame[y] == name]
            groups = list(row.groupby(by, sort=False)) if by else [(name, row)]
            for i, (variant, group) in enumerate(groups):
                at = place + (i - (len(groups) - 1) / 2) * 0.8 / max(len(groups), 1)
                shade = colour(str(variant), variants.index(variant) if by else place)
                prefix = f"{variant}: " if len(groups) > 1 else ""
                _row(axes, at, group[x], shade, prefix, form)
        if logx:
            axes.margins(x=0.08)
            log_x(axes)
        else:
            axes.set_xlim(0, float(frame[x].max()) * 1.08 or 1)
            axes.xaxis.set_major_formatter(PLAIN)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), [str(name) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set_xlabel(xlabel)
        if remark:
            note(axes, remark)
    return figure


def _row(axes: Axes, at: float, values: pd.Series, shade: str, prefix: str, form: str) -> None:
    """The points, spread a little so that none hides another, and the number beside them."""
    middle = float(values.median())
    if len(values) == 1:
        axes.plot([middle], [at], "o", color=shade, ms=10)
    else:
        heights = [at + 0.045 * (i % 5 - 2) for i in range(len(values))]
        axes.plot(values, heights, "o", color=shade, ms=5, alpha=0.55, mew=0)
        axes.plot([middle], [at], "|", color=shade, ms=26, mew=3)
    axes.annotate(
        prefix + form.format(middle),
        (float(values.max()), at),
        xytext=(10, 0),
        textcoords="offset points",
        va="center",
        color=shade,
        fontweight="bold",
        annotation_clip=False,
    )
