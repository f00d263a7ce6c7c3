"""Which promises libraries keep, as found by the explorer: a row a library, a column a fault.

``python -m benchmarks.studies.explored_libraries --save FILE`` makes one; ``Matrix.load(FILE)``
reads it back, where no library is installed too. A verdict:

    holds            in every order of the commands, with the fault at every place
    breaks           one run, kept with its schedule, breaks the promise
    inherent         it breaks, and no library of this family can keep the promise under this fault
    not applicable   the fault is none for this family, or never comes
    undecided        the search ended before all runs were made, or cannot make all
    can't be driven  the library is not installed, or the explorer cannot hold it

Not promised: any order of the libraries. How many runs break says how the search went.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from kvlab.errors import InvalidArgument
from kvlab.load.record.files import reading

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "kvlab-library-matrix-1"
Verdict = Literal["holds", "breaks", "inherent", "not applicable", "undecided", "can't be driven"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
EARLIER = "already without a fault"
"""What a cell says whose row is broken in its first column: nothing was searched."""


@dataclass(frozen=True)
class Cell:
    """One library under one fault.

    ``says``: what is broken, or why there is no verdict; ``schedules``: how many were run;
    ``replay``: the shortest broken run, for ``kvlab.instruments.replay``; ``timeline``: that run in
    words; ``reproduced``: whether the same schedule broke the promise on a real server without the
    explorer, and None where this was not asked; ``round_trips``: of one operation, alone.
    """

    family: str
    promise: str
    library: str
    package: str
    version: str
    fault: str
    verdict: Verdict
    says: str = ""
    schedules: int = 0
    replay: str = ""
    timeline: str = ""
    reproduced: bool | None = None
    round_trips: int | None = None

    @property
    def name(self) -> str:
        """As in "limits 5.8.0, fixed window"; kvlab's own and the tutorial's have no version."""
        words, comma, rest = self.library.partition(",")
        return f"{words} {self.version}{comma}{rest}" if self.version else self.library

    def __str__(self) -> str:
        lines = [f"{self.name}, {self.fault}: {self.verdict}", f"promise: {self.promise}"]
        lines += [self.says] if self.says else []
        if self.reproduced is not None:
            again = "broke again" if self.reproduced else "did not break"
            lines.append(f"on a real server without the explorer the same schedule {again}")
        return "\n".join([*lines, "", self.timeline] if self.timeline else lines)


@dataclass(frozen=True)
class Quote:
    """What a library says of itself, word for word; ``place``: where. "" where it says nothing."""

    words: str
    place: str


@dataclass(frozen=True)
class Matrix:
    """``cells``: row after row, each row with the same columns. ``quotes``: by package."""

    seconds: float
    environment: Mapping[str, Any]
    cells: tuple[Cell, ...]
    quotes: Mapping[str, Quote] = field(default_factory=dict)

    @cached_property
    def faults(self) -> tuple[str, ...]:
        """The columns, "none" first."""
        return tuple(dict.fromkeys(cell.fault for cell in self.cells))

    @cached_property
    def families(self) -> Mapping[str, tuple[tuple[Cell, ...], ...]]:
        """The rows of each family."""
        rows: dict[str, dict[str, list[Cell]]] = {}
        for cell in self.cells:
            rows.setdefault(cell.family, {}).setdefault(cell.library, []).append(cell)
        return {name: tuple(map(tuple, of.values())) for name, of in rows.items()}

    def cell(self, library: str, fault: str = "none", family: str = "") -> Cell:
        """One cell. ``family`` is asked for where a library has two rows."""
        found = [
            cell
            for cell in self.cells
            if (cell.library, cell.fault) == (library, fault) and family in ("", cell.family)
        ]
        if len(found) != 1:
            raise InvalidArgument(f"{len(found)} cells of {library!r} and {fault!r}, {family!r}")
        return found[0]

    def frame(self) -> pd.DataFrame:
        """A row a cell, for pandas."""
        import pandas as pd

        return pd.DataFrame([asdict(cell) for cell in self.cells])

    def save(self, file: str | PathLike[str]) -> None:
        """Write it as JSON, a line a cell."""
        facts = asdict(self)
        cells = facts.pop("cells")
        lines = [json.dumps({"format": FORMAT} | facts)[:-1] + ', "cells": [']
        lines.append(",\n".join(json.dumps(_without_defaults(cell)) for cell in cells))
        Path(file).write_text("\n".join([*lines, "]}"]) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: str | PathLike[str]) -> Matrix:
        """Read what ``save`` wrote. Raises ``InvalidArgument`` for another file."""
        with reading(Path(file)) as raw:
            facts = json.loads(raw)
            if facts.pop("format", None) != FORMAT:
                raise InvalidArgument(f"its format is not {FORMAT}")
            cells = tuple(Cell(**cell) for cell in facts.pop("cells"))
            quotes = {name: Quote(**quote) for name, quote in facts.pop("quotes").items()}
            return cls(cells=cells, quotes=quotes, **facts)


def _without_defaults(cell: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {one.name: one.default for one in fields(Cell)}
    return {name: value for name, value in cell.items() if value != defaults[name]}
