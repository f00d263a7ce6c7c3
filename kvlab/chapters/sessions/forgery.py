"""Ids that no server made: pieces of a copy of the database, and forged ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from secrets import randbelow, token_urlsafe
from typing import Any

from kvlab import Kv
from kvlab.sessions.values import handle_of

_COOKIE_TEXT = re.compile(r"[A-Za-z0-9_.-]+")


def dump(kv: Kv) -> list[str]:
    """The name of every key in the namespace, and every text that lies under the key."""
    keys = sorted(kv.client.scan_iter(f"{kv.prefix}*"))
    return [text for key in keys for text in _texts(kv, key)]


def _texts(kv: Kv, key: bytes) -> list[str]:
    client: Any = kv.client
    if client.type(key) == b"string":
        return [key.decode(), client.get(key).decode()]
    texts = [key.decode()]
    for name, value in client.hgetall(key).items():
        texts += [name.decode(), value.decode()]
    return texts


def cookies_made_of(texts: Iterable[str], tag: str) -> set[str]:
    """Every piece of the texts as a cookie, alone and behind the user's ``tag``.

    Behind the tag a piece is also tried cut to 43 characters, the length of a secret.
    """
    pieces = {piece for text in texts for piece in _COOKIE_TEXT.findall(text)}
    whole = {f"{tag}.{piece}" for piece in pieces}
    cut = {f"{tag}.{piece[:43]}" for piece in pieces}
    return pieces | whole | cut


def forged_ids(good: Sequence[str], *, times: int) -> list[str]:
    """Six forgeries of each good id, ``times`` times.

    Cut off, with a NUL byte inside, too long, the right user with a guessed secret, another user's
    tag, and the hash of the id.
    """
    forged = []
    for sid in [*good] * times:
        tag, secret = sid.split(".")
        cut = randbelow(len(sid) - 1)
        forged += [sid[:cut], f"{sid[:cut]}\0{sid[cut:]}", sid + token_urlsafe(200)]
        forged += [f"{tag}.{token_urlsafe(32)}", f"{token_urlsafe(16)}.{secret}"]
        forged += [handle_of(sid)]
    return forged
