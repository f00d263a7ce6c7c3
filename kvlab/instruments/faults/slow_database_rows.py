"""The rows of the slow database, drawn from a seed and kept in a file to copy."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import sqlalchemy as sa

from kvlab.core.checks import whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.faults.slow_database_tables import (
    Row,
    customers,
    marker,
    metadata,
    orders,
    row_versions,
)
from kvlab.instruments.progress import progress_bar

FORMAT = 1  # part of the seeded file's name: raise it when the tables or the draw change
EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
BATCH = 5000


@dataclass(frozen=True, slots=True)
class Seed:
    """How many rows there are, and the seed of the random numbers that they are drawn from."""

    customer_count: int
    order_count: int
    number: int

    def __post_init__(self) -> None:
        whole("customer_count", self.customer_count, 1, 10**6)
        whole("order_count", self.order_count, 1, 10**8)
        whole("seed", self.number, 0)

    @property
    def fingerprint(self) -> str:
        """The same for the same rows."""
        drawn_from = f"{FORMAT}/{self.customer_count}/{self.order_count}/{self.number}"
        return hashlib.sha256(drawn_from.encode()).hexdigest()[:16]

    def file(self) -> Path:
        """A SQLite file with the rows, made at the first use and never changed afterwards."""
        path = _shelf() / f"origin-{self.fingerprint}.db"
        if not path.exists():
            # Built aside and renamed: another process never sees half a file.
            handle, building = tempfile.mkstemp(dir=path.parent, suffix=".building")
            os.close(handle)
            try:
                engine = sa.create_engine(f"sqlite:///{building}")
                self.fill(engine)
                engine.dispose()
                Path(building).replace(path)
            finally:
                Path(building).unlink(missing_ok=True)
        return path

    def fill(self, engine: sa.Engine) -> None:
        """Make and fill the tables. Raises ``InvalidArgument`` where other tables are."""
        present = set(sa.inspect(engine).get_table_names()) & set(metadata.tables)
        if marker.name in present:
            with engine.connect() as connection:
                found = connection.execute(sa.select(marker.c.seeded)).scalar()
            if found == self.fingerprint:
                return
            raise InvalidArgument("the database was filled with other parameters; use another one")
        if present:
            raise InvalidArgument(
                f"the database has tables {sorted(present)} that kvlab did not make"
            )
        metadata.create_all(engine)
        with engine.begin() as connection:
            with progress_bar(self.order_count, "orders") as bar:
                for table, rows in self._tables():
                    connection.execute(table.insert(), rows)
                    bar.update(len(rows) if table is orders else 0)
            connection.execute(marker.insert(), {"seeded": self.fingerprint})

    def _tables(self) -> Iterator[tuple[sa.Table, list[Row]]]:
        people = range(1, self.customer_count + 1)
        named = [{"id": i, "name": f"Customer {i}", "email": f"c{i}@example.com"} for i in people]
        yield customers, [row | {"version": 1} for row in named]
        yield row_versions, [{"id": i, "version": 1} for i in people]
        drawn = self._orders()
        while batch := list(islice(drawn, BATCH)):
            yield orders, batch

    def _orders(self) -> Iterator[Row]:
        rng = random.Random(self.number)
        for i in range(1, self.order_count + 1):
            placed = EPOCH + timedelta(minutes=rng.randrange(525_600))
            yield {
                "id": i,
                "customer_id": rng.randint(1, self.customer_count),
                "amount_cents": rng.randint(100, 50_000),
                "placed_at": f"{placed:%Y-%m-%dT%H:%MZ}",
            }


def _shelf() -> Path:
    """A directory of this user for seeded files; no other user can put a file there."""
    path = Path(tempfile.gettempdir()) / f"kvlab-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        return Path(tempfile.mkdtemp(prefix="kvlab-"))
    return path
