"""A load run as one HTML page: the verdict first, then figures, charts, and how it was measured.

Guarantee: the page needs no script and no network, escapes every text of the run, and stays below
1 MB. Of a long list the page shows the begin and says how much is left out; run.json has the whole
list. The page and its charts, inline SVG, follow the reader's light or dark theme.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from kvlab.instruments.palette import COLOURS, FAINT, INK, OTHERS
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
# Inches. In a figure this narrow, the words stay readable on a telephone.
_SIZE = (5.6, 3.6)
# A colour of the charts, and the name of its light and its dark value in the page.
_INKS = {
    INK: "ink",
    FAINT: "faint",
    COLOURS["hardened"]: "blue",
    COLOURS["naive"]: "orange",
    OTHERS[0]: "green",
    OTHERS[1]: "pink",
    OTHERS[2]: "amber",
    OTHERS[3]: "violet",
}
# A <style> element in inline SVG would style the whole page.
_STYLE = re.compile(r"<style.*?</style>", re.DOTALL)


def page(run: LoadRun) -> str:
    """The page of a run, as text."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["least"] = lambda finding: least_says(run, finding)
    environment.filters["short"] = lambda text: printable(str(text), _LONG)
    environment.filters["number"] = lambda value: "–" if value != value else f"{value:,.0f}"
    source = (resources.files("kvlab.load.record") / "report.html").read_text("utf-8")
    return environment.from_string(source).render(
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
        facts={"Settings": _facts(run.settings), "Machine": _facts(run.machine)},
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
        yield {"title": title, "remark": words, "svg": _svg(figure, draw.__name__)}


def _svg(figure: Figure, name: str) -> Markup:
    """The figure as SVG in the page's inks, without background. matplotlib escapes its texts."""
    figure.set_size_inches(_SIZE)
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    text = file.getvalue()
    text = _STYLE.sub("", text[text.index("<svg") :])
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
    for shade, ink in _INKS.items():
        text = re.sub(shade, f"var(--{ink})", text, flags=re.IGNORECASE)
    return Markup(text)


def _facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _fact(value)) for name, value in sorted(data.items())]


def _fact(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
