"""The curve of a search: the rate against p50, p99 and p99.9."""

from __future__ import annotations

from matplotlib.figure import Figure

from kvlab.instruments.charts.labels import event_line, label_right
from kvlab.instruments.charts.latency import LATENCY_LABEL
from kvlab.instruments.charts.scales import log_x, log_y
from kvlab.instruments.palette import COLOURS, IDLE, INK, OTHERS
from kvlab.load.find_rate.record import RateSearch
from kvlab.load.record.drawing import run_drawing

_CURVES = {
    "p99.9": ("p999", OTHERS[1]),
    "p99": ("p99", COLOURS["hardened"]),
    "p50": ("p50", OTHERS[0]),
}


def curve(search: RateSearch) -> Figure:
    """Each probe as a point, filled where the rate held; the medians of each rate as a line."""
    tried = search.frame()
    frame = tried.dropna(subset=["p50"]).sort_values("rate")
    with run_drawing(search.says()) as (figure, axes):
        labels = []
        for name, (column, shade) in _CURVES.items():
            milliseconds = frame[column] * 1e3
            line = milliseconds.groupby(frame["rate"].round(3)).median()
            axes.plot(line.index, line, color=shade, lw=1.5)
            for holds, fill in ((True, shade), (False, "none")):
                at = frame["holds"] == holds
                axes.plot(
                    frame["rate"][at],
                    milliseconds[at],
                    "o",
                    color=shade,
                    markerfacecolor=fill,
                    ms=6,
                )
            if len(line):
                labels.append((float(line.iloc[-1]), name, shade))
        if search.found is not None:
            axes.axvspan(search.found.low, search.found.high, color=IDLE, alpha=0.4, lw=0)
            axes.axvline(search.found.rate, color=INK, lw=1.2)
        if search.knee is not None:
            event_line(axes, search.knee, "knee")
        for slo in search.slos:
            axes.axhline(slo.seconds * 1e3, color=INK, lw=1.2, dashes=(5, 2))
            labels.append((slo.seconds * 1e3, "SLO", INK))
        if frame.empty:  # nothing was called at any rate
            axes.set_xlim(tried["rate"].min() * 0.8, tried["rate"].max() * 1.25)
        log_x(axes)
        log_y(axes)
        axes.set(xlabel="calls due a second (open loop)", ylabel=LATENCY_LABEL)
        label_right(axes, labels)
    return figure
