"""Feature flags over HTTP: every visitor reads its own flags, ``admin`` sets them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Response

from kvlab import Flag
from kvlab.sample_app.models import (
    CROSS_ORIGIN,
    MAY_SET_COOKIE,
    NOT_LOGGED_IN,
    STORE_DOWN,
    TAKES_BODY,
    FlagChange,
    FlagName,
    Flags,
    FlagVersion,
    problem,
)
from kvlab.sample_app.services import ADMIN, FLAGS, SESSIONS, Asking, Shared, known, set_cookie, who

router = APIRouter(tags=["flags"])


@router.get("/api/flags", responses=MAY_SET_COOKIE | STORE_DOWN)
async def read_flags(shared: Shared, visitor: Asking, response: Response) -> Flags:
    """Every flag as it is for the visitor; the declared defaults while the store is down."""
    session, snapshot = await shared.kv.run(SESSIONS.read(visitor.sid), FLAGS.read_all())
    response.headers.update(set_cookie(visitor, session))
    user = who(session) or visitor.address
    names = sorted({*snapshot.flags, *snapshot.defaults})
    return Flags(
        version=snapshot.version,
        flags={name: snapshot.is_enabled(name, user) for name in names},
    )


@router.put(
    "/api/flags/{flag}",
    responses=NOT_LOGGED_IN
    | TAKES_BODY
    | STORE_DOWN
    | CROSS_ORIGIN
    | {403: problem("not admin, or a browser sent this for another site")},
)
async def set_flag(
    flag: Annotated[FlagName, Path()], body: FlagChange, shared: Shared, visitor: Asking
) -> FlagVersion:
    """Turn a flag on for a share of the users; the answer is the new version."""
    if known(await shared.kv.run(SESSIONS.read(visitor.sid, strict=True))) != ADMIN:
        raise HTTPException(403, "only admin sets flags")
    return FlagVersion(version=await shared.kv.run(FLAGS.set(flag, Flag(body.percent))))
