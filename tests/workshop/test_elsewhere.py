"""The files for development containers and for Binder name commands and Pythons that exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
BINDER = ROOT / ".binder"
CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["postCreateCommand", "postAttachCommand"])
def test_the_container_runs_commands_of_the_makefile(name: str) -> None:
    words = shlex.split(CONTAINER[name])
    assert words[0] == "make"
    subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)


def test_both_have_a_python_that_kvlab_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for words in (CONTAINER["image"], (BINDER / "runtime.txt").read_text(encoding="utf-8")):
        version = re.search(r"python[:-](3\.\d+)", words)
        assert version
        assert version[1] in SpecifierSet(project["requires-python"])


def test_binder_gets_the_whole_workbook_and_a_working_copy(tmp_path: Path) -> None:
    script = BINDER / "postBuild"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert "-r requirements.txt" in text
    assert (ROOT / "requirements.txt").read_text(encoding="utf-8").startswith("-e .")
    (lays,) = re.findall(r"^python -c '(.+)'$", text, re.MULTILINE)
    subprocess.run([sys.executable, "-c", lays], cwd=tmp_path, check=True)
    (opened,) = re.findall(r"open (\S+\.ipynb)", text)
    assert (tmp_path / opened).is_file()
