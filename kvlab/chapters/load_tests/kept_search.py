"""The search for the highest rate that chapter 10 shows: kept, since a search takes minutes.

It was made by ``kvlab load rate-limiter --find-rate --slo p99=5ms --time 3s``.
"""

from __future__ import annotations

import textwrap
from importlib import resources

from matplotlib.figure import Figure

from kvlab.chapters.load_tests.findings import WIDTH
from kvlab.instruments.charts.labels import note
from kvlab.load.find_rate.chart import curve
from kvlab.load.find_rate.command import told
from kvlab.load.find_rate.record import RateSearch


def kept_search() -> RateSearch:
    """The search that the repository keeps."""
    folder = resources.files("benchmarks") / "results" / "find_rate"
    with resources.as_file(folder) as path:
        return RateSearch.load(path)


def search_text(search: RateSearch) -> str:
    """The verdict at each rate, then what was found. Latencies are those of the slowest probe."""
    frame = search.frame()
    rates = frame.groupby(frame["rate"].round()).agg(
        held=("holds", "sum"), probes=("holds", "size"), p50=("p50", "max"), p99=("p99", "max")
    )
    lines = [
        f"{rate:>6,.0f} a second: {row.held:.0f} of {row.probes:.0f} probes held, "
        f"p50 {row.p50 * 1e3:.1f} ms, p99 {row.p99 * 1e3:.1f} ms"
        for rate, row in rates.iterrows()
    ]
    found = (textwrap.fill(line.strip(), WIDTH, subsequent_indent="    ") for line in told(search))
    return "\n".join([*lines, "", *found])


def search_chart(search: RateSearch) -> Figure:
    """Its curve, with a line that says how to read the points."""
    figure = curve(search)
    note(figure.axes[0], "filled: the rate held; empty: not; grey: where the search turned")
    return figure
