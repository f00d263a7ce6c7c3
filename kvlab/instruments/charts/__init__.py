"""Charts: one function per figure; each takes data and returns a matplotlib ``Figure``.

A title says the finding. Without ``title`` the function makes the title from the data, so that the
title always fits them. ``COLOURS`` gives each variant its colour in the whole workbook. A notebook
shows a figure that is the last value of its cell. Figures are transparent, for light and
dark pages.
"""

from __future__ import annotations

from kvlab.instruments.charts.admissions import admissions_per_window, over_admission
from kvlab.instruments.charts.latency import latency_percentiles, percentile_curves
from kvlab.instruments.charts.over_time import timeline
from kvlab.instruments.charts.shapes.bars import bars
from kvlab.instruments.charts.shapes.dots import dots
from kvlab.instruments.charts.shapes.lines import lines
from kvlab.instruments.charts.trips import round_trips
from kvlab.instruments.palette import COLOURS

__all__ = [
    "COLOURS",
    "admissions_per_window",
    "bars",
    "dots",
    "latency_percentiles",
    "lines",
    "over_admission",
    "percentile_curves",
    "round_trips",
    "timeline",
]
