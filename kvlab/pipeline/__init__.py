"""Many commands in one round trip: written so (``kv.run(a, b)``), or by themselves (AsyncKv).

Guarantee of ``kv.run``, which needs nothing of this module:

* ``kv.run(a, b)``: one round trip, a tuple. ``kv.run([ops])``: a list, 500 ops a round trip, so
  that a long list neither fills the server's reply buffer nor delays all other commands.
* Each reply belongs to its op. One failing op fails alone: ``BatchFailed.results`` has the value
  or the error of every op.
* ``atomic=True``: MULTI and EXEC around the ops. All are applied or none is, even when the
  connection is cut. Without it, a connection cut midway leaves a part applied, and the errors say
  which ops are known to be done and which are not.

``AsyncKv`` makes such batches of concurrent awaits: see ``kvlab.core.transport.batches``.
``AutoBatch`` is an ``AsyncKv`` whose batches have limits that you choose.

Example::

    >>> import kvlab
    >>> from kvlab.pipeline import add_to_counters, dashboard
    >>> kv = kvlab.connect()
    >>> kv.run(add_to_counters("views", {"home": 3, "about": 1}), atomic=True)
    [3, 1]
    >>> kv.run(kvlab.Op("SET", kvlab.Key("user:{7}:profile"), "Ann"))
    b'OK'
    >>> profile, settings, news, stats = kv.run(*dashboard(7))     # one round trip
    >>> profile, settings
    (b'Ann', None)

Keys of the examples: ``user:{id}:profile``, ``user:{id}:settings`` (strings),
``user:{id}:notifications`` (sorted set), ``user:{id}:stats`` (hash): read here, written elsewhere.
``counters:{group}:<name>`` (string): written here, with a TTL from the first addition on.

Not promised: that a batch is applied at one instant, unless ``atomic``; that a failover keeps it: a
failover can lose the end of a batch, and an ``atomic`` one as a whole; that the ops of a batch
share a round trip on Cluster, where a batch is one round trip per node.
"""

from __future__ import annotations

from kvlab.core.executors.auto_batch import AutoBatch
from kvlab.pipeline.counters import add_to_counters
from kvlab.pipeline.dashboard import dashboard
from kvlab.pipeline.naive import NaivePipeline

__all__ = ["AutoBatch", "NaivePipeline", "add_to_counters", "dashboard"]
