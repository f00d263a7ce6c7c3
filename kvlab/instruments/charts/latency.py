"""Latency by percentile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import label_right
from kvlab.instruments.charts.scales import in_ms, log_y
from kvlab.instruments.charts.style import DASHES, colour, drawing
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.result import Result

LATENCY_LABEL = "latency from the intended start (ms)"
"""Of every axis that shows a latency: what a request waits before it starts is in it."""


def latency_percentiles(
    results: Sequence[Result] | Mapping[str, Result], *, title: str | None = None
) -> Figure:
    """Latency by percentile, its axis stretched towards 100 %, with each run's violations."""
    named = _named(results)
    with drawing(title or _title(named)) as (figure, axes):
        fewest = min(r.count for r in named.values())
        curves = {n: (r.latency, _violations(r)) for n, r in named.items()}
        percentile_curves(axes, curves, fewest=fewest)
    return figure


def percentile_curves(
    axes: Axes, curves: Mapping[str, tuple[Recorder, str]], *, fewest: int | None = None
) -> None:
    """A curve for each recorder, named at its right end, with a second line of text.

    A curve ends where fewer than ten of its samples lie beyond: of ``fewest`` where given, so
    that all end alike.
    """
    labels = []
    ends = {
        name: max(min(4.0, np.log10(max(fewest or recorder.count, 1)) - 1), 1.0)
        for name, (recorder, _) in curves.items()
    }
    for i, (name, (recorder, text)) in enumerate(curves.items()):
        at = np.linspace(0, ends[name], 120)[1:]
        milliseconds = [recorder.percentile(100 * (1 - 10**-x)) * 1e3 for x in at]
        axes.plot(at, milliseconds, color=colour(name, i), linestyle=DASHES[i % 5])
        labels.append((milliseconds[-1], f"{name}\n{text}", colour(name, i)))
    log_y(axes)
    reach = max(ends.values())
    ticks = [x for x in (0.301, 1, 2, 3, 4) if x <= reach + 1e-9]
    axes.set_xticks(ticks, [f"{100 * (1 - 10**-x):.4g} %" for x in ticks])
    axes.set(xlabel="share of requests answered within", ylabel=LATENCY_LABEL)
    axes.set_xlim(0, reach)
    label_right(axes, labels)


def title_percentile(recorders: Iterable[Recorder]) -> tuple[str, int]:
    """The percentile that a title has: the 99th, or the median where a curve ends before.

    Ten samples must lie beyond a percentile, as in :func:`percentile_curves`.
    """
    fewest = min((recorder.count for recorder in recorders), default=0)
    return ("p99", 99) if fewest >= 1_000 else ("median", 50)


def _title(named: Mapping[str, Result]) -> str:
    """Each percentile, without a ratio: one percentile of one run has no interval."""
    quantity, percent = title_percentile(r.latency for r in named.values())
    ends = [f"{n} {in_ms(r.latency.percentile(percent))}" for n, r in named.items()]
    return f"{quantity}: {', '.join(ends)}"


def _named(results: Sequence[Result] | Mapping[str, Result]) -> dict[str, Result]:
    named = dict(results) if isinstance(results, Mapping) else {r.name or "run": r for r in results}
    if not named or len(named) < len(results):
        raise InvalidArgument("results must be at least one, each with a name of its own")
    return named


def _violations(result: Result) -> str:
    if result.violations is None:
        return "not checked"
    return f"{result.violations} violation" + ("" if result.violations == 1 else "s")
