"""Keys: the executor puts its prefix before each key; user text becomes a segment of a key."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote

from kvlab.core.checks import Id, id_text, shown
from kvlab.errors import InvalidArgument

MAX_SEGMENT = 200
"""The longest user text that stays readable in a key, in bytes after encoding."""

_PLAIN = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_SEGMENT}}}")
_PREFIX = re.compile(r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)*:?")


def segment(text: Id, name: str = "key") -> str:
    """Encode user text as one segment of a key.

    Two different ids never give the same segment; 7 and "7" are one id (``kvlab.core.checks``).
    ``name`` stands in the error for a value that is no id. A segment has no ``:``, no braces and
    no control characters, and at most ``MAX_SEGMENT`` bytes: longer text becomes ``~`` and its
    SHA-256. Empty text becomes ``~``.
    """
    if type(text) is not str or not text:
        text = id_text(name, text)
    if _PLAIN.fullmatch(text):
        return text
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) <= MAX_SEGMENT:
        encoded = quote(raw, safe="").replace("~", "%7E")
        if len(encoded) <= MAX_SEGMENT:
            return encoded or "~"
    return "~" + hashlib.sha256(raw).hexdigest()


@dataclass(frozen=True, slots=True, init=False)
class Key:
    """A key or channel name inside the namespace: the executor puts the prefix before it.

    The name is used as it is; encode user text by :func:`segment` first.
    """

    name: str

    def __init__(self, name: str) -> None:
        if type(name) is not str:
            if not isinstance(name, str):
                raise InvalidArgument(f"name must be text, not {shown(name)}")
            name = str.__str__(name)
        _put_name(self, name)

    def __str__(self) -> str:
        return self.name


_put_name = vars(Key)["name"].__set__  # quicker than object.__setattr__


def checked_prefix(prefix: str) -> str:
    """The namespace with a ``:`` at its end; :class:`InvalidArgument` for any other text."""
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        kind = "parts of letters, digits, '_', '.', '-', joined by ':'"
        raise InvalidArgument(f"prefix must be {kind}, not {shown(prefix)}")
    return str.__str__(prefix) if prefix.endswith(":") else prefix + ":"  # of an enum its value
