from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from kvlab.errors import InvalidArgument
from kvlab.instruments.faults.slow_database import Origin
from kvlab.instruments.faults.slow_database_tables import customers, orders

SMALL = {"customer_count": 50, "order_count": 400}


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Origin(**SMALL) as origin:
        yield origin


def in_threads(n: int, work: object) -> None:
    start = threading.Barrier(n)

    def go(i: int) -> None:
        start.wait()
        work(i)  # type: ignore[operator]

    threads = [threading.Thread(target=go, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_profile_is_what_the_orders_add_up_to(origin: Origin) -> None:
    with sa.create_engine(origin.url).connect() as connection:
        rows = connection.execute(sa.select(orders)).mappings().all()
    totals: dict[int, int] = {}
    for row in rows:
        totals[row["customer_id"]] = totals.get(row["customer_id"], 0) + row["amount_cents"]
    for customer in (1, 7, 50):
        mine = [row for row in rows if row["customer_id"] == customer]
        profile = origin.profile(customer)
        assert profile == {
            "id": customer,
            "name": f"Customer {customer}",
            "email": f"c{customer}@example.com",
            "version": 1,
            "orders": len(mine),
            "total_cents": totals[customer],
            "last_order": max(row["placed_at"] for row in mine),
            "spending_rank": 1 + sum(t > totals[customer] for t in totals.values()),
        }
    assert len(rows) == 400


def test_an_absent_customer_is_none_and_a_load_all_the_same(origin: Origin) -> None:
    assert origin.profile(51) is None
    assert origin.profile(1) is not None
    assert origin.read(1) is not None
    assert origin.loads == 2


def test_the_same_parameters_give_the_same_rows_whatever_was_written(origin: Origin) -> None:
    before = origin.profile(3)
    origin.save(3, name="changed")
    with Origin(**SMALL) as other:
        assert other.profile(3) == before
    with Origin(**SMALL, seed=2) as other:
        assert other.profile(3) != before


def test_versions_rise_and_go_on_after_a_delete(origin: Origin) -> None:
    row, version = origin.save(5, name="A")
    assert (row["name"], row["version"], version) == ("A", 2, 2)
    assert origin.remove(5) == 3
    assert origin.remove(5) is None
    assert origin.profile(5) is None
    assert origin.save(5, name="B")[1] == 4
    assert origin.save(1000, name="new")[1] == 1


def test_an_update_of_no_row_is_none(origin: Origin) -> None:
    assert origin.update(1000, name="x") is None
    assert origin.update(5, name="x") == (origin.read(5), 2)


def test_what_the_database_refuses_changes_nothing(origin: Origin) -> None:
    for fields in ({"name": ""}, {"email": "c6@example.com"}):
        with pytest.raises(IntegrityError):
            origin.save(5, **fields)
    assert origin.save(5, name="ok")[1] == 2
    with pytest.raises(InvalidArgument, match="colour"):
        origin.save(5, colour="red")


def test_concurrent_writers_get_every_version_once(origin: Origin) -> None:
    versions: list[int] = []
    in_threads(16, lambda i: versions.append(origin.save(900, name=f"w{i}")[1]))
    assert sorted(versions) == list(range(1, 17))
    row = origin.read(900)
    assert row is not None
    assert row["version"] == 16


def test_concurrent_updates_wait_for_each_other(origin: Origin) -> None:
    versions: list[int] = []

    def work(i: int) -> None:
        for _ in range(10):
            done = origin.update(7, name=f"w{i}")
            assert done is not None
            versions.append(done[1])

    in_threads(8, work)
    assert sorted(versions) == list(range(2, 82))


def test_loads_are_counted_exactly(origin: Origin) -> None:
    in_threads(24, lambda i: origin.profile(i))
    assert origin.loads == 24


def test_a_database_of_ones_own_is_filled_once_and_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'mine.db'}"
    with Origin(url, **SMALL) as origin:
        origin.save(3, name="kept")
    with Origin(url, **SMALL) as origin:
        assert origin.read(3)["name"] == "kept"  # type: ignore[index]
    with pytest.raises(InvalidArgument, match="other parameters"):
        Origin(url, customer_count=50, order_count=401)


def test_foreign_tables_are_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'theirs.db'}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE customers (x)")
    with pytest.raises(InvalidArgument, match="customers"):
        Origin(url)
    assert sa.inspect(engine).get_table_names() == ["customers"]
    engine.dispose()


def test_memory_databases_and_odd_sizes_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="file"):
        Origin("sqlite://")
    with pytest.raises(InvalidArgument, match="order_count"):
        Origin(order_count=0)


def test_close_leaves_only_the_seeded_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    origin = Origin(**SMALL)
    origin.close()
    origin.close()
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1


def test_no_index_helps_the_profile() -> None:
    assert not orders.indexes
    assert [c.name for c in customers.primary_key] == ["id"]
