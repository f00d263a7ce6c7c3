"""What an exploration found, and how it is shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from kvlab.instruments.explorer.timeline.timeline import Timeline


class Violated(AssertionError):
    """The truth of a story was asserted, and the story is broken; the message is its timeline."""


@dataclass(frozen=True)
class Story:
    """What an exploration found. As the last value of a notebook cell it draws ``shortest``.

    * ``holds``: no run broke the invariant.
    * ``schedules``: how many runs were made; ``violations``: how many of them broke the
      invariant; ``broken``: how many, by the problem.
    * ``complete``: every order was run; otherwise there are ``at_least`` so many.
    * ``shortest``: of the runs that broke the invariant, the one with the fewest faults, then the
      fewest steps, then the fewest changes of client; of a replay, its run. None when it holds.
    * ``seconds``: how long the exploration took.

    ``assert explore(…)`` passes when the story holds and is complete; otherwise its error says
    why not.
    """

    schedules: int
    at_least: int
    complete: bool
    seconds: float
    broken: Counter[str] = field(default_factory=Counter)
    shortest: Timeline | None = None

    @property
    def violations(self) -> int:
        return sum(self.broken.values())

    @property
    def holds(self) -> bool:
        return not self.broken

    @property
    def schedule(self) -> str | None:
        """The choices of ``shortest``, for ``replay``."""
        return None if self.shortest is None else self.shortest.schedule

    @property
    def summary(self) -> str:
        """One line."""
        more = "" if self.complete else f" (of at least {self.at_least:,})"
        if self.schedules == 1 and self.complete:
            return f"{'holds' if self.holds else 'broken'} in the only schedule"
        runs = f"{self.schedules:,} schedule{'s' * (self.schedules != 1)}{more}"
        if self.holds:
            return f"holds in all of {runs}" if self.complete else f"held in {runs}"
        return f"broken in {self.violations:,} of {runs}"

    def __str__(self) -> str:
        shown = "" if self.shortest is None else f"\n\n{self.shortest}"
        return self.summary + shown

    __repr__ = __str__

    def _repr_png_(self) -> tuple[bytes, dict[str, int]] | None:
        return None if self.shortest is None else self.shortest.png(self.summary)

    def __bool__(self) -> bool:
        __tracebackhide__ = True  # pytest shows the assert, not this
        if not self.holds:
            raise Violated(str(self))
        if not self.complete:
            raise Violated(
                f"{self.summary}, and not complete: allow more max_schedules or max_seconds, or "
                "set reduce=True; story.holds does not ask whether the story is complete"
            )
        return True
