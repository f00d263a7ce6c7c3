"""The cookie that carries a session's id: plain strings, for any web framework.

Guarantee: a browser sends the cookie over TLS only, to this host only, to every path, and shows
the cookie to no script. The cookie lasts as long as the session lasts without further use. The
``__Host-`` prefix makes browsers enforce this, and keeps other subdomains from planting a cookie.

    send("set-cookie", cookie.header(session))        # after create and rotate
    send("set-cookie", cookie.expired())               # after destroy
    session = kv.run(store.read(cookie.parse(header), strict=True))     # an Outage: answer 503
    send("set-cookie", cookie.expired() if session is None else cookie.header(session))

Without ``strict`` a read answers None in an outage too. Send no cookie then: the session may be
alive, and the browser would lose it.

Not promised: that a browser accepts the cookie over plain HTTP (on localhost Chromium and Firefox
do); that SameSite alone stops cross-site requests: Lax allows a top-level GET, so let no GET change
anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from kvlab.core.checks import instance, keep, one_of, shown
from kvlab.errors import InvalidArgument
from kvlab.sessions.values import Session

_PREFIX = "__Host-"
_NAME = re.compile(_PREFIX + r"[A-Za-z0-9_-]{1,64}")
_VALUE = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """The name of the cookie, and whether links from other sites carry it (``Lax``) or not.

    Raises :class:`InvalidArgument` for a name without the ``__Host-`` prefix, or a ``same_site``
    other than Lax and Strict.
    """

    name: str = "__Host-session"
    same_site: Literal["Lax", "Strict"] = "Lax"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            kind = f"{_PREFIX} and 1 to 64 letters, digits, '_' or '-'"
            raise InvalidArgument(f"name must be {kind}, not {shown(self.name)}")
        site = one_of("same_site", self.same_site, ("Lax", "Strict"))
        keep(self, name=str.__str__(self.name), same_site=site)

    def header(self, session: Session) -> str:
        """The value of Set-Cookie for this session; Max-Age is the rest of its life."""
        instance("session", session, Session, "a Session")
        if not _VALUE.fullmatch(session.id):
            raise InvalidArgument("the session's id must be an id that a SessionStore made")
        return self._set(session.id, session.max_age)

    def expired(self) -> str:
        """The value of Set-Cookie that removes the cookie from the browser."""
        return self._set("", 0)

    def parse(self, header: str | bytes | None) -> str | None:
        """The id in a request's Cookie header, unchecked; None when the header has none.

        Bytes are read as Latin-1, as ASGI sends them. Two different values of the name give None,
        since one of them is not ours.
        """
        if header is None:
            return None
        instance("header", header, str | bytes, "str, bytes or None")
        text = header.decode("latin-1") if isinstance(header, bytes) else header
        pairs = (part.partition("=") for part in text.split(";"))
        values = {value.strip(" \t") for name, _, value in pairs if name.strip(" \t") == self.name}
        return values.pop() or None if len(values) == 1 else None

    def _set(self, value: str, max_age: int) -> str:
        return (
            f"{self.name}={value}; Max-Age={max_age}; Path=/; Secure; HttpOnly; "
            f"SameSite={self.same_site}"
        )
