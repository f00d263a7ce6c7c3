"""How long a change of a flag takes to reach every watcher."""

from __future__ import annotations

import time
from contextlib import ExitStack

import kvlab
from kvlab import FeatureFlags, Flag, FlagWatcher, Kv
from kvlab.errors import KvlabError
from kvlab.instruments.measure.turns import turns_within

AT_MOST = 60.0
"""Seconds to wait for a watcher."""


def delays_of_changes(
    url: str, kv: Kv, flags: FeatureFlags, flag: str, *, watchers: int, changes: int
) -> list[list[float]]:
    """For each change, the seconds from the ``set`` until each watcher had read the new version.

    Each watcher is a thread with a connection of its own. A change begins when the one before has
    arrived everywhere. Two more changes, the first, are warm-up and left out.
    """
    moments: list[float] = []
    delays: list[list[float]] = []
    with ExitStack() as stack:
        near = kvlab.connect(
            url, prefix=kv.prefix, trace=lambda _: moments.append(time.perf_counter())
        )
        stack.enter_context(near)
        watching = [stack.enter_context(FlagWatcher(near, flags)) for _ in range(watchers)]
        for watcher in watching:
            _must(watcher.wait_until(lambda one: one.stale_since is None, AT_MOST))
        for number, counts in enumerate(turns_within(changes, warmup=2)):
            moments.clear()
            began = time.perf_counter()
            version = kv.run(flags.set(flag, Flag(number % 100)))
            for watcher in watching:
                _must(watcher.wait_for(version, AT_MOST))
            if counts:
                delays.append([moment - began for moment in moments])
    return delays


def _must(arrived: bool) -> None:
    if not arrived:
        raise KvlabError(f"a watcher did not have the change after {AT_MOST:g} s")
