"""The chart of a cold key: one row per reader, a panel per variant."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvlab.chapters.cache_aside.cold_key import ColdKey
from kvlab.instruments.charts.style import colour, panels
from kvlab.instruments.palette import FAINT, IDLE


def cold_key_chart(runs: Mapping[str, ColdKey], *, title: str) -> Figure:
    """Each reader's row is grey while the reader waits, and in colour while it loads."""
    with panels(title, len(runs)) as (figure, side_by_side):
        for axes, (variant, run) in zip(side_by_side, runs.items(), strict=True):
            _panel(axes, variant, run)
        readers = max(len(run.visits) for run in runs.values())
        first = side_by_side[0]
        first.set_ylabel("reader (grey: waits, colour: loads)")
        first.set_ylim(readers + 1, 0)
        first.set_xlim(left=0)
        first.set_yticks([1, *range(16, readers + 1, 16)])
    return figure


def _panel(axes: Axes, variant: str, run: ColdKey) -> None:
    loaders_first = sorted(run.visits, key=lambda visit: (not visit.loads, visit.answered))
    for row, visit in enumerate(loaders_first, start=1):
        axes.hlines(row, visit.asked * 1e3, visit.answered * 1e3, color=IDLE, lw=1.6)
        for began, ended in visit.loads:
            axes.hlines(row, began * 1e3, ended * 1e3, color=colour(variant), lw=2.8)
    milliseconds = run.last_answer * 1e3
    axes.axvline(milliseconds, color=FAINT, lw=1, ls=":")
    loads = f"{run.loads:,} load" + ("" if run.loads == 1 else "s")
    served = f"all served after {milliseconds:,.0f} ms"
    axes.set_title(f"{variant}: {loads}, {served}", color=colour(variant))
    axes.set_xlabel("milliseconds since the first reader")
    axes.grid(False, axis="y")
