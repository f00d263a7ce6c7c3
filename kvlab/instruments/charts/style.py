"""How every figure looks: a transparent background, and one colour per variant.

Line style, marker or hatch repeats the distinction of colour, for grey print. The style is set in a
context, so nothing global is changed. Figures are not registered with pyplot: there is no window,
and no figure stays in memory.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure

from kvlab.instruments.charts.labels import TITLE, settle
from kvlab.instruments.palette import COLOURS, FAINT, GRID, INK, OTHERS
from kvlab.instruments.picture import png_of

MARKERS = "osD^vP"
DASHES = ("-", (0, (6, 2)), (0, (3, 1.5)), "-.", ":")
HATCHES = {"naive": "///"}
THEORY: Any = {"color": COLOURS["theory"], "lw": 1.2, "dashes": (5, 2), "zorder": 4}
"""The look of a theory's line, over what was measured."""

SIZE = (8.0, 4.5)
STYLE: Any = {
    "figure.dpi": 100,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "figure.titlesize": TITLE["fontsize"],
    "figure.titleweight": TITLE["fontweight"],
    "axes.titlesize": TITLE["fontsize"],
    "axes.titleweight": TITLE["fontweight"],
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "lines.linewidth": 2.0,
    "hatch.linewidth": 0.8,
}


def colour(variant: str, index: int = 0) -> str:
    """The variant's colour; a variant without one takes the ``index``-th of the others."""
    return COLOURS.get(variant, OTHERS[index % len(OTHERS)])


def bar_look(variant: str, shade: str) -> dict[str, Any]:
    """A bar's outline and a pale filling, on which lines can be seen; the naive bar is hatched."""
    hatch = HATCHES.get(variant)
    filling = (shade, 0.3 if hatch else 0.55)
    return {"facecolor": filling, "edgecolor": shade, "hatch": hatch, "linewidth": 1.2}


class Drawing(Figure):
    """A figure that shows itself as the last value of a notebook cell, without pyplot.

    Labels are moved apart when the figure is drawn, because only then is their place known.
    """

    def draw(self, renderer: RendererBase) -> None:
        """Lay out, move the labels, lay out again: a moved label may change the room it needs."""
        layout = self.get_layout_engine()
        if layout is not None:
            layout.execute(self)
            settle(self.axes, renderer)
            layout.execute(self)
            self.set_layout_engine("none")  # else matplotlib would lay out a third time
        settle(self.axes, renderer)
        try:
            super().draw(renderer)
        finally:
            if layout is not None:
                self.set_layout_engine(layout)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The PNG, and its width and height on the page."""
        return png_of(self)

    def _ipython_display_(self) -> None:
        """Show the picture. A ``_repr_png_`` is not asked after the first ipywidget, since
        matplotlib then registers its own way to show figures, which makes another picture."""
        from IPython.display import display

        show: Any = display
        png, place = self._repr_png_()
        bundle = {"image/png": base64.b64encode(png).decode(), "text/plain": repr(self)}
        show(bundle, metadata={"image/png": place}, raw=True)


@contextmanager
def drawing(title: str) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes in the workbook's style."""
    with mpl.rc_context(STYLE):
        figure = Drawing(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, wrap=True)
        yield figure, axes


@contextmanager
def panels(title: str, count: int) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with ``count`` pairs of axes side by side, on one scale."""
    with mpl.rc_context(STYLE | {"axes.titlesize": 11, "axes.titlepad": 8}):
        figure = Drawing(figsize=SIZE, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", wrap=True)
        axes = figure.subplots(1, count, sharex=True, sharey=True, squeeze=False)[0]
        yield figure, list(axes)
