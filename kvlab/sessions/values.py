"""Sessions as values, and the text that the scripts store.

Data is an ASCII JSON object, one field a line, with a tab between name and value. A JSON text
contains neither a tab nor a line break, so the scripts merge fields without parsing them: Lua's
own JSON would turn ``[]`` into ``{}`` and round whole numbers beyond 2^53.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from kvlab.core.checks import mapping, shown
from kvlab.core.json_values import decoded, encoded
from kvlab.core.op import Raw
from kvlab.errors import InvalidArgument, NotJson, SessionTooLarge

User = str | int | None
Json = Any
"""A JSON value: None, bool, int, finite float, str, a list or a dict (names are str) of these."""


class _Remove(Enum):
    REMOVE = "REMOVE"

    def __repr__(self) -> str:
        return "REMOVE"


REMOVE: Final = _Remove.REMOVE
"""In ``update``: remove this field. None is a value like any other."""


@dataclass(frozen=True, slots=True)
class Session:
    """A live session. Times are Unix seconds by the server's clock.

    * ``id``: for the cookie and for nothing else, since the id gives access.
    * ``handle``: names the session and gives no access.
    * ``expires``: the session ends then if it is not used; at most ``deadline``.
    * ``deadline``: the session ends then, however much it is used.
    * ``data``: the caller's own copy.
    """

    id: str = field(repr=False)
    user: User
    data: dict[str, Json]
    created: float
    last_seen: float
    expires: float
    deadline: float

    @property
    def handle(self) -> str:
        return handle_of(self.id)

    @property
    def max_age(self) -> int:
        """The rest of its life when it was read, in whole seconds for the cookie; never 0."""
        return max(1, math.ceil(self.expires - self.last_seen))


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A live session in the list of its user; as :class:`Session`, but without access."""

    handle: str
    created: float
    last_seen: float
    expires: float


Sessions = list[ListedSession]


def handle_of(sid: str) -> str:
    return hashlib.sha256(sid.encode("ascii")).hexdigest()


def encoded_fields(fields: Mapping[str, Json], *, removable: bool) -> dict[str, str]:
    """Name as JSON to value as JSON; '' for a field to remove."""
    texts = {}
    for name, value in mapping("data", fields).items():
        if not isinstance(name, str):
            raise InvalidArgument(f"a field's name must be str, not {shown(name)}")
        gone = removable and value is REMOVE
        texts[json.dumps(name)] = "" if gone else json_text(f"field {shown(name)}", value)
    return texts


def lines_of(texts: Mapping[str, str]) -> str:
    """The fields as the scripts store them."""
    return "{\n" + ",".join(f"{name}:\t{value}\n" for name, value in texts.items()) + "}"


def json_text(what: str, value: Json) -> str:
    """The value as ASCII JSON. Refuses a value that JSON would change."""
    try:
        return encoded(value).decode()
    except NotJson as problem:
        raise InvalidArgument(f"{what} must be a JSON value: {problem}") from None


# Closures, not partials: the repr of an op is logged, and must not show the id.


def decoder(sid: str) -> Callable[[Raw], Session]:
    """Makes a session of the reply ``{record, data}``."""

    def decode(reply: Raw) -> Session:
        record, data = reply
        *times, user = record.split(b" ", 4)  # created, last seen, expires, deadline
        user, _, _ = user.partition(b"\t")  # what follows is for a log-out beside a rotation
        return Session(sid, decoded(user), decoded(data), *[int(ms) / 1000 for ms in times])

    return decode


def decoder_if_any(sid: object, limit: int = 0) -> Callable[[Raw], Session | None]:
    """As :func:`decoder`; the reply may be nil, or the size of data over ``limit``."""

    def decode(reply: Raw) -> Session | None:
        if isinstance(reply, int):
            raise SessionTooLarge(reply, limit)
        return None if reply is None else found(reply)

    found = decoder(str(sid))
    return decode


def decode_listed(reply: Raw) -> Sessions:
    sessions = []
    for handle, record in zip(reply[::2], reply[1::2], strict=True):
        created, seen, expires = (int(ms) / 1000 for ms in record.split(b" ", 3)[:3])
        sessions.append(ListedSession(handle.decode(), created, seen, expires))
    return sorted(sessions, key=lambda session: session.last_seen, reverse=True)
