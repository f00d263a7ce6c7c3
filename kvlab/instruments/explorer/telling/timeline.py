"""A run as a person reads it: a numbered timeline in text, a sequence diagram in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvlab.instruments.explorer.run.events import Event
from kvlab.instruments.explorer.telling import diagram
from kvlab.instruments.explorer.telling.wording import State, changes, ending, said

HEAD, TAIL = 40, 8  # steps shown of a longer run


@dataclass(frozen=True)
class Timeline:
    """One run. ``states`` has one more than ``trace``: the first is before it."""

    names: tuple[str, ...]
    schedule: str
    trace: tuple[Event, ...]
    states: tuple[State, ...]
    results: tuple[Any, ...]
    problem: str | None

    def __str__(self) -> str:
        lines = [self.verdict, f'replay it: "{self.schedule}"', ""]
        if self.states[0]:
            lines += [f"    at first {change}" for change in changes({}, self.states[0])]
        indent = max(map(len, (*self.names, "server"))) + 2
        for number, event in self.told():
            if event is None:
                lines.append(f"  … {number} steps more")
                continue
            who = "server" if event.client is None else self.names[event.client]
            lines.append(f"{number + 1:3} {who:{indent}}{said(event)}")
            changed = changes(self.states[number], self.states[number + 1])
            lines += [f"    {'':{indent}}    {change}" for change in changed]
        return "\n".join([*lines, "", *self.endings])

    __repr__ = __str__

    @property
    def verdict(self) -> str:
        return "holds" if self.problem is None else f"broken: {self.problem}"

    @property
    def endings(self) -> list[str]:
        """What became of each client."""
        both = zip(self.names, self.results, strict=True)
        return [f"{name} {ending(result)}" for name, result in both]

    def told(self) -> list[tuple[int, Event | None]]:
        """The events with their numbers from 0; of a very long run the middle is left out, and
        there is the number of events left out, with None."""
        numbered: list[tuple[int, Event | None]] = list(enumerate(self.trace))
        left_out = len(numbered) - HEAD - TAIL
        if left_out > 0:
            numbered[HEAD:-TAIL] = [(left_out, None)]
        return numbered

    def svg(self, title: str = "") -> str:
        """The sequence diagram."""
        return diagram.draw(self, title)

    def _repr_svg_(self) -> str:
        return self.svg()
