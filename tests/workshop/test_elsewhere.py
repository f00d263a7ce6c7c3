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
# As in a shell: a make that runs the tests hands its own flags on.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["postCreateCommand", "postAttachCommand"])
def test_the_container_runs_commands_of_the_makefile(name: str) -> None:
    words = shlex.split(CONTAINER[name])
    assert words[0] == "make"
    subprocess.run(
        ["make", "--dry-run", *words[1:]],
        cwd=ROOT,
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize(
    ("prints", "says"), [("3.10", "is 3.10"), ("3.15", "is 3.15"), ("", "is no Python that runs")]
)
def test_a_python_that_is_named_is_never_passed_over(
    tmp_path: Path, prints: str, says: str
) -> None:
    """Whether there is an environment already, or not."""
    named = tmp_path / "python"
    named.write_text(f"#!/bin/sh\necho {prints}\n")
    named.chmod(0o755)
    command = ["make", "--dry-run", "lab", f"PYTHON={named}"]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"kvlab needs Python 3.11 to 3.14; PYTHON={named} {says}" in done.stderr


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
