"""All flags of one version; a snapshot answers without the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvlab.core.checks import Id, mapping, text, whole
from kvlab.errors import UnknownFlag
from kvlab.feature_flags.rollout import Flag


@dataclass(frozen=True, slots=True)
class FlagSnapshot:
    """All flags of one version. Version 0: no flag was ever set, or there was an outage
    (``read_all(strict=True)`` tells them apart).

    * ``flags``: the stored flags.
    * ``defaults``: the declared flags.
    * ``unreadable``: the names of stored flags that cannot be read, each with the reason.
    """

    version: int
    flags: Mapping[str, Flag]
    defaults: Mapping[str, Flag] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole("version", self.version, 0)
        for name in ("flags", "defaults", "unreadable"):
            mapping(name, getattr(self, name))

    def is_enabled(self, flag: str, user: Id | None = None) -> bool:
        """Whether the flag is on for ``user``; without a user only a flag at 100 % is on.

        Raises :class:`~kvlab.errors.UnknownFlag` for a flag neither stored nor declared, and
        :class:`~kvlab.errors.InvalidArgument` for a user that is no id, at every percentage.
        """
        text("flag", flag)
        found = self.flags.get(flag) or self.defaults.get(flag)
        if found is None:
            why = self.unreadable.get(flag, "neither stored nor declared")
            raise UnknownFlag(f"flag {flag!r:.80} is unknown: {why}")
        return found.includes(flag, user)
