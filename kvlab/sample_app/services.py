"""What every request of the sample app uses: the patterns, the executor, and the visitor.

Patterns are values and hold no connection: one of each kind serves all requests. A ``Visitor``
comes from the request alone; nothing here calls the store.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, HTTPException, Request

import kvlab
from kvlab import CacheAside, FeatureFlags, Leaderboard, SessionCookie, SessionStore, WriteThrough
from kvlab.core.settings import Trace
from kvlab.instruments.faults.slow_database import Origin
from kvlab.rate_limiting.client_address import client_address
from kvlab.sample_app.settings import AppSettings
from kvlab.sessions.values import Session

SESSIONS = SessionStore("app", idle=1800, absolute=86_400)
FLAGS = FeatureFlags("app", defaults={"work-v2": False})
BOARD = Leaderboard("app")
PROFILES = WriteThrough(CacheAside("app-profile", ttl=60))
ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Services:
    """What a running app holds open, and its settings."""

    kv: kvlab.AsyncKv
    origin: Origin
    settings: AppSettings


@asynccontextmanager
async def opened(settings: AppSettings, trace: Trace | None = None) -> AsyncIterator[Services]:
    """The services of one event loop, from its start to its end.

    A request waits for the store for at most about three times ``settings.timeout``: an op whose
    repetition is harmless is retried until twice that time has passed.
    """
    # The app starts without a store too, and answers 503 until the store is back.
    kv = await kvlab.aconnect(
        prefix=settings.prefix,
        timeout=settings.timeout,
        deadline=2 * settings.timeout,
        trace=trace,
    )
    async with kv:
        with Origin(settings.database) as origin:
            yield Services(kv, origin, settings)


async def services_of(request: Request) -> Services:
    """The services of the app that serves the request."""
    services: Services = request.state.services
    return services


class Cookie(Protocol):
    """How a session travels between app and browser."""

    def header(self, session: Session, /) -> str: ...
    def expired(self) -> str: ...
    def parse(self, header: str | None, /) -> str | None: ...


class LoopbackCookie:
    """The session's cookie over plain HTTP on loopback: ``SessionCookie`` without Secure.

    Safari and most HTTP libraries do not send a Secure cookie over http://127.0.0.1, and the
    ``__Host-`` prefix demands Secure. On loopback nobody else can read the traffic.
    """

    name = "session"

    def header(self, session: Session) -> str:
        return f"{self.name}={session.id}; Max-Age={session.max_age}; {self._rest}"

    def expired(self) -> str:
        return f"{self.name}=; Max-Age=0; {self._rest}"

    def parse(self, header: str | None) -> str | None:
        """The id; None when the header has several, since one of them is not ours.

        Cookies do not tell ports apart: a page on another port can set this name for another path.
        """
        pairs = (part.strip().partition("=") for part in (header or "").split(";"))
        values = {value for name, _, value in pairs if name == self.name}
        return values.pop() or None if len(values) == 1 else None

    _rest = "Path=/; HttpOnly; SameSite=Lax"


SECURE_COOKIE = SessionCookie()
LOOPBACK_COOKIE = LoopbackCookie()


@dataclass(frozen=True, slots=True)
class Visitor:
    """The address to limit by, the session's id (unchecked), and the kind of cookie."""

    address: str
    sid: str | None
    cookie: Cookie


async def visitor_of(request: Request) -> Visitor:
    """The visitor, by peer, headers and settings. Without a proxy the peer is the client."""
    trusted = request.state.services.settings.trusted_proxies
    peer = request.client.host if request.client is not None else "127.0.0.1"
    forwarded = request.headers.getlist("x-forwarded-for")
    # A customer of an IPv6 provider has a whole /64: one limit for all its addresses.
    address = client_address(peer, forwarded, trusted, ipv6_prefix=64)
    plain = not forwarded and _is_loopback(peer) and _is_loopback(request.url.hostname)
    cookie: Cookie = LOOPBACK_COOKIE if plain and request.url.scheme == "http" else SECURE_COOKIE
    return Visitor(address, cookie.parse(request.headers.get("cookie")), cookie)


def who(session: Session | None) -> str | None:
    """The user's name; None without a session and for an anonymous session."""
    return None if session is None or session.user is None else str(session.user)


def known(session: Session | None) -> str:
    """The user's name, or 401."""
    user = who(session)
    if user is None:
        raise HTTPException(401, "log in first", {"WWW-Authenticate": "Session"})
    return user


def set_cookie(visitor: Visitor, session: Session | None) -> dict[str, str]:
    """The header that makes the cookie live as long as the session; empty without a session.

    A session may be missing because the store is down. Then the browser keeps its cookie, and the
    visitor is logged in again when the store is back.
    """
    return {} if session is None else {"Set-Cookie": visitor.cookie.header(session)}


@functools.lru_cache(maxsize=1000)
def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


Shared = Annotated[Services, Depends(services_of)]
Asking = Annotated[Visitor, Depends(visitor_of)]
