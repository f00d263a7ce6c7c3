"""The flags of one name: set, remove and read them, one version at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from kvlab.core.checks import boolean, instance, keep, mapping, text, whole
from kvlab.core.json_values import decoded
from kvlab.core.key import Key, segment
from kvlab.core.op import Op, Raw, Script
from kvlab.feature_flags.rollout import Flag
from kvlab.feature_flags.snapshot import FlagSnapshot

_COMMIT = Script.load("feature_flags/commit")
_MOST = 1_000
"""The most flags in one commit."""

Value = bool | Flag


@dataclass(frozen=True, slots=True)
class FeatureFlags:
    """Flags under one name, with the defaults of the flags that are not stored.

    The name of a flag is printable text of 1 to 200 characters. Raises InvalidArgument for any
    other name, and for a default that is not True, False or a :class:`Flag`.
    """

    name: str = "flags"
    defaults: Mapping[str, Value] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        declared = mapping("defaults", self.defaults).items()
        defaults = {text("flag", flag): _flag(value) for flag, value in declared}
        keep(self, name=text("name", self.name), defaults=defaults)

    @property
    def values(self) -> Key:
        return Key(f"flags:{{{segment(self.name)}}}:values")

    @property
    def changes(self) -> Key:
        """The channel that carries each new version."""
        return Key(f"flags:{{{segment(self.name)}}}:changes")

    def set(self, flag: str, value: Value) -> Op[int]:
        """Set a flag to on (True), off (False) or a share (``Flag(12.5)``); the new version."""
        return self.set_many({flag: _flag(value)})

    def remove(self, flag: str) -> Op[int]:
        """Remove a stored flag, so that its default counts again; the new version."""
        return self.set_many({flag: None})

    def set_many(self, values: Mapping[str, Value | None]) -> Op[int]:
        """Change 1 to 1,000 flags in one version; None removes a flag. The new version."""
        whole("number of flags in one commit", len(mapping("values", values)), 1, _MOST)
        pairs: list[str] = []
        for name, value in values.items():
            pairs += (text("flag", name), "" if value is None else _stored(_flag(value)))
        return Op(_COMMIT, self.values, self.changes, *pairs, decode=int)

    def read_all(self, *, strict: bool = False) -> Op[FlagSnapshot]:
        """Every flag, as of one version.

        In an outage: a snapshot of the declared defaults; ``strict``: the
        :class:`~kvlab.errors.Outage` instead.
        """
        return Op(
            "HGETALL",
            self.values,
            decode=self._snapshot,
            idempotent=True,
            fallback=None if boolean("strict", strict) else lambda _: self.declared,
        )

    @property
    def declared(self) -> FlagSnapshot:
        """The snapshot of a reader that has not reached a server yet."""
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


def _flag(value: Value) -> Flag:
    if isinstance(value, bool):
        return Flag(100.0 if value else 0.0)
    return instance("a flag's value", value, Flag, "True, False or Flag(percent)")


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
