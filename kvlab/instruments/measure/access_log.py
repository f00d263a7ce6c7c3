"""Reads an access log of people's own into a :class:`Trace`: CSV, or one key a line; gz as well.

    trace = read_access_log("requests.csv.gz", key="url", time="timestamp")

Keys of any text become the numbers 0, 1, 2 … in the order of their first request.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np

from kvlab.core.checks import instance
from kvlab.core.checks import text as checked
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.workload import Trace

_GZIP = b"\x1f\x8b"
_UTF_16 = b"\xff\xfe", b"\xfe\xff"
_DAMAGED = OSError, EOFError, zlib.error, csv.Error


def read_access_log(
    path: str | PathLike[str], *, key: str | None = None, time: str | None = None
) -> Trace:
    """The trace of a log in the order of its lines.

    Without ``key``, each line is a key. With ``key``, the file is CSV with a header, and ``key``
    names the column. ``time`` names a column of seconds or of ISO 8601 moments that never fall;
    without it, one request comes each second. The text is UTF-8, or UTF-16 with its mark; bytes of
    another coding stay as they are, as in ``\\xe4``. Raises ``InvalidArgument`` with the number of
    the line for a line that cannot be read, and for a file that is absent, damaged or has no
    request.
    """
    instance("path", path, str | PathLike, "a path")
    for name, column in (("key", key), ("time", time)):
        if column is not None:
            checked(name, column, None)
    if time and not key:
        raise InvalidArgument("time is a column of a CSV file, which needs the column of the key")
    log, line = Path(path).name, 0
    numbers: dict[str, int] = {}
    asked, times = list[int](), list[float]()
    with _opened(Path(path)) as file:
        try:
            for line, name, at in _requests(file, key, time):
                if not name:
                    raise InvalidArgument(f"line {line} of {log} has no key")
                asked.append(numbers.setdefault(name, len(numbers)))
                times.append(_seconds(at, line, log) if time else float(len(times)))
                if times[-1] < times[max(len(times) - 2, 0)]:
                    raise InvalidArgument(
                        f"line {line} of {log} is earlier than the one before it; times never fall"
                    )
        except _DAMAGED as problem:
            raise InvalidArgument(f"{log} cannot be read after line {line}: {problem}") from None
    if not asked:
        raise InvalidArgument(f"{log} has no request")
    moments = np.array(times)
    return Trace(moments - moments[0], np.array(asked, dtype=np.int64))


def _opened(path: Path) -> IO[str]:
    """The text of the file; how it is compressed or coded is seen by its first bytes."""
    try:
        with path.open("rb") as file:
            begins = file.read(2)
        coding = "utf-16" if begins in _UTF_16 else "utf-8-sig"
        opens: Any = gzip.open if begins == _GZIP else open
        text: IO[str] = opens(path, "rt", encoding=coding, errors="backslashreplace", newline="")
        return text
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        why = getattr(problem, "strerror", None) or problem
        raise InvalidArgument(f"path {str(path)!r} cannot be read: {why}") from None


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
    for read in (float, lambda text: datetime.fromisoformat(text).timestamp()):
        with suppress(ValueError):
            if math.isfinite(seconds := read(at)):
                return seconds
    raise InvalidArgument(f"line {line} of {name} has no time: {at!r}")
