"""The command line: ``make mutants``. An interrupt ends the tests that run, and writes nothing."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mutants import MUTANTS, PATTERNS, Mutant, Rotten, table
from mutants.trial import Outcome, Run, Trees, mutated, unmutated


def main() -> int:
    parser = argparse.ArgumentParser(
        usage="make mutants ARGS='[--only PATTERN] [--jobs N] [--list]'",
        description="Take each hardening out of a copy of the program, one at a time, and see that "
        "the tests fail. Writes tests/MUTANTS.md; fails when a mutant is not caught.",
    )
    parser.add_argument("--only", choices=PATTERNS, metavar="PATTERN", help=", ".join(PATTERNS))
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="workers, 2 by default")
    parser.add_argument("--list", action="store_true", help="say what would be taken out")
    asked = parser.parse_args()
    if asked.jobs < 1:
        parser.error(f"argument --jobs: at least 1, not {asked.jobs}")
    mutants = [mutant for mutant in MUTANTS if asked.only in (None, mutant.pattern)]
    if asked.list:
        print(table.listed(mutants), end="")
        return 0
    try:
        for mutant in mutants:
            mutant.original()
        with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
            return asyncio.run(_run(mutants, Path(directory), asked.jobs))
    except Rotten as rotten:
        print(rotten, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; the table is as it was", file=sys.stderr)
        return 130


async def _run(mutants: list[Mutant], directory: Path, jobs: int) -> int:
    here = asyncio.current_task()
    assert here is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, here.cancel)
    trees = Trees(directory, jobs)
    by_tests = [[m for m in mutants if m.tests == t] for t in {m.tests: 0 for m in mutants}]
    total = len(by_tests) + len(mutants)
    with tqdm(total=total, leave=False, disable=not sys.stderr.isatty()) as bar:

        async def baseline(same_tests: list[Mutant]) -> Run:
            tested = await unmutated(trees, same_tests)
            bar.update()
            return tested

        async def trial(mutant: Mutant) -> Outcome:
            outcome = await mutated(trees, mutant)
            bar.update()
            if bar.disable or outcome.caught_by is None:
                bar.write(f"{mutant}: {outcome.caught_by or outcome.why}", file=sys.stdout)
            return outcome

        bar.set_description("as it is")
        if not _all_pass(await _each(baseline(same_tests) for same_tests in by_tests)):
            return 1
        bar.set_description("mutants")
        outcomes = dict(zip(mutants, await _each(trial(mutant) for mutant in mutants), strict=True))
    _write_table({mutant: outcome.caught_by for mutant, outcome in outcomes.items()})
    return _summed_up(outcomes)


async def _each(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
    return [task.result() for task in tasks]


def _all_pass(baselines: list[Run]) -> bool:
    """Whether the tests pass on the program as it is; what they skip here is said."""
    failing = [tested for tested in baselines if tested.code != 0]
    for tested in failing:
        print(tested.output, file=sys.stderr)
    if failing:
        print("without a mutant these tests must pass, and be some", file=sys.stderr)
    for reason in sorted(set().union(*(tested.skipped for tested in baselines))):
        print(f"skipped here, which may let a mutant live: {reason}", file=sys.stderr)
    return not failing


def _write_table(caught_by: dict[Mutant, str | None]) -> None:
    before = table.TABLE.read_text(encoding="utf-8") if table.TABLE.exists() else ""
    known = table.read(MUTANTS, before) | caught_by
    table.TABLE.write_text(table.render(MUTANTS, known), encoding="utf-8")


def _summed_up(outcomes: dict[Mutant, Outcome]) -> int:
    free = [mutant for mutant, outcome in outcomes.items() if outcome.caught_by is None]
    print(f"{len(outcomes) - len(free)} of {len(outcomes)} mutants caught; see tests/MUTANTS.md")
    for mutant in free:
        print(f"not caught: {mutant}", file=sys.stderr)
    return 1 if free else 0


if __name__ == "__main__":
    sys.exit(main())
