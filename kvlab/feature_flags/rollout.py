"""Who is inside a percentage: the same users each time, and others for each flag."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from kvlab.core.checks import real, text
from kvlab.errors import InvalidArgument

_BUCKETS = 10_000
MAX_NAME = 200
"""Characters of a flag's name, and of a salt."""


def bucket(salt: str, user: str | int) -> int:
    """Where a user falls among 10,000, evenly and independently for each salt.

    An int stands for its decimal digits. SHA-256: FIPS 180-4; a cryptographic hash, so that ids
    in sequence or salts that resemble each other do not correlate.
    """
    if isinstance(user, bool) or not isinstance(user, str | int):
        raise InvalidArgument(f"user must be str or int, not {type(user).__name__}: {user!r:.80}")
    drawn = f"{salt}\0{user}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(drawn).digest()[:8], "big") % _BUCKETS


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag that is on for ``percent`` of the users: 0 to 100 in steps of 0.01.

    ``salt`` in place of the flag's name draws the users afresh, or, the same for two flags, alike.
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
        """Whether the flag ``name`` is on for ``user``; nobody (None) is only in at 100 %."""
        below = round(self.percent * 100)
        if user is None or below in (0, _BUCKETS):
            return below == _BUCKETS
        return bucket(name if self.salt is None else self.salt, user) < below
