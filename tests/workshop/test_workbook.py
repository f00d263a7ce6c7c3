"""The working copy: laid, brought up to date, and never over what a learner has changed."""

from __future__ import annotations

import importlib.metadata
import json
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.workshop import workbook
from kvlab.workshop.workbook import Laid, WorkingCopy, released, working_copy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small release: a chapter, its exercise, its solution, a Locust file."""
    root = tmp_path / "release"
    for name, text in {
        "notebooks/03_sessions.ipynb": "chapter",
        "notebooks/cover.png": "no notebook",
        "notebooks/source/03_sessions.py": "for authors",
        "notebooks/exercises/03_sessions.ipynb": "exercise",
        "notebooks/solutions/03_sessions.ipynb": "solution",
        "loadtests/board.py": "load",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(workbook, "released", lambda: root)
    return root


@pytest.fixture
def copy(release: Path, tmp_path: Path) -> WorkingCopy:
    made = working_copy(tmp_path)
    made.lay()
    return made


def contents(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


LAID = {
    "03_sessions.ipynb": "chapter",
    "exercises/03_sessions.ipynb": "exercise",
    "solutions/03_sessions.ipynb": "solution",
    "loadtests/board.py": "load",
}


def test_a_copy_is_laid_once(release: Path, tmp_path: Path) -> None:
    copy = working_copy(tmp_path)
    assert copy.lay() == Laid(new=4, updated=0, outdated=())
    assert copy.folder == tmp_path / "kvlab-workbook"
    assert contents(copy.folder) == LAID
    assert copy.lay() == Laid(new=0, updated=0, outdated=())


def test_a_changed_file_is_never_overwritten(copy: WorkingCopy, release: Path) -> None:
    (copy.folder / "03_sessions.ipynb").write_text("mine")
    assert copy.lay() == Laid(new=0, updated=0, outdated=())
    (release / "notebooks/03_sessions.ipynb").write_text("chapter 2")
    (release / "notebooks/exercises/03_sessions.ipynb").write_text("exercise 2")
    for updated in (1, 0):  # the outdated file is reported each time
        assert copy.lay() == Laid(new=0, updated=updated, outdated=("03_sessions.ipynb",))
    changed = {"03_sessions.ipynb": "mine", "exercises/03_sessions.ipynb": "exercise 2"}
    assert contents(copy.folder) == LAID | changed


def test_a_deleted_file_comes_back(copy: WorkingCopy) -> None:
    (copy.folder / "03_sessions.ipynb").unlink()
    assert copy.lay() == Laid(new=1, updated=0, outdated=())
    assert contents(copy.folder) == LAID


def test_restore_keeps_what_the_learner_wrote(copy: WorkingCopy) -> None:
    for number, text in enumerate(["mine", "mine again"], start=1):
        (copy.folder / "exercises/03_sessions.ipynb").write_text(text)
        kept = f"exercises/03_sessions.mine-{number}.ipynb"
        assert copy.restore("03") == [("exercises/03_sessions.ipynb", kept)]
    assert contents(copy.folder) == LAID | {
        "exercises/03_sessions.mine-1.ipynb": "mine",
        "exercises/03_sessions.mine-2.ipynb": "mine again",
    }
    assert copy.restore("03") == []
    assert copy.restore("3") == []  # a chapter's number, as people say it


@pytest.mark.parametrize("beginning", ["77", "", "sessions"])
def test_an_unknown_notebook_is_refused(copy: WorkingCopy, beginning: str) -> None:
    with pytest.raises(InvalidArgument, match=f"no notebook begins with '{beginning}'"):
        copy.restore(beginning)


def test_only_files_as_they_were_laid_are_unchanged(copy: WorkingCopy) -> None:
    (copy.folder / "03_sessions.ipynb").write_text("mine")
    (copy.folder / "loadtests/board.py").unlink()
    names = {path.relative_to(copy.folder).as_posix() for path in copy.unchanged()}
    assert names == {"exercises/03_sessions.ipynb", "solutions/03_sessions.ipynb"}


def test_a_folder_of_other_files_is_left_alone(release: Path, tmp_path: Path) -> None:
    copy = working_copy(tmp_path)
    copy.folder.mkdir()
    (copy.folder / "03_sessions.ipynb").write_text("another book")
    for change in (copy.lay, lambda: copy.restore("03")):
        with pytest.raises(KvlabError, match="run this in another folder"):
            change()
    assert contents(copy.folder) == {"03_sessions.ipynb": "another book"}


def test_a_folder_that_cannot_be_made_is_one_line(release: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KvlabError, match="cannot make the folder"):
        WorkingCopy(tmp_path / "file" / "copy").lay()


def test_inside_a_copy_that_copy_is_used(copy: WorkingCopy) -> None:
    assert working_copy(copy.folder) == copy
    assert working_copy(copy.folder / "exercises") == copy


def test_in_a_checkout_the_released_files_are_the_projects() -> None:
    assert released() == ROOT


def test_without_the_files_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        def read_text(self, name: str) -> str | None:
            return json.dumps({"url": "file:///nowhere/kvlab.whl"})

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Plain())
    with pytest.raises(KvlabError, match=r"pip install \"kvlab\[lab\]\""):
        released()


def test_the_wheel_carries_what_the_package_looks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    parts = ("notebooks", "loadtests", "benchmarks", "requirements.txt")
    assert included == {part: f"kvlab/workbook/{part}" for part in parts}
    assert all((ROOT / part).exists() for part in parts)


def test_a_notebook_that_was_only_opened_is_not_a_changed_one() -> None:
    """JupyterLab writes the name of the kernel into a notebook that it opens."""
    package = resources.files("kvlab.workshop") / "jupyter_files/kernels/python3/kernel.json"
    name = json.loads(package.read_text(encoding="utf-8"))["display_name"]
    shipped = sorted((ROOT / "notebooks").rglob("*.ipynb"))
    assert len(shipped) > 20
    for path in shipped:
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
        assert metadata["kernelspec"]["display_name"] == name
