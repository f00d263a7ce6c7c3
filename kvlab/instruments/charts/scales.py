"""Axes: plain numbers on linear and log scales, and the units that titles use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

PLAIN = FuncFormatter(lambda value, _: f"{value:,.10g}")


def log_x(axes: Axes, ticks: Sequence[Any] = ()) -> None:
    """A log axis in plain numbers; with ``ticks``, at just these."""
    axes.set_xscale("log")
    if len(ticks):
        axes.set_xticks(list(ticks), [f"{tick:,.10g}" for tick in ticks])
        axes.minorticks_off()
    else:
        _log(axes.xaxis, *axes.get_xlim())


def log_y(axes: Axes) -> None:
    """A log axis in plain numbers. Call after the data are drawn."""
    axes.set_yscale("log")
    _log(axes.yaxis, *axes.get_ylim())


def from_zero(axes: Axes, top: float) -> None:
    """A linear y axis from 0 to ``top``, in plain numbers."""
    axes.set_ylim(0, top or 1)
    axes.yaxis.set_major_formatter(PLAIN)


def whole_numbers(axis: Axis) -> None:
    """No ticks between whole numbers."""
    axis.set_major_locator(MaxNLocator("auto", integer=True))


def name_places(axes: Axes, which: Literal["x", "y"], names: Iterable[object]) -> None:
    """Names instead of numbers, at 0, 1, 2 …"""
    texts = [str(name) for name in names]
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(range(len(texts)), texts)
    axes.tick_params(axis=which, length=0)
    axes.grid(False, axis=which)


def in_ms(seconds: float) -> str:
    """As text, in milliseconds."""
    return f"{seconds * 1e3:.3g} ms"


def in_seconds(seconds: float) -> str:
    """As text, in seconds; below 1 s in milliseconds."""
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1e3:g} ms"


def _log(axis: Axis, low: float, high: float) -> None:
    steps = (1, 2, 5) if high < low * 300 else (1,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_formatter(NullFormatter())
