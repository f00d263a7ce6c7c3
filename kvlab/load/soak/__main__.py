"""The command line of a soak; its exit status is 1 when a promise was broken."""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence

from kvlab.errors import InvalidArgument
from kvlab.load.soak import __doc__ as about
from kvlab.load.soak.cold import cold_figures, table
from kvlab.load.soak.diary import Diary, FaultSeen
from kvlab.load.soak.run import Soaked, SoakSettings, soak


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m kvlab.load.soak",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default: 1)")
    parser.add_argument("--visitors", type=int, default=12, help="of the app (default: 12)")
    parser.add_argument("--cold", action="store_true", help="the cold figures, and no soak")
    given = parser.parse_args(arguments)
    if given.cold:
        print(table(cold_figures()))
        return 0
    try:
        settings = SoakSettings(given.minutes * 60, given.seed, given.visitors)
    except InvalidArgument as problem:
        parser.error(str(problem))
    logging.getLogger("kvlab").setLevel(logging.ERROR)  # that a lock may stay taken is expected
    soaked = soak(settings, _progress(settings.seconds))
    print(f"{report(soaked)}\n\n{table(cold_figures())}")
    return 0 if soaked.holds else 1


def _progress(length: float) -> Callable[[float, Diary], None]:
    before, after, every = ("\r", "", 1) if sys.stdout.isatty() else ("", "\n", 15)
    shown = 0

    def show(passed: float, diary: Diary) -> None:
        nonlocal shown
        shown += 1
        if shown % every:
            return
        wrong = sum(map(len, diary.wrong.values()))
        said = f"  {passed:.0f} of {length:g} s: {diary.statuses.total():,} answers, "
        said += f"{len(diary.faults)} faults, {wrong} promises broken"
        print(f"{before}{said}", end=after, flush=True)

    return show


def report(soaked: Soaked) -> str:
    """The faults, the answers and the findings, as text."""
    diary, (slowest, route) = soaked.diary, soaked.diary.slowest
    by_status: defaultdict[int, int] = defaultdict(int)
    for (_, status), count in diary.statuses.items():
        by_status[status] += count
    answers = ", ".join(f"{count:,} × {status}" for status, count in sorted(by_status.items()))
    columns = ("times", "503 meanwhile", "503 after", "good again: median, most")
    lines = ["", "{:22}{:>6}{:>15}{:>11}{:>27}".format("fault", *columns)]
    by_kind: defaultdict[str, list[FaultSeen]] = defaultdict(list)
    for fault in diary.faults:
        by_kind[fault.kind].append(fault)
    lines += [_row(kind, seen) for kind, seen in sorted(by_kind.items())]
    lines += ["", f"answers: {answers}; the slowest took {slowest:.2f} s ({route})", ""]
    for finding in soaked.findings:
        lines.append(f"{'HOLDS' if finding.holds else 'BROKEN'}: {finding.says}")
        if not finding.holds:
            lines += [f"    {seen:.300}" for seen in finding.evidence]
    return "\n".join(lines)


def _row(kind: str, seen: list[FaultSeen]) -> str:
    failed, after = sum(f.failed for f in seen), sum(f.after for f in seen)
    times = [fault.recovered for fault in seen if fault.recovered is not None]
    took = f"{statistics.median(times):.3f} s / {max(times):.3f} s" if times else "not seen"
    return f"{kind:22}{len(seen):>6}{failed:>15,}{after:>11,}{took:>27}"


if __name__ == "__main__":
    sys.exit(main())
