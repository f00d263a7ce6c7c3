"""``kvlab bench``: measure, print a row a comparison, keep the run, compare it with an older."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvlab.bench import runner
from kvlab.bench.page import page
from kvlab.bench.run import CONTROL, BenchRun
from kvlab.bench.verdict import EQUAL, SLOWER, Verdicts, against
from kvlab.load.record.files import reserved_folder
from kvlab.load.record.words import duration

RUNS = "benches"
"""The folder of runs that are not told another."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line."""

    names: Sequence[str] = ()
    short: bool = False
    save: Path | None = None
    against: Path | None = None
    url: str = ""
    seed: int = 1
    fail_on_slower: bool = False


def bench(root: Path, asked: Asked) -> int:
    """Run the command; 1 when a benchmark failed, or a row became slower and that is to fail.

    ``root``: the folder that holds ``benchmarks/``.
    """
    plan = runner.plan(root, asked.names, short=asked.short, url=asked.url, seed=asked.seed)
    old = BenchRun.load(asked.against) if asked.against else None  # refused before an hour is lost
    length = "a short run" if asked.short else "a full run"
    names = ", ".join(map(runner.shown, plan.benchmarks))
    print(f"{length} of {names}: {len(plan.rounds)} rounds of {plan.rounds[0].turns} turns")
    run = runner.run(plan)
    verdicts = against(run, old) if old else None
    for line in told(run, verdicts):
        print(line)
    print(f"\nthe run is kept in {_saved(run, verdicts, asked.save)}")
    slower = len(verdicts.having(SLOWER)) if verdicts else 0
    return int(bool(run.failed) or (asked.fail_on_slower and slower > 0))


def told(run: BenchRun, verdicts: Verdicts | None = None) -> Iterator[str]:
    """A line a row, by benchmark; then what was not measured; then what changed."""
    heading = ""
    for row in sorted(run.rows, key=lambda row: row.benchmark != CONTROL):
        if row.benchmark != heading:
            heading = row.benchmark
            yield f"\n== {runner.shown(heading)}"
        ours, peer = (duration(seconds) for seconds in row.medians)
        less = f"  ({row.less})" if row.less else ""
        yield f"{row.name}: {run.says(row)}  [{ours} / {peer}]{less}"
    yield ""
    yield f"the same code twice differs by up to {run.noise - 1:.1%}".replace("%", " %")
    yield from (f"not compared: {line}" for line in run.absent)
    yield from (f"not measured: {name}: {why}" for name, why in run.failed.items())
    if verdicts is None:
        return
    yield "\n== against the older run"
    yield from verdicts.versions
    yield from (f"only in the older run: {name}" for name in verdicts.lost)
    for one in verdicts.each:
        yield f"{one.row.name}: {one}"
    counts = dict.fromkeys(one.word for one in verdicts.each)
    said = ", ".join(f"{len(verdicts.having(word))} {word}" for word in counts)
    yield f"in all: {said}" if {*counts} != {EQUAL} else f"in all: {said}, nothing changed"


def _saved(run: BenchRun, verdicts: Verdicts | None, folder: Path | None) -> Path:
    if folder is None:
        name = time.strftime("%Y%m%d-%H%M%S", time.localtime(run.began))
        folder = reserved_folder(Path(RUNS), name)
    return run.save(folder, {"report.html": page(run, verdicts)})
