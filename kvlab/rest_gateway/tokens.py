"""Who asks: the two tokens of a gateway, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from kvlab.errors import InvalidArgument
from kvlab.rest_gateway.answer import RestRefused


def _new_token() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Both tokens of a gateway, drawn at random unless given; no repr shows them."""

    full: str = field(default_factory=_new_token, repr=False)
    read_only: str = field(default_factory=_new_token, repr=False)

    def __post_init__(self) -> None:
        for token in (self.full, self.read_only):
            if not isinstance(token, str) or not token.isascii() or len(token) < 16:
                raise InvalidArgument("a token must have at least 16 characters of ASCII")
        if self.full == self.read_only:
            raise InvalidArgument("the read-only token must be another one")

    def is_read_only(self, given: bytes) -> bool:
        """Whether this is the read-only token; :class:`RestRefused` for none. In constant time."""
        # Of equal length, so that no comparison tells how long a token is.
        seen = hashlib.sha256(given).digest()
        full, read_only = (
            hmac.compare_digest(seen, hashlib.sha256(token.encode()).digest())
            for token in (self.full, self.read_only)
        )
        if not full and not read_only:
            raise RestRefused(401, "WRONGPASS invalid or missing auth token")
        return not full


def token_in(headers: list[tuple[bytes, bytes]], query: bytes) -> bytes:
    """The token of a request; none where two are said: a proxy may have looked at the other."""
    said = [value for name, value in headers if name == b"authorization"]
    if len(said) > 1:
        return b""
    kind, _, token = (said or [b""])[0].partition(b" ")
    if kind.lower() == b"bearer":
        return bytes(token.strip())
    given = parse_qs(query).get(b"_token", [b""])
    return given[0]
