"""Pages without script and network, and a figure as inline SVG for them.

The figure follows the reader's light or dark theme: the colours of the workbook become names, whose
values stand in the page's own style sheet (``css``).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import jinja2
import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from kvlab.instruments.palette import COLOURS, FAINT, INK, OTHERS

NARROW = (5.6, 3.6)
"""Inches. In a figure this narrow, the words stay readable on a telephone."""
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


def css() -> Markup:
    """The style sheet of every page."""
    return Markup((resources.files("kvlab.instruments.charts") / "page.css").read_text("utf-8"))


def rendered(
    package: str,
    name: str,
    facts: Mapping[str, Mapping[str, Any]],
    filters: Mapping[str, Callable[..., Any]] = {},
    **given: Any,
) -> str:
    """The page of the template ``name`` in ``package``, which fills the blocks of ``page.html``.

    Every text is escaped. ``facts``: the tables at the end of the page, by heading.
    """
    base, own = (
        (resources.files(where) / file).read_text("utf-8")
        for where, file in (("kvlab.instruments.charts", "page.html"), (package, name))
    )
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"page.html": base, "own": own}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template("own").render(css=css(), facts=facts, **given)


def svg(figure: Figure, name: str, size: tuple[float, float] = NARROW) -> Markup:
    """The figure as SVG in the page's inks, without background. matplotlib escapes its texts.

    ``name``: no other figure of the page has it. ``size``: inches.
    """
    figure.set_size_inches(size)
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
