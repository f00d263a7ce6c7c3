"""The slow database behind the cache: customers, and orders that cost something to add up.

Guarantee: the same parameters give the same rows. ``profile`` reads every order (no index helps
it), so a load costs real milliseconds and no sleep. Each row has a ``version`` from a sequence
kept per id, which goes on after a delete: a row made again has a higher version than the deleted
one had. ``save`` and ``remove`` return the version that their own transaction gave.

Tables: ``customers`` (email unique, name not empty: the database refuses what breaks that),
``orders``, ``row_versions``, and ``kvlab_origin`` which says how they were filled.

By default a SQLite file (WAL) that this Origin owns: a private copy of a seeded file, which is
kept in the temporary directory under a name made from the parameters. With ``url`` any SQLAlchemy
database; it is filled once and then used as it is, and tables of these names that were not
filled by kvlab are left alone and refused.

Not promised: the same milliseconds on another machine.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from kvlab.core.checks import whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.progress import progress_bar

Row = dict[str, Any]
T = TypeVar("T")

FORMAT = 1  # part of the seeded file's name: raise it when the tables or the draw change
EPOCH = datetime(2025, 1, 1, tzinfo=UTC)

metadata = sa.MetaData()
customers = sa.Table(
    "customers",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("email", sa.String(200), nullable=False, unique=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.CheckConstraint("length(name) > 0", name="customers_name_not_empty"),
)
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("customer_id", sa.Integer, nullable=False),
    sa.Column("amount_cents", sa.Integer, nullable=False),
    sa.Column("placed_at", sa.String(20), nullable=False),
)
row_versions = sa.Table(
    "row_versions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)
marker = sa.Table("kvlab_origin", metadata, sa.Column("seeded", sa.String(64), primary_key=True))

_totals = (
    sa.select(
        orders.c.customer_id,
        sa.func.count().label("orders"),
        sa.func.sum(orders.c.amount_cents).label("total_cents"),
        sa.func.max(orders.c.placed_at).label("last_order"),
    )
    .group_by(orders.c.customer_id)
    .cte("totals")
)
_ranked = sa.select(
    _totals, sa.func.rank().over(order_by=_totals.c.total_cents.desc()).label("spending_rank")
).cte("ranked")
_profile = (
    sa.select(
        customers,
        sa.func.coalesce(_ranked.c.orders, 0).label("orders"),
        sa.func.coalesce(_ranked.c.total_cents, 0).label("total_cents"),
        _ranked.c.last_order,
        _ranked.c.spending_rank,
    )
    .select_from(customers.outerjoin(_ranked, _ranked.c.customer_id == customers.c.id))
    .where(customers.c.id == sa.bindparam("customer"))
)
_by_id = sa.select(customers).where(customers.c.id == sa.bindparam("customer"))


class _FirstWriteRace(Exception):
    """Two transactions wrote the first version of one id."""


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
        whole("customer_count", customer_count, 1, 10**6)
        whole("order_count", order_count, 1, 10**8)
        self.customer_count, self.order_count, self.seed = customer_count, order_count, seed
        self._lock = threading.Lock()
        self._loads = 0
        self._directory: Path | None = None
        if url is None:
            self._directory = Path(tempfile.mkdtemp(prefix="kvlab-origin-"))
            shutil.copyfile(self._seeded_file(), self._directory / "origin.db")
            url = f"sqlite:///{self._directory / 'origin.db'}"
        self.url = url
        self._engine = _engine(url)
        try:
            self._fill(self._engine)
        except BaseException:
            self.close()
            raise

    @property
    def loads(self) -> int:
        """How often ``profile`` was called."""
        with self._lock:
            return self._loads

    def profile(self, customer_id: int) -> Row | None:
        """The customer with order count, total, last order and rank by spending; None if absent.

        Adds up the whole table of orders, whether or not the customer is there.
        """
        with self._lock:
            self._loads += 1
        return self._one(_profile, customer_id)

    def read(self, customer_id: int) -> Row | None:
        """The customer's own row, by primary key; not counted as a load."""
        return self._one(_by_id, customer_id)

    def _one(self, query: sa.Select[Any], customer_id: int) -> Row | None:
        with self._engine.connect() as connection:
            row = connection.execute(query, {"customer": customer_id}).mappings().first()
        return None if row is None else dict(row)

    def save(self, customer_id: int, **fields: str) -> tuple[Row, int]:
        """Set ``name`` or ``email``; makes the row if there is none. Returns row and new version.

        One transaction. Raises ``sqlalchemy.exc.IntegrityError`` when the database refuses (an
        empty name, an email in use); then nothing changed, the version included.
        """
        _checked(fields)
        row = self._write(lambda c: _put(c, customer_id, fields))
        return row, int(row["version"])

    def update(self, customer_id: int, **fields: str) -> tuple[Row, int] | None:
        """As ``save``, but None where there is no row to update."""
        _checked(fields)
        row = self._write(
            lambda c: _put(c, customer_id, fields) if _present(c, customer_id) else None
        )
        return None if row is None else (row, int(row["version"]))

    def remove(self, customer_id: int) -> int | None:
        """Delete the row; returns the version of the deletion, or None if there was no row."""

        def delete(connection: sa.Connection) -> int | None:
            if not _present(connection, customer_id):
                return None
            connection.execute(customers.delete().where(customers.c.id == customer_id))
            return _next_version(connection, customer_id)

        return self._write(delete)

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        while True:
            try:
                with self._engine.execution_options(writes=True).begin() as connection:
                    return work(connection)
            except _FirstWriteRace:
                continue  # the other one has committed, so now there is a row to update

    def close(self) -> None:
        """Close all connections and delete the private copy. May be called twice."""
        self._engine.dispose()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Origin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _fingerprint(self) -> str:
        drawn_from = f"{FORMAT}/{self.customer_count}/{self.order_count}/{self.seed}"
        return hashlib.sha256(drawn_from.encode()).hexdigest()[:16]

    def _seeded_file(self) -> Path:
        path = _shelf() / f"origin-{self._fingerprint}.db"
        if not path.exists():
            # built aside and renamed: another process never sees half a file
            handle, building = tempfile.mkstemp(dir=path.parent, suffix=".building")
            os.close(handle)
            try:
                engine = sa.create_engine(f"sqlite:///{building}")
                self._fill(engine)
                engine.dispose()
                Path(building).replace(path)
            finally:
                Path(building).unlink(missing_ok=True)
        return path

    def _fill(self, engine: sa.Engine) -> None:
        present = set(sa.inspect(engine).get_table_names()) & set(metadata.tables)
        if marker.name in present:
            with engine.connect() as connection:
                found = connection.execute(sa.select(marker.c.seeded)).scalar()
            if found == self._fingerprint:
                return
            raise InvalidArgument("the database was filled with other parameters; use another one")
        if present:
            raise InvalidArgument(
                f"the database has tables {sorted(present)} that kvlab did not make"
            )
        metadata.create_all(engine)
        with engine.begin() as connection:
            with progress_bar(self.order_count, "orders") as bar:
                for table, rows in self._rows():
                    connection.execute(table.insert(), rows)
                    bar.update(len(rows) if table is orders else 0)
            connection.execute(marker.insert(), {"seeded": self._fingerprint})

    def _rows(self) -> Iterator[tuple[sa.Table, list[Row]]]:
        people = range(1, self.customer_count + 1)
        yield (
            customers,
            [
                {"id": i, "name": f"Customer {i}", "email": f"c{i}@example.com", "version": 1}
                for i in people
            ],
        )
        yield row_versions, [{"id": i, "version": 1} for i in people]
        rng = random.Random(self.seed)
        batch: list[Row] = []
        for i in range(1, self.order_count + 1):
            placed = EPOCH + timedelta(minutes=rng.randrange(525_600))
            batch.append(
                {
                    "id": i,
                    "customer_id": rng.randint(1, self.customer_count),
                    "amount_cents": rng.randint(100, 50_000),
                    "placed_at": f"{placed:%Y-%m-%dT%H:%MZ}",
                }
            )
            if len(batch) == 5000 or i == self.order_count:
                yield orders, batch
                batch = []


def _checked(fields: dict[str, str]) -> None:
    if unknown := set(fields) - {"name", "email"}:
        raise InvalidArgument(f"fields are name and email, got {sorted(unknown)}")


def _present(connection: sa.Connection, customer_id: int) -> bool:
    query = sa.select(customers.c.id).where(customers.c.id == customer_id)
    return connection.execute(query.with_for_update()).first() is not None


def _next_version(connection: sa.Connection, customer_id: int) -> int:
    mine = row_versions.c.id == customer_id
    raised = row_versions.update().where(mine).values(version=row_versions.c.version + 1)
    if not connection.execute(raised).rowcount:
        try:
            connection.execute(row_versions.insert(), {"id": customer_id, "version": 1})
        except IntegrityError as error:
            raise _FirstWriteRace from error
    # the update holds the row until commit, so this reads our own number
    return int(connection.execute(sa.select(row_versions.c.version).where(mine)).scalar_one())


def _put(connection: sa.Connection, customer_id: int, fields: dict[str, str]) -> Row:
    version = _next_version(connection, customer_id)
    mine = customers.c.id == customer_id
    changed = customers.update().where(mine).values(**fields, version=version)
    if not connection.execute(changed).rowcount:
        new = {"name": f"Customer {customer_id}", "email": f"c{customer_id}@example.com"} | fields
        connection.execute(customers.insert(), new | {"id": customer_id, "version": version})
    return dict(connection.execute(sa.select(customers).where(mine)).mappings().one())


def _engine(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_size=16, max_overflow=48)
    if parsed.database in (None, "", ":memory:"):
        raise InvalidArgument("an in-memory database is private to one thread; give a file")
    engine = sa.create_engine(parsed, pool_size=16, max_overflow=112, connect_args={"timeout": 60})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions, begin() below does
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # a read that turns into a write can fail at once, so writers take the lock first
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _shelf() -> Path:
    """A directory of our own for seeded files; nobody else can put one there."""
    path = Path(tempfile.gettempdir()) / f"kvlab-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        return Path(tempfile.mkdtemp(prefix="kvlab-"))
    return path
