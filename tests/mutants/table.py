"""``tests/MUTANTS.md``: which hardenings were taken out, and which test noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from mutants.mutant import ROOT, Mutant

TABLE = ROOT / "tests" / "MUTANTS.md"

_HEAD = """\
# What the suite notices

Written by `make mutants`, never by hand. Each row is a hardening that was taken out of a copy of
the program, alone; the promise that rests on it; and the first of the chosen tests that then
failed. A row without a test would be a promise that nobody checks.

| pattern | taken out | promise | caught by |
| --- | --- | --- | --- |
"""
_NOTHING = "**nothing**"


def render(mutants: Sequence[Mutant], caught_by: Mapping[Mutant, str | None]) -> str:
    """The whole file. It says neither times nor counts of tests: it changes when a fact does."""
    rows = []
    for mutant in mutants:
        test = caught_by.get(mutant)
        cells = (
            f"`{mutant.pattern}`",
            f"{_cell(mutant.removed)} ([{mutant.file.rpartition('/')[2]}](../{mutant.file}))",
            _cell(mutant.promise),
            _NOTHING if test is None else f"`{_cell(test)}`",
        )
        rows.append("| " + " | ".join(cells) + " |\n")
    return _HEAD + "".join(rows)


def read(mutants: Sequence[Mutant], text: str) -> dict[Mutant, str | None]:
    """Who caught what, by the table; of mutants that it does not list, nothing."""
    lines = dict(line.rstrip(" |").rsplit(" | ", 1) for line in text.splitlines() if " | " in line)
    caught: dict[Mutant, str | None] = {}
    for mutant in mutants:
        (row,) = render([mutant], {}).splitlines()[-1:]
        test = lines.get(row.rsplit(" | ", 1)[0])
        if test is not None:
            caught[mutant] = None if test == _NOTHING else test.strip("`").replace("\\|", "|")
    return caught


def listed(mutants: Sequence[Mutant]) -> str:
    """For people: the mutants by pattern."""
    text = ""
    for pattern, group in groupby(mutants, lambda mutant: mutant.pattern):
        text += f"{pattern}\n" + "".join(f"  {m.removed}  ({m.file})\n" for m in group)
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
