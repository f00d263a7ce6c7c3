"""Every notebook is what its source says, and executes without an error."""

from __future__ import annotations

import asyncio
import copy
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
import psutil
import pytest

from kvlab.workshop import jupyter, minutes, readme
from kvlab.workshop import kernels as kernels_module
from kvlab.workshop.kernels import Kernels
from kvlab.workshop.notebooks import (
    NOTEBOOKS,
    NotebookFailed,
    Target,
    differences,
    execute,
    main,
    make_all,
    targets,
)

SOURCES = sorted((NOTEBOOKS / "source").glob("[0-9][0-9]_*.py"))
# One solution stands for the others: tests/workshop/test_exercises.py runs and judges each.
EXECUTED = [("notebooks", source.stem) for source in SOURCES]
EXECUTED += [("solutions", source.stem) for source in SOURCES if source.stem.startswith("05")]

SMALLER: dict[str, dict[str, str]] = {
    "01_cache_aside": {
        "* 2, setup=db.reset, invariant=one_load)\ntable": (
            "* 2, setup=db.reset, invariant=one_load, max_schedules=50)\ntable"
        ),
        "faults=ALL_FAULTS,": "faults=ALL_FAULTS, max_schedules=100,",
        "read_cold_key(64": "read_cold_key(24",
        "rate=400, duration=10": "rate=400, duration=8",
    },
    "02_write_through": {"pause=0.005, duration=2.25": "pause=0.005, duration=1.2"},
    "03_rate_limiting": {'"reduce": True}': '"reduce": True, "max_schedules": 60}'},
    "04_sessions": {
        "turns=5, count=500": "turns=3, count=150",
        "users=80, seconds=4.4": "users=30, seconds=4.4",
    },
    "05_distributed_lock": {
        "turns=10, seed=5": "turns=4, seed=5",
        "turns=8, count=120": "turns=3, count=60",
    },
    "06_leaderboard": {
        "readers, turns=5": "readers, turns=3",
        "turns=9, calls_per_turn=40": "turns=5, calls_per_turn=20",
        "SIZES = (1_000, 10_000, 100_000, 1_000_000)": "SIZES = (1_000, 10_000, 50_000)",
        "in range(10_000)]": "in range(2_000)]",
        '"dense"), turns=5': '"dense"), turns=3',
    },
    "07_pipeline": {"turns=7": "turns=3", "turns=6": "turns=3", "N = 1_000": "N = 500"},
    "08_feature_flags": {
        '"hardened": 20_000': '"hardened": 5_000',
        "USERS = range(100_000)": "USERS = range(20_000)",
    },
    "09_explore_your_own_code": {"runs_by_size((2, 3, 4, 5))": "runs_by_size((2, 3, 4))"},
    "10_load_tests": {
        '"rate-limiter", seconds=2,': '"rate-limiter", seconds=1,',
        'seconds=4, fault=["restart@1:1"]': 'seconds=2, fault=["restart@0.5:0.5"]',
        '"seconds": 2, "limit"': '"seconds": 1, "limit"',
        '"seconds": 2, "fault": ["pause@0.7:0.5"]': '"seconds": 1, "fault": ["pause@0.3:0.5"]',
        '"seconds": 2, "members"': '"seconds": 1, "members"',
    },
    "12_cache_lab": {
        "sequences = workloads.workloads()": (
            "sequences = {name: keys[:9_000] for name, keys in workloads.workloads().items()}"
        ),
        "= latencies()": "= latencies(seconds=0.1)",
    },
}
"""Texts of a chapter's cells, and what stands for them here: a run that is as good a proof that
the cells execute, for less time: fewer turns of a measurement, never fewer cells."""


@pytest.fixture(autouse=True)
def _jupyter_as_the_workbook_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in jupyter.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    with Kernels() as prepared:
        yield prepared


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_the_notebooks_are_what_their_source_says(source: Path) -> None:
    for target in targets(source):
        assert differences(target) is None
        if not target.executed:
            continue
        text = target.path.read_text(encoding="utf-8")
        assert str(Path.home()) + "/" not in text
        assert "/tmp/" not in text
        if target.path.parent == NOTEBOOKS:
            assert "image/png" in text, f"{target.path.name} shows no chart"


@pytest.mark.parametrize(("folder", "name"), EXECUTED, ids=["/".join(one) for one in EXECUTED])
def test_a_notebook_executes(folder: str, name: str, kernels: Kernels) -> None:
    (target,) = (
        target
        for target in targets(NOTEBOOKS / "source" / f"{name}.py")
        if target.path.parent.name == folder
    )
    execute(smaller(target), kernels)


def smaller(target: Target) -> Target:
    """The notebook; a chapter with what :data:`SMALLER` names, all of which must be there."""
    cells = copy.deepcopy(target.cells)
    is_chapter = target.path.parent == NOTEBOOKS
    for old, new in SMALLER.get(target.path.stem, {}).items() if is_chapter else ():
        assert any(old in cell.source for cell in cells), old
        for cell in cells:
            cell.source = cell.source.replace(old, new)
    return replace(target, cells=cells)


def test_the_readme_says_what_the_notebooks_found() -> None:
    text = (readme.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.replaced(text, "findings", readme.table()) == text, "run: make notebooks"


def test_the_trainers_table_has_the_minutes_of_the_notebooks() -> None:
    text = (NOTEBOOKS / "TRAINER.md").read_text(encoding="utf-8")
    assert readme.replaced(text, "minutes", minutes.table()) == text, "run: make notebooks"


SOURCE = """# %% [markdown]
# # A chapter

# %%
print("the chapter")

# %% tags=["exercise-setup"]
x = 1

# %% [markdown] tags=["exercise"]
# Make y two.

# %% tags=["stub"]
y = ...

# %% tags=["solution"]
y = x + 1

# %% tags=["check"]
assert y == 2
"""


@pytest.fixture
def book(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "01_one.py").write_text(SOURCE)
    return tmp_path


def test_one_source_gives_chapter_exercise_and_solution(book: Path, kernels: Kernels) -> None:
    make_all([], kernels, check=False, root=book)
    cells = {
        kind: [c.source for c in nbformat.read(book / kind / "01_one.ipynb", 4).cells]
        for kind in (".", "exercises", "solutions")
    }
    assert cells["."] == ["# A chapter", 'print("the chapter")', "Make y two."]
    assert cells["exercises"] == ["x = 1", "Make y two.", "y = ...", "assert y == 2"]
    assert cells["solutions"] == ["x = 1", "Make y two.", "y = x + 1", "assert y == 2"]
    make_all([], kernels, check=True, root=book)


def test_each_notebook_has_a_new_kernel_of_this_python(book: Path, kernels: Kernels) -> None:
    (book / "source" / "01_one.py").write_text(
        "# %%\nimport os, sys\nprint(os.getpid(), sys.prefix, 'x' in dir())\nx = 1\n"
    )
    (target,) = targets(book / "source" / "01_one.py")
    said = [execute(target, kernels).cells[0].outputs[0].text.split() for _ in range(2)]
    assert [words[1:] for words in said] == [[sys.prefix, "False"]] * 2
    assert len({words[0] for words in said} | {str(os.getpid())}) == 3


def test_after_the_end_of_the_process_that_forks_another_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels_module, "_IMPORTS", ["wave"])
    with Kernels() as kernels:
        first = kernels.manager("python3").provisioner.prepared
        psutil.Process(first.pid).kill()
        while not first.has_ended:
            time.sleep(0.01)
        assert kernels.manager("python3").provisioner.prepared.pid != first.pid


def test_a_kernel_ends_with_whoever_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels_module, "_IMPORTS", ["ipykernel.kernelapp"])

    async def start_and_kill() -> None:
        manager = prepared.manager("python3")
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=60)
        kernel = psutil.Process(manager.provisioner.pid)
        psutil.Process(kernel.ppid()).kill()
        assert psutil.wait_procs([kernel], 60)[0] == [kernel]
        client.stop_channels()
        await manager.cleanup_resources()

    with Kernels() as prepared:
        asyncio.run(start_and_kill())


def test_a_solution_that_does_not_pass_its_check_is_an_error(book: Path, kernels: Kernels) -> None:
    source = book / "source" / "01_one.py"
    source.write_text(SOURCE.replace("x + 1", "x + 2"))
    with pytest.raises(NotebookFailed, match="AssertionError"):
        make_all([], kernels, check=False, root=book)


def test_a_cell_that_ends_the_kernel_is_an_error(book: Path, kernels: Kernels) -> None:
    source = book / "source" / "01_one.py"
    source.write_text("# %%\nimport os\nos._exit(1)\n")
    with pytest.raises(NotebookFailed, match="a cell did not end"):
        make_all([], kernels, check=False, root=book)


def test_a_widget_is_not_stored(book: Path, kernels: Kernels) -> None:
    source = book / "source" / "01_one.py"
    widget = "import ipywidgets; display(ipywidgets.IntSlider()); print('the chapter')"
    source.write_text(SOURCE.replace('print("the chapter")', widget))
    make_all([], kernels, check=False, root=book)
    stored = nbformat.read(book / "01_one.ipynb", 4)
    assert [output.output_type for output in stored.cells[1].outputs] == ["stream"]
    assert "widgets" not in stored.metadata


def test_a_changed_source_is_noticed(book: Path, kernels: Kernels) -> None:
    make_all([], kernels, check=False, root=book)
    source = book / "source" / "01_one.py"
    source.write_text(SOURCE.replace("the chapter", "a chapter"))
    with pytest.raises(NotebookFailed, match="cell 2 differs"):
        make_all([], kernels, check=True, root=book)


def test_a_missing_notebook_is_noticed(book: Path, kernels: Kernels) -> None:
    with pytest.raises(NotebookFailed, match="missing"):
        make_all([], kernels, check=True, root=book)


def test_an_unknown_chapter_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["77"]) == 1
    assert "no source in notebooks/source begins with 77" in capsys.readouterr().err


WIDGET = """# %%
from ipywidgets import Output

shown = Output()
with shown:
    print("for a frontend")

# %%
print(len(shown.outputs))
"""


def test_the_builder_sends_nothing_but_cells_to_a_kernel(tmp_path: Path, kernels: Kernels) -> None:
    """What else it sent could hide the reply that it waits for."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "01_one.py").write_text(WIDGET)
    make_all([], kernels, check=False, root=tmp_path)
    cells = nbformat.read(tmp_path / "01_one.ipynb", 4).cells
    assert [output.text for output in cells[1].outputs] == ["0\n"]
