"""The mixes of YCSB: their shares, which rows they ask for, and that an old row is noticed."""

from __future__ import annotations

import pytest

from benchmarks.ycsb import DRAWN, MIXES, ROWS, SEED, first_rows, played


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_has_its_shares_and_every_row_is_there_when_it_is_read(name: str) -> None:
    mix, there = MIXES[name], ROWS
    operations = mix.operations(DRAWN, SEED)
    for kind, share in mix.shares.items():
        assert [k for k, _ in operations].count(kind) / DRAWN == pytest.approx(share, abs=0.01)
    for kind, row in operations:
        assert row == there if kind == "insert" else 0 <= row < there
        there += kind == "insert"
    assert operations == mix.operations(2 * DRAWN, SEED)[:DRAWN]
    if mix.latest:
        assert max(row for kind, row in operations if kind == "read") > ROWS


def test_a_cache_that_forgets_nothing_is_noticed() -> None:
    rows, cached = first_rows(), {}
    read = played(
        MIXES["A"], rows, lambda wanted: [cached.setdefault(r, rows[r]) for r in wanted], print
    )
    with pytest.raises(AssertionError, match="an old row was read"):
        for _ in range(10):
            read()
