"""A run as a person reads it: a numbered timeline in text, a sequence diagram in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvlab.instruments.explorer.run.steps import Step, Unfinished
from kvlab.instruments.explorer.shortening import shortened
from kvlab.instruments.explorer.timeline.diagram import Content, Diagram, Row, laid_out
from kvlab.instruments.explorer.timeline.wording import State, changes, ending, line_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD, TAIL = 24, 8
"""Steps shown of a longer run: the first and the last."""


@dataclass(frozen=True)
class Timeline:
    """One run. ``states`` has one more than ``trace``: the first is before it."""

    names: tuple[str, ...]
    schedule: str
    trace: tuple[Step, ...]
    states: tuple[State, ...]
    results: tuple[Any, ...]
    problem: str | None

    def __str__(self) -> str:
        lines = [self.verdict, f'replay it: "{self.schedule}"', ""]
        lines += [f"    at first {change}" for change in self._at_first]
        indent = max(map(len, (*self.names, "server"))) + 2
        for row in self._rows:
            if row.step is None:
                lines.append(f"  … {row.number} more steps")
                continue
            who = "server" if row.step.client is None else self.names[row.step.client]
            lines.append(f"{row.number:3} {who:{indent}}{line_of(row.step)}")
            lines += [f"    {'':{indent}}    {change}" for change in row.changes]
        return "\n".join([*lines, "", *self._endings])

    __repr__ = __str__

    @property
    def verdict(self) -> str:
        return "holds" if self.problem is None else f"broken: {shortened(self.problem)}"

    @property
    def _at_first(self) -> list[str]:
        return changes({}, self.states[0])

    @property
    def _endings(self) -> list[str]:
        """What became of each client."""
        both = zip(self.names, self.results, strict=True)
        return [f"{name} {ending(result)}" for name, result in both]

    @property
    def _rows(self) -> list[Row]:
        """The steps; of a very long run the middle is left out."""
        rows = [
            Row(number, step, changes(self.states[number - 1], self.states[number]))
            for number, step in enumerate(self.trace, 1)
        ]
        left_out = len(rows) - HEAD - TAIL
        if left_out > 0:
            rows[HEAD:-TAIL] = [Row(left_out, None)]
        return rows

    def diagram(self, title: str = "") -> Diagram:
        """What stands where in the sequence diagram."""
        waiting = [isinstance(result, Unfinished) for result in self.results]
        return laid_out(
            Content(
                title=title,
                names=self.names,
                at_first=self._at_first,
                rows=self._rows,
                waiting=frozenset(number for number, waits in enumerate(waiting) if waits),
                endings=self._endings,
                verdict=self.verdict,
                broken=self.problem is not None,
                schedule=self.schedule,
            )
        )

    def figure(self, title: str = "") -> Figure:
        """The sequence diagram as a matplotlib figure, at most 960 pixels wide."""
        from kvlab.instruments.explorer.timeline.drawing import drawn  # no matplotlib before

        return drawn(self.diagram(title))

    def png(self, title: str = "") -> tuple[bytes, dict[str, int]]:
        """The sequence diagram as a PNG, and its width and height on the page."""
        from kvlab.instruments.picture import png_of

        return png_of(self.figure(title))

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self.png()
