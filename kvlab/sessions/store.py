"""The store: create, read, update, rotate and end sessions, each in one script."""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kvlab.core.checks import Id, boolean, identifier, keep, mapping, seconds, text, whole
from kvlab.core.key import Key, segment
from kvlab.core.op import Op, Script, milliseconds
from kvlab.errors import InvalidArgument, SessionTooLarge
from kvlab.sessions.values import (
    Json,
    Session,
    Sessions,
    decode_listed,
    decoder,
    decoder_if_any,
    encoded_fields,
    handle_of,
    json_text,
    lines_of,
)

_CREATE = Script.load("sessions/create")
_READ = Script.load("sessions/read")
_UPDATE = Script.load("sessions/update")
_ROTATE = Script.load("sessions/rotate")
_DESTROY = Script.load("sessions/destroy")
_DESTROY_ALL = Script.load("sessions/destroy_all")
_LIST = Script.load("sessions/list")

_ID = re.compile(r"([A-Za-z0-9_-]{22})\.[A-Za-z0-9_-]{43}")
_NOBODY = "nobody"  # no id has this tag
LOG_OUT_REACH = 60.0
"""``destroy`` ends a session also by an id that was rotated less than this many seconds ago."""


@dataclass(frozen=True, slots=True)
class SessionStore:
    """Sessions with an idle and an absolute timeout. See the docstring of ``kvlab.sessions``.

    * ``idle``: a session ends after this many seconds without use.
    * ``absolute``: a session ends this many seconds after its start; at least ``idle``.
    * ``max_bytes``: the most data of one session, as ASCII JSON, user included.
    * ``per_user``: the most live sessions of one user. One more ends the session that was seen
      longest ago.
    * ``pepper``: a secret that all your servers share; see the docstring of ``kvlab.sessions``.
    * ``old_peppers``: the peppers of sessions that may still live. See "To change the pepper".

    Wherever an id is expected, any other value (None, another type, a forged id) is the id of no
    session. Every op is one round trip and uses one key; with ``old_peppers`` the ops that name a
    user use one more key for each. Raises :class:`InvalidArgument` for a value out of range.
    """

    name: str = "sessions"
    idle: float = 1800
    absolute: float = 86400
    max_bytes: int = 65536
    per_user: int = 100
    pepper: bytes = field(default=b"", repr=False)
    old_peppers: Sequence[bytes] = field(default=(), repr=False)

    # computed once, at construction
    _before_tag: str = field(init=False, repr=False, compare=False)
    _idle_ms: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        idle, name = seconds("idle", self.idle), text("name", self.name)
        keep(
            self,
            _before_tag=f"sessions:{segment(name)}:{{",
            _idle_ms=milliseconds(idle),
            name=name,
            idle=idle,
            absolute=seconds("absolute", self.absolute, low=idle),
            max_bytes=whole("max_bytes", self.max_bytes, 1, 16 * 1024 * 1024),
            per_user=whole("per_user", self.per_user, 1, 1000),
        )
        old: object = self.old_peppers
        if isinstance(old, bytes | str | Mapping) or not isinstance(old, Iterable):
            raise InvalidArgument("old_peppers must be an iterable of bytes")
        keep(self, old_peppers=tuple(self.old_peppers))
        for pepper in (self.pepper, *self.old_peppers):  # no error shows a secret
            if not isinstance(pepper, bytes):
                raise InvalidArgument(f"a pepper must be bytes, not {type(pepper).__name__}")

    def create(self, user: Id | None, data: Mapping[str, Json] | None = None) -> Op[Session]:
        """A new session of ``user``; None stands for an anonymous session.

        The id is drawn here: this op, run again, is the same session, and the executor retries it
        when the answer is lost. For another session call ``create`` again. Raises
        :class:`SessionTooLarge`, and :class:`InvalidArgument` for a value that JSON would change.
        """
        plain = None if user is None else identifier("user", user)
        who = json_text("user", plain)
        fields = encoded_fields({} if data is None else data, removable=False)
        _fits(len(who) + sum(len(n) + len(v) for n, v in fields.items()), self.max_bytes)
        tags = (secrets.token_urlsafe(16),) if plain is None else self._tags(plain)
        sid = _new_id(tags[0])
        return Op(
            _CREATE,
            *map(self._key, tags),
            handle_of(sid),
            self._idle_ms,
            milliseconds(self.absolute),
            self.per_user,
            who,
            lines_of(fields),
            decode=decoder(sid),
            idempotent=True,
        )

    def read(self, sid: str | None, *, strict: bool = False) -> Op[Session | None]:
        """The session, or None. Starts its idle timeout again and records that it was seen.

        In an outage: None, so nobody is in. None can then stand for a living session: keep the
        browser's cookie. With ``strict`` the :class:`~kvlab.errors.Outage` is raised, and None
        means that the session has ended. On a server that has no memory for writes the session is
        read, and its idle timeout does not start again.
        """
        tag, handle = self._find(sid)
        return Op(
            _READ,
            self._key(tag),
            handle,
            self._idle_ms,
            decode=decoder_if_any(sid),
            idempotent=True,
            fallback=None if boolean("strict", strict) else _nobody,
        )

    def update(
        self, sid: str | None, changes: Mapping[str, Json] | None = None, /, **fields: Json
    ) -> Op[Session | None]:
        """Merge top-level fields into the data; the session afterwards, None when it has ended.

        ``update(sid, theme="dark", cart=REMOVE)``, or a mapping for other names. A field is
        replaced as a whole; None is stored; ``REMOVE`` removes the field. Counts as use. A retry
        after a lost answer writes the same values again, over the values that another update of
        the same fields wrote meanwhile. Raises :class:`SessionTooLarge`, here or from the server;
        :class:`InvalidArgument` as ``create`` does.
        """
        merged = fields if changes is None else {**mapping("changes", changes), **fields}
        encoded = encoded_fields(merged, removable=True)
        _fits(sum(len(n) + len(v) for n, v in encoded.items() if v), self.max_bytes)
        tag, handle = self._find(sid)
        return Op(
            _UPDATE,
            self._key(tag),
            handle,
            self._idle_ms,
            self.max_bytes,
            lines_of(encoded),
            decode=decoder_if_any(sid, self.max_bytes),
            idempotent=True,
        )

    def rotate(self, sid: str | None) -> Op[Session | None]:
        """The same session under a new id; the old id ends at once. None if there is no session.

        Data, ``created`` and the absolute deadline stay. The new id is drawn here: this op, run
        again, answers with the same id. Of two ops that rotate one id, the later one gets None.
        """
        tag, handle = self._find(sid)
        new = _new_id(tag)
        return Op(
            _ROTATE,
            self._key(tag),
            handle,
            handle_of(new),
            self._idle_ms,
            milliseconds(LOG_OUT_REACH),
            decode=decoder_if_any(new),
            idempotent=True,
        )

    def destroy(self, sid: str | None) -> Op[bool]:
        """End a session; True when it was alive.

        A log-out wins over a rotation beside it: for ``LOG_OUT_REACH`` seconds after a rotation the
        old id still ends the session, and does nothing else.

        The executor retries it when the answer is lost, so False can also mean that the first
        attempt ended the session. After either answer the session has ended.
        """
        tag, handle = self._find(sid)
        return Op(_DESTROY, self._key(tag), handle, decode=bool, idempotent=True)

    def destroy_listed(self, user: Id, handle: str) -> Op[bool]:
        """End one session by its handle in ``list``; otherwise as ``destroy``."""
        if not isinstance(handle, str) or not re.fullmatch("[0-9a-f]{64}", handle):
            # Not shown: it may be the id of a session.
            raise InvalidArgument("handle must be the 64 hex digits of Session.handle")
        return Op(_DESTROY, *self._keys(user), handle, decode=bool, idempotent=True)

    def destroy_all(self, user: Id) -> Op[int]:
        """End every session of a user; how many were alive (after a retry perhaps 0)."""
        return Op(_DESTROY_ALL, *self._keys(user), decode=int, idempotent=True)

    def list(self, user: Id) -> Op[Sessions]:
        """The live sessions of a user, the last seen first. Removes the ended sessions."""
        return Op(_LIST, *self._keys(user), decode=decode_listed, idempotent=True)

    def _tags(self, user: Id) -> tuple[str, ...]:
        """The tag of the user under each pepper; the first is the tag of new sessions."""
        text = f"{segment(self.name)}:{segment(user, 'user')}".encode()
        peppers = dict.fromkeys((self.pepper, *self.old_peppers))
        return tuple(_base64(hmac.digest(pepper, text, "sha256")[:16]) for pepper in peppers)

    def _keys(self, user: Id) -> tuple[Key, ...]:
        return tuple(map(self._key, self._tags(user)))

    def _key(self, tag: str) -> Key:
        return Key(f"{self._before_tag}{tag}}}")

    def _find(self, sid: object) -> tuple[str, str]:
        """Tag and handle. An id that no store made is looked for where no session is."""
        shape = _ID.fullmatch(sid) if isinstance(sid, str) else None
        return (_NOBODY, "") if shape is None else (shape[1], handle_of(shape[0]))


def _new_id(tag: str) -> str:
    return f"{tag}.{secrets.token_urlsafe(32)}"


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _fits(size: int, limit: int) -> None:
    if size > limit:
        raise SessionTooLarge(size, limit)


def _nobody(_: Exception) -> None:
    return None
