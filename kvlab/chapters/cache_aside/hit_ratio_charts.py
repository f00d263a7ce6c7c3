"""The charts of the hit ratio: what a doubled TTL leaves of the misses, and a knob to turn."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kvlab.chapters.cache_aside.hit_ratio import CURVE_POINTS, HitRatios, predicted
from kvlab.instruments.charts.labels import note
from kvlab.instruments.charts.style import MARKERS, THEORY, drawing
from kvlab.instruments.measure.workload import Zipf
from kvlab.instruments.palette import COLOURS, FAINT, OTHERS


def misses_by_ttl(ratios: HitRatios, *, title: str) -> Figure:
    """The share of requests that miss, over the TTL: measured, the formula, and a halving.

    The dotted line starts at the first measured point and halves with every doubling of the TTL.
    """
    frame = ratios.frame.assign(missed=1 - ratios.frame["measured"])
    with drawing(title) as (figure, axes):
        for i, (skew, rows) in enumerate(frame.groupby("skew")):
            _series(axes, ratios, float(str(skew)), rows, OTHERS[i % len(OTHERS)], MARKERS[i])
        _ttl_axis(axes, [float(ttl) for ttl in frame["ttl"].unique()])
        axes.set_xlim(frame["ttl"].min() / 1.45, frame["ttl"].max() * 1.1)
        axes.set_ylim(0, frame["missed"].max() * 1.15)
        axes.set_ylabel("share of requests that miss")
        note(axes, "points: measured, 95 %    dashes: the formula    dots: halved by each doubling")
    return figure


def _series(
    axes: Axes, ratios: HitRatios, skew: float, rows: pd.DataFrame, shade: str, marker: str
) -> None:
    ttls, missed = rows["ttl"].to_numpy(), rows["missed"].to_numpy()
    curve = ratios.curve(skew)
    axes.plot(curve["ttl"], 1 - curve["theory"], **THEORY)
    axes.plot(curve["ttl"], missed[0] * ttls[0] / curve["ttl"], color=shade, lw=1.2, ls=":")
    axes.errorbar(ttls, missed, rows["within"], fmt=marker, color=shade, ms=7, lw=1.4, capsize=3)
    axes.annotate(
        f"Zipf skew {skew:g}",
        (ttls[0], missed[0]),
        xytext=(-9, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        color=shade,
        fontweight="bold",
    )


def knob(ratios: HitRatios, skew: float, ttl: float) -> Figure:
    """The formula's hit ratio for any skew, with one TTL marked; grey: the measured points."""
    frame = ratios.frame
    zipf = Zipf(next(iter(ratios.popularities.values())).n, skew)
    ttls = np.geomspace(frame["ttl"].min() / 4, frame["ttl"].max() * 4, CURVE_POINTS)
    share = predicted(zipf, ratios.rate, ttl)
    title = f"Zipf skew {skew:g}, TTL {ttl * 1e3:.0f} ms: {share:.0%} hits predicted"
    with drawing(title) as (figure, axes):
        curve = [predicted(zipf, ratios.rate, t) for t in ttls]
        axes.plot(ttls, curve, **THEORY)
        axes.plot([ttl], [share], "o", ms=13, color=COLOURS["hit"], zorder=4)
        for i, (measured, rows) in enumerate(frame.groupby("skew")):
            name = f"measured, skew {measured:g}"
            axes.plot(rows["ttl"], rows["measured"], MARKERS[i], color=FAINT, ms=7, label=name)
        _ttl_axis(axes, [0.025, 0.1, 0.4, 1.6])
        axes.set_xlim(ttls[0], ttls[-1])
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("hit ratio")
        axes.legend(loc="lower right")
    return figure


def _ttl_axis(axes: Axes, ticks: list[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick * 1e3:g} ms" for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("TTL (log scale)")
