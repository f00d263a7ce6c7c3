"""The figures of the chapter on locks: the stays of a crowd, and a holder that freezes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvlab.chapters.distributed_lock.freeze import FREEZES_AT, Freeze
from kvlab.chapters.distributed_lock.stays import Stay
from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import note
from kvlab.instruments.charts.style import drawing
from kvlab.instruments.palette import COLOURS, IDLE, INK, OTHERS

CLIENT_COLOURS = {"A": OTHERS[2], "B": OTHERS[3]}
FREEZE_SECONDS = 21.0
"""The width of the figure of a freeze: the same for every position of its knobs."""


def stays_chart(stays: Sequence[Stay], *, title: str) -> Figure:
    """A row for each client in order of entry: grey while it waits, blue while it is inside."""
    if not stays:
        raise InvalidArgument("stays must hold at least one stay")
    rows = sorted(stays, key=lambda stay: stay.began)
    shade = COLOURS["hardened"]
    with drawing(title) as (figure, axes):
        for y, stay in enumerate(rows, start=1):
            axes.plot([stay.asked * 1e3, stay.began * 1e3], [y, y], color=IDLE, lw=1.4)
            inside = [stay.began * 1e3, stay.ended * 1e3]
            axes.plot(inside, [y, y], color=shade, lw=3.4, solid_capstyle="butt")
        for y, (stay, after) in enumerate(pairwise(rows), start=1):
            handed_on = after.began * 1e3
            axes.plot([stay.ended * 1e3, handed_on, handed_on], [y, y, y + 1], color=shade, lw=0.6)
        axes.set_ylim(len(rows) + 1, 0)
        axes.set_xlim(left=0)
        axes.set_yticks([1, *range(10, len(rows) + 1, 10)])
        axes.grid(False, axis="y")
        axes.set_ylabel("client, in order of entry")
        axes.set_xlabel("milliseconds since the first client asked")
        note(axes, "grey: the client waits    blue: the client is inside")
    return figure


def freeze_chart(ttl: float = 5.0, pause: float = 7.0) -> Figure:
    """Three rows over time: what A believes, which client the server names, what B believes.

    ``ttl`` and ``pause`` are seconds, as in :class:`Freeze`. The axes are the same for all values.
    """
    freeze = Freeze(ttl, pause)
    with drawing(str(freeze)) as (figure, axes):
        _believers(axes, freeze)
        _frozen_part(axes, freeze)
        _writes(axes, freeze)
        axes.axvline(freeze.ttl, color=INK, lw=1.2, dashes=(5, 2))
        axes.annotate("A's TTL ends", (freeze.ttl, 2.5), xytext=(4, 0), textcoords="offset points")
        axes.set_yticks([0, 1, 2], ["A believes", "the server says", "B believes"])
        axes.set_ylim(2.62, -0.5)
        axes.set_xlim(0, FREEZE_SECONDS)
        axes.set_xticks(range(0, int(FREEZE_SECONDS) + 1, 2))
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set_xlabel("seconds since A took the lock")
        check = "raises" if freeze.check_stops_a else "passes"
        both = f"shaded: both believe that they hold the lock, {freeze.both_inside:g} s"
        note(axes, f"{both}    held.check() just before A's write: {check}")
    return figure


def _believers(axes: Axes, freeze: Freeze) -> None:
    """Each client's bar is its time of belief; the server's row shows who really has the lock."""
    for row, client, begin, end in (
        (0, "A", 0.0, freeze.a_writes),
        (1, "A", 0.0, freeze.b_enters),
        (1, "B", freeze.b_enters, freeze.b_writes),
        (2, "B", freeze.b_enters, freeze.b_writes),
    ):
        axes.barh(row, end - begin, 0.5, begin, color=CLIENT_COLOURS[client], alpha=0.8, lw=0)
    if freeze.both_inside:
        end = freeze.b_enters + freeze.both_inside
        axes.axvspan(freeze.b_enters, end, color=COLOURS["naive"], alpha=0.25, lw=0)


def _frozen_part(axes: Axes, freeze: Freeze) -> None:
    if not freeze.pause:
        return
    shade = CLIENT_COLOURS["A"]
    axes.barh(
        0, freeze.pause, 0.5, FREEZES_AT, facecolor="none", edgecolor=shade, hatch="///", lw=1.5
    )
    axes.annotate(
        "frozen",
        (FREEZES_AT + freeze.pause / 2, -0.25),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        color=shade,
        fontweight="bold",
    )


def _writes(axes: Axes, freeze: Freeze) -> None:
    for client, row, moment in (("A", 0, freeze.a_writes), ("B", 2, freeze.b_writes)):
        axes.plot([moment], [row], "D", color=INK, ms=8, zorder=5)
        axes.annotate(
            f"{client} writes",
            (moment, row),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold",
        )
