"""One server for all participants: the room makes an ACL user and a prefix for each of them.

Guarantee: a participant reads and changes keys and channels below the own prefix alone, and cannot
run a command that concerns the whole server (FLUSHALL, CONFIG, KEYS …), INFO apart. The same
participant gets the same user again.

Not promised: that SCAN hides the names of other keys; a share of the server's time or memory.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from kvlab import AsyncKv, Op

_MAY = ("+@all", "-@admin", "-@dangerous", "+info")


@dataclass(frozen=True, slots=True)
class OneServer:
    """``url``: the server as participants reach it; ``kv``: an executor whose user may use ACL;
    ``secret``: passwords are made from it."""

    kv: AsyncKv
    url: str
    secret: str

    async def access(self, name: str) -> dict[str, str]:
        """The URL and the prefix of a participant, whose user exists from now on."""
        tag = hashlib.sha256(name.encode()).hexdigest()[:16]
        user, prefix = f"kvlab-{tag}", f"room-{tag}:"
        password = hmac.digest(self.secret.encode(), name.encode(), "sha256").hex()
        rules = ("reset", "on", f">{password}", f"~{prefix}*", f"&{prefix}*", *_MAY)
        await self.kv.run(Op("ACL", "SETUSER", user, *rules))
        parts = urlsplit(self.url)
        place = f"{user}:{password}@{parts.netloc.rpartition('@')[2]}"
        return {"url": urlunsplit(parts._replace(netloc=place)), "prefix": prefix}
