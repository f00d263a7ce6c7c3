"""Which promises libraries from PyPI keep, when every order and every fault is tried.

    python -m benchmarks.studies.explored_libraries [NAME…] [--minutes M] [--save FILE]

Two clients of each library are explored, under no fault and under each kind of fault: a row a
library, a column a fault. A run that breaks a promise is made once more on a real server without
the explorer: by a gate before the server that lets the requests of two processes through in the
order of the schedule. The extra ``peers`` brings the libraries. ``--save`` keeps the matrix for
``kvlab.bench.matrix``; chapter 11 reads the one in ``benchmarks/results``.

The searches of all rows share one budget, ``--minutes``: a row may take a few times its equal share
of what is left, so that quick rows leave time for long ones. What a search does not finish is
``undecided``, and says how far it came.

``holds``: in every order of the commands. ``inherent``: no library of this family can keep the
promise under this fault. Nothing is counted across rows: how many schedules break says how the
search went, and not how good a library is.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import logging
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import kvlab
from benchmarks.libraries.caches import CACHES
from benchmarks.libraries.explored import explored, round_trips
from benchmarks.libraries.limiters import LIMITERS
from benchmarks.libraries.locks import LOCKS
from benchmarks.libraries.others import OTHERS
from benchmarks.libraries.promised import QUOTES, unfounded
from benchmarks.libraries.promises import FAULTS
from benchmarks.libraries.replayed import reproduced
from kvlab.bench.matrix import EARLIER, Cell, Matrix
from kvlab.instruments.measure.machine import environment
from kvlab.server import engines

_ALL = (*LIMITERS, *LOCKS, *CACHES, *OTHERS)
_FAMILIES = list(dict.fromkeys(library.family.name for library in _ALL))
LIBRARIES = tuple(sorted(_ALL, key=lambda library: _FAMILIES.index(library.family.name)))
WIDTH = 15
SHARES = 5
"""So many times its equal share of the time left may one row take."""
LEAST = 6.0
"""Seconds of a row, also when the budget is used up: each cell is begun."""


@dataclass(frozen=True, slots=True)
class Budget:
    """``ends``: on the monotonic clock of this machine, which all of its processes share."""

    ends: float
    rows: int
    processes: int

    def seconds(self, done: int, now: float) -> float:
        """Of the searches of a row that begins when so many are done."""
        left = max(self.ends - now, 0.0)
        share = left * self.processes / max(self.rows - done, 1)
        return max(min(SHARES * share, left), LEAST)


def cells_of(place: int, number: int, budget: Budget) -> list[Cell]:
    """A row, the one in this place: the library under each fault."""
    began = time.monotonic()
    seconds = budget.seconds(place, began)
    logging.disable(logging.CRITICAL)  # the libraries tell of every fault
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None  # a __del__ that comes after its client's end
    library = LIBRARIES[number]
    trips = round_trips(library)
    row: list[Cell] = []
    for fault in FAULTS:
        if row and row[0].verdict == "can't be driven":
            row.append(replace(row[0], fault=fault))
            continue
        if row and row[0].verdict == "breaks":
            row.append(replace(row[0], fault=fault, says=EARLIER, timeline=""))
            continue
        left = began + seconds - time.monotonic()
        cell, story = explored(library, fault, max(left, LEAST / len(FAULTS)))
        if cell.verdict in ("breaks", "inherent") and story is not None:
            assert story.shortest is not None
            cell = replace(cell, reproduced=reproduced(library, story.shortest))
        row.append(replace(cell, round_trips=trips))
    return row


def matrix(numbers: Sequence[int], processes: int, seconds: float) -> Iterable[list[Cell]]:
    """A row for each library, in order, as they come."""
    budget = Budget(time.monotonic() + seconds, len(numbers), processes)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([reproduced.__module__])  # it imports for seconds, all rows fork
    with concurrent.futures.ProcessPoolExecutor(processes, context, max_tasks_per_child=1) as pool:
        row = functools.partial(cells_of, budget=budget)
        yield from pool.map(row, range(len(numbers)), numbers)


def line_of(row: Sequence[Cell]) -> str:
    trips = row[0].round_trips
    words = [f"{row[0].library[:32]:33}{'?' if trips is None else trips:>3}  "]
    for cell in row:
        mark = {True: " ✓", False: " (not again)", None: ""}[cell.reproduced]
        words.append(f"{cell.verdict + mark:{WIDTH + 2}}")
    return "".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="only libraries whose name contains one of these")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=9.0, help="for the searches of all rows")
    parser.add_argument("--timelines", action="store_true", help="print the runs that break")
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="keep the matrix as JSON; with names: mend these rows of it",
    )
    given = parser.parse_args()
    for name in given.names:
        if not any(name in library.name for library in LIBRARIES):
            parser.error(f"no library's name has {name!r} in it")
    numbers = [
        number
        for number, library in enumerate(LIBRARIES)
        if not given.names or any(name in library.name for name in given.names)
    ]
    if given.save and (words := [*unfounded()]):
        parser.error(f"the quotes of {', '.join(words)} are not in their documentation")
    began, family, rows = time.perf_counter(), "", []
    for row in matrix(numbers, given.processes, given.minutes * 60):
        if row[0].family != family:
            family = row[0].family
            print(f"\n{family}: {row[0].promise}")
            print(f"{'':33}{'RT':>3}  " + "".join(f"{fault:{WIDTH + 2}}" for fault in FAULTS))
        rows.append(row)
        print(f"{line_of(row)}{len(rows)} of {len(numbers)}, {_since(began)}", flush=True)
    _print_reasons(rows, timelines=given.timelines)
    packages = {cell.package for row in rows for cell in row} - {""}
    print(f"\n{len(rows)} rows, {len(packages)} packages, {_since(began)}")
    seconds = time.perf_counter() - began
    if given.save:
        old = Matrix.load(given.save) if given.names and given.save.exists() else None
        kept(old, rows, seconds).save(given.save)


def _since(began: float) -> str:
    return f"{time.perf_counter() - began:.0f} s"


def kept(old: Matrix | None, rows: Sequence[Sequence[Cell]], seconds: float) -> Matrix:
    """The matrix of the rows, each in the place of the old one of its name; the others stay."""
    with engines.start("valkey") as server, kvlab.connect(server.url) as kv:
        facts = environment(kv)
    if old is not None:
        seconds += old.seconds
        rows = [*(row for of in old.families.values() for row in of), *rows]
    found = {(row[0].family, row[0].library): row for row in rows}
    names = [(library.family.name, library.name) for library in LIBRARIES]
    cells = [cell for name in names for cell in found.get(name, ())]
    return Matrix(round(seconds), facts, tuple(cells), QUOTES)


def _print_reasons(rows: Sequence[Sequence[Cell]], *, timelines: bool) -> None:
    print()
    for cell in (cell for row in rows for cell in row):
        again = cell.says == EARLIER or (cell.verdict == "can't be driven" and cell.fault != "none")
        if cell.verdict not in ("holds", "not applicable", "inherent") and not again:
            print(f"{cell.library} {cell.version}, {cell.fault}: {cell.verdict}: {cell.says}")
            if cell.replay:
                print(f'    replay "{cell.replay}"')
            if timelines and cell.timeline:
                print("    " + cell.timeline.replace("\n", "\n    "))


if __name__ == "__main__":
    main()
