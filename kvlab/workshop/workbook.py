"""The workbook's files: the released ones, and the working copy that a learner changes.

``kvlab lab`` opens a working copy only, also in a checkout, so that running a notebook never
changes a file that git tracks. One rule holds for everybody: the copy is the folder
``kvlab-workbook`` in the folder where the command runs. Inside a copy, the command uses that copy.

The guarantee: a file that the learner has changed is never overwritten. The copy keeps a record of
what was laid (a hash for each file). From the record follows what happens to each file:

1. The file is absent: it is laid.
2. The file is as it was laid: it is replaced by the released one when the two differ.
3. The file has changed: it stays. When the released one has changed too, ``lay`` reports it.

``restore`` is the way back: it renames a changed file and lays the released one in its place.

Not promised: that a file which a learner has deleted stays away.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from kvlab.errors import InvalidArgument, KvlabError

FOLDER = "kvlab-workbook"
FIRST_CHAPTER = "00_start_here.ipynb"
_RECORD = ".kvlab-workbook.json"
_PARTS = {"notebooks": ".", "notebooks/exercises": "exercises", "notebooks/solutions": "solutions"}
_PARTS |= {"loadtests": "loadtests"}


def released() -> Path:
    """The folder that holds ``notebooks/``, ``loadtests/`` and ``benchmarks/`` as released.

    A wheel carries that folder inside the package. In an editable install it is the project's
    folder, which the installer has noted (PEP 610).
    """
    packaged = importlib.resources.files("kvlab") / "workbook"
    if packaged.is_dir():
        return Path(str(packaged))
    try:
        note = importlib.metadata.distribution("kvlab").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        note = None
    project = Path(url2pathname(urlsplit(json.loads(note)["url"]).path)) if note else None
    if project and (project / "notebooks").is_dir():
        return project
    raise KvlabError('the workbook is not installed here: pip install "kvlab[lab]"')


@dataclass(frozen=True, slots=True)
class Laid:
    """What ``lay`` did. ``outdated``: files that both the learner and a release have changed."""

    new: int
    updated: int
    outdated: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkingCopy:
    """One learner's copy of the workbook in ``folder``."""

    folder: Path

    @property
    def exists(self) -> bool:
        return (self.folder / _RECORD).is_file()

    def lay(self) -> Laid:
        """Bring the copy up to date with the released files; changed files stay as they are."""
        self._check_folder()
        record, new, updated, outdated = self._record(), 0, 0, list[str]()
        for name, source in _released_files():
            target, content = self.folder / name, source.read_bytes()
            have = _hash(target.read_bytes()) if target.exists() else None
            if have == _hash(content):
                record[name] = have
            elif have is None or have == record.get(name):
                new, updated = new + (have is None), updated + (have is not None)
                record[name] = self._write(target, content)
            elif record.get(name) != _hash(content):
                outdated.append(name)
        self._write(self.folder / _RECORD, json.dumps(record, indent=1).encode())
        return Laid(new, updated, tuple(outdated))

    def restore(self, beginning: str, folder: str | None = None) -> list[tuple[str, str]]:
        """Lay the released files whose name begins so; a changed one is renamed before.

        ``folder`` chooses those of one folder of the copy, such as "exercises".

        Returns (name, the new name of the changed file). Raises :class:`InvalidArgument` when
        no file of the workbook begins so.
        """
        if beginning.isdecimal():
            beginning = beginning.zfill(2)
        files = [(n, s) for n, s in _released_files() if Path(n).name.startswith(beginning)]
        if folder is not None:
            files = [(name, s) for name, s in files if Path(name).parent.as_posix() == folder]
        if not files or not (beginning or folder):
            raise InvalidArgument(f"no notebook begins with {beginning!r}; an example: 03")
        self._check_folder()
        record, renamed = self._record(), []
        for name, source in files:
            target, content = self.folder / name, source.read_bytes()
            if target.exists() and target.read_bytes() != content:
                kept = _free_name(target)
                target.rename(kept)
                renamed.append((name, kept.relative_to(self.folder).as_posix()))
            record[name] = self._write(target, content)
        self._write(self.folder / _RECORD, json.dumps(record, indent=1).encode())
        return renamed

    def unchanged(self) -> list[Path]:
        """The files that are as they were laid."""
        record = self._record()
        paths = {self.folder / name: laid for name, laid in record.items()}
        return [p for p, laid in paths.items() if p.exists() and _hash(p.read_bytes()) == laid]

    def _check_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            is_empty = next(self.folder.iterdir(), None) is None
        except OSError as problem:
            raise KvlabError(f"cannot make the folder {self.folder}: {problem.strerror}") from None
        if not (self.exists or is_empty):
            raise KvlabError(
                f"{self.folder} holds other files and no working copy: run this in another folder"
            )
        if not os.access(self.folder, os.W_OK):
            raise KvlabError(f"{self.folder} cannot be written to: run this in another folder")

    def _record(self) -> dict[str, str]:
        if not self.exists:
            return {}
        record: dict[str, str] = json.loads((self.folder / _RECORD).read_text(encoding="utf-8"))
        return record

    def _write(self, target: Path, content: bytes) -> str:
        """Write all or nothing; return the hash of the content."""
        target.parent.mkdir(exist_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        draft.write_bytes(content)
        draft.replace(target)
        return _hash(content)


def working_copy(place: Path) -> WorkingCopy:
    """The working copy that ``place`` lies in, or the one in ``place``, perhaps not yet laid."""
    for folder in (place, *place.parents):
        if WorkingCopy(folder).exists:
            return WorkingCopy(folder)
    return WorkingCopy(place / FOLDER)


def _released_files() -> Iterator[tuple[str, Path]]:
    """(name in a working copy, released file)."""
    root = released()
    for source, target in _PARTS.items():
        for path in sorted((root / source).iterdir()):
            if path.suffix in {".ipynb", ".py"}:
                yield (Path(target) / path.name).as_posix(), path


def _free_name(path: Path) -> Path:
    """``03_sessions.ipynb`` → ``03_sessions.mine-1.ipynb``, or the first number that is free."""
    number = 1
    while (free := path.with_name(f"{path.stem}.mine-{number}{path.suffix}")).exists():
        number += 1
    return free


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
