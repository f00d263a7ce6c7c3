"""Charts: one function per figure; each takes data and returns a matplotlib ``Figure``."""

from __future__ import annotations

from kvlab.instruments.charts.figures import (
    admissions_per_window,
    hit_ratio_by_ttl,
    latency_percentiles,
    over_admission,
    percentile_curves,
    round_trips,
    timeline,
)
from kvlab.instruments.charts.shapes import bars, lines
from kvlab.instruments.charts.style import METRICS, Metric
from kvlab.instruments.palette import COLOURS

__all__ = [
    "COLOURS",
    "METRICS",
    "Metric",
    "admissions_per_window",
    "bars",
    "hit_ratio_by_ttl",
    "latency_percentiles",
    "lines",
    "over_admission",
    "percentile_curves",
    "round_trips",
    "timeline",
]
