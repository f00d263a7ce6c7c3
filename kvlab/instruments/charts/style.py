"""How every figure looks: one colour per variant, one label per number, and the shared parts.

Line style, marker or hatch repeats the distinction of colour for grey print. Style lives in a
context: nothing global is changed, and figures are not registered with pyplot (no window, no leak).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvlab.instruments.measure.result import Result
from kvlab.instruments.palette import COLOURS, FAINT, GRID, INK, OTHERS

MARKERS = "osD^vP"
DASHES = ("-", (0, (6, 2)), (0, (3, 1.5)), "-.", ":")
HATCHES = {"naive": "///"}

SIZE = (8.0, 4.5)
STYLE: Any = {
    "figure.dpi": 100,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
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


@dataclass(frozen=True, slots=True)
class Metric:
    """How one number is read from a result and written on an axis."""

    label: str
    unit: str
    read: Callable[[Result], float]
    lower_is_better: bool = True


METRICS = {
    "p50": Metric("median latency", "ms", lambda r: r.latency.percentile(50) * 1e3),
    "p99": Metric("99th percentile latency", "ms", lambda r: r.latency.percentile(99) * 1e3),
    "p99.9": Metric("99.9th percentile latency", "ms", lambda r: r.latency.percentile(99.9) * 1e3),
    "throughput": Metric("throughput", "requests/s", lambda r: r.throughput, False),
    "hit_ratio": Metric("hit ratio", "share", lambda r: r.share("hit"), False),
    "round_trips": Metric(
        "round trips a request", "", lambda r: (r.round_trips or 0) / max(r.count, 1)
    ),
    "violations": Metric(
        "violations", "", lambda r: float("nan") if r.violations is None else r.violations
    ),
    "late": Metric("requests started late", "share", lambda r: r.late_share),
}


def bar_look(variant: str, shade: str) -> dict[str, Any]:
    """A bar's outline and filling; the naive variant's is hatched in its own colour."""
    hatch = HATCHES.get(variant)
    filling = (shade, 0.35 if hatch else 0.85)
    return {"facecolor": filling, "edgecolor": shade, "hatch": hatch, "linewidth": 1.2}


def colour(variant: str, index: int = 0) -> str:
    """The variant's colour; a variant without one takes the ``index``-th of the others."""
    return COLOURS.get(variant, OTHERS[index % len(OTHERS)])


class Drawing(Figure):
    """A figure that shows itself as the last value of a notebook cell, without pyplot.

    The picture has twice the pixels of its size on the page, so that it is sharp on every screen.
    """

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        png = io.BytesIO()
        self.savefig(png, format="png", dpi=2 * self.dpi)
        wide, high = self.get_size_inches() * self.dpi
        return png.getvalue(), {"width": round(wide), "height": round(high)}


@contextmanager
def drawing(title: str) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes in the workbook's style."""
    with mpl.rc_context(STYLE):
        figure = Drawing(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, wrap=True)
        yield figure, axes


def limit_line(axes: Axes, limit: float) -> None:
    """A dashed line across, named at its right end."""
    axes.axhline(limit, color=COLOURS["limit"], lw=1.5, dashes=(5, 2), zorder=3)
    axes.annotate(
        f"limit {limit:g}", (1, limit), xycoords=("axes fraction", "data"), xytext=(6, 0),
        textcoords="offset points", va="center", fontweight="bold", annotation_clip=False,
    )  # fmt: skip


def note(axes: Axes, text: str) -> None:
    """A small line between title and axes."""
    axes.set_title(axes.get_title(loc="left"), pad=26, wrap=True)
    axes.annotate(
        text, (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points",
        fontsize=10,
    )  # fmt: skip


def label_right(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Names beside the ends of their lines, moved apart where they would overlap."""
    lines_high = 0.058  # of the axes, one line of text
    axes.get_ylim()  # settles a pending autoscale, which the transform would not see
    to_axes = axes.transData + axes.transAxes.inverted()
    floor, ceiling = -1.0, 1.04
    placed = []
    for value, text, shade in sorted(labels):
        wanted = float(to_axes.transform((1.0, value))[1])
        half = lines_high * (text.count("\n") + 1) / 2
        at = max(wanted, floor + half)
        floor = at + half + 0.01
        placed.append((at, half, text, shade))
    for at, half, text, shade in reversed(placed):  # below the title
        at = min(at, ceiling - half)
        ceiling = at - half - 0.01
        axes.annotate(
            text, (1, at), xycoords="axes fraction", xytext=(8, 0), textcoords="offset points",
            va="center", color=shade, fontweight="bold", fontsize=10.5, annotation_clip=False,
        )  # fmt: skip
