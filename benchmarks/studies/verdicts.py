"""Whether ``kvlab bench --against`` tells a change from noise; for a quiet machine.

    python -m benchmarks.studies.verdicts FOLDER [NAME…] [--same 20] [--slower 10]

``--same``: so many pairs of short runs of one tree; no row may be called quicker or slower. Each
run is the newer one of one pair and the older one of the next. ``--slower``: so many runs of a copy
of the tree, in which ``FixedWindow.hit`` takes a fifth more of its time; a row of this case must be
called slower, and no other row quicker or slower. Exit code 1 when a verdict is wrong.

The runs are kept in FOLDER, and a run that is there already is not made again: what was cut short
goes on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from kvlab.bench import BenchRun, runner
from kvlab.bench.verdict import QUICKER, SLOWER, against

ROOT = Path(__file__).parents[2]
CASE = ("rate_limiting", "FixedWindow.hit")
SHARE = 0.2
SLOW = """

import time as _time

_quick = FixedWindow.hit


def _slow(*given, **how):
    ends = _time.perf_counter() + {seconds!r}
    while _time.perf_counter() < ends:
        pass
    return _quick(*given, **how)


FixedWindow.hit = _slow
"""


def run(folder: Path, root: Path, names: list[str], seed: int) -> BenchRun:
    """The short run that the folder keeps, made now if there is none."""
    if not (folder / "run.json").exists():
        with chdir(root):  # the processes of the rounds import what lies here
            plan = runner.plan(root, names, short=True, url="", seed=seed)
            runner.run(plan).save(folder)
    return BenchRun.load(folder)


def slower(root: Path, base: BenchRun) -> Path:
    """A copy of the tree with the slow hit; a fifth of what a hit took in ``base``."""
    for part in ("kvlab", "benchmarks"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    ours = next(row.medians[0] for row in base.rows if (row.benchmark, row.case) == CASE)
    file = root / "kvlab" / "rate_limiting" / "limiters.py"
    file.write_text(file.read_text("utf-8") + SLOW.format(seconds=SHARE * ours), "utf-8")
    return root


def wrong(new: BenchRun, old: BenchRun, changed: tuple[str, str] | None) -> Iterator[str]:
    """The verdicts that are wrong, in words."""
    verdicts = against(new, old)
    called = [*verdicts.having(SLOWER), *verdicts.having(QUICKER)]
    for one in called:
        if (one.row.benchmark, one.row.case) != changed or one.word == QUICKER:
            yield f"{one.row.benchmark}: {one.row.name}: {one}"
    if changed and not verdicts.having(SLOWER):
        yield f"{' '.join(changed)} is not called slower"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="only these benchmarks; rate-limiting must be one")
    parser.add_argument("--same", type=int, default=20, metavar="PAIRS")
    parser.add_argument("--slower", type=int, default=10, metavar="RUNS")
    given = parser.parse_args()
    folder = given.folder.resolve()
    runs = [run(folder / "same-0", ROOT, given.names, 0)]
    failed = 0
    for number in range(1, given.same + 1):
        runs.append(run(folder / f"same-{number}", ROOT, given.names, number))
        failed += _said(f"pair {number}", [*wrong(runs[-1], runs[-2], None)])
    copy = folder / "slower-tree"
    if given.slower and not copy.exists():
        slower(copy, runs[0])
    for number in range(given.slower):
        made = run(folder / f"slower-{number}", copy, given.names, 1000 + number)
        failed += _said(f"slower run {number + 1}", [*wrong(made, runs[number % len(runs)], CASE)])
    sys.exit(failed > 0)


def _said(what: str, problems: list[str]) -> bool:
    print(f"{what}: {'; '.join(problems) or 'as it must be'}", flush=True)
    return bool(problems)


if __name__ == "__main__":
    main()
