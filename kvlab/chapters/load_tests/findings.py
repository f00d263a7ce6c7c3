"""What a load run found: its findings as text, and the windows over their bound."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from kvlab.load.record.drawing import excess
from kvlab.load.record.run import LoadRun

WIDTH = 92
NAIVE = "naive"
"""How the keys of the control begin."""


def findings_text(run: LoadRun, *, evidence: int = 0) -> str:
    """Each finding with its verdict, and with at most ``evidence`` lines of its evidence."""
    lines: list[str] = []
    for finding in run.findings:
        verdict = "HOLDS" if finding.holds else "BROKEN"
        wrapped = textwrap.wrap(f"{verdict}: {finding.says}", WIDTH, subsequent_indent="    ")
        lines += [*wrapped, *(f"    {text}" for text in finding.evidence[:evidence])]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class OverBound:
    """Windows in which a variant admitted more than its bound, of all its windows."""

    over: int
    windows: int

    def __str__(self) -> str:
        return f"{self.over} of {self.windows}"


def over_bound(run: LoadRun) -> dict[str, OverBound]:
    """The windows over their bound, of the control and of the hardened limiter in one run."""
    assert run.windows is not None
    control = run.windows["key"].str.startswith(NAIVE)
    counts = {}
    for name, rows in ((NAIVE, run.windows[control]), ("hardened", run.windows[~control])):
        counts[name] = OverBound(int((excess(rows) > 0).sum()), len(rows))
    return counts
