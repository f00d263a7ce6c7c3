"""kvlab: the eight common key-value patterns, shown breaking, then holding, on a real server.

kv = kvlab.connect()                                   # embedded Valkey, or KVLAB_URL
decision = kv.run(FixedWindow("api", limit=10, window=60).hit("203.0.113.7"))
"""

from __future__ import annotations

from kvlab.async_client import AsyncKv, aconnect
from kvlab.client import Kv, connect
from kvlab.distributed_lock import Lock, NaiveLock, fenced_get, fenced_set
from kvlab.hold import Held, Holding
from kvlab.op import Call, Flow, Key, Now, Op, Script, Wait, flow, segment, together

__version__ = "0.1.0"

__all__ = [
    "AsyncKv",
    "Call",
    "Flow",
    "Held",
    "Holding",
    "Key",
    "Kv",
    "Lock",
    "NaiveLock",
    "Now",
    "Op",
    "Script",
    "Wait",
    "aconnect",
    "connect",
    "fenced_get",
    "fenced_set",
    "flow",
    "segment",
    "together",
]
