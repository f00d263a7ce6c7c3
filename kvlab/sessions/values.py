"""What a session looks like to its caller, and how it is written down for the scripts.

Data is an ASCII JSON object, one field a line, a tab between name and value. JSON texts contain
neither character, so the scripts merge fields without reading them: Lua's own JSON would turn
``[]`` into ``{}`` and round whole numbers beyond 2^53.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from kvlab.core.op import Raw
from kvlab.errors import InvalidArgument, SessionTooLarge

User = str | int | None
Json = Any
"""What JSON can say: None, bool, int, finite float, str, list of these, dict by str of these."""


class _Remove(Enum):
    REMOVE = "REMOVE"

    def __repr__(self) -> str:
        return "REMOVE"


REMOVE: Final = _Remove.REMOVE
"""In ``update``: take this field away. None is a value like any other."""


@dataclass(frozen=True, slots=True)
class Session:
    """A live session. Times are Unix seconds by the server's clock.

    ``id`` is for the cookie and for nowhere else: who has it is in. ``handle`` names the session
    without letting anybody in. ``expires``: when it ends if it is not used; at most ``deadline``,
    when it ends however much it is used. ``data`` is the caller's own copy.
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
        """Whole seconds that were left when this was read, for the cookie; never 0."""
        return max(1, math.ceil(self.expires - self.last_seen))


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A live session as its user's list shows it; as :class:`Session`, but lets nobody in."""

    handle: str
    created: float
    last_seen: float
    expires: float


Sessions = list[ListedSession]


def handle_of(sid: str) -> str:
    return hashlib.sha256(sid.encode("ascii")).hexdigest()


def encoded_fields(fields: Mapping[str, Json], *, removable: bool) -> dict[str, str]:
    """Name as JSON to value as JSON, '' for one to remove."""
    if not isinstance(fields, Mapping):
        raise InvalidArgument(f"data must be a mapping of names to values, not {fields!r:.80}")
    encoded = {}
    for name, value in fields.items():
        if not isinstance(name, str):
            raise InvalidArgument(f"a field's name must be str, not {name!r:.80}")
        gone = removable and value is REMOVE
        encoded[json.dumps(name)] = "" if gone else json_text(f"field {name!r:.80}", value)
    return encoded


def lines_of(encoded: Mapping[str, str]) -> str:
    """The fields as the scripts store them."""
    return "{\n" + ",".join(f"{name}:\t{value}\n" for name, value in encoded.items()) + "}"


def json_text(what: str, value: Json) -> str:
    """The value as ASCII JSON. Refuses what would come back as something else."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        same = bool(json.loads(text) == value)
    except (TypeError, ValueError, RecursionError) as problem:
        raise InvalidArgument(f"{what} must be a JSON value: {problem}") from None
    if not same:
        raise InvalidArgument(f"{what} must be a JSON value, not {value!r:.80}")
    return text


# Closures, not partials: the repr of an op goes into logs, and must not show the id.


def decoder(sid: str) -> Callable[[Raw], Session]:
    """Of the reply ``{record, data}``."""

    def decode(reply: Raw) -> Session:
        record, data = reply
        created, seen, expires, deadline, user = record.split(b" ", 4)
        times = (int(ms) / 1000 for ms in (created, seen, expires, deadline))
        return Session(sid, json.loads(user), json.loads(data), *times)

    return decode


def decoder_if_any(sid: object, limit: int = 0) -> Callable[[Raw], Session | None]:
    """The same of a reply that may be nil, or the size of data that is over ``limit``."""

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
