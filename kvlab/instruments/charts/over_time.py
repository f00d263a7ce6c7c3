"""Series over time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import event_line, label_right
from kvlab.instruments.charts.scales import from_zero, in_seconds
from kvlab.instruments.charts.style import DASHES, colour, drawing

Floats = npt.NDArray[np.float64]


def timeline(
    values: Mapping[str, npt.ArrayLike],
    seconds: npt.ArrayLike,
    *,
    ylabel: str,
    events: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Figure:
    """Series over time, with named moments. Every series has one value per entry of ``seconds``."""
    at = np.asarray(seconds, dtype=np.float64)
    series = {name: np.asarray(y, dtype=np.float64) for name, y in values.items()}
    if not series or not all(np.isfinite(y).any() for y in series.values()):
        raise InvalidArgument("values must hold at least one series, each with a number")
    with drawing(title or _title(series, at)) as (figure, axes):
        for i, (name, y) in enumerate(series.items()):
            axes.plot(at, y, color=colour(name, i), linestyle=DASHES[i % 5])
            label_right(axes, [(float(y[np.isfinite(y)][-1]), name, colour(name, i))])
        axes.set_xlim(at[0], at[-1])
        from_zero(axes, max(float(np.nanmax(y)) for y in series.values()) * 1.18)
        for name, moment in (events or {}).items():
            event_line(axes, moment, name)
        axes.set(xlabel="seconds", ylabel=ylabel)
    return figure


def _title(series: Mapping[str, Floats], at: Floats) -> str:
    peak = max(series, key=lambda name: float(np.nanmax(series[name])))
    moment = float(at[int(np.nanargmax(series[peak]))])
    return f"{peak} peaks at {np.nanmax(series[peak]):g} after {in_seconds(moment)}"
