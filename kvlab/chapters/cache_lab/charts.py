"""The figures of the cache lab."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvlab.chapters.cache_lab.real_cache import Measured
from kvlab.instruments.charts.labels import label_right
from kvlab.instruments.charts.scales import PLAIN, name_places
from kvlab.instruments.charts.style import MARKERS, THEORY, drawing
from kvlab.instruments.palette import COLOURS, INK, OTHERS

SHADES = {
    "LRU": COLOURS["hardened"],
    "LFU": OTHERS[0],
    "random": COLOURS["naive"],
    "volatile-ttl": OTHERS[1],
}
_LINES = {"Belady's optimum": "^", "no limit": "|", "exact LRU": "x"}


def best_of(frame: pd.DataFrame) -> dict[str, str]:
    """By workload, the policy with the highest measured hit ratio."""
    measured = frame[frame["kind"] == "measured"].reset_index(drop=True)
    rows = measured.loc[measured.groupby("workload")["hit ratio"].idxmax().tolist()]
    return dict(zip(rows["workload"], rows["cache"], strict=True))


def best_policies(frame: pd.DataFrame) -> str:
    """A title: for how many workloads each policy was the best."""
    wins = pd.Series(best_of(frame)).value_counts()
    said = ", ".join(f"{policy} {n}" for policy, n in wins.items())
    return f"No policy is the best everywhere. Workloads won: {said}"


def distance(measured: Mapping[str, Measured], che: Mapping[int, float], least: int) -> str:
    """A title: how far the caches that should hold ``least`` items and more are from Che."""
    sizes, hits = list(che), list(che.values())
    away = [
        abs(np.interp(one.held, sizes, hits) - one.ratio)
        for one in measured.values()
        if one.held > 0.8 * least
    ]
    points = f"{100 * max(away):.1f} points"
    return f"From {least:,} items on, the server's LRU is within {points} of Che's formula"


def by_workload(frame: pd.DataFrame, *, title: str) -> Figure:
    """A row a workload: a point for each policy, and marks for the caches of theory."""
    names = list(frame["workload"].unique())
    with drawing(title) as (figure, axes):
        for place, name in enumerate(names):
            rows = frame[frame["workload"] == name].set_index("cache")["hit ratio"]
            _points(axes, place, rows, named=place == 0)
        name_places(axes, "y", names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xlabel("hit ratio after the warm-up")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _points(axes: Axes, place: int, rows: pd.Series, *, named: bool) -> None:
    for i, (policy, shade) in enumerate(SHADES.items()):
        label = policy if named else None
        marker = MARKERS[i % len(MARKERS)]
        axes.plot(
            [rows[policy]], [place + 0.12 * (i - 1.5)], marker, color=shade, ms=9, label=label
        )
    for cache, marker in _LINES.items():
        label = cache if named else None
        axes.plot(
            [rows[cache]], [place], marker, color=INK, ms=12, mew=2, label=label, fillstyle="none"
        )


def by_size(
    curves: Mapping[str, Mapping[int, float]], measured: Mapping[str, Measured], *, title: str
) -> Figure:
    """Miss ratio by number of items: a line for each theory, a point for each measured cache."""
    with drawing(title) as (figure, axes):
        labels = []
        for i, (name, curve) in enumerate(curves.items()):
            sizes, misses = list(curve), [1 - hit for hit in curve.values()]
            shade = INK if name == "Che's LRU" else OTHERS[i % len(OTHERS)]
            look = THEORY if name == "Che's LRU" else {"color": shade, "lw": 1.8}
            axes.plot(sizes, misses, **look)
            labels.append((misses[-1], name, shade))
        held = [one.held for one in measured.values()]
        missed = [1 - one.ratio for one in measured.values()]
        axes.plot(held, missed, "o", color=COLOURS["hardened"], ms=9)
        label_right(axes, labels)
        axes.set_ylim(0, 1)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set(xlabel="items that fit into the cache", ylabel="miss ratio")
    return figure
