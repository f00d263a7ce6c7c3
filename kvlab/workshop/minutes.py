"""The table of minutes in the trainer's guide: reading is estimated, running is measured.

The estimates stand at the head of each chapter and in each exercise. The seconds of a run stand in
the metadata of the executed notebook, so the table is as old as the notebooks and no older.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat

from kvlab.errors import KvlabError
from kvlab.workshop import exercises, workbook
from kvlab.workshop.readme import replaced

ROOT = workbook.released()
_HEAD = (
    "| chapter | reading, minutes (estimated) | all cells, seconds (measured) "
    "| exercises, minutes (estimated) | solutions and checks, seconds (measured) |"
)


def table(root: Path = ROOT) -> str:
    """A row for each chapter, as Markdown."""
    rows = [_HEAD, "|---|---|---|---|---|"]
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        book = nbformat.read(path, as_version=4)
        title = re.search(r"^# (.+)$", book.cells[0].source, re.MULTILINE)
        reading = re.search(r"About (\d+) minutes", book.cells[0].source)
        if not title or not reading:
            raise KvlabError(f'{path.name} must begin with a title and "About … minutes"')
        every = exercises.every()
        own = " + ".join(str(one.minutes) for one in every if one.chapter == path.name[:2])
        solved = root / "notebooks" / "solutions" / path.name
        solving = _seconds(nbformat.read(solved, as_version=4)) if own and solved.exists() else ""
        cells = (f"{int(path.name[:2])} {title[1]}", reading[1], _seconds(book), own, solving)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def update(root: Path = ROOT) -> None:
    """Write the table into ``notebooks/TRAINER.md``."""
    guide = root / "notebooks" / "TRAINER.md"
    old = guide.read_text(encoding="utf-8")
    new = replaced(old, "minutes", table(root))
    if new != old:
        guide.write_text(new, encoding="utf-8")


def _seconds(book: Any) -> str:
    seconds = book.metadata.get("kvlab", {}).get("seconds")
    return "not yet" if seconds is None else f"{seconds:.0f}"
