"""A log of people's own gives the trace that it was written from."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from kvlab.errors import InvalidArgument
from kvlab.instruments import Latest, Zipf, read_access_log

KEYS = Zipf(50, 0.9).keys(500, 4)


def written(folder: Path, text: str, *, gz: bool) -> Path:
    path = folder / "log"
    path.write_bytes(gzip.compress(text.encode()) if gz else text.encode())
    return path


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_log_is_read_as_it_was_written(gz: bool, end: str, tmp_path: Path) -> None:
    plain = written(tmp_path, end.join(f"user ä,{key}" for key in KEYS), gz=gz)
    as_lines = read_access_log(plain)
    rows = ["when,url", *(f'{10 + i / 4},"/u?id={key},{key}"' for i, key in enumerate(KEYS))]
    as_csv = read_access_log(written(tmp_path, end.join(rows), gz=gz), key="url", time="when")
    for trace in (as_lines, as_csv):
        assert len(trace) == len(KEYS)
        # The same keys under other numbers: equal requests are equal in both.
        pairs = set(zip(trace.asked.tolist(), KEYS.tolist(), strict=True))
        assert len(pairs) == len(set(KEYS.tolist())) == trace.asked.max() + 1
    assert as_csv.times[-1] == pytest.approx((len(KEYS) - 1) / 4)
    assert as_lines.times[-1] == len(KEYS) - 1


def test_moments_may_be_iso_8601(tmp_path: Path) -> None:
    text = "t,k\n2026-11-29T10:00:00+00:00,a\n2026-11-29T10:00:01.500+00:00,b\n"
    assert read_access_log(written(tmp_path, text, gz=False), key="k", time="t").times[1] == 1.5


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "latin-1"])
def test_the_coding_of_a_log_changes_no_key(coding: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes("ä\nb\nä\n".encode(coding))
    assert read_access_log(log).asked.tolist() == [0, 1, 0]
    log.write_bytes("key,t\nä,1\nb,2\nä,2\n".encode(coding))
    assert read_access_log(log, key="key", time="t").asked.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("raw", "columns", "said"),
    [
        (gzip.compress(b"a\nb\n")[:-9], {}, "log cannot be read after line 2: .* ended before"),
        (gzip.compress(b"a\nb\n")[:12] + b"?" * 30, {}, "log cannot be read after line 0"),
        (b"k\na\n" + b"b" * 200_000 + b"\n", {"key": "k"}, "after line 2: field larger"),
    ],
    ids=["cut", "damaged", "long"],
)
def test_a_file_that_ends_early_is_refused_by_name(
    raw: bytes, columns: dict[str, str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "log").write_bytes(raw)
    with pytest.raises(InvalidArgument, match=said):
        read_access_log(tmp_path / "log", **columns)


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        ("", {}, "has no request"),
        ("a\n\nb\n", {}, "line 2 of log has no key"),
        ("k,t\na,1\n", {"key": "url"}, "no column 'url'; there is: k, t"),
        ("k,t\na,now\n", {"key": "k", "time": "t"}, "line 2 of log has no time: 'now'"),
        ("k,t\na,2\nb,1\n", {"key": "k", "time": "t"}, "line 3 of log is earlier than the one bef"),
        ("k,t\na,2\nb,nan\n", {"key": "k", "time": "t"}, "line 3 of log has no time: 'nan'"),
        ("a\n", {"time": "t"}, "needs the column of the key"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(
    text: str, columns: dict[str, str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match=said):
        read_access_log(written(tmp_path, text, gz=False), **columns)


def test_the_latest_keys_are_the_popular_ones() -> None:
    keys = Latest(1_000, 1.0, inserts=0.1).keys(20_000, 6)
    newest = np.maximum.accumulate(keys)
    age = newest - keys
    assert (age == 0).mean() > (age == 1).mean() > (age == 10).mean() > 0
    assert newest[-1] == pytest.approx(1_000 + 2_000, rel=0.1)
    assert np.array_equal(keys[:100], Latest(1_000, 1.0, inserts=0.1).keys(100, 6))
