"""The broken cells of the matrix: each a line that opens its shortest run."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from kvlab.bench.matrix import EARLIER, Cell, Matrix

_PLACE = {True: "broke again", False: "did not break", None: "was not tried"}


@dataclass(frozen=True)
class BrokenRuns:
    """``cells``: those that break. In a notebook each is a line that opens; as text all lines."""

    cells: tuple[Cell, ...]

    def _repr_html_(self) -> str:
        parts = [
            f"<details><summary>✗ <b>{escape(cell.name)}</b>, {escape(cell.family)}, "
            f"{escape(_words(cell.fault))}: {escape(cell.says)}</summary>"
            f"<pre>{escape(_run(cell))}</pre></details>"
            for cell in self.cells
        ]
        return "\n".join(parts)

    def __repr__(self) -> str:
        lines = [
            f'✗ {cell.name}, {cell.family}, {_words(cell.fault)}: {cell.says}; "{cell.replay}"'
            for cell in self.cells
        ]
        return "\n".join(lines)


def broken_runs(matrix: Matrix) -> BrokenRuns:
    """Of each row the cells that break, without those that follow from its first column."""
    broken = (cell for cell in matrix.cells if cell.verdict == "breaks")
    return BrokenRuns(tuple(cell for cell in broken if cell.says != EARLIER))


def _words(fault: str) -> str:
    return "no fault" if fault == "none" else fault


def _run(cell: Cell) -> str:
    place = _PLACE[cell.reproduced]
    again = f"On a real server without the explorer the same schedule {place}."
    return f"promise: {cell.promise}\n{again}\n\n{cell.timeline}"
