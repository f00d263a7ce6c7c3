"""Reads an access log of people's own into a :class:`Trace`: CSV, or one key a line; gz as well.

    trace = read_access_log("requests.csv.gz", key="url", time="timestamp")

Keys of any text become the numbers 0, 1, 2 … in the order of their first request.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import IO

import numpy as np

from kvlab.core.checks import instance
from kvlab.core.checks import text as checked
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.workload import Trace

_GZIP = b"\x1f\x8b"


def read_access_log(
    path: str | PathLike[str], *, key: str | None = None, time: str | None = None
) -> Trace:
    """The trace of a log in the order of its lines.

    Without ``key``, each line is a key. With ``key``, the file is CSV with a header, and ``key``
    names the column. ``time`` names a column of seconds or of ISO 8601 moments that never fall;
    without it, one request comes each second. Raises ``InvalidArgument`` with the number of the
    line for a line that cannot be read, and for a file that is absent or has no request.
    """
    instance("path", path, str | PathLike, "a path")
    for name, column in (("key", key), ("time", time)):
        if column is not None:
            checked(name, column, None)
    if time and not key:
        raise InvalidArgument("time is a column of a CSV file, which needs the column of the key")
    numbers: dict[str, int] = {}
    asked, times = list[int](), list[float]()
    with _opened(Path(path)) as file:
        for line, name, at in _requests(file, key, time):
            if not name:
                raise InvalidArgument(f"line {line} of {Path(path).name} has no key")
            asked.append(numbers.setdefault(name, len(numbers)))
            times.append(_seconds(at, line, Path(path).name) if time else float(len(times)))
    if not asked:
        raise InvalidArgument(f"{Path(path).name} has no request")
    moments = np.array(times)
    return Trace(moments - moments[0], np.array(asked, dtype=np.int64))


def _opened(path: Path) -> IO[str]:
    """The text of the file; whether it is compressed is seen by its first bytes."""
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == _GZIP
        if is_gzip:
            return gzip.open(path, "rt", encoding="utf-8", newline="")
        return path.open(encoding="utf-8", newline="")
    except OSError as problem:
        raise InvalidArgument(f"path {str(path)!r} cannot be read: {problem.strerror}") from None


def _requests(file: IO[str], key: str | None, time: str | None) -> Iterator[tuple[int, str, str]]:
    """The number of each line, its key and its time."""
    if not key:
        for number, line in enumerate(file, start=1):
            yield number, line.strip(), ""
        return
    rows = csv.DictReader(file)
    missing = [name for name in (key, time) if name and name not in (rows.fieldnames or ())]
    if missing:
        there = ", ".join(rows.fieldnames or ())
        raise InvalidArgument(f"there is no column {missing[0]!r}; there is: {there}")
    for row in rows:
        yield rows.line_num, row[key] or "", row[time] or "" if time else ""


def _seconds(at: str, line: int, name: str) -> float:
    try:
        return float(at)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        raise InvalidArgument(f"line {line} of {name} has no time: {at!r}") from None
