"""A bar for each value, from zero."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import limit_line, note
from kvlab.instruments.charts.scales import from_zero, name_places, whole_numbers
from kvlab.instruments.charts.shapes import need
from kvlab.instruments.charts.style import bar_look, colour, drawing

ROOM_ABOVE = 1.18
"""The axis over its highest bar; the bar's number stands between."""


def bars(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str | None = None,
    title: str,
    ylabel: str,
    xlabel: str = "",
    limit: float | None = None,
    logy: bool = False,
    top: float | None = None,
    form: str = "{:g}",
    remark: str | None = None,
) -> Figure:
    """A bar per value of column ``x``, side by side for the values of ``by``, numbers on top.

    ``form`` is the format of those numbers. ``limit``: a dashed horizontal line. ``top``: the upper
    end of the y axis, for a chart that is drawn again with other data. ``remark``: a small line
    under the title. A log axis is refused: it has no zero, at which a bar begins.
    """
    if logy:
        raise InvalidArgument(
            "bars need an axis from 0, which a log axis does not have: "
            "use charts.dots(…, logx=True) or charts.lines(…, logy=True)"
        )
    need(frame, x, y, by)
    high = top or max(float(frame[y].max()), limit or 0.0) * ROOM_ABOVE
    with drawing(title) as (figure, axes):
        for at, width, name, shade, value in _places(frame, x, y, by):
            axes.bar(at, value, width, **bar_look(name, shade))
            _number(axes, at, value, form.format(value), limit, high)
        from_zero(axes, high)
        if pd.api.types.is_integer_dtype(frame[y]):
            whole_numbers(axes.yaxis)
        name_places(axes, "x", frame[x].unique())
        axes.set(ylabel=ylabel, xlabel=xlabel)
        if limit is not None:
            limit_line(axes, limit)
        if remark:
            note(axes, remark)
        if by is not None:
            _legend(figure, [str(variant) for variant in frame[by].unique()])
    return figure


def _places(
    frame: pd.DataFrame, x: str, y: str, by: str | None
) -> Iterator[tuple[float, float, str, str, float]]:
    """For each row: middle, width, variant, colour and height of its bar.

    A group that lacks a variant closes up around its middle.
    """
    names = list(frame[x].unique())
    variants = list(frame[by].unique()) if by else []
    width = 0.8 / max(len(variants), 1)
    for place, name in enumerate(names):
        group = frame[frame[x] == name]
        if by is None:
            group = group.tail(1)
        else:
            group = group.sort_values(by, key=lambda column: column.map(variants.index))
        for i, (_, row) in enumerate(group.iterrows()):
            variant = str(row[by] if by else name)
            index = variants.index(row[by]) if by else place
            middle = place + (i - (len(group) - 1) / 2) * width
            yield middle, width * 0.92, variant, colour(variant, index), float(row[y])


def _number(
    axes: Axes, at: float, value: float, text: str, limit: float | None, high: float
) -> None:
    """The number above its bar; above the limit's line where the line would cross the number."""
    across = limit is not None and value < limit < value + 0.08 * high
    axes.annotate(
        text,
        (at, limit if across and limit is not None else value),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=11,
    )


def _legend(figure: Figure, variants: list[str]) -> None:
    looks = [Patch(**bar_look(v, colour(v, i)), label=v) for i, v in enumerate(variants)]
    figure.legend(handles=looks, ncols=len(looks), loc="outside lower right", handlelength=1.2)
