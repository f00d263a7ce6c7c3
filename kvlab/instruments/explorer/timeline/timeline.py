"""A run as a person reads it: a numbered timeline in text, a sequence diagram in a notebook."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kvlab.instruments.explorer.run.steps import Step, Unfinished
from kvlab.instruments.explorer.shortening import shortened
from kvlab.instruments.explorer.timeline.columns import Spell
from kvlab.instruments.explorer.timeline.diagram import Content, Diagram, laid_out
from kvlab.instruments.explorer.timeline.names import Shown, shown
from kvlab.instruments.explorer.timeline.rows import Row, in_short
from kvlab.instruments.explorer.timeline.wording import State, changes, ending, line_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Timeline:
    """One run. ``states`` has one more than ``trace``: the first is before it."""

    names: tuple[str, ...]
    schedule: str
    trace: tuple[Step, ...]
    states: tuple[State, ...]
    results: tuple[Any, ...]
    problem: str | None
    undecided: str | None = None

    def __str__(self) -> str:
        lines = [self.verdict, f'replay it: "{self.schedule}"', ""]
        lines += [f"    at first {change}" for change in self._at_first]
        indent = max(map(len, (*self.names, "server"))) + 2
        for row in self._rows:
            if row.step is None:
                lines.append(f"  {row.left_out}")
                continue
            who = "server" if row.step.client is None else self.names[row.step.client]
            lines.append(f"{row.number:3} {who:{indent}}{line_of(row.step)}")
            lines += [f"    {'':{indent}}    {change}" for change in row.changes]
        return "\n".join([*lines, "", *self._endings])

    __repr__ = __str__

    @property
    def verdict(self) -> str:
        if self.problem is not None:
            return f"broken: {shortened(self.problem)}"
        return f"undecided: {self.undecided}" if self.undecided else "holds"

    @functools.cached_property
    def _shown(self) -> Shown:
        return shown(self.trace, self.states, self.problem or "")

    @property
    def _at_first(self) -> list[str]:
        return changes({}, self._shown.states[0], self._shown.matter)

    @property
    def _endings(self) -> list[str]:
        """What became of each client."""
        both = zip(self.names, self.results, strict=True)
        return [f"{name} {ending(result)}" for name, result in both]

    @property
    def _rows(self) -> list[Row]:
        states, matter = self._shown.states, self._shown.matter
        return in_short(
            [
                Row(number, step, changes(states[number - 1], states[number], matter))
                for number, step in enumerate(self._shown.trace, 1)
            ]
        )

    def diagram(self, title: str = "", spell: Spell = str) -> Diagram:
        """What stands where in the sequence diagram."""
        waiting = [isinstance(result, Unfinished) for result in self.results]
        return laid_out(
            Content(
                title=spell(title),
                names=[spell(name) for name in self.names],
                at_first=[spell(change) for change in self._at_first],
                rows=[replace(row, changes=list(map(spell, row.changes))) for row in self._rows],
                waiting=frozenset(number for number, waits in enumerate(waiting) if waits),
                endings=[spell(ending) for ending in self._endings],
                verdict=spell(self.verdict),
                broken=self.verdict != "holds",
                schedule=self.schedule,
                spell=spell,
            )
        )

    def figure(self, title: str = "") -> Figure:
        """The sequence diagram as a matplotlib figure, at most 960 pixels wide."""
        from kvlab.instruments.explorer.timeline.drawing import drawn, spell  # no matplotlib before

        return drawn(self.diagram(title, spell))

    def png(self, title: str = "") -> tuple[bytes, dict[str, int]]:
        """The sequence diagram as a PNG, and its width and height on the page."""
        from kvlab.instruments.picture import png_of

        return png_of(self.figure(title))

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self.png()
