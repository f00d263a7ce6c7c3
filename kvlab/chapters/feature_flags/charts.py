"""The charts of the feature flags chapter. Each title says the finding, from the numbers drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from kvlab.chapters.feature_flags.rollout import SIGMAS, binomial_bound
from kvlab.chapters.feature_flags.torn_reads import TornReads
from kvlab.errors import InvalidArgument
from kvlab.instruments.charts import dots
from kvlab.instruments.charts.labels import note
from kvlab.instruments.charts.ratios import in_words
from kvlab.instruments.charts.scales import from_zero
from kvlab.instruments.charts.style import drawing
from kvlab.instruments.palette import COLOURS, IDLE, INK, OTHERS

PARTS = 20

_FATES = {
    (True, True): ("kept it", COLOURS["hardened"]),
    (False, True): ("got it", OTHERS[3]),
    (True, False): ("lost it", COLOURS["naive"]),
    (False, False): ("never had it", IDLE),
}
"""Label and colour of a user, by whether the user had the feature and has it now."""


def evenness(places: npt.ArrayLike, percent: float, inside: int) -> Figure:
    """Users by where the hash puts them (0 up to 1), in ``PARTS`` equal parts, with the bound.

    ``inside``: how many users the flag includes at ``percent``.
    """
    counts, edges = np.histogram(np.asarray(places, dtype=np.float64), PARTS, (0.0, 1.0))
    users = int(counts.sum())
    expected, bound = binomial_bound(users, percent / 100)
    off = inside - expected
    verdict = "within" if abs(off) <= bound else "OUTSIDE"
    title = f"{percent:g} % of {users:,} users: {inside:,} are in, {off:+,.0f}; "
    with drawing(f"{title}{verdict} the bound of ± {bound:,.0f}") as (figure, axes):
        expected, bound = binomial_bound(users, 1 / PARTS)
        shades = [
            COLOURS["hardened"] if edge <= percent / 100 + 1e-9 else IDLE for edge in edges[1:]
        ]
        axes.bar(edges[:-1] * 100, counts, 100 / PARTS * 0.92, align="edge", color=shades, lw=0)
        axes.axhspan(expected - bound, expected + bound, color=OTHERS[2], alpha=0.35, lw=0)
        axes.axhline(expected, color=COLOURS["theory"], lw=1.2, dashes=(5, 2))
        axes.set_xlim(-1, 101)
        from_zero(axes, (expected + bound) * 1.15)
        axes.grid(False, axis="x")
        axes.xaxis.set_major_formatter(PercentFormatter(100, decimals=0))
        axes.set(xlabel="where the hash puts a user", ylabel=f"users in each {100 / PARTS:g} %")
        remark = f"blue: in at {percent:g} %    dashes: {expected:,.0f} expected    "
        note(axes, f"{remark}band: ± {SIGMAS:g} standard deviations")
    return figure


def who_is_in(before: Sequence[bool], after: Sequence[bool], step: str) -> Figure:
    """A square for each user: kept the feature, got it, lost it, or never had it.

    ``step`` names what changed, such as "10 % to 20 %".
    """
    if len(before) != len(after) or not before:
        raise InvalidArgument(
            f"before and after must be of the same users, at least one: got {len(before)} and "
            f"{len(after)}"
        )
    pairs = [(bool(was), bool(now)) for was, now in zip(before, after, strict=True)]
    joined, out = pairs.count((False, True)), pairs.count((True, False))
    wide = math.ceil(math.sqrt(len(pairs) * 1.56))
    title = f"{step} of {len(pairs)} users: {joined} get it, {out} lose it"
    with drawing(title) as (figure, axes):
        rows, columns = zip(*(divmod(i, wide) for i in range(len(pairs))), strict=True)
        shades = [_FATES[pair][1] for pair in pairs]
        axes.scatter(columns, [-row for row in rows], c=shades, marker="s", s=125, lw=0)
        axes.set_axis_off()
        axes.set_aspect("equal")
        figure.legend(
            handles=[Patch(color=shade, label=label) for label, shade in _FATES.values()],
            ncols=4,
            loc="outside lower center",
            handlelength=1.0,
        )
    return figure


def time_of_a_check(reads: TornReads) -> Figure:
    """Time of one flag check by variant on a log axis, with the requests that saw half a change."""
    rows = [(name, seconds * 1e6) for name, seconds in reads.seconds.items()]
    torn = ", ".join(f"{name} {reads.torn[name]:,}" for name in reads.asked)
    asked = "    ".join(f"{name} {n:,}" for name, n in reads.asked.items())
    gain = in_words(reads.cost, "a check is {} times as fast")
    return dots(
        pd.DataFrame(rows, columns=["variant", "µs"]),
        x="µs",
        y="variant",
        logx=True,
        form="{:.3g} µs",
        title=f"Half a change seen: {torn}; {gain}",
        xlabel="time of one flag check (µs, log scale)",
        remark=f"requests: {asked}",
    )


def reach(delays: Sequence[Sequence[float]]) -> Figure:
    """Share of watchers that know a change, by time: each change faint, all changes bold.

    ``delays``: for each change, the seconds until each watcher had it.
    """
    if not delays or not all(len(of_change) for of_change in delays):
        raise InvalidArgument("delays must hold at least one change with one watcher")
    last = pd.Series([max(of_change) for of_change in delays]) * 1e3
    title = (
        f"A change reaches {len(delays[0])} watchers in {last.median():.0f} ms "
        f"(median of {len(delays)}; {last.min():.0f} to {last.max():.0f})"
    )
    with drawing(title) as (figure, axes):
        for of_change in delays:
            _steps(axes, of_change, lw=0.8, alpha=0.25)
        _steps(axes, [seconds for of_change in delays for seconds in of_change], lw=2.5)
        axes.axvline(last.median(), color=INK, lw=1.2, dashes=(5, 2))
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set(xlabel="time since the set was sent (ms)", ylabel="watchers that know")
        remark = f"faint: each of {len(delays)} changes    bold: all changes together    "
        note(axes, f"{remark}dashes: the last watcher, median change")
    return figure


def _steps(axes: Axes, seconds: Sequence[float], **look: Any) -> None:
    at = np.concatenate([[0.0], np.sort(np.asarray(seconds, dtype=np.float64)) * 1e3])
    shares = np.arange(len(at)) / (len(at) - 1)
    axes.step(at, shares, where="post", color=COLOURS["hardened"], **look)
