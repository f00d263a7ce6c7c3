"""A customer's profile: read through the cache, written to the database first, then the cache.

Database calls run in a thread, so that a slow query delays no other request.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path
from sqlalchemy.exc import IntegrityError

from kvlab.instruments.faults.slow_database import Origin
from kvlab.sample_app.models import (
    CROSS_ORIGIN,
    INVALID,
    NOT_LOGGED_IN,
    STORE_DOWN,
    TAKES_BODY,
    Answers,
    CustomerId,
    OwnProfile,
    Profile,
    ProfileChange,
    problem,
)
from kvlab.sample_app.services import ADMIN, PROFILES, SESSIONS, Asking, Shared, known

router = APIRouter(tags=["profiles"])

Id = Annotated[CustomerId, Path(description="a customer of the sample database: 1 to 1000")]
Loaded = tuple[dict[str, Any], int] | None
_ABSENT: Answers = {404: problem("there is no such customer")}
_FOREIGN = CROSS_ORIGIN | {
    403: problem("another customer's profile, or a browser sent this for another site")
}
_TAKEN: Answers = {409: problem("the email is in use")}


@router.get("/api/profiles/{customer}", responses=_ABSENT | INVALID | STORE_DOWN)
async def read_profile(customer: Id, shared: Shared) -> Profile:
    """What everybody may see of a customer. While the store is down, the database answers."""
    loads = 0

    async def load() -> Loaded:
        nonlocal loads
        loads += 1
        return await asyncio.to_thread(_load, shared.origin, customer)

    row = await shared.kv.run(PROFILES.fetch(customer, load))
    if row is None:
        raise HTTPException(404, "there is no such customer")
    return Profile(**row, cached=loads == 0)


@router.put(
    "/api/profiles/{customer}",
    responses=_ABSENT | NOT_LOGGED_IN | TAKES_BODY | _FOREIGN | _TAKEN | STORE_DOWN,
)
async def change_profile(
    customer: Id, body: ProfileChange, shared: Shared, visitor: Asking
) -> OwnProfile:
    """Change name or email in one's own profile, or in any as admin. Null changes nothing."""
    user = known(await shared.kv.run(SESSIONS.read(visitor.sid, strict=True)))
    if user not in (f"c{customer}", ADMIN):
        raise HTTPException(403, "this is another customer's profile")
    fields = body.model_dump(exclude_none=True)

    async def write() -> Loaded:
        return await asyncio.to_thread(_write, shared.origin, customer, fields)

    try:
        saved = await shared.kv.run(PROFILES.save(customer, write))
    except IntegrityError:
        raise HTTPException(409, "the email is in use") from None
    if saved.row is None:
        raise HTTPException(404, "there is no such customer")
    return OwnProfile(**saved.row, cached=saved.cached)


def _load(origin: Origin, customer: int) -> Loaded:
    row = origin.profile(customer)
    return None if row is None else (row, row["version"])


def _write(origin: Origin, customer: int, fields: dict[str, str]) -> Loaded:
    # Row and version come from one read: those of this write, or of a later one.
    return None if origin.update(customer, **fields) is None else _load(origin, customer)
