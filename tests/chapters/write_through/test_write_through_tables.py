"""The tables of chapter 2: writes that change no row, and a cache that is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvlab import Kv
from kvlab.chapters.write_through.outage import save_without_cache
from kvlab.chapters.write_through.refusals import cached_after_no_write
from kvlab.instruments import Origin
from kvlab.server.engines import RunningServer


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin(customer_count=20, order_count=1) as database:
        yield database


def test_a_write_that_changes_no_row_is_cached_by_the_naive_version_only(
    kv: Kv, origin: Origin
) -> None:
    table = cached_after_no_write(kv, origin)
    assert list(table["naive has"]) == ["null", "nothing"]
    assert list(table["hardened has"]) == ["nothing", "nothing"]


def test_only_the_hardened_caller_knows_that_the_row_is_committed(
    kv: Kv, server: RunningServer, origin: Origin
) -> None:
    table = save_without_cache(kv, server.url, origin)
    naive, hardened = table.to_dict("records")
    assert naive["the caller gets"] == "ConnectionError"
    assert hardened["the caller gets"] == "the row, cached=False, ServerUnavailable"
    for row in (naive, hardened):
        assert row["database"] == "new"
        assert row["readers at once"] == "old"
        assert row["readers after the TTL"] == "new"
