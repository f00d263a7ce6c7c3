"""Which users are inside a percentage: always the same users, and other users for each flag."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from kvlab.core.checks import real, text
from kvlab.errors import InvalidArgument

_BUCKETS = 10_000
MAX_NAME = 200
"""The most characters of a flag's name and of a salt."""


def bucket(salt: str, user: str | int) -> int:
    """The user's bucket, 0 to 9,999: evenly spread, and independent for each salt.

    An int stands for its decimal digits. The hash is SHA-256 (FIPS 180-4), a cryptographic hash,
    so that ids in sequence and similar salts do not correlate.
    """
    if isinstance(user, bool) or not isinstance(user, str | int):
        raise InvalidArgument(f"user must be str or int, not {type(user).__name__}: {user!r:.80}")
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
        real("percent", self.percent, 0, 100)
        if abs(self.percent * 100 - round(self.percent * 100)) > 1e-6:
            raise InvalidArgument(f"percent must be in steps of 0.01, not {self.percent!r}")
        if self.salt is not None:
            text("salt", self.salt, MAX_NAME)

    def includes(self, name: str, user: str | int | None) -> bool:
        """Whether the flag ``name`` is on for ``user``; for no user (None) only at 100 %."""
        below = round(self.percent * 100)
        if user is None or below in (0, _BUCKETS):
            return below == _BUCKETS
        return bucket(name if self.salt is None else self.salt, user) < below
