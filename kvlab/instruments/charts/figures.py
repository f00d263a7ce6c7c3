"""One function per figure; each takes data and returns a matplotlib ``Figure``.

``COLOURS`` gives each variant its colour in the whole workbook and ``METRICS`` each number its
label and unit (both in ``style``). Titles say the finding: without ``title`` one is made from the
data, so it cannot go stale. A notebook shows a figure that is the last value of its cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.style import (
    DASHES,
    MARKERS,
    METRICS,
    Metric,
    bar_look,
    colour,
    drawing,
    label_right,
    limit_line,
    note,
)
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.result import Result
from kvlab.instruments.palette import COLOURS, FAINT, INK, OTHERS

__all__ = [
    "COLOURS",
    "METRICS",
    "Metric",
    "admissions_per_window",
    "hit_ratio_by_ttl",
    "latency_percentiles",
    "over_admission",
    "percentile_curves",
    "round_trips",
    "timeline",
]


def latency_percentiles(
    results: Sequence[Result] | Mapping[str, Result], *, title: str | None = None
) -> Figure:
    """Latency by percentile, its axis stretched towards 100 %, with each run's violations."""
    named = _named(results)
    if title is None:
        ranked = sorted(named.items(), key=lambda item: item[1].latency.percentile(99))
        (best, low), (worst, high) = ranked[0], ranked[-1]
        ratio = high.latency.percentile(99) / low.latency.percentile(99)
        title = f"p99: {best} {_ms(low.latency.percentile(99))}"
        if len(named) > 1:
            title += f", {worst} {ratio:.1f} times that"
    with drawing(title) as (figure, axes):
        fewest = min(r.count for r in named.values())
        percentile_curves(
            axes, {n: (r.latency, _violations(r)) for n, r in named.items()}, fewest=fewest
        )
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
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    reach = max(ends.values())
    ticks = [x for x in (0, 0.301, 1, 2, 3, 4) if x <= reach + 1e-9]
    axes.set_xticks(ticks, [f"{100 * (1 - 10**-x):.4g} %" for x in ticks])
    axes.set(xlabel="share of requests answered within", ylabel="latency from due time (ms)")
    axes.set_xlim(0, reach)
    label_right(axes, labels)


def hit_ratio_by_ttl(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Measured hit ratio over TTL (points) with the formula (lines), one series per skew.

    Columns: ``skew``, ``ttl`` (s), ``measured`` and ``theory`` (shares). More rows may carry
    theory alone (measured nan), which makes the lines smooth.
    """
    _need(frame, "skew", "ttl", "measured", "theory")
    off = (frame["measured"] - frame["theory"]).abs().max() * 100
    title = title or f"The TTL formula is met within {off:.1f} points"
    with drawing(title) as (figure, axes):
        labels = []
        for i, (skew, rows) in enumerate(frame.sort_values("ttl").groupby("skew")):
            shade = (*OTHERS[:1], COLOURS["hardened"], COLOURS["naive"], *OTHERS[1:])[i % 6]
            axes.plot(
                rows["ttl"],
                rows["theory"],
                color=COLOURS["theory"],
                lw=1.2,
                dashes=(5, 2),
                zorder=2,
            )
            axes.plot(rows["ttl"], rows["measured"], MARKERS[i % 6], color=shade, ms=8, zorder=3)
            labels.append((float(rows["theory"].iloc[-1]), f"Zipf skew {skew:g}", shade))
        axes.set_xscale("log")
        ticks = sorted(frame.dropna(subset="measured")["ttl"].unique())
        axes.set_xticks(ticks, [_seconds(t) for t in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0, top=min(1.02, frame[["measured", "theory"]].max().max() * 1.15))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(xlabel="TTL (log scale)", ylabel="hit ratio")
        note(axes, "points: measured    dashes: Σ p·λT/(1+λT)")
        label_right(axes, labels)
    return figure


def admissions_per_window(
    times: npt.ArrayLike,
    limit: int,
    window: float,
    *,
    variant: str = "naive",
    title: str | None = None,
) -> Figure:
    """How many were admitted in the ``window`` seconds up to each moment, against the limit.

    ``times``: seconds of the admitted requests. The count slides, so a burst over the edge of a
    window shows.
    """
    moments = np.sort(np.asarray(times, dtype=np.float64))
    if not len(moments):
        raise InvalidArgument("times must hold at least one admission, got none")
    moments = moments - moments[0]
    trailing = np.arange(1, len(moments) + 1) - np.searchsorted(moments, moments - window, "right")
    most = int(trailing.max())
    # the count falls again when an admission leaves the interval
    steps = np.sort(np.concatenate([moments, moments + window]))
    level = np.searchsorted(moments, steps, "right") - np.searchsorted(
        moments, steps - window, "right"
    )
    if title is None:
        title = f"Up to {most} admitted in {_seconds(window)}, the limit is {limit}"
    with drawing(title) as (figure, axes):
        axes.step(steps, level, where="post", color=colour(variant))
        axes.fill_between(
            steps, level, limit, where=(level > limit).tolist(), step="post",
            color=COLOURS["naive"], alpha=0.25, lw=0,
        )  # fmt: skip
        axes.plot(moments, np.zeros(len(moments)), "|", color=INK, ms=12, clip_on=False)
        limit_line(axes, limit)
        axes.set_xlim(0, steps[-1])
        axes.set_ylim(0, max(most, limit) * 1.18)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(
            xlabel="seconds since the first admission (ticks: admissions)",
            ylabel=f"admitted in the last {_seconds(window)}",
        )
    return figure


def over_admission(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Bars of admitted requests, naive beside hardened, with the limit.

    Columns: ``case``, ``variant``, ``admitted``, ``limit`` (one for all).
    """
    _need(frame, "case", "variant", "admitted", "limit")
    limit = int(frame["limit"].max())
    if title is None:
        worst = frame.groupby("variant", sort=False)["admitted"].max()
        title = f"Limit {limit}: " + ", ".join(f"{v} admits up to {n}" for v, n in worst.items())
    with drawing(title) as (figure, axes):
        _grouped_bars(axes, frame, "case", "admitted")
        limit_line(axes, limit)
        axes.set_ylim(0, max(frame["admitted"].max(), limit) * 1.18)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("requests admitted")
    return figure


def round_trips(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Round trips of each op, a bar per variant. Columns: ``op``, ``variant``, ``round_trips``."""
    _need(frame, "op", "variant", "round_trips")
    if title is None:
        total = frame.groupby("variant", sort=False)["round_trips"].sum()
        title = "Round trips in all: " + ", ".join(f"{v} {n:g}" for v, n in total.items())
    with drawing(title) as (figure, axes):
        _grouped_bars(axes, frame, "op", "round_trips")
        axes.set_ylim(0, frame["round_trips"].max() * 1.2)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("round trips for one op")
    return figure


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
    if title is None:
        peak = max(series, key=lambda name: float(np.nanmax(series[name])))
        moment = at[int(np.nanargmax(series[peak]))]
        title = f"{peak} peaks at {np.nanmax(series[peak]):g} after {_seconds(float(moment))}"
    with drawing(title) as (figure, axes):
        for i, (name, y) in enumerate(series.items()):
            axes.plot(at, y, color=colour(name, i), linestyle=DASHES[i % 5])
        axes.set_xlim(at[0], at[-1])
        axes.set_ylim(bottom=0)
        top = axes.get_ylim()[1]
        axes.set_ylim(0, top * 1.12)
        for name, moment in (events or {}).items():
            axes.axvline(moment, color=FAINT, lw=1, linestyle=":")
            axes.annotate(
                name, (moment, top * 1.11), xytext=(4, 0), textcoords="offset points", va="top",
                fontsize=10,
            )  # fmt: skip
        axes.set(xlabel="seconds", ylabel=ylabel)
        label_right(
            axes, [(float(y[-1]), n, colour(n, i)) for i, (n, y) in enumerate(series.items())]
        )
    return figure


def _named(results: Sequence[Result] | Mapping[str, Result]) -> dict[str, Result]:
    named = dict(results) if isinstance(results, Mapping) else {r.name or "run": r for r in results}
    if not named or (not isinstance(results, Mapping) and len(named) < len(results)):
        raise InvalidArgument("results must be at least one, each with a name of its own")
    return named


def _need(frame: pd.DataFrame, *columns: str) -> None:
    if missing := [c for c in columns if c not in frame.columns]:
        raise InvalidArgument(f"the frame lacks {missing}; it has {list(frame.columns)}")


def _violations(result: Result) -> str:
    if result.violations is None:
        return "not checked"
    return f"{result.violations} violation" + ("" if result.violations == 1 else "s")


def _grouped_bars(axes: Axes, frame: pd.DataFrame, group: str, height: str) -> None:
    groups, variants = list(frame[group].unique()), list(frame["variant"].unique())
    width = 0.8 / len(variants)
    there = {
        g: [v for v in variants if v in set(rows["variant"])] for g, rows in frame.groupby(group)
    }
    for i, variant in enumerate(variants):
        rows = frame[frame["variant"] == variant].set_index(group)[height]
        # a group that lacks a variant closes up around its middle
        at = [
            groups.index(g) + (there[g].index(variant) - (len(there[g]) - 1) / 2) * width
            for g in rows.index
        ]
        bars = axes.bar(
            at, rows.astype(float), width * 0.92, label=variant,
            **bar_look(variant, colour(variant, i)),
        )  # fmt: skip
        axes.bar_label(bars, fmt="{:g}", padding=3, fontsize=11)
    axes.set_xticks(range(len(groups)), [str(g) for g in groups])
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.legend(
        frameon=False, ncols=len(variants), loc="lower right", bbox_to_anchor=(1, -0.17),
        handlelength=1.2, borderaxespad=0,
    )  # fmt: skip


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _seconds(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1e3:g} ms"
