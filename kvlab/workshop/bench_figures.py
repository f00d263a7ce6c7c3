"""The README's key figures of a benchmark: taken from the folder of a run, never by hand.

python -m kvlab.workshop.bench_figures benches/20261129-023000
"""

from __future__ import annotations

import sys
from pathlib import Path

from kvlab.bench import BenchRun
from kvlab.errors import InvalidArgument
from kvlab.workshop import readme


def table(run: BenchRun) -> str:
    """The rows against packages that people install, as Markdown, and how they were measured."""
    lines = ["| pattern | what | against | time of kvlab, measured by the peer's |"]
    lines += ["| --- | --- | --- | --- |"]
    for row in filter(lambda row: row.of_package, run.rows):
        says = run.says(row).removeprefix(f"{row.subject} takes ")
        cells = (row.benchmark.replace("_", " "), row.case, f"{row.peer} {row.version}", says)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, "", _measured(run)])


def _measured(run: BenchRun) -> str:
    facts = run.environment
    length = "short" if run.settings.get("short") else "full"
    rounds = len(run.settings.get("rounds", ()))
    return (
        f"A {length} run of {rounds} rounds on {facts.get('engine')} "
        f"{facts.get('engine_version')}, Python {facts.get('python')}, {facts.get('cpus')} CPUs; "
        f"one client on loopback, {facts.get('cores', 'any core for client and server')}. "
        f"The same code twice differed by up to {run.noise_in_words}."
    )


def main() -> None:
    """Write the figures of the run in the folder that the argument names into the README."""
    if len(sys.argv) != 2:
        raise InvalidArgument("usage: python -m kvlab.workshop.bench_figures FOLDER")
    file = readme.ROOT / "README.md"
    text = file.read_text(encoding="utf-8")
    figures = table(BenchRun.load(Path(sys.argv[1])))
    file.write_text(readme.replaced(text, "bench", figures), encoding="utf-8")


if __name__ == "__main__":
    main()
