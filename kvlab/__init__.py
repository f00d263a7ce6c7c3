"""kvlab: the eight common key-value patterns, shown breaking, then holding, on a real server.

kv = kvlab.connect()                                   # embedded Valkey, or KVLAB_URL
decision = kv.run(FixedWindow("api", limit=10, window=60).hit("203.0.113.7"))
"""

from __future__ import annotations

from kvlab.async_client import AsyncKv, aconnect
from kvlab.cache_aside import CacheAside, Fill, Lookup, NaiveCacheAside
from kvlab.client import Kv, connect
from kvlab.distributed_lock import Lock, NaiveLock, fenced_get, fenced_set
from kvlab.feature_flags import FeatureFlags, Flag, FlagSnapshot, NaiveFlags
from kvlab.flag_watcher import AsyncFlagWatcher, FlagWatcher
from kvlab.hold import Held, Holding
from kvlab.leaderboard import Leaderboard, NaiveLeaderboard
from kvlab.leaderboard_values import Entry, Page, Submission
from kvlab.op import Call, Flow, Key, Now, Op, Script, Wait, flow, segment, together
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
from kvlab.session_cookie import SessionCookie
from kvlab.sessions import REMOVE, ListedSession, NaiveSessions, Session, SessionStore
from kvlab.write_through import NaiveWriteThrough, Removed, Saved, WriteThrough

__version__ = "0.1.0"

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
