"""Runs the workbook's benchmarks one after the other, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from kvlab.errors import InvalidArgument
from kvlab.workshop.workbook import released


def run(names: Sequence[str]) -> int:
    """Run the named benchmarks, or all; 1 when one of them failed.

    Raises :class:`InvalidArgument` for an unknown name before any benchmark runs.
    """
    root = released()
    known = sorted(path.stem for path in (root / "benchmarks").glob("[a-z]*.py"))
    if unknown := sorted(set(names) - set(known)):
        raise InvalidArgument(f"no benchmark {', '.join(unknown)}; there is: {', '.join(known)}")
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    failed = 0
    for name in names or known:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False)
        failed |= done.returncode
    return int(failed != 0)
