"""Runs the benchmarks of the folder ``benchmarks/``, one after the other, each in its process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kvlab.errors import InvalidArgument, KvlabError

FOLDER = Path(__file__).parents[2] / "benchmarks"


def run(names: Sequence[str]) -> int:
    """Run the named benchmarks, or all; 1 when one of them failed.

    Raises :class:`InvalidArgument` for an unknown name, before any is run.
    """
    there = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
    if not there:
        raise KvlabError("there is no folder benchmarks here: run this from the workbook's folder")
    if unknown := sorted(set(names) - set(there)):
        raise InvalidArgument(f"no benchmark {', '.join(unknown)}; there is: {', '.join(there)}")
    failed = 0
    for name in names or there:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        failed |= subprocess.run(command, cwd=FOLDER.parent, check=False).returncode
    return int(failed != 0)
