"""pip, run in an environment of its own: this one may have been made without pip."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kvlab.errors import KvlabError
from kvlab.workshop.pack.target import PATCHES, Target

_ABSENT = re.compile(r"No matching distribution found for ([\w.-]+?)[\s=<>!~;(]")
_NO_ANSWER = re.compile(r"Retrying \(Retry|Temporary failure in name resolution|ProxyError")
_QUIET = ("--quiet", "--disable-pip-version-check")
_NOT_IN_A_WHEEL = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}


@dataclass(frozen=True, slots=True)
class Pip:
    """pip of the environment in ``folder``. What it writes on its way lies there too."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Pip:
        """A new environment with pip. Raises KvlabError where Python cannot make one."""
        made = cls(folder)
        try:
            venv.create(folder)
            made._python("ensurepip", "--upgrade", "--default-pip").check_returncode()
        except (subprocess.CalledProcessError, OSError):
            hint = "python3 -m venv must work; on Debian, apt-get install python3-venv"
            raise KvlabError(f"no environment with pip could be made: {hint}") from None
        return made

    @property
    def programs(self) -> Path:
        return self.folder / ("Scripts" if sys.platform == "win32" else "bin")

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """One pip command, to its end."""
        return self._python("pip", *words)

    def _python(self, module: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        temporary = str(self.folder)
        return subprocess.run(
            [self.programs / "python", "-m", module, *words],
            env=os.environ | {"TMPDIR": temporary, "TEMP": temporary, "TMP": temporary},
            capture_output=True,
            text=True,
            check=False,
        )

    def must(self, *words: str | Path) -> None:
        """As ``run``; raises KvlabError with pip's last words when it fails."""
        if (done := self.run(*words)).returncode != 0:
            raise KvlabError(_last_words(done.stderr))

    def download(self, folder: Path, target: Target, pins: Sequence[Requirement]) -> set[str]:
        """Lay the wheels for a target into ``folder``; the names of those that do not exist.

        Raises KvlabError when the package index does not answer.
        """
        absent, left = set[str](), list(pins)
        for patch in PATCHES:  # a package may have one version for 3.11.0, another for 3.11.9
            some = [pin for pin in left if target.holds(pin, patches=[patch])]
            left = [pin for pin in left if pin not in some]
            options = ["--no-deps", "--dest", str(folder), *target.pip_options(patch)]
            while wanted := [pin for pin in some if canonicalize_name(pin.name) not in absent]:
                words = [f"{pin.name}{pin.specifier}" for pin in wanted]
                done = self.run("download", *_QUIET, "--retries", "1", *options, *words)
                if done.returncode == 0:
                    break
                found = _ABSENT.search(done.stderr + "\n")
                if not found or _NO_ANSWER.search(done.stderr):
                    raise KvlabError(f"{target}: {_last_words(done.stderr)}")
                absent.add(canonicalize_name(found[1]))
        return absent

    def own_wheel(self, project: Path, folder: Path) -> Path:
        """kvlab's own wheel: built from a checkout, or put together from what is installed."""
        if (project / "pyproject.toml").is_file():
            self.must("wheel", *_QUIET, "--no-deps", "--wheel-dir", folder, project)
        else:
            put_together(importlib.metadata.distribution("kvlab"), folder)
        (wheel,) = folder.glob("kvlab-*.whl")
        return wheel


def put_together(installed: importlib.metadata.Distribution, folder: Path) -> None:
    """The wheel that a package was installed from, made again from its files."""
    name = f"{installed.name}-{installed.version}"
    records = io.StringIO()
    rows = csv.writer(records, lineterminator="\n")
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in installed.files or ():
            ours = ".." not in file.parts and "__pycache__" not in file.parts
            if ours and not (file.parent.suffix == ".dist-info" and file.name in _NOT_IN_A_WHEEL):
                content = file.read_binary()
                digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
                rows.writerow((file.as_posix(), f"sha256={digest.decode()}", len(content)))
                wheel.writestr(file.as_posix(), content)
        record = f"{name}.dist-info/RECORD"
        rows.writerow((record, "", ""))
        wheel.writestr(record, records.getvalue())


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if any(map(_NO_ANSWER.search, lines)):
        return "the package index does not answer; a pack is made with a network"
    return lines[-1].removeprefix("ERROR: ") if lines else "pip ended without a word"
