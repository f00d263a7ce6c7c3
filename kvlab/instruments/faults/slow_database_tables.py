"""The tables of the slow database, its two queries, and how a row gets its next version."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

Row = dict[str, Any]

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
PROFILE = (
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
BY_ID = sa.select(customers).where(customers.c.id == sa.bindparam("customer"))


class FirstWriteRace(Exception):
    """Two transactions wrote the first version of one id."""


def present(connection: sa.Connection, customer_id: int) -> bool:
    """Whether the customer has a row, which stays locked until the transaction ends."""
    query = sa.select(customers.c.id).where(customers.c.id == customer_id)
    return connection.execute(query.with_for_update()).first() is not None


def next_version(connection: sa.Connection, customer_id: int) -> int:
    """Give the id its next version. Raises ``FirstWriteRace``: the transaction must be repeated."""
    mine = row_versions.c.id == customer_id
    raised = row_versions.update().where(mine).values(version=row_versions.c.version + 1)
    if not connection.execute(raised).rowcount:
        try:
            connection.execute(row_versions.insert(), {"id": customer_id, "version": 1})
        except IntegrityError as error:
            raise FirstWriteRace from error
    # The update locks the row until the commit, so this reads the transaction's own number.
    return int(connection.execute(sa.select(row_versions.c.version).where(mine)).scalar_one())


def put(connection: sa.Connection, customer_id: int, fields: dict[str, str]) -> Row:
    """Update the customer or insert the customer; returns the new row."""
    version = next_version(connection, customer_id)
    mine = customers.c.id == customer_id
    changed = customers.update().where(mine).values(**fields, version=version)
    if not connection.execute(changed).rowcount:
        new = {"name": f"Customer {customer_id}", "email": f"c{customer_id}@example.com"} | fields
        connection.execute(customers.insert(), new | {"id": customer_id, "version": version})
    return dict(connection.execute(sa.select(customers).where(mine)).mappings().one())
