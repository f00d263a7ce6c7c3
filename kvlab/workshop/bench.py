"""Runs the workbook's benchmarks one after the other, each in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kvlab.errors import InvalidArgument
from kvlab.server.guarded_process import Guarded
from kvlab.workshop.workbook import released


def run(names: Sequence[str]) -> int:
    """Run the named benchmarks (``rate-limiting``), or all; 1 when one of them failed.

    Raises :class:`InvalidArgument` for an unknown name before any benchmark runs.
    """
    root = released()
    known = sorted(_shown(path.stem) for path in (root / "benchmarks").glob("[a-z]*.py"))
    chosen = [_shown(name) for name in names]
    if unknown := sorted({*chosen} - {*known}):
        raise InvalidArgument(f"no benchmark {', '.join(unknown)}; there is: {', '.join(known)}")
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    failed = 0
    for name in chosen or known:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name.replace('-', '_')}"]
        # By kill -9 too, a benchmark ends with us.
        child = Guarded(command, log=None, directory=Path.cwd(), env={"PYTHONPATH": path})
        try:
            failed |= child.process.wait()
        finally:
            child.end()
    return int(failed != 0)


def _shown(name: str) -> str:
    """A benchmark's name as load tests write theirs; its module has ``_`` for ``-``."""
    return name.replace("_", "-")
