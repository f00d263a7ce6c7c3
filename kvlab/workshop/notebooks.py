"""Makes the notebooks: ``notebooks/source/NN_name.py`` (jupytext percent) → executed ``.ipynb``.

One source gives up to three notebooks, by cell tag:

* ``notebooks/NN_name.ipynb``, the chapter: every cell but those tagged ``exercise-setup``,
  ``stub``, ``solution`` or ``check``; executed.
* ``notebooks/exercises/NN_name.ipynb``: cells tagged ``exercise-setup``, ``exercise``, ``stub``,
  ``check``; not executed, the stub is for the reader to fill.
* ``notebooks/solutions/NN_name.ipynb``: the same with ``solution`` for ``stub``; executed, so every
  check is known to pass.

``python -m kvlab.workshop.notebooks`` writes them; ``--check`` writes nothing, executes what is
executed, and fails where a notebook and its source differ or a cell raises.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbclient.output_widget import OutputWidget
from tqdm.auto import tqdm

from kvlab.errors import KvlabError
from kvlab.workshop import jupyter, minutes, readme, workbook
from kvlab.workshop.kernels import Kernels

NOTEBOOKS = workbook.released() / "notebooks"
MAX_BYTES = 1_000_000
CELL_SECONDS = 900  # a guard against a cell that hangs, not a limit for a slow machine

_NOT_IN_CHAPTER = frozenset({"exercise-setup", "stub", "solution", "check"})
_EXERCISE = frozenset({"exercise-setup", "exercise", "check"})
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class NotebookFailed(KvlabError):
    """A cell raised or did not end, or a notebook is not what its source says; the message names
    the place."""


@dataclass(frozen=True, slots=True)
class Target:
    """One notebook to be made: where it goes, and whether it is executed."""

    path: Path
    cells: tuple[Any, ...]
    executed: bool


def targets(source: Path) -> Iterator[Target]:
    """The notebooks that one source gives."""
    cells = jupytext.read(source, fmt="py:percent").cells
    root, name = source.parents[1], f"{source.stem}.ipynb"
    chapter = tuple(c for c in cells if not _tags(c) & _NOT_IN_CHAPTER)
    yield Target(root / name, chapter, executed=True)
    if any("stub" in _tags(c) for c in cells):
        stubs = tuple(c for c in cells if _tags(c) & (_EXERCISE | {"stub"}))
        solved = tuple(c for c in cells if _tags(c) & (_EXERCISE | {"solution"}))
        yield Target(root / "exercises" / name, stubs, executed=False)
        yield Target(root / "solutions" / name, solved, executed=True)


def _tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", ()))


def notebook(target: Target) -> Any:
    """The notebook of a target, not yet executed."""
    made = nbformat.v4.new_notebook(metadata=_METADATA)
    for number, cell in enumerate(target.cells, start=1):
        v4: Any = nbformat.v4
        new = v4.new_code_cell if cell.cell_type == "code" else v4.new_markdown_cell
        tags = {"tags": sorted(_tags(cell))} if _tags(cell) else {}
        made.cells.append(new(cell.source, id=f"cell-{number:02}", metadata=tags))
    return made


class _QuietOutput(OutputWidget):
    """Takes what a widget shows, and does not tell the kernel about it.

    nbclient tells the kernel on the socket on which it awaits the kernel's reply. A reply that
    arrives during such a send goes unnoticed: the notebook then waits for ever for an idle kernel.
    """

    def send(self, *_: Any, **__: Any) -> None:
        """Send nothing: a stored notebook has no widgets."""


def execute(target: Target, kernels: Kernels) -> Any:
    """The notebook with its outputs, from a new kernel. Raises :class:`NotebookFailed` when a cell
    raises, ends the kernel or takes longer than ``CELL_SECONDS``."""
    made = notebook(target)
    client = NotebookClient(
        made,
        km=kernels.manager("python3"),
        timeout=CELL_SECONDS,
        record_timing=False,
        extra_arguments=["--log-level=40"],  # errors; not that loopback is unencrypted
        resources={"metadata": {"path": str(target.path.parent.resolve())}},
    )
    client.widget_registry["@jupyter-widgets/output"]["OutputModel"] = _QuietOutput
    began = time.monotonic()
    try:
        client.execute(cleanup_kc=True)
    except CellExecutionError as problem:
        raise NotebookFailed(f"{target.path.name}: a cell raised\n{problem}") from None
    except (CellTimeoutError, DeadKernelError) as problem:
        raise NotebookFailed(f"{target.path.name}: a cell did not end\n{problem}") from None
    _all_solved(target.path.name, made.cells)
    for cell in made.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_widget(output)]
    made.metadata.pop("widgets", None)
    made.metadata["kvlab"] = {"seconds": round(time.monotonic() - began, 1)}
    return made


def _all_solved(name: str, cells: Any) -> None:
    """Each check of an executed notebook with solutions must have passed."""
    for cell in cells:
        shown = [o["data"]["text/plain"] for o in cell.get("outputs", ()) if "data" in o]
        if "check" in _tags(cell) and shown and ": solved, " not in shown[-1].partition("\n")[0]:
            raise NotebookFailed(f"{name}: a solution does not pass its check\n{shown[-1]}")


def _is_widget(output: Any) -> bool:
    """Sliders and progress bars live in a running kernel; a stored one is an error message."""
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def differences(target: Target) -> str | None:
    """What differs between the notebook on disk and its source; None when nothing does."""
    name = target.path.relative_to(target.path.parents[1])
    if not target.path.exists():
        return f"{name} is missing; run: make notebooks"
    if target.path.stat().st_size > MAX_BYTES:
        return f"{name} is larger than {MAX_BYTES:,} bytes"
    written = nbformat.read(target.path, as_version=4).cells
    wanted = notebook(target).cells
    for number, (have, want) in enumerate(zip(written, wanted, strict=False), start=1):
        if (have.cell_type, have.source) != (want.cell_type, want.source):
            return f"{name}, cell {number} differs from its source; run: make notebooks"
    if len(written) != len(wanted):
        return f"{name} has {len(written)} cells, its source {len(wanted)}; run: make notebooks"
    if target.executed and any(c.cell_type == "code" and not c.execution_count for c in written):
        return f"{name} has cells that were not executed; run: make notebooks"
    return None


def make(target: Target, kernels: Kernels, *, check: bool) -> None:
    """Make one notebook and write it; with ``check`` compare instead of writing."""
    if check and (different := differences(target)):
        raise NotebookFailed(different)
    if not check:
        target.path.parent.mkdir(exist_ok=True)
    made = execute(target, kernels) if target.executed else notebook(target)
    if not check:
        nbformat.write(made, target.path)


def make_all(
    names: Sequence[str], kernels: Kernels, *, check: bool, root: Path = NOTEBOOKS
) -> None:
    """Make every notebook whose name begins with one of ``names`` (all without), two at a time."""
    sources = [
        source
        for source in sorted((root / "source").glob("[0-9][0-9]_*.py"))
        if not names or source.stem.startswith(tuple(names))
    ]
    if not sources:
        raise NotebookFailed(f"no source in {root.name}/source begins with {' or '.join(names)}")
    made = [target for source in sources for target in targets(source)]
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        running = [pool.submit(make, target, kernels, check=check) for target in made]
        for target, future in zip(tqdm(made, unit="notebook", disable=None), running, strict=True):
            try:
                future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            if not sys.stderr.isatty():
                done = "as its source" if check else "written"
                print(f"{target.path.relative_to(root)}: {done}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make notebooks", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="how the name of a chapter begins, such as 01")
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    given = parser.parse_args(arguments)
    os.environ |= jupyter.environment()
    try:
        with Kernels() as kernels:
            make_all(given.names, kernels, check=given.check)
        if not given.check:
            readme.update()
            minutes.update()
    except KvlabError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
