"""The two general figures, lines and bars, in the workbook's style.

For what has no figure of its own in ``charts``. The title is the finding, made by the caller from
the same data; the axes need units.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.style import (
    DASHES,
    MARKERS,
    bar_look,
    colour,
    drawing,
    label_right,
    limit_line,
    note,
)
from kvlab.instruments.palette import COLOURS


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
    band: tuple[str, str] | None = None,
    limit: float | None = None,
    logx: bool = False,
    logy: bool = False,
    points: bool = True,
    remark: str | None = None,
) -> Figure:
    """A line per value of column ``by``, named at its right end.

    ``theory``: a column drawn dashed over each line. ``band``: two columns between which the
    spread is shaded. ``limit``: a dashed line across. ``remark``: a small line under the title.
    """
    _need(frame, x, y, by, *(band or ()), *((theory,) if theory else ()))
    with drawing(title) as (figure, axes):
        labels = []
        for i, (name, rows) in enumerate(frame.groupby(by, sort=False)):
            rows, shade = rows.sort_values(x), colour(str(name), i)
            marker = MARKERS[i % len(MARKERS)] if points else None
            dashes = DASHES[0] if theory else DASHES[i % len(DASHES)]
            axes.plot(
                rows[x], rows[y], color=shade, marker=marker, ms=6, ls=dashes,
                drawstyle="default" if points else "steps-post",
            )  # fmt: skip
            if band is not None:
                axes.fill_between(rows[x], rows[band[0]], rows[band[1]], color=shade, alpha=0.18)
            if theory is not None:
                axes.plot(
                    rows[x], rows[theory], color=COLOURS["theory"], lw=1.2, dashes=(5, 2), zorder=4
                )
            labels.append((float(rows[y].iloc[-1]), str(name), shade))
        _scale(frame, axes, x, y, logx=logx, logy=logy)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if limit is not None:
            limit_line(axes, limit)
        if remark:
            note(axes, remark)
        label_right(axes, labels)
    return figure


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
    form: str = "{:g}",
    remark: str | None = None,
) -> Figure:
    """A bar per value of column ``x``, side by side for the values of ``by``, numbers on top.

    ``form`` is the format of those numbers.
    """
    _need(frame, x, y, *((by,) if by else ()))
    groups = list(frame[x].unique())
    variants = list(frame[by].unique()) if by else [None]
    width = 0.8 / len(variants)
    with drawing(title) as (figure, axes):
        for i, variant in enumerate(variants):
            rows = (frame if by is None else frame[frame[by] == variant]).set_index(x)[y]
            at = [g + (i - (len(variants) - 1) / 2) * width for g in range(len(groups))]
            heights = [float(rows.get(g, np.nan)) for g in groups]
            names = [str(g) if by is None else str(variant) for g in groups]
            looks = [bar_look(n, colour(n, k if by is None else i)) for k, n in enumerate(names)]
            for place, height, look in zip(at, heights, looks, strict=True):
                drawn = axes.bar(place, height, width * 0.92, **look)
                axes.bar_label(drawn, fmt=form, padding=3, fontsize=11)
            drawn.set_label(None if by is None else str(variant))
        if logy:
            axes.set_yscale("log")
            axes.set_ylim(top=frame[y].max() * 3)
        else:
            axes.set_ylim(0, max(float(frame[y].max()), limit or 0.0) * 1.18 or 1)
        axes.set_xticks(range(len(groups)), [str(g) for g in groups])
        axes.tick_params(axis="x", length=0)
        axes.grid(False, axis="x")
        axes.set(ylabel=ylabel, xlabel=xlabel)
        if limit is not None:
            limit_line(axes, limit)
        if remark:
            note(axes, remark)
        if by is not None:
            figure.legend(
                frameon=False, ncols=len(variants), loc="outside lower right", handlelength=1.2
            )
    return figure


def _scale(frame: pd.DataFrame, axes: Axes, x: str, y: str, *, logx: bool, logy: bool) -> None:
    plain = FuncFormatter(lambda v, _: f"{v:,.10g}")
    if logx:
        axes.set_xscale("log")
        ticks = sorted(frame[x].unique())
        if len(ticks) <= 8:
            axes.set_xticks(ticks, [f"{t:,.10g}" for t in ticks])
            axes.minorticks_off()
    else:
        axes.margins(x=0.02)
    if logy:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, float(frame[y].max()) * 1.12 or 1)
    axes.yaxis.set_major_formatter(plain)


def _need(frame: pd.DataFrame, *columns: str) -> None:
    if missing := [c for c in columns if c not in frame.columns]:
        raise InvalidArgument(f"the frame lacks {missing}; it has {list(frame.columns)}")
