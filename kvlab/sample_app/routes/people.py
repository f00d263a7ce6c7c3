"""Sessions over HTTP: log in, log out, and a choice that the session remembers.

Anybody may log in as any user of the sample database: there is no password to check, so this
log-in protects nothing. Everything after the check is as in a real app.
"""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response

from kvlab import Decision, FixedWindow
from kvlab.sample_app.models import (
    CROSS_ORIGIN,
    INVALID,
    MAY_SET_COOKIE,
    STORE_DOWN,
    TAKES_BODY,
    Answers,
    Login,
    Me,
    ThemeChoice,
    header,
    problem,
)
from kvlab.sample_app.services import SESSIONS, Asking, Shared, set_cookie, who
from kvlab.sessions.values import Session

router = APIRouter(tags=["people"])

# Anybody can make sessions, anonymous or by a log-in: their number is limited by address.
NEW_SESSIONS = FixedWindow("new-sessions", limit=60, window=60)
_SETS: Answers = {200: {"headers": {"Set-Cookie": header("the session's cookie", required=True)}}}
_TOO_MANY: Answers = {
    429: problem("too many new sessions", {"Retry-After": header("seconds", kind="integer")})
}


@router.post("/api/login", responses=_SETS | STORE_DOWN | CROSS_ORIGIN | TAKES_BODY | _TOO_MANY)
async def login(body: Login, shared: Shared, visitor: Asking, response: Response) -> Me:
    """Begin a session. The session of the request ends in the same step, so that an id that an
    attacker planted is worth nothing; the data of an anonymous session is kept. Log-ins are limited
    by address and by user, whoever they come from."""
    by_address, by_user, before = await shared.kv.run(
        NEW_SESSIONS.hit(visitor.address),
        shared.settings.logins.hit(body.user),
        SESSIONS.read(visitor.sid, strict=True),
    )
    for decision in (by_address, by_user):
        _admit(decision)
    data = before.data if before is not None and before.user is None else {}
    _, session = await shared.kv.run(
        SESSIONS.destroy(visitor.sid), SESSIONS.create(body.user, data), atomic=True
    )
    response.headers.update(set_cookie(visitor, session))
    return _me(session)


@router.post("/api/logout", responses=_SETS | STORE_DOWN | CROSS_ORIGIN)
async def logout(shared: Shared, visitor: Asking, response: Response) -> Me:
    """End the session. When the store does not answer (503), the session is still alive, and the
    browser keeps its cookie for another try."""
    await shared.kv.run(SESSIONS.destroy(visitor.sid))
    response.headers["Set-Cookie"] = visitor.cookie.expired()
    return _me(None)


@router.get("/api/me", responses=MAY_SET_COOKIE | STORE_DOWN)
async def me(shared: Shared, visitor: Asking, response: Response) -> Me:
    """The visitor. While the store is down nobody knows (503), and the browser keeps its cookie."""
    session = await shared.kv.run(SESSIONS.read(visitor.sid, strict=True))
    response.headers.update(set_cookie(visitor, session))
    return _me(session)


@router.put(
    "/api/theme",
    responses=_SETS | STORE_DOWN | CROSS_ORIGIN | TAKES_BODY | INVALID | _TOO_MANY,
)
async def choose_theme(
    body: ThemeChoice, shared: Shared, visitor: Asking, response: Response
) -> Me:
    """Remember how the page looks in the visitor's session, or in a new anonymous session."""
    session = await shared.kv.run(SESSIONS.update(visitor.sid, theme=body.theme))
    if session is None:
        _admit(await shared.kv.run(NEW_SESSIONS.hit(visitor.address)))
        session = await shared.kv.run(SESSIONS.create(None, {"theme": body.theme}))
    response.headers.update(set_cookie(visitor, session))
    return _me(session)


def _admit(decision: Decision) -> None:
    if not decision.allowed:
        raise HTTPException(429, "too many new sessions", decision.headers())


def _me(session: Session | None) -> Me:
    if session is None:
        return Me(user=None, theme="auto", expires=None)
    theme = session.data.get("theme", "auto")
    return Me(user=who(session), theme=theme, expires=session.expires)
