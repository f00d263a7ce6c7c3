"""The file formats of a load run's folder: JSON, tables and checksums, whatever they mean."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from kvlab.errors import InvalidArgument

_KIND, _VERSION = "kvlab-load-run", 1
FORMAT = f"{_KIND}-{_VERSION}"
_ADDRESS = re.compile(r"://(?:\S{0,300}@)?[^/\s'\"]+")


def dumps(data: Any, *, sort: bool = True) -> str:
    """JSON for people and programs: indented, no NaN."""
    return json.dumps(data, indent=1, sort_keys=sort, allow_nan=False) + "\n"


def encoded(text: str) -> bytes:
    """UTF-8; characters that UTF-8 cannot hold are spelled out."""
    return text.encode("utf-8", "backslashreplace")


def sha(text: str) -> str:
    """The SHA-256 of the bytes of ``text``."""
    return hashlib.sha256(encoded(text)).hexdigest()


def as_json(name: str, data: Mapping[str, Any]) -> Any:
    """``data`` as JSON returns it; NumPy's numbers become numbers."""

    def plain(value: Any) -> Any:
        if hasattr(value, "item"):
            return value.item()
        raise TypeError(f"{type(value).__name__} {value!r:.80}")

    try:
        return json.loads(json.dumps(dict(data), default=plain, allow_nan=False))
    except (TypeError, ValueError) as problem:
        raise InvalidArgument(f"{name} must be JSON data: {problem}") from problem


def without_address(data: Any) -> Any:
    """JSON data without host, port, user and password in its URLs."""
    if isinstance(data, str):
        return _ADDRESS.sub("://…", data)
    if isinstance(data, list):
        return [without_address(item) for item in data]
    if isinstance(data, dict):
        return {key: without_address(value) for key, value in data.items()}
    return data


def table(name: str, frame: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """A copy with exactly these columns and types. Raises ``InvalidArgument`` for others."""
    if sorted(frame.columns) != sorted(columns):
        raise InvalidArgument(f"{name} has columns {list(frame.columns)}, not {list(columns)}")
    try:
        return frame[list(columns)].astype(dict(columns)).reset_index(drop=True)
    except (TypeError, ValueError) as problem:
        raise InvalidArgument(f"{name} holds a value that is no number: {problem}") from problem


def parse(raw: bytes, columns: Mapping[str, str]) -> pd.DataFrame:
    """The table that ``to_csv`` wrote, to the last bit."""
    # As text first: a key may be named NA, and pandas' own parser of floats may round.
    frame = pd.read_csv(io.BytesIO(raw), dtype="str", keep_default_na=False)
    for name, kind in columns.items():
        if kind != "str":
            frame[name] = frame[name].replace("", "nan").astype(kind)
    return frame


def same_format(found: Any) -> None:
    """Raises ``InvalidArgument`` for a foreign or a newer format."""
    kind, _, version = str(found).rpartition("-")
    if kind != _KIND or not version.isdecimal():
        raise InvalidArgument(f"its format is {found!r}, not {FORMAT}")
    if int(version) > _VERSION:
        raise InvalidArgument(f"{found} is newer than {FORMAT}, the newest that this kvlab reads")


def reserved_folder(parent: Path, name: str) -> Path:
    """Make an empty folder that no other run has: ``name``, or ``name`` and a number.

    Two runs that began in the same second get two folders, because making one is atomic.
    """
    parent.mkdir(parents=True, exist_ok=True)
    number, folder = 1, parent / name
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = parent / f"{name}-{number}"
        else:
            return folder


def empty_folder(folder: str | PathLike[str]) -> Path:
    """Make the folder, where it is not there yet.

    ``InvalidArgument`` where it holds something, or nothing can be written into it.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise InvalidArgument(f"{target} is there already; no run is written over another")
        if not os.access(target, os.W_OK | os.X_OK):
            raise InvalidArgument(f"{target} cannot hold a run: it is read-only")
    except (OSError, ValueError) as problem:
        if isinstance(problem, InvalidArgument):
            raise
        raise InvalidArgument(f"{target} cannot hold a run: {problem}") from problem
    return target


@contextmanager
def reading(file: Path, files: Mapping[str, str] | None = None) -> Iterator[bytes]:
    """The bytes of ``file``, checked against its checksum. Every error names the file."""
    try:
        raw = file.read_bytes()
        if files is not None and hashlib.sha256(raw).hexdigest() != files[file.name]:
            raise InvalidArgument("it is damaged, or was changed after the run")
        yield raw
    except Exception as problem:
        reason = str(problem) if isinstance(problem, InvalidArgument) else repr(problem)
        raise InvalidArgument(f"{file} cannot be read: {reason}") from problem
