"""Where a store behind HTTP is, and its token."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeGuard
from urllib.parse import urlsplit

from kvlab.errors import InvalidArgument

_TOKEN = re.compile(r"[!-~]+")


def is_rest(url: str) -> bool:
    """Whether the URL is one of HTTP."""
    return url.lower().startswith(("https://", "http://"))


def is_host(name: str | None) -> TypeGuard[str]:
    """Whether a host can have this name: no part of it is empty, or longer than 63 characters."""
    try:
        return bool(name and name.encode("idna"))
    except UnicodeError:
        return False


@dataclass(frozen=True)
class RestAddress:
    """The URL of a store, without a user or a query, and the token that opens the store.

    Raises :class:`~kvlab.errors.InvalidArgument` for any other URL or token; no message shows a
    part of either.
    """

    url: str
    token: str = field(repr=False)
    host: str = field(init=False)
    port: int = field(init=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            port = parts.port or (443 if self.secure else 80)
        except ValueError:
            parts, port = urlsplit(""), 0
        more = parts.username is not None or parts.query or parts.fragment
        if not is_host(parts.hostname) or more:
            raise InvalidArgument("not the URL of a REST store: https://HOST is expected")
        if not isinstance(self.token, str) or not _TOKEN.fullmatch(self.token):
            raise InvalidArgument("token must be printable ASCII without spaces")
        object.__setattr__(self, "host", parts.hostname)
        object.__setattr__(self, "port", port)

    @property
    def secure(self) -> bool:
        """Whether the store is spoken to by TLS."""
        return self.url.lower().startswith("https:")
