"""Sessions: who a browser is, from one request to the next.

Guarantee of :class:`SessionStore`:

* An id is accepted only if a store made it: 256 random bits, found by their SHA-256. What a client
  sends never becomes an id or a key that is written, and no id reaches the server: neither a dump
  of the keys nor MONITOR lets anybody in. The look-up is by hash, so the time it takes tells
  nothing about how much of a guess is right.
* A session ends after ``idle`` seconds without use, and ``absolute`` seconds after it began
  however much it is used; both by the server's clock.
* An update merges fields in one step: of two concurrent updates of different fields both stay, and
  a session that has ended stays ended.
* Rotation kills the old id in the same step that makes the new one.
* Server down: nobody is in. ``read`` answers None; whatever changes something raises.

Keys, one per user, so that the sessions and the list of them cannot disagree:

    sessions:<name>:{<tag>}    hash; TTL: a second more than its longest-lived session has left
        m:<handle>             "created last-seen expires deadline user": Unix ms, user as JSON
        d:<handle>             the data: a JSON object, one field a line
        a handle is the SHA-256 of a session's id, in hex

An id is ``<tag>.<secret>``. The tag, 128 bits, says which user's hash (and which Cluster slot) to
look in. It is a SHA-256 of store name and user: of two cookies one sees whether they belong to the
same user, and a guess of the user's id can be tested against it. With ``pepper``, a secret that
your servers share, only they can test guesses. An anonymous session has a random tag.

A login ends the anonymous session and starts another; the two are never both alive::

    kv.run(store.destroy(old), store.create(user), atomic=True)      # one round trip

On Cluster the two have different slots and no step is common to them: run ``destroy``, then
``create``. For a change of rights of the same user (password change, sudo) use ``rotate``.

Not promised: that the data of a session that timed out leaves memory before the user's next
``create`` or ``list``, or the end of the user's other sessions; true durations when the server's
clock is set; that a failover keeps the last writes, a logout among them. Data and user ids are
stored legibly, and who steals the cookie is in.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from kvlab.errors import InvalidArgument, SessionTooLarge
from kvlab.op import Key, Op, Script, segment
from kvlab.session_values import (
    REMOVE,
    Json,
    ListedSession,
    Session,
    Sessions,
    User,
    decode_listed,
    decoder,
    decoder_if_any,
    encoded_fields,
    handle_of,
    json_text,
    lines_of,
)

__all__ = ["REMOVE", "ListedSession", "NaiveSessions", "Session", "SessionStore"]


class NaiveSessions:
    """The seed: a JSON text per session id, its TTL renewed at each read.

    A slow writer revives a session:

    1. writer: GET session -> {"userId": 7}
    2. logout: DEL session
    3. writer: SETEX session {"userId": 7, "theme": "dark"}: user 7 is logged in again

    Two writers lose a field: both GET; A does SETEX with its field, B with its own; A's is gone.

    Fixation:

    1. attacker: creates an anonymous session and plants its id in the victim's browser
    2. victim: logs in, which sets ``userId`` in that session
    3. attacker: reads the session by the same id, as the victim

    And a session that is read more often than its TTL never ends.
    """

    def __init__(self, client: redis.Redis, ttl: int = 7 * 24 * 3600, prefix: str = "") -> None:
        self.client, self.ttl, self.prefix = client, ttl, prefix

    def create(self, user: User) -> str:
        """The seed's ``createSession``: the id of a new session."""
        sid = str(uuid.uuid4())
        now = int(time.time() * 1000)
        data = {"userId": user, "createdAt": now, "lastActivity": now}
        self.client.setex(f"{self.prefix}session:{sid}", self.ttl, json.dumps(data))
        return sid

    def read(self, sid: str | None) -> dict[str, Json] | None:
        """The seed's ``getSession``."""
        if not sid:
            return None
        found: Any = self.client.get(f"{self.prefix}session:{sid}")
        if found is None:
            return None
        self.client.expire(f"{self.prefix}session:{sid}", self.ttl)
        data: dict[str, Json] = json.loads(found)
        return data

    def update(self, sid: str, **fields: Json) -> dict[str, Json] | None:
        """Not in the seed; what people write with its two calls."""
        data = self.read(sid)
        if data is None:
            return None
        data.update(fields)
        self.client.setex(f"{self.prefix}session:{sid}", self.ttl, json.dumps(data))
        return data

    def destroy(self, sid: str | None) -> None:
        """The seed's ``destroySession``."""
        if sid:
            self.client.delete(f"{self.prefix}session:{sid}")


_CREATE = Script.load("sessions_create")
_READ = Script.load("sessions_read")
_UPDATE = Script.load("sessions_update")
_ROTATE = Script.load("sessions_rotate")
_DESTROY = Script.load("sessions_destroy")
_DESTROY_ALL = Script.load("sessions_destroy_all")
_LIST = Script.load("sessions_list")

_ID = re.compile(r"([A-Za-z0-9_-]{22})\.[A-Za-z0-9_-]{43}")
_NOBODY = "nobody"  # a tag that no id has
_TEN_YEARS = 315_360_000


@dataclass(frozen=True, slots=True)
class SessionStore:
    """Sessions that end when they should. See the module's docstring.

    * ``idle``, ``absolute``: seconds without use, and in all, after which a session ends.
    * ``max_bytes``: most data of one session, as ASCII JSON, user included.
    * ``per_user``: most live sessions of one user; one more ends the one seen longest ago.
    * ``pepper``: a secret that all your servers share; see the module's docstring.

    Where an id is taken, anything else (None, another type, a forged id) is an id of no session.
    Every op is one round trip and touches one key.
    """

    name: str = "sessions"
    idle: float = 1800
    absolute: float = 86400
    max_bytes: int = 65536
    per_user: int = 100
    pepper: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        segment(self.name)
        _seconds("idle", self.idle)
        _seconds("absolute", self.absolute)
        if self.absolute < self.idle:
            raise InvalidArgument(
                f"absolute must be at least idle ({self.idle!r} s), not {self.absolute!r}"
            )
        _whole("max_bytes", self.max_bytes, 1, 16 * 1024 * 1024)
        _whole("per_user", self.per_user, 1, 1000)
        if not isinstance(self.pepper, bytes):
            raise InvalidArgument(f"pepper must be bytes, not {type(self.pepper).__name__}")

    def create(self, user: User, data: Mapping[str, Json] | None = None) -> Op[Session]:
        """A new session of ``user``; None: of nobody yet, an anonymous one.

        The id is drawn here: this op, sent again, is the same session, and the executor sends it
        again when the answer is lost. To begin another session call ``create`` again. Raises
        :class:`SessionTooLarge`, and :class:`InvalidArgument` for what JSON would not give back
        as it was.
        """
        who = json_text("user", user)
        fields = encoded_fields({} if data is None else data, removable=False)
        _fits(len(who) + sum(len(n) + len(v) for n, v in fields.items()), self.max_bytes)
        tag = secrets.token_urlsafe(16) if user is None else self._tag(user)
        sid = _new_id(tag)
        return Op(
            _CREATE,
            self._key(tag),
            handle_of(sid),
            _ms(self.idle),
            _ms(self.absolute),
            self.per_user,
            who,
            lines_of(fields),
            decode=decoder(sid),
            idempotent=True,
        )

    def read(self, sid: str | None) -> Op[Session | None]:
        """The session, or None. Slides its idle timeout and notes that it was seen.

        None also when the server cannot be reached: nobody is in. On a server without memory for
        writes the session is read and does not slide.
        """
        tag, handle = self._find(sid)
        return Op(
            _READ,
            self._key(tag),
            handle,
            _ms(self.idle),
            decode=decoder_if_any(sid),
            idempotent=True,
            fallback=_nobody,
        )

    def update(
        self, sid: str | None, changes: Mapping[str, Json] | None = None, /, **fields: Json
    ) -> Op[Session | None]:
        """Merge top-level fields into the data; the session afterwards, None when it is no more.

        ``update(sid, theme="dark", cart=REMOVE)``, or a mapping for other names. A field is
        replaced as a whole; None is stored, ``REMOVE`` takes the field away. Counts as use.
        Sent again after a lost answer it writes the same values again, over those that another
        update of the same fields wrote in between. Raises :class:`SessionTooLarge`, here or from
        the server; :class:`InvalidArgument` as ``create`` does.
        """
        encoded = encoded_fields({**(changes or {}), **fields}, removable=True)
        _fits(sum(len(n) + len(v) for n, v in encoded.items() if v), self.max_bytes)
        tag, handle = self._find(sid)
        return Op(
            _UPDATE,
            self._key(tag),
            handle,
            _ms(self.idle),
            self.max_bytes,
            lines_of(encoded),
            decode=decoder_if_any(sid, self.max_bytes),
            idempotent=True,
        )

    def rotate(self, sid: str | None) -> Op[Session | None]:
        """The same session under a new id; the old id is dead at once. None if there is none.

        Data, ``created`` and the absolute deadline stay. The new id is drawn here: this op, sent
        again, answers with the same id. Of two ops that rotate one id at once, the later gets None.
        """
        tag, handle = self._find(sid)
        new = _new_id(tag)
        return Op(
            _ROTATE,
            self._key(tag),
            handle,
            handle_of(new),
            _ms(self.idle),
            decode=decoder_if_any(new),
            idempotent=True,
        )

    def destroy(self, sid: str | None) -> Op[bool]:
        """End a session; True when it was alive.

        The executor sends it again when the answer is lost, so False can also mean that the first
        sending ended it. After either answer it is over.
        """
        tag, handle = self._find(sid)
        return Op(_DESTROY, self._key(tag), handle, decode=bool, idempotent=True)

    def destroy_listed(self, user: str | int, handle: str) -> Op[bool]:
        """End one session by its handle from ``list``; otherwise as ``destroy``."""
        if not isinstance(handle, str) or not re.fullmatch("[0-9a-f]{64}", handle):
            raise InvalidArgument(f"handle must be 64 hex digits, not {handle!r:.80}")
        key = self._key(self._tag(user))
        return Op(_DESTROY, key, handle, decode=bool, idempotent=True)

    def destroy_all(self, user: str | int) -> Op[int]:
        """End every session of a user; how many were alive (0 also as in ``destroy``)."""
        return Op(_DESTROY_ALL, self._key(self._tag(user)), decode=int, idempotent=True)

    def list(self, user: str | int) -> Op[Sessions]:
        """The live sessions of a user, the one seen last first. Removes the dead ones."""
        return Op(_LIST, self._key(self._tag(user)), decode=decode_listed, idempotent=True)

    def _tag(self, user: str | int) -> str:
        text = f"{segment(self.name)}:{segment(user)}"
        return _base64(hmac.digest(self.pepper, text.encode(), "sha256")[:16])

    def _key(self, tag: str) -> Key:
        return Key(f"sessions:{segment(self.name)}:{{{tag}}}")

    def _find(self, sid: object) -> tuple[str, str]:
        """Tag and handle. What no store made is looked for where no session is."""
        shape = _ID.fullmatch(sid) if isinstance(sid, str) else None
        return (_NOBODY, "") if shape is None else (shape[1], handle_of(shape[0]))


def _new_id(tag: str) -> str:
    return f"{tag}.{secrets.token_urlsafe(32)}"


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _fits(size: int, limit: int) -> None:
    if size > limit:
        raise SessionTooLarge(size, limit)


def _nobody(_: Exception) -> None:
    return None


def _seconds(name: str, value: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.001 <= value <= _TEN_YEARS:
        raise InvalidArgument(f"{name} must be 0.001 to {_TEN_YEARS} seconds, not {value!r}")


def _whole(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidArgument(f"{name} must be a whole number from {low} to {high}, not {value!r}")
