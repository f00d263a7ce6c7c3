"""Which users are inside a percentage: always the same users, and other users for each flag."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from kvlab.core.checks import Id, id_text, keep, real, shown, text
from kvlab.errors import InvalidArgument

_BUCKETS = 10_000


def bucket(salt: str, user: Id) -> int:
    """The user's bucket, 0 to 9,999: evenly spread, and independent for each salt.

    7 and "7" are one user (``kvlab.core.checks``). The hash is SHA-256 (FIPS 180-4), a
    cryptographic hash, so that ids in sequence and similar salts do not correlate.
    """
    return _drawn(text("salt", salt), id_text("user", user))


def _drawn(salt: str, user: str) -> int:
    drawn = f"{salt}\0{user}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(drawn).digest()[:8], "big") % _BUCKETS


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag that is on for ``percent`` of the users: 0 to 100 in steps of 0.01.

    ``salt`` replaces the flag's name in the draw: a new salt draws other users, and two flags with
    one salt draw the same users. Raises InvalidArgument for a value out of range.
    """

    percent: float = 100.0
    salt: str | None = None

    def __post_init__(self) -> None:
        percent = real("percent", self.percent, 0, 100)
        if abs(percent * 100 - round(percent * 100)) > 1e-6:
            raise InvalidArgument(f"percent must be in steps of 0.01, not {shown(self.percent)}")
        salt = None if self.salt is None else text("salt", self.salt)
        keep(self, percent=percent, salt=salt)

    def includes(self, name: str, user: Id | None) -> bool:
        """Whether the flag ``name`` is on for ``user``; for no user (None) only at 100 %.

        ``name`` and ``user`` are accepted or refused alike at every percentage.
        """
        name = text("flag", name)
        who = None if user is None else id_text("user", user)
        below = round(self.percent * 100)
        if who is None or below in (0, _BUCKETS):
            return below == _BUCKETS
        return _drawn(name if self.salt is None else self.salt, who) < below
