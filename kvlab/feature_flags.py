"""Feature flags: what is on, for whom, without asking the server each time.

Guarantee:

* One ``set``, ``set_many`` or ``remove`` makes one version, in one step; a reader sees all of a
  version or none of it. Versions count up by one and no two commits share one.
* A snapshot answers without the server. A flag it does not hold has the default you declare;
  a flag that is neither stored nor declared raises ``UnknownFlag``, so a typo is heard.
* A rollout is sticky (a user stays in or out while the percentage stays), grows without throwing
  anybody out (inside 10 % is inside 20 %) and is independent between flags.
* A stored value that cannot be read is reported in ``unreadable`` and answers by its default.
* Server down: ``read_all`` answers the declared defaults; a ``FlagWatcher`` keeps its last
  snapshot and learns of each change at once.

Keys, one hash slot, no TTL (a flag stays until it is removed):

    flags:{<name>}:values     hash: flag -> true, false or {"percent": 12.5, "salt": "…"};
                              the field '' is the version
    flags:{<name>}:changes    channel: the new version, once per commit

A user is inside when ``bucket(salt, user)`` is below the percentage: the first 8 bytes of
SHA-256(salt, a zero byte, the user's text), as a big-endian number, modulo 10,000. The salt is
the flag's name unless one is given.

Not promised: versions over a server that lost its data. It starts at 1 again, and readers follow
it, since the server is the truth and an empty one means the declared defaults. A ``set`` whose
reply was lost may have run; setting the same again costs a version and harms nothing, unless
somebody else set the flag in between. Flags are not secrets, and no targeting rules but percent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from kvlab.errors import InvalidArgument, UnknownFlag
from kvlab.op import Key, Op, Raw, Script, segment
from kvlab.values import decoded, number

__all__ = ["FeatureFlags", "Flag", "FlagSnapshot", "NaiveFlags", "bucket"]

_COMMIT = Script.load("feature_flags_commit")
_BUCKETS = 10_000
_MOST = 1_000
"""Flags of one commit."""


class NaiveFlags:
    """The seed: one hash of '1' and '0', read a flag at a time.

    Always false: the seed's client parses the reply '1' into the number 1 and compares it with
    the text '1'. Here a client without ``decode_responses`` gives the bytes ``b"1"``, and
    ``b"1" == "1"`` is false as well: the same line, the same silence.

    With ``decode_responses`` a request that reads two flags sees half a change:

    1. reader: HGET new-checkout -> '0'
    2. writer: HSET new-checkout '1', HSET new-receipt '1' (they belong together)
    3. reader: HGET new-receipt -> '1': the old checkout with the new receipt

    So does any reader between the writer's two HSETs.
    """

    def __init__(self, client: redis.Redis, *, prefix: str = "") -> None:
        self.client = client
        self.key = prefix + "flags:global"

    def set_flag(self, flag: str, enabled: bool) -> None:
        self.client.hset(self.key, mapping={flag: "1" if enabled else "0"})

    def get_flag(self, flag: str) -> bool:
        value = self.client.hget(self.key, flag)
        return bool(value == "1")

    def get_all_flags(self) -> dict[str, bool]:
        flags: dict[Any, Any] = self.client.hgetall(self.key)
        return {k: v == "1" for k, v in flags.items()}


def bucket(salt: str, user: str | int) -> int:
    """Where a user falls among 10,000, evenly and independently for each salt.

    An int stands for its decimal digits. SHA-256: FIPS 180-4; a cryptographic hash, so that ids
    in sequence or salts that resemble each other do not correlate.
    """
    if isinstance(user, bool) or not isinstance(user, str | int):
        raise InvalidArgument(f"user must be str or int, not {type(user).__name__}: {user!r:.80}")
    text = f"{salt}\0{user}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % _BUCKETS


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag that is on for ``percent`` of the users: 0 to 100 in steps of 0.01.

    ``salt`` in place of the flag's name draws the users afresh, or, the same for two flags, alike.
    """

    percent: float = 100.0
    salt: str | None = None

    def __post_init__(self) -> None:
        number("percent", self.percent, 0, 100)
        if abs(self.percent * 100 - round(self.percent * 100)) > 1e-6:
            raise InvalidArgument(f"percent must be in steps of 0.01, not {self.percent!r}")
        if self.salt is not None:
            _text("salt", self.salt)

    def includes(self, name: str, user: str | int | None) -> bool:
        """Whether the flag ``name`` is on for ``user``; nobody (None) is only in at 100 %."""
        below = round(self.percent * 100)
        if user is None or below in (0, _BUCKETS):
            return below == _BUCKETS
        return bucket(name if self.salt is None else self.salt, user) < below


Value = bool | Flag


@dataclass(frozen=True, slots=True)
class FlagSnapshot:
    """All flags as of one version; version 0: nothing was ever set, or these are the defaults.

    ``flags``: what is stored. ``defaults``: what was declared. ``unreadable``: why, by flag.
    """

    version: int
    flags: Mapping[str, Flag]
    defaults: Mapping[str, Flag] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def is_enabled(self, flag: str, user: str | int | None = None) -> bool:
        """Whether the flag is on for the user; without a user only a flag at 100 % is on.

        Raises :class:`~kvlab.errors.UnknownFlag` for a flag neither stored nor declared.
        """
        found = self.flags.get(flag) or self.defaults.get(flag)
        if found is None:
            why = self.unreadable.get(flag, "neither stored nor declared")
            raise UnknownFlag(f"flag {flag!r:.80} is unknown: {why}")
        return found.includes(flag, user)


@dataclass(frozen=True, slots=True)
class FeatureFlags:
    """Flags under one name, with the defaults for those that nobody has set.

    A flag's name and a salt are printable text of 1 to 200 characters.
    """

    name: str = "flags"
    defaults: Mapping[str, Value] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        segment(self.name)
        declared = {_text("flag", name): _flag(value) for name, value in self.defaults.items()}
        object.__setattr__(self, "defaults", declared)

    @property
    def values(self) -> Key:
        return Key(f"flags:{{{segment(self.name)}}}:values")

    @property
    def changes(self) -> Key:
        """The channel that tells each new version."""
        return Key(f"flags:{{{segment(self.name)}}}:changes")

    def set(self, flag: str, value: Value) -> Op[int]:
        """Turn a flag on (True), off (False) or on for some (``Flag(12.5)``); the new version."""
        return self.set_many({flag: value})

    def remove(self, flag: str) -> Op[int]:
        """Forget a flag, so that its default counts again; the new version."""
        return self.set_many({flag: None})

    def set_many(self, values: Mapping[str, Value | None]) -> Op[int]:
        """Change up to 1,000 flags in one version; None removes one. Answers the version."""
        if not 1 <= len(values) <= _MOST:
            raise InvalidArgument(f"1 to {_MOST} flags in one commit, not {len(values)}")
        pairs: list[str] = []
        for name, value in values.items():
            pairs += (_text("flag", name), "" if value is None else _stored(_flag(value)))
        return Op(_COMMIT, self.values, self.changes, *pairs, decode=int)

    def read_all(self, *, strict: bool = False) -> Op[FlagSnapshot]:
        """Every flag, as of one version.

        Server down: a snapshot of the declared defaults; ``strict``: the error instead.
        """
        return Op(
            "HGETALL",
            self.values,
            decode=self._snapshot,
            idempotent=True,
            fallback=None if strict else lambda _: self.declared,
        )

    @property
    def declared(self) -> FlagSnapshot:
        """The snapshot of somebody who has not reached a server yet."""
        return FlagSnapshot(0, {}, self._defaults)

    @property
    def _defaults(self) -> dict[str, Flag]:
        return {name: _flag(value) for name, value in self.defaults.items()}

    def _snapshot(self, reply: Raw) -> FlagSnapshot:
        version = 0
        flags: dict[str, Flag] = {}
        unreadable: dict[str, str] = {}
        for raw_name, raw in zip(reply[::2], reply[1::2], strict=True):
            name = raw_name.decode("utf-8", "backslashreplace")
            try:
                if not name:
                    version = int(raw) if raw.isdigit() else _not_a_version(raw)
                else:
                    flags[name] = _read(decoded(raw))
            except ValueError as problem:
                unreadable[name] = f"{raw!r:.80} cannot be read: {problem}"
        return FlagSnapshot(version, flags, self._defaults, unreadable)


def _text(what: str, text: str) -> str:
    if not (isinstance(text, str) and 1 <= len(text) <= 200 and text.isprintable()):
        raise InvalidArgument(
            f"a {what} is printable text of 1 to 200 characters, not {text!r:.80}"
        )
    return text


def _flag(value: Value) -> Flag:
    if isinstance(value, bool):
        return Flag(100.0 if value else 0.0)
    if isinstance(value, Flag):
        return value
    raise InvalidArgument(f"a flag's value is True, False or Flag(percent), not {value!r:.80}")


def _stored(flag: Flag) -> str:
    if flag.salt is None and flag.percent in (0, 100):
        return "true" if flag.percent else "false"
    salt = {} if flag.salt is None else {"salt": flag.salt}
    return json.dumps({"percent": flag.percent, **salt})


def _read(value: object) -> Flag:
    if isinstance(value, bool):
        return _flag(value)
    if isinstance(value, dict) and "percent" in value and value.keys() <= {"percent", "salt"}:
        return Flag(**value)
    raise ValueError("neither true, false nor an object with percent and salt")


def _not_a_version(raw: bytes) -> int:
    raise ValueError("not a version")
