"""``kvlab bench``: measure, print a row a comparison, keep the run, compare it with an older."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvlab.bench import runner
from kvlab.bench.run import CONTROL, BenchRun
from kvlab.bench.verdict import EQUAL, SLOWER, Verdicts, against
from kvlab.errors import InvalidArgument
from kvlab.load.record.files import empty_folder, reserved_folder
from kvlab.load.record.words import duration, printable

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
    if asked.fail_on_slower and asked.against is None:
        raise InvalidArgument("--fail-on-slower needs --against: the folder of an older run")
    plan = runner.plan(root, asked.names, short=asked.short, url=asked.url, seed=asked.seed)
    # What would lose the run is refused before an hour is measured.
    old = _older(asked.against, plan) if asked.against else None
    folder = _folder(asked.save)
    length = "a short run" if asked.short else "a full run"
    names = ", ".join(map(runner.shown, plan.benchmarks))
    print(f"{length} of {names}: {len(plan.rounds)} rounds of {plan.rounds[0].turns} turns")
    try:
        run = runner.run(plan)
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise
    run.save(folder)
    from kvlab.bench.page import page  # matplotlib takes a second to import

    verdicts = _judged(run, old) if old else None
    (folder / "report.html").write_text(page(run, verdicts), encoding="utf-8")
    print("\n".join(told(run, verdicts)))
    print(f"\nthe run is kept in {folder}")
    if old and verdicts is None:
        raise InvalidArgument(f"nothing is compared: {asked.against} has no row in common with it")
    slower = len(verdicts.having(SLOWER)) if verdicts else 0
    return int(bool(run.failed) or (asked.fail_on_slower and slower > 0))


def _older(folder: Path, plan: runner.Plan) -> BenchRun:
    """The older run, which must have a row of a benchmark of the plan."""
    old = BenchRun.load(folder)
    there = {row.benchmark for row in old.rows if row.benchmark != CONTROL}
    if there.isdisjoint(plan.benchmarks):
        names = printable(", ".join(map(runner.shown, sorted(there))), 300) or "no benchmark"
        raise InvalidArgument(f"{folder} has no row in common with this run: it has {names}")
    return old


def _judged(run: BenchRun, old: BenchRun) -> Verdicts | None:
    """None when the cases of the benchmarks have other names in the older run."""
    with suppress(InvalidArgument):
        return against(run, old)
    return None


def told(run: BenchRun, verdicts: Verdicts | None = None) -> Iterator[str]:
    """The lines of :func:`_told`, without what would steer a terminal: a case or a version may be
    anybody's text."""
    return map(printable, _told(run, verdicts))


def _told(run: BenchRun, verdicts: Verdicts | None = None) -> Iterator[str]:
    """A line a row, by benchmark; then what was not measured; then what changed."""
    heading = ""
    for row in sorted(run.rows, key=lambda row: row.benchmark != CONTROL):
        if row.benchmark != heading:
            heading = row.benchmark
            yield ""
            yield f"== {runner.shown(heading)}"
        ours, peer = (duration(seconds) for seconds in row.medians)
        less = f"  ({row.less})" if row.less else ""
        yield f"{row.name}: {run.says(row)}  [{ours} / {peer}]{less}"
    yield ""
    yield f"the same code twice differs by up to {run.noise_in_words}"
    yield from (f"not compared: {line}" for line in run.absent)
    yield from (f"not measured: {name}: {why}" for name, why in run.failed.items())
    if verdicts is None:
        return
    yield ""
    yield "== against the older run"
    yield from verdicts.versions
    yield from (f"only in the older run: {name}" for name in verdicts.lost)
    for one in verdicts.each:
        yield f"{one.row.name}: {one}"
    counts = dict.fromkeys(one.word for one in verdicts.each)
    said = ", ".join(f"{len(verdicts.having(word))} {word}" for word in counts)
    yield f"in all: {said}" if {*counts} != {EQUAL} else f"in all: {said}, nothing changed"


def _folder(asked: Path | None) -> Path:
    if asked is not None:
        return empty_folder(asked)
    try:
        return reserved_folder(Path(RUNS), time.strftime("%Y%m%d-%H%M%S"))
    except OSError as problem:
        raise InvalidArgument(f"{RUNS} cannot hold a run: {problem}; use --save") from None
