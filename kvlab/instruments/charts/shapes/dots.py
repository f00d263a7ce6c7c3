"""A row of points for each name, also on a log axis, which has no zero for bars."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import note
from kvlab.instruments.charts.scales import PLAIN, log_x, name_places
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
    """A row for each value of column ``y``, with a point at ``x`` for each line of the frame.

    Of several points in one row the median is marked. The number beside the points is the median,
    in the format ``form``. ``by``: the column of the variant, which gives the colour; the variants
    of one row stand below each other. ``remark``: a small line under the title.
    """
    need(frame, x, y, by)
    if logx and frame[x].min() <= 0:
        raise InvalidArgument(f"a log axis has no place for {frame[x].min():g}: above 0 is needed")
    with drawing(title) as (figure, axes):
        for at, variant, shade, values in _rows(frame, x, y, by):
            _row(axes, at, values, shade, f"{variant}: " if variant else "", form)
        if logx:
            axes.margins(x=0.08)
            log_x(axes)
        else:
            axes.set_xlim(0, float(frame[x].max()) * 1.08 or 1)
            axes.xaxis.set_major_formatter(PLAIN)
        axes.set_ylim(frame[y].nunique() - 0.5, -0.5)
        name_places(axes, "y", frame[y].unique())
        axes.set_xlabel(xlabel)
        if remark:
            note(axes, remark)
    return figure


def _rows(
    frame: pd.DataFrame, x: str, y: str, by: str | None
) -> Iterator[tuple[float, str, str, pd.Series]]:
    """For each row: height, colour, values, and its variant where the name does not say it."""
    variants = list(frame[by].unique()) if by else []
    for place, name in enumerate(frame[y].unique()):
        lines = frame[frame[y] == name]
        groups = list(lines.groupby(by, sort=False)) if by else [(name, lines)]
        for i, (variant, group) in enumerate(groups):
            at = place + (i - (len(groups) - 1) / 2) * 0.8 / len(groups)
            shade = colour(str(variant), variants.index(variant) if by else place)
            yield at, str(variant) if len(groups) > 1 else "", shade, group[x]


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
