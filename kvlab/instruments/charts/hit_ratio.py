"""The hit ratio of a cache over its TTL."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kvlab.instruments.charts.labels import label_right, note
from kvlab.instruments.charts.scales import in_seconds
from kvlab.instruments.charts.shapes import need
from kvlab.instruments.charts.style import MARKERS, THEORY, drawing
from kvlab.instruments.palette import COLOURS, OTHERS

_SHADES = (OTHERS[0], COLOURS["hardened"], COLOURS["naive"], *OTHERS[1:])


def hit_ratio_by_ttl(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Measured hit ratio over TTL (points) with the formula (lines), one series per skew.

    Columns: ``skew``, ``ttl`` (s), ``measured`` and ``theory`` (shares). More rows may carry
    theory alone (measured nan), which makes the lines smooth.
    """
    need(frame, "skew", "ttl", "measured", "theory")
    if title is None:
        off = (frame["measured"] - frame["theory"]).abs().max() * 100
        title = f"The TTL formula is met within {off:.1f} points"
    with drawing(title) as (figure, axes):
        labels = []
        for i, (skew, rows) in enumerate(frame.sort_values("ttl").groupby("skew")):
            shade = _SHADES[i % len(_SHADES)]
            axes.plot(rows["ttl"], rows["theory"], **THEORY)
            axes.plot(rows["ttl"], rows["measured"], MARKERS[i % 6], color=shade, ms=8, zorder=5)
            labels.append((float(rows["theory"].iloc[-1]), f"Zipf skew {skew:g}", shade))
        axes.set_xscale("log")
        ticks = sorted(frame.dropna(subset="measured")["ttl"].unique())
        axes.set_xticks(ticks, [in_seconds(t) for t in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0, top=min(1.02, frame[["measured", "theory"]].max().max() * 1.15))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(xlabel="TTL (log scale)", ylabel="hit ratio")
        note(axes, "points: measured    dashes: Σ p·λT/(1+λT)")
        label_right(axes, labels)
    return figure
