"""kvlab: the eight common key-value patterns, shown breaking, then holding, on a real server.

kv = kvlab.connect()                                   # embedded Valkey, or KVLAB_URL
decision = kv.run(FixedWindow("api", limit=10, window=60).hit("203.0.113.7"))
"""

from __future__ import annotations

from kvlab.async_client import AsyncKv, aconnect
from kvlab.client import Kv, connect
from kvlab.op import Call, Flow, Key, Now, Op, Script, Wait, flow, segment, together
from kvlab.pipeline import AutoBatch, NaivePipeline

__version__ = "0.1.0"

__all__ = [
    "AsyncKv",
    "AutoBatch",
    "Call",
    "Flow",
    "Key",
    "Kv",
    "NaivePipeline",
    "Now",
    "Op",
    "Script",
    "Wait",
    "aconnect",
    "connect",
    "flow",
    "segment",
    "together",
]
