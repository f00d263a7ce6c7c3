"""The figures of the chapter on rate limiting: a replayed load and the worst interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvlab.chapters.rate_limiting.admissions import Replay, worst_interval
from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import limit_line, note
from kvlab.instruments.charts.style import bar_look, drawing
from kvlab.instruments.palette import FAINT, IDLE, OTHERS

KNOB_MAX = 50
"""The largest limit and burst of the knobs; the worst interval is at most twice that."""


def replay_chart(replay: Replay, *, title: str) -> Figure:
    """A row of ticks for each limiter: every request in grey, the admitted ones in colour.

    Dotted lines stand at the edges of the server's windows. Beside each row stands its verdict.
    """
    if not len(replay.asked) or not replay.admitted:
        raise InvalidArgument("a replay needs at least one request and one limiter")
    names = list(replay.admitted)
    end = float(replay.asked.max()) * 1.02
    with drawing(title) as (figure, axes):
        for edge in np.arange(0, end, replay.window):
            axes.axvline(edge, color=FAINT, lw=1, linestyle=":", zorder=1)
        for i, (name, verdict) in enumerate(replay.verdicts().iterrows()):
            row, shade = len(names) - 1 - i, OTHERS[i % len(OTHERS)]
            axes.vlines(replay.asked, row - 0.36, row + 0.36, color=IDLE, lw=1.0, zorder=2)
            moments = np.asarray(replay.admitted[str(name)])
            axes.vlines(moments, row - 0.36, row + 0.36, color=shade, lw=1.4, zorder=3)
            _verdict(axes, row, verdict, replay.window, shade)
        axes.set_yticks(range(len(names)), names[::-1])
        axes.tick_params(axis="y", length=0)
        axes.grid(False)
        axes.set(
            xlabel="seconds of the server's clock", xlim=(0, end), ylim=(-0.6, len(names) - 0.4)
        )
        legend = f"grey: {len(replay.asked)} requests    colour: admitted    dots: edges of windows"
        note(axes, legend)
    return figure


def _verdict(axes: Axes, row: int, verdict: pd.Series, window: float, shade: str) -> None:
    axes.annotate(
        f"{verdict['admitted']} admitted,\n{verdict['most']} within {window:g} s\n"
        f"(theory: at most {verdict['theory']}),\n{verdict['too many']} too many",
        (1, row),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        color=shade,
        fontsize=10,
        annotation_clip=False,
    )


def worst_interval_chart(limit: int = 20, burst: int = 20) -> Figure:
    """A bar for each limiter: the most that theory lets one interval of a window's length hold.

    The axis is the same for every limit and burst up to ``KNOB_MAX``.
    """
    worst = worst_interval(limit, burst=burst)
    name = max(worst, key=lambda limiter: worst[limiter])
    title = f"A limit of {limit}: {name} lets up to {worst[name]} through in one interval"
    with drawing(title) as (figure, axes):
        for x, (limiter, most) in enumerate(worst.items()):
            drawn = axes.bar(x, most, 0.7, **bar_look(limiter, OTHERS[x % len(OTHERS)]))
            axes.bar_label(drawn, padding=3)
        labels = [*list(worst)[:-1], f"token-bucket, burst {burst}"]
        axes.set_xticks(range(len(labels)), labels)
        axes.tick_params(axis="x", length=0)
        axes.grid(False, axis="x")
        axes.set_ylim(0, 2 * KNOB_MAX * 1.1)
        axes.set_ylabel("requests in one interval")
        limit_line(axes, limit)
    return figure
