"""The chart and the table of stale reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvlab.chapters.write_through.staleness import Staleness
from kvlab.instruments.charts.style import bar_look, colour, panels
from kvlab.instruments.palette import INK


def staleness_chart(runs: Mapping[str, Staleness], *, title: str) -> Figure:
    """Stale reads per 1,000 over time, a panel per variant, all on one scale."""
    with panels(title, len(runs)) as (figure, side_by_side):
        for i, (axes, (variant, run)) in enumerate(zip(side_by_side, runs.items(), strict=True)):
            _panel(axes, variant, run, colour(variant, i))
        first = side_by_side[0]
        first.set_ylabel("stale reads per 1,000 (dashes: the whole run)")
        first.set_ylim(0, max(first.get_ylim()[1], 1))
        first.set_xlim(left=0)
    return figure


def _panel(axes: Axes, variant: str, run: Staleness, shade: str) -> None:
    frame = run.over_time()
    width = run.reads.bucket * 0.9
    axes.bar(frame["seconds"], frame["stale"], width, **bar_look(variant, shade))
    axes.axhline(run.per_1000, color=INK, lw=1.2, dashes=(5, 2))
    counts = f"{run.reads.violations} stale of {run.reads.count:,} reads"
    axes.set_title(f"{variant}\n{counts}", color=shade)
    axes.set_xlabel("seconds since the first read")
    axes.grid(False, axis="x")


def staleness_table(runs: Mapping[float, Mapping[str, Staleness]]) -> Any:
    """A row for each mean pause (s) and variant, styled for a notebook."""
    rows = [
        (
            pause * 1e3,
            variant,
            run.reads.count,
            run.reads.violations,
            run.per_1000,
            run.loads_per_1000,
        )
        for pause, measured in runs.items()
        for variant, run in measured.items()
    ]
    columns = ["mean pause, ms", "variant", "reads", "stale", "stale per 1,000", "loads per 1,000"]
    forms = dict.fromkeys(columns[4:], "{:.0f}") | {"mean pause, ms": "{:g}"}
    return pd.DataFrame(rows, columns=columns).style.hide(axis="index").format(forms)
