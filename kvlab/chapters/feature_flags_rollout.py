"""Figures for a rollout: how evenly users fall, who is in, how soon a change is everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, PercentFormatter

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import note
from kvlab.instruments.charts.style import drawing
from kvlab.instruments.palette import COLOURS, IDLE, INK, OTHERS

SIGMAS = 4.0
"""A fair draw is further off than this once in some 16,000 times."""


def binomial_bound(n: int, share: float, sigmas: float = SIGMAS) -> tuple[float, float]:
    """Expected successes of ``n`` draws with chance ``share``, and ``sigmas`` deviations of it."""
    whole("n", n, 1)
    real("share", share, 0, 1)
    return n * share, sigmas * math.sqrt(n * share * (1 - share))


def evenness(places: npt.ArrayLike, percent: float, *, title: str, parts: int = 20) -> Figure:
    """Users by where they fall (0 up to 1), in ``parts`` equal parts, with the binomial bound.

    The parts below ``percent`` are in the rollout and drawn in the hardened colour.
    """
    counts, edges = np.histogram(np.asarray(places, dtype=np.float64), parts, (0.0, 1.0))
    expected, bound = binomial_bound(int(counts.sum()), 1 / parts)
    with drawing(title) as (figure, axes):
        inside = edges[1:] <= percent / 100 + 1e-9
        shades = [COLOURS["hardened"] if inner else IDLE for inner in inside]
        axes.bar(edges[:-1] * 100, counts, 100 / parts * 0.92, align="edge", color=shades, lw=0)
        axes.axhspan(expected - bound, expected + bound, color=OTHERS[2], alpha=0.35, lw=0)
        axes.axhline(expected, color=COLOURS["theory"], lw=1.2, dashes=(5, 2))
        axes.set_xlim(-1, 101)
        axes.set_ylim(0, (expected + bound) * 1.15)
        axes.grid(False, axis="x")
        axes.xaxis.set_major_formatter(PercentFormatter(100, decimals=0))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,g}"))
        axes.set(xlabel="where the hash puts a user", ylabel=f"users in each {100 / parts:g} %")
        note(
            axes,
            f"blue: in at {percent:g} %    dashes: {expected:,.0f} expected    "
            f"band: ± {SIGMAS:g} standard deviations",
        )
    return figure


def who_is_in(before: Sequence[bool], after: Sequence[bool], *, title: str) -> Figure:
    """A square for each user: stayed, joined, thrown out, or out all the time."""
    if len(before) != len(after) or not before:
        raise InvalidArgument(f"as many after as before, at least one: {len(before)}, {len(after)}")
    looks = {
        (True, True): ("stayed in", COLOURS["hardened"]),
        (False, True): ("joined", OTHERS[3]),
        (True, False): ("thrown out", COLOURS["naive"]),
        (False, False): ("out", IDLE),
    }
    wide = math.ceil(math.sqrt(len(before) * 1.56))
    with drawing(title) as (figure, axes):
        shades = [looks[bool(was), bool(now)][1] for was, now in zip(before, after, strict=True)]
        columns, rows = zip(*(divmod(i, wide)[::-1] for i in range(len(before))), strict=True)
        axes.scatter(columns, [-row for row in rows], c=shades, marker="s", s=125, lw=0)
        axes.set_axis_off()
        axes.set_aspect("equal")
        figure.legend(
            handles=[Patch(color=shade, label=label) for label, shade in looks.values()],
            frameon=False, ncols=4, loc="outside lower center", handlelength=1.0,
        )  # fmt: skip
    return figure


def reach(
    delays: Sequence[Sequence[float]], *, title: str, whole_at: float | None = None
) -> Figure:
    """Share of watchers that know a change, by time: a faint line per change, a bold one for all.

    ``delays``: for each change the seconds until each watcher had it. ``whole_at``: a moment in
    seconds to mark, such as the median change's last watcher.
    """
    if not delays or not all(len(one) for one in delays):
        raise InvalidArgument("delays must hold at least one change with one watcher")
    with drawing(title) as (figure, axes):
        for one in delays:
            _steps(axes, one, color=COLOURS["hardened"], lw=0.8, alpha=0.25)
        _steps(axes, [d for one in delays for d in one], color=COLOURS["hardened"], lw=2.5)
        if whole_at is not None:
            axes.axvline(whole_at * 1e3, color=INK, lw=1.2, dashes=(5, 2))
            axes.annotate(
                f"the last: {whole_at * 1e3:.0f} ms", (whole_at * 1e3, 0.04), xytext=(5, 0),
                textcoords="offset points", fontweight="bold",
            )  # fmt: skip
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set(xlabel="time since the set was sent (ms)", ylabel="watchers that know")
        note(axes, f"faint: each of {len(delays)} changes    bold: all together    "
             "dashes: the last watcher, median change")  # fmt: skip
    return figure


def _steps(axes: object, seconds: Sequence[float], **look: object) -> None:
    at = np.concatenate([[0.0], np.sort(np.asarray(seconds, dtype=np.float64)) * 1e3])
    axes.step(at, np.arange(len(at)) / (len(at) - 1), where="post", **look)  # type: ignore[attr-defined]
