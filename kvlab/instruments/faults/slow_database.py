"""The slow database behind the cache: customers, and their orders, which take time to add up.

Guarantee: the same parameters give the same rows. ``profile`` reads every order (there is no
index), so a load takes real milliseconds, without a sleep. Each row has a ``version`` from a
sequence of its id. The sequence continues after a delete: a row that is inserted again has a higher
version than the deleted row had. ``save`` and ``remove`` return the version that their own
transaction gave.

    with Origin() as database:
        row, version = database.save(7, name="Ada")

Tables: ``customers`` (email unique, name not empty: the database refuses what breaks that),
``orders``, ``row_versions``, and ``kvlab_origin`` which says how they were filled.

By default the database is a SQLite file (WAL) that this Origin owns: a private copy of a seeded
file, which stays in the temporary directory under a name made from the parameters. With ``url`` it
is any SQLAlchemy database, which is filled at the first use. A database that has tables of these
names which kvlab did not fill is refused and not changed.

Not promised: the same milliseconds on another machine.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from kvlab.core.checks import instance, text
from kvlab.errors import InvalidArgument
from kvlab.instruments.faults.slow_database_rows import Seed
from kvlab.instruments.faults.slow_database_tables import (
    BY_ID,
    PROFILE,
    FirstWriteRace,
    Row,
    customers,
    next_version,
    present,
    put,
)

T = TypeVar("T")


class Origin:
    """A database of ``customer_count`` customers with ``order_count`` orders, drawn from ``seed``.

    Customers have the ids 1…customer_count. Safe to share between threads. ``loads`` counts the
    calls of ``profile``. Use as a context manager, or ``close()``.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        customer_count: int = 1000,
        order_count: int = 8000,
        seed: int = 1,
    ) -> None:
        if url is not None:
            text("url", url, None)
        drawn = Seed(customer_count, order_count, seed)
        self._lock = threading.Lock()
        self._loads = 0
        self._directory: Path | None = None
        if url is None:
            self._directory = Path(tempfile.mkdtemp(prefix="kvlab-origin-"))
            shutil.copyfile(drawn.file(), self._directory / "origin.db")
            url = f"sqlite:///{self._directory / 'origin.db'}"
        self.url = url
        self._engine = _engine(url)
        try:
            drawn.fill(self._engine)
        except BaseException:
            self.close()
            raise

    @property
    def loads(self) -> int:
        """How often ``profile`` was called."""
        with self._lock:
            return self._loads

    def profile(self, customer_id: int) -> Row | None:
        """The customer with order count, total, last order and rank by spending; None if missing.

        Adds up the whole table of orders, for a missing customer too.
        """
        with self._lock:
            self._loads += 1
        return self._one(PROFILE, customer_id)

    def read(self, customer_id: int) -> Row | None:
        """The customer's own row, by primary key; not counted as a load."""
        return self._one(BY_ID, customer_id)

    def _one(self, query: sa.Select[Any], customer_id: int) -> Row | None:
        with self._engine.connect() as connection:
            row = connection.execute(query, {"customer": customer_id}).mappings().first()
        return None if row is None else dict(row)

    def save(self, customer_id: int, **fields: str) -> tuple[Row, int]:
        """Set ``name`` or ``email``; inserts a missing row. Returns the row and its new version.

        One transaction. Raises ``sqlalchemy.exc.IntegrityError`` when the database refuses an
        empty name or an email in use; then nothing has changed, not even the version.
        """
        _checked(fields)
        row = self._write(lambda c: put(c, customer_id, fields))
        return row, int(row["version"])

    def update(self, customer_id: int, **fields: str) -> tuple[Row, int] | None:
        """As ``save``, but None where there is no row to update."""
        _checked(fields)
        row = self._write(
            lambda c: put(c, customer_id, fields) if present(c, customer_id) else None
        )
        return None if row is None else (row, int(row["version"]))

    def remove(self, customer_id: int) -> int | None:
        """Delete the row; returns the version of the deletion, or None if there was no row."""

        def delete(connection: sa.Connection) -> int | None:
            if not present(connection, customer_id):
                return None
            connection.execute(customers.delete().where(customers.c.id == customer_id))
            return next_version(connection, customer_id)

        return self._write(delete)

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        while True:
            try:
                with self._engine.execution_options(writes=True).begin() as connection:
                    return work(connection)
            except FirstWriteRace:
                continue  # the other transaction has committed, so now there is a row to update

    def close(self) -> None:
        """Close all connections and delete the private copy. May be called twice."""
        self._engine.dispose()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Origin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checked(fields: dict[str, str]) -> None:
    if unknown := set(fields) - {"name", "email"}:
        raise InvalidArgument(f"fields are name and email, got {sorted(unknown)}")
    for name, value in fields.items():
        instance(name, value, str, "text")


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as problem:
        raise InvalidArgument(f"url must be a URL of SQLAlchemy: {problem}") from None
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_size=16, max_overflow=48)
    if parsed.database in (None, "", ":memory:"):
        raise InvalidArgument("url must name a file: a database in memory is private to one thread")
    engine = sa.create_engine(parsed, pool_size=16, max_overflow=112, connect_args={"timeout": 60})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # begin() below begins the transactions
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A transaction that reads first and writes then can fail: a writer takes the lock first.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
