"""A load run as one HTML page: the verdict first, then figures, charts, and how it was measured.

Guarantee: the page needs no script and no network, escapes every text of the run, and stays below
1 MB. Of a long list the page shows the begin and says how much is left out; run.json has the whole
list. The page and its charts, inline SVG, follow the reader's light or dark theme.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any

from kvlab.instruments.charts.inline import rendered, svg
from kvlab.load.record import charts as load_charts
from kvlab.load.record.drawing import REMARK, title_of
from kvlab.load.record.recovery import BACK, recoveries
from kvlab.load.record.run import LoadRun
from kvlab.load.record.summary import (
    edges_say,
    generator_says,
    how_measured,
    least_says,
    most,
    summary,
)
from kvlab.load.record.words import percent, printable

__all__ = ["page", "save_with_page", "summary"]

_ERRORS, _SHOWN, _LONG = 20, 40, 400


def page(run: LoadRun) -> str:
    """The page of a run, as text."""
    return rendered(
        "kvlab.load.record",
        "report.html",
        facts={"Settings": _facts(run.settings), "Machine": _facts(run.machine)},
        filters={
            "least": lambda finding: least_says(run, finding),
            "short": _short,
            "number": lambda value: "–" if value != value else f"{value:,.0f}",
        },
        run=run,
        began=datetime.fromtimestamp(run.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        rows=run.latency_frame(total=True).to_dict("records"),
        clamped=run.latency_all.clamped_high,
        errors=most(run.errors, _ERRORS),
        shown=_SHOWN,
        recoveries=recoveries(run),
        back=percent(BACK),
        charts=list(_charts(run)),
        generator=generator_says(run),
        edges=edges_say(run),
        measured=how_measured(run),
    )


def save_with_page(run: LoadRun, folder: str | PathLike[str]) -> Path:
    """Write the folder of a run with its page, ``report.html``, and return its path."""
    return run.save(folder, {"report.html": page(run)})


def _charts(run: LoadRun) -> Iterator[dict[str, str]]:
    drawn = [load_charts.throughput, load_charts.latency_over_time]
    if run.windows is not None:
        drawn.append(load_charts.admissions)
    drawn.append(load_charts.latency_curve)
    for draw in drawn:
        figure = draw(run)
        axes = figure.axes[0]
        title = title_of(figure)
        remarks = [text for text in axes.texts if text.get_gid() == REMARK]
        # The page shows title and remark in its own type.
        axes.set_title("", loc="left", pad=6)
        for text in remarks:
            text.remove()
        words = " ".join(text.get_text() for text in remarks)
        yield {"title": title, "remark": words, "svg": svg(figure, draw.__name__)}


def _short(text: object) -> str:
    return printable(str(text), _LONG)


def _facts(data: Mapping[str, Any]) -> dict[str, str]:
    return {_short(name): _short(_fact(value)) for name, value in sorted(data.items())}


def _fact(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
