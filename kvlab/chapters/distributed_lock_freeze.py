"""A holder that freezes: who believes to hold the lock, and whose write is kept. No server.

The model, all times in seconds. A takes a lock with a TTL at 0, works ``WORK``, writes, releases.
Half-way through its work it freezes for ``pause``. B waits, gets the lock when A releases or the
TTL ends, works ``WORK``, writes, releases. The fence of B is higher than that of A.
"""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from kvlab.core.checks import real
from kvlab.instruments.charts.style import drawing, note
from kvlab.instruments.palette import COLOURS, INK, OTHERS

WORK = 2.0
FREEZES = WORK / 2


@dataclass(frozen=True, slots=True)
class Frozen:
    """What happens with one TTL and one pause."""

    ttl: float
    pause: float

    @property
    def thaws(self) -> float:
        """When A goes on."""
        return FREEZES + self.pause

    @property
    def a_writes(self) -> float:
        """When A's write arrives, if nothing stops it."""
        return WORK + self.pause

    @property
    def b_enters(self) -> float:
        """When B is given the lock."""
        return min(self.ttl, self.a_writes)

    @property
    def b_writes(self) -> float:
        """When B's write arrives."""
        return self.b_enters + WORK

    @property
    def both(self) -> float:
        """Seconds during which A and B both believe to hold the lock."""
        return max(0.0, min(self.a_writes, self.b_writes) - self.b_enters)

    @property
    def late(self) -> bool:
        """A writes after B has written: without fences B's work is lost, with them A is refused."""
        return self.a_writes > self.b_writes

    @property
    def check_stops_a(self) -> bool:
        """``held.check()`` just before A's write raises."""
        return self.a_writes >= self.ttl

    def __str__(self) -> str:
        when = f"TTL {self.ttl:g} s, pause {self.pause:g} s: "
        if not self.check_stops_a:
            return when + "A is back in time, B waits"
        if self.late:
            return when + "A overwrites B, unless fences refuse it"
        return when + f"both inside for {self.both:g} s"


def frozen(ttl: float, pause: float) -> Frozen:
    """The model's story. ``ttl`` above half of ``WORK``, so that A holds the lock as it freezes."""
    return Frozen(real("ttl", ttl, FREEZES, above=True), real("pause", pause, 0))


def chart(story: Frozen) -> Figure:
    """Three rows over time: what A believes, whom the server names, what B believes."""
    with drawing(str(story)) as (figure, axes):
        b_ends = story.b_writes
        end = max(story.a_writes, story.b_writes, story.ttl) + 1
        shade = {"A": OTHERS[2], "B": OTHERS[3]}

        def bar(row: int, who: str, begin: float, finish: float) -> None:
            axes.barh(row, finish - begin, 0.5, begin, color=shade[who], lw=0)

        bar(0, "A", 0, story.a_writes)
        bar(1, "A", 0, story.b_enters)
        bar(1, "B", story.b_enters, b_ends)
        bar(2, "B", story.b_enters, b_ends)
        if story.pause:
            frozen = {"color": "none", "hatch": "////", "edgecolor": INK, "lw": 0}
            axes.barh(0, story.pause, 0.5, FREEZES, **frozen)
            axes.text(FREEZES + story.pause / 2, -0.28, "frozen", ha="center", fontsize=10)
        if story.both:
            axes.axvspan(story.b_enters, story.b_enters + story.both, color=COLOURS["naive"],
                         alpha=0.18, lw=0)  # fmt: skip
        for who, row, at in (("A", 0, story.a_writes), ("B", 2, story.b_writes)):
            axes.plot([at], [row], "D", color=INK, ms=8, zorder=5)
            axes.annotate(f"{who} writes", (at, row), xytext=(9, 0), textcoords="offset points",
                          va="center", fontweight="bold")  # fmt: skip
        axes.axvline(story.ttl, color=INK, lw=1.2, dashes=(5, 2))
        axes.annotate("A's TTL ends", (story.ttl, 2.48), xytext=(4, 0), textcoords="offset points",
                      va="center")  # fmt: skip
        axes.set_yticks([0, 1, 2], ["A believes", "the server says", "B believes"])
        axes.set_ylim(2.62, -0.5)
        axes.set_xlim(0, end + 0.12 * end)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set_xlabel("seconds since A took the lock")
        stopped = "raises" if story.check_stops_a else "passes"
        note(axes, f"shaded: both believe to be inside, {story.both:g} s    "
                   f"held.check() just before A's write: {stopped}")  # fmt: skip
    return figure
