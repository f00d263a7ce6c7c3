"""The figures of the chapter on sessions: how many sessions are alive at which age."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kvlab.chapters.sessions.lifetimes import Habit, still_in
from kvlab.instruments.charts.labels import label_right, note
from kvlab.instruments.charts.style import MARKERS, THEORY, colour, drawing
from kvlab.instruments.palette import COLOURS

KNOB_MINUTES = 720
"""The width of the figure of the knobs: the same for every position."""


def alive_chart(measured: pd.DataFrame, habit: Habit, *, title: str) -> Figure:
    """The share of live sessions by age: points counted on the server, the formula dashed.

    ``measured`` has the columns of ``watch``.
    """
    ages = np.linspace(0, float(measured["age"].max()), 800)
    absolute = {"hardened": {"absolute": habit.absolute}}
    with drawing(title) as (figure, axes):
        labels = []
        for i, (name, rows) in enumerate(measured.groupby("store", sort=False)):
            shade = colour(str(name), i)
            # The first points are open and large, so that others in the same place stay visible.
            look: Any = {"ms": 11, "mfc": "none", "mew": 2} if i == 0 else {"ms": 6}
            axes.plot(rows["age"], rows["alive"], MARKERS[i % len(MARKERS)], color=shade, **look)
            limits = absolute.get(str(name), {})
            shares = still_in(ages, mean_gap=habit.mean_gap, idle=habit.idle, **limits)
            axes.plot(ages, shares, **THEORY)
            labels.append((float(shares[-1]), str(name), shade))
        label_right(axes, labels)
        late = measured.attrs.get("late", 0.0) * 1e3
        note(axes, f"points: counted    dashes: formula    latest page {late:.0f} ms late")
        _axes(axes, "age of the session (s)")
    return figure


def logged_in_chart(idle: int = 30, absolute: int = 480, gap: int = 10) -> Figure:
    """The share of live sessions by age, by the formula. All numbers are minutes.

    ``gap``: the mean pause between two pages. The axes are the same for all values.
    """
    ages = np.linspace(0, KNOB_MINUTES, 2 * KNOB_MINUTES + 1)
    shares = still_in(ages, mean_gap=gap, idle=idle, absolute=absolute)
    stay = np.trapezoid(shares, ages)
    left_alone = min(idle, absolute)
    title = (
        f"A page every {gap} min: in for {stay:.0f} min on average; left alone: {left_alone} min"
    )
    with drawing(title) as (figure, axes):
        axes.plot(ages, shares, color=COLOURS["hardened"])
        axes.set_xlim(0, KNOB_MINUTES)
        axes.set_xticks(range(0, KNOB_MINUTES + 1, 60))
        _axes(axes, "age of the session (min)")
    return figure


def _axes(axes: Axes, xlabel: str) -> None:
    axes.margins(x=0.02)
    axes.set_ylim(-0.03, 1.08)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlabel=xlabel, ylabel="sessions alive")
