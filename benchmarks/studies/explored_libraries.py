"""Which promises libraries from PyPI keep, when every order and every fault is tried.

    python -m benchmarks.studies.explored_libraries [NAME…] [--timelines] [--save FILE]

Two clients of each library are explored, under no fault and under each kind of fault: a row a
library, a column a fault. A run that breaks a promise is made once more on a real server without
the explorer: by a gate before the server that lets the requests of two processes through in the
order of the schedule. The extra ``peers`` brings the libraries.

``holds``: in every order of the commands. ``inherent``: no library of this family can keep the
promise under this fault. Nothing is counted across rows: how many schedules break says how the
search went, and not how good a library is.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import logging
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.libraries.caches import CACHES
from benchmarks.libraries.explored import Cell, explored, round_trips
from benchmarks.libraries.limiters import LIMITERS
from benchmarks.libraries.locks import LOCKS
from benchmarks.libraries.others import OTHERS
from benchmarks.libraries.promises import FAULTS
from benchmarks.libraries.replayed import reproduced

_ALL = (*LIMITERS, *LOCKS, *CACHES, *OTHERS)
_FAMILIES = list(dict.fromkeys(library.family.name for library in _ALL))
LIBRARIES = tuple(sorted(_ALL, key=lambda library: _FAMILIES.index(library.family.name)))
WIDTH = 15
AGAIN = "already without a fault"


def cells_of(number: int) -> list[Cell]:
    """A row: the library under each fault."""
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
            row.append(replace(row[0], fault=fault, says=AGAIN))
            continue
        cell, story = explored(library, fault)
        if cell.verdict in ("breaks", "inherent") and story is not None:
            assert story.shortest is not None
            cell = replace(cell, reproduced=reproduced(library, story.shortest))
        row.append(replace(cell, round_trips=trips))
    return row


def matrix(numbers: Iterable[int], processes: int) -> Iterable[list[Cell]]:
    """A row for each library, in order, as they come."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, context, max_tasks_per_child=1) as pool:
        yield from pool.map(cells_of, numbers)


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
    parser.add_argument("--save", metavar="FILE", type=Path, help="the cells, as JSON")
    parser.add_argument("--timelines", action="store_true", help="print the runs that break")
    given = parser.parse_args()
    numbers = [
        number
        for number, library in enumerate(LIBRARIES)
        if not given.names or any(name in library.name for name in given.names)
    ]
    began, family, rows = time.perf_counter(), "", []
    for row in matrix(numbers, given.processes):
        if row[0].family != family:
            family = row[0].family
            print(f"\n{family}: {row[0].promise}")
            print(f"{'':33}{'RT':>3}  " + "".join(f"{fault:{WIDTH + 2}}" for fault in FAULTS))
        print(line_of(row), flush=True)
        rows.append(row)
    if given.save is not None:
        given.save.write_text(json.dumps([asdict(cell) for row in rows for cell in row], indent=1))
    _print_reasons(rows, timelines=given.timelines)
    packages = {cell.package for row in rows for cell in row} - {""}
    print(f"\n{len(rows)} rows, {len(packages)} packages, {time.perf_counter() - began:.0f} s")


def _print_reasons(rows: Sequence[Sequence[Cell]], *, timelines: bool) -> None:
    print()
    for cell in (cell for row in rows for cell in row):
        if cell.verdict not in ("holds", "not applicable", "inherent") and cell.says != AGAIN:
            print(f"{cell.library} {cell.version}, {cell.fault}: {cell.verdict}: {cell.says}")
            if cell.replay:
                print(f'    replay "{cell.replay}"')
            if timelines and cell.timeline:
                print("    " + cell.timeline.replace("\n", "\n    "))


if __name__ == "__main__":
    main()
