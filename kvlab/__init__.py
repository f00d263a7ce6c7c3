"""kvlab: the eight common key-value patterns, shown breaking, then holding, on a real server.

kv = kvlab.connect()                                   # embedded Valkey, or KVLAB_URL
decision = kv.run(FixedWindow("api", limit=10, window=60).hit("203.0.113.7"))

What a pattern promises, and what not: ``help("kvlab.rate_limiting")``, and so for each pattern.
"""

from __future__ import annotations

import sys

if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] == "kvlab":  # python -m kvlab
    import kvlab_command

    kvlab_command.begin()  # before the imports below, which take a part of a second

from kvlab.cache_aside import CacheAside, Fill, Lookup, NaiveCacheAside
from kvlab.core.executors.async_client import AsyncKv
from kvlab.core.executors.client import Kv
from kvlab.core.executors.connect import aconnect, connect
from kvlab.core.flow import Call, Flow, Now, Wait, flow, together
from kvlab.core.hold import Held, Holding
from kvlab.core.key import Key, segment
from kvlab.core.op import Op, Script
from kvlab.distributed_lock import Lock, NaiveLock, fenced_get, fenced_set
from kvlab.feature_flags import FeatureFlags, Flag, FlagSnapshot, NaiveFlags
from kvlab.feature_flags.async_watcher import AsyncFlagWatcher
from kvlab.feature_flags.watcher import FlagWatcher
from kvlab.leaderboard import Leaderboard, NaiveLeaderboard
from kvlab.leaderboard.values import Entry, Page, Submission
from kvlab.pipeline import AutoBatch, NaivePipeline
from kvlab.rate_limiting import (
    Decision,
    FixedWindow,
    NaiveFixedWindow,
    NaiveSlidingWindow,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
)
from kvlab.sessions import REMOVE, ListedSession, NaiveSessions, Session, SessionStore
from kvlab.sessions.cookie import SessionCookie
from kvlab.version import __version__ as __version__
from kvlab.write_through import NaiveWriteThrough, Removed, Saved, WriteThrough

__all__ = [
    "REMOVE",
    "AsyncFlagWatcher",
    "AsyncKv",
    "AutoBatch",
    "CacheAside",
    "Call",
    "Decision",
    "Entry",
    "FeatureFlags",
    "Fill",
    "FixedWindow",
    "Flag",
    "FlagSnapshot",
    "FlagWatcher",
    "Flow",
    "Held",
    "Holding",
    "Key",
    "Kv",
    "Leaderboard",
    "ListedSession",
    "Lock",
    "Lookup",
    "NaiveCacheAside",
    "NaiveFixedWindow",
    "NaiveFlags",
    "NaiveLeaderboard",
    "NaiveLock",
    "NaivePipeline",
    "NaiveSessions",
    "NaiveSlidingWindow",
    "NaiveWriteThrough",
    "Now",
    "Op",
    "Page",
    "Removed",
    "Saved",
    "Script",
    "Session",
    "SessionCookie",
    "SessionStore",
    "SlidingWindowCounter",
    "SlidingWindowLog",
    "Submission",
    "TokenBucket",
    "Wait",
    "WriteThrough",
    "aconnect",
    "connect",
    "fenced_get",
    "fenced_set",
    "flow",
    "segment",
    "together",
]
