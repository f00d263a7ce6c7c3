"""Feature flags: which feature is on for whom, without a round trip for each question.

Guarantee:

* One ``set``, ``set_many`` or ``remove`` makes one version, in one step. A reader sees all of a
  version or none of it. Versions count up by one, and no two commits share a version.
* A snapshot answers without the server. A flag that is not stored has its declared default. A flag
  that is neither stored nor declared raises ``UnknownFlag``, so that a typo is noticed.
* A rollout is sticky (a user stays inside or outside while the percentage stays), grows without
  removing a user (inside 10 % is inside 20 %), and is independent between flags.
* A stored value that cannot be read is listed in ``unreadable``; the flag has its default.
* Server down or refusing for now: ``read_all`` answers the declared defaults, or with ``strict``
  raises. Every change raises. A ``FlagWatcher`` keeps its last
  snapshot, and learns of each change at once.

Example::

    >>> import kvlab
    >>> kv = kvlab.connect()
    >>> flags = kvlab.FeatureFlags(defaults={"new-checkout": False})
    >>> kv.run(flags.read_all()).is_enabled("new-checkout", user=7)
    False
    >>> kv.run(flags.set("new-checkout", kvlab.Flag(percent=50)))    # the new version
    1
    >>> snapshot = kv.run(flags.read_all())
    >>> [snapshot.is_enabled("new-checkout", user) for user in (1, 2, 3, 4)]
    [True, False, False, False]

Keys, one hash slot, no TTL (a flag stays until it is removed):

    flags:{<name>}:values     hash: flag -> true, false or {"percent": 12.5, "salt": "…"};
                              the field '' is the version
    flags:{<name>}:changes    channel: the new version, once per commit (and per commit that is
                              refused for lack of memory). A user of ACLs needs this channel.

A user is inside when ``bucket(salt, user)`` is below the percentage: the first 8 bytes of
SHA-256(salt, a zero byte, the user's text), as a big-endian number, modulo 10,000. The salt is
the flag's name unless the flag has a ``salt``.

Not promised: versions over a server that lost its data. Such a server starts at version 1 again,
and readers follow: the server is the truth, and an empty server means the declared defaults. A
failover that loses the last ``set`` brings the old flag back, and gives its version once more. A
``set`` whose reply was lost may have run; a repetition costs a version and does no harm, unless
another client set the flag in between. Flags are not secrets. The only targeting rule is a
percentage.
"""

from __future__ import annotations

from kvlab.feature_flags.async_watcher import AsyncFlagWatcher
from kvlab.feature_flags.flags import FeatureFlags
from kvlab.feature_flags.naive import NaiveFlags
from kvlab.feature_flags.rollout import Flag, bucket
from kvlab.feature_flags.snapshot import FlagSnapshot
from kvlab.feature_flags.watcher import FlagWatcher

__all__ = [
    "AsyncFlagWatcher",
    "FeatureFlags",
    "Flag",
    "FlagSnapshot",
    "FlagWatcher",
    "NaiveFlags",
    "bucket",
]
