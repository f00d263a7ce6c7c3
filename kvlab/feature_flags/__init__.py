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

from kvlab.feature_flags.flags import FeatureFlags
from kvlab.feature_flags.naive import NaiveFlags
from kvlab.feature_flags.rollout import Flag, bucket
from kvlab.feature_flags.snapshot import FlagSnapshot
from kvlab.feature_flags.watcher import AsyncFlagWatcher, FlagWatcher

__all__ = [
    "AsyncFlagWatcher",
    "FeatureFlags",
    "Flag",
    "FlagSnapshot",
    "FlagWatcher",
    "NaiveFlags",
    "bucket",
]
