"""A whole request by peers and by one ``run``: the kept figures, and their chart."""

from __future__ import annotations

import json
from importlib import resources

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from kvlab.instruments.charts.style import panels
from kvlab.instruments.palette import COLOURS, INK, OTHERS

HATCHES = ("", "///", "...", "\\\\\\")


def kept_requests() -> pd.DataFrame:
    """The figures that the repository keeps: a row a part and delay.

    Columns ``by``, ``part``, ``delay_ms``, ``round_trips``, ``ms``; ``attrs``: the environment.
    """
    file = resources.files("benchmarks") / "results" / "whole_request.json"
    facts = json.loads(file.read_text(encoding="utf-8"))
    frame = pd.DataFrame(facts["rows"])
    frame.attrs.update(facts["environment"])
    return frame


def totals(frame: pd.DataFrame) -> pd.DataFrame:
    """The sum of the parts: a row a delay, for each side its round trips and its time."""
    return frame.pivot_table(
        index="delay_ms", columns="by", values=["round_trips", "ms"], aggfunc="sum", sort=False
    )


def whole_request_chart(frame: pd.DataFrame) -> Figure:
    """A panel a delay: the peers' parts on top of each other, beside one run."""
    both = totals(frame)
    trips, times = both["round_trips"].iloc[0], both["ms"]
    title = (
        f"One request: {trips['peers']:g} round trips by four libraries, "
        f"{trips['kvlab']:g} by one run of kvlab"
    )
    delays = list(frame["delay_ms"].unique())
    with panels(title, len(delays)) as (figure, axes):
        for one, delay in zip(axes, delays, strict=True):
            of_delay = frame[frame["delay_ms"] == delay]
            _panel(one, of_delay)
            ratio = times.loc[delay, "peers"] / times.loc[delay, "kvlab"]
            one.set_title(f"{delay:g} ms added to a round trip:\n{ratio:.1f} times as quick")
        _names(axes[0], frame[frame["delay_ms"] == delays[0]])
        axes[0].set_ylabel("median time of a request (ms)")
        for one in axes:
            one.set_xticks([0, 1], ["four libraries", "kvlab"])
            one.set_xlim(-0.6, 1.6)
            one.margins(y=0.14)
            one.grid(False, axis="x")
        figure.supxlabel("closed loop, one client, through one proxy", size=9)
        figure.set_size_inches(9.2, 4.8)
    return figure


def _panel(axes: Axes, frame: pd.DataFrame) -> None:
    for at, (_, parts) in enumerate(frame.groupby("by", sort=False)):
        bottom = 0.0
        for number, part in enumerate(parts.itertuples()):
            shade = COLOURS["hardened"] if at else OTHERS[number]
            axes.bar(
                at, part.ms, 0.8, bottom, color=(shade, 0.35), edgecolor=shade,
                hatch="" if at else HATCHES[number], linewidth=1.2,
            )  # fmt: skip
            bottom += part.ms
        words = f"{bottom:.1f} ms\n{parts['round_trips'].sum()} RT"
        axes.annotate(
            words, (at, bottom), (0, 4), textcoords="offset points", ha="center", size=9.5
        )


def _names(axes: Axes, frame: pd.DataFrame) -> None:
    parts = [part for part in frame.itertuples() if part.by == "peers"]
    looks = [
        Patch(
            facecolor=(OTHERS[number], 0.35), edgecolor=OTHERS[number], hatch=HATCHES[number],
            label=f"{part.part}, {part.round_trips} RT",
        )
        for number, part in enumerate(parts)
    ]  # fmt: skip
    axes.legend(handles=looks[::-1], loc="upper left", fontsize=8, labelcolor=INK)
