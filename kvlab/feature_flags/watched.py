"""What both flag watchers share: the snapshot, and how a read that fails is recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable

from kvlab.core.checks import function, instance, seconds
from kvlab.core.executors.async_client import AsyncKv
from kvlab.core.executors.client import Kv
from kvlab.feature_flags.flags import FeatureFlags
from kvlab.feature_flags.snapshot import FlagSnapshot

log = logging.getLogger("kvlab.flags")

RESYNC = 30.0
"""A watcher reads at least every this many seconds, without a message too."""
POLL = 2.0
"""Behind HTTP, where no message comes, a watcher reads at least every this many seconds."""


class Watched:
    """The snapshot of a watcher, and its age."""

    def __init__(
        self, kv: Kv | AsyncKv, flags: FeatureFlags, resync: float, jitter: Callable[[], float]
    ) -> None:
        self.flags = instance("flags", flags, FeatureFlags, "a FeatureFlags")
        # A socket's own timeout ends at 24 days.
        self.resync = seconds("resync", resync, high=86_400)
        self._snapshot: FlagSnapshot = flags.declared
        self._error: Exception | None = None
        self._clock = kv.clock
        self._read_at = kv.clock()
        self._stale_since: float | None = self._read_at
        self._channel = kv.name(flags.changes)
        self._jitter = function("jitter", jitter)
        self._failures = 0

    @property
    def snapshot(self) -> FlagSnapshot:
        """The flags of the last read that succeeded."""
        read = self._snapshot  # before the look: a thread that it starts may read at once
        self._look()
        return read

    @property
    def error(self) -> Exception | None:
        """The last failure; None while the watcher follows the server."""
        self._look()
        return self._error

    @property
    def stale_since(self) -> float | None:
        """The time on the executor's clock since which it may have missed changes, or None."""
        self._look()
        return self._stale_since

    def _look(self) -> None:
        """Notice a fork: called before each look."""
        raise NotImplementedError

    def _learned(self, snapshot: FlagSnapshot) -> None:
        if snapshot.unreadable and snapshot.unreadable != self._snapshot.unreadable:
            log.warning("flags %r: unreadable: %s", self.flags.name, dict(snapshot.unreadable))
        if self._error is not None:
            log.info("flags %r: follows again, version %d", self.flags.name, snapshot.version)
        self._snapshot = snapshot
        self._error = self._stale_since = None
        self._read_at = self._clock()
        self._failures = 0

    def _lost(self, problem: Exception) -> float:
        """Record the failure; the pause before the next try, in seconds."""
        if self._error is None:
            cause = f"{type(problem).__name__}: {problem}"
            log.warning("flags %r: cannot follow the server: %s", self.flags.name, cause)
        self._error = problem
        if self._stale_since is None:
            self._stale_since = self._clock()
        longest = min(5.0, 0.1 * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return longest * (0.5 + self._jitter() / 2)  # so that not all watchers reconnect at once
