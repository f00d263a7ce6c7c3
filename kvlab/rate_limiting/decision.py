"""The answer of a limiter: allowed or not, what remains, when to retry, and HTTP headers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvlab.core.key import segment

_SF_INTEGER = 10**15 - 1  # the largest integer of a structured header field (RFC 9651)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rule of a limiter in HTTP's words: ``quota`` units in ``window`` seconds."""

    name: str
    quota: int
    window: float
    burst: int | None = None

    @property
    def quoted(self) -> str:
        """The name as a structured-field string."""
        plain = self.name if self.name.isascii() and self.name.isprintable() else segment(self.name)
        return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def __str__(self) -> str:
        item = f"{self.quoted};q={min(self.quota, _SF_INTEGER)}"
        if self.window == int(self.window):  # the field has no fractions
            item += f";w={int(self.window)}"
        return item if self.burst is None else f"{item};kvlab-burst={min(self.burst, _SF_INTEGER)}"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a hit, or to a peek: the answer that a hit would get.

    * ``limit``: the most units that fit at once (of a bucket: its burst).
    * ``remaining``: units of ``limit`` that are left.
    * ``retry_after``: seconds until this cost fits; 0.0 when allowed, ``math.inf`` for never.
    * ``reset_after``: seconds until all units are left again, if no more are used.
    * ``at``: the server's time in Unix seconds; None when the server did not answer.

    A denial is false: ``if kv.run(limiter.hit(who)):`` lets in whom the limiter lets in.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after: float
    reset_after: float
    at: float | None
    policy: Policy | None = None

    def __bool__(self) -> bool:
        return self.allowed

    def headers(self) -> dict[str, str]:
        """Response fields: ``RateLimit-Policy`` and ``RateLimit``; ``Retry-After`` if denied.

        Source: draft-ietf-httpapi-ratelimit-headers-11. Seconds are whole, rounded up. When
        denied, the effective window ``t`` ends with Retry-After (section 6 of the draft). "Never"
        has no Retry-After; a server that did not answer has no RateLimit.
        """
        fields = {} if self.policy is None else {"RateLimit-Policy": str(self.policy)}
        wait = None if self.allowed or self.retry_after == math.inf else math.ceil(self.retry_after)
        if self.at is not None:
            name = '"default"' if self.policy is None else self.policy.quoted
            window = math.ceil(self.reset_after) if wait is None else wait
            fields["RateLimit"] = f"{name};r={min(self.remaining, _SF_INTEGER)};t={window}"
        if wait is not None:
            fields["Retry-After"] = str(wait)
        return fields
