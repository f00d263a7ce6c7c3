"""Write-through: the database first, then its row into the cache that readers use.

Guarantee, when every writer of a key uses ``save`` and ``remove``, and the database gives each
write of a key a higher version than the write before (also deletions, and rows made again):

* While an entry lives, and for ``remember`` after the newest write in any case, an older version
  never replaces a newer one, and a deleted row does not come back.
* A fill whose load began before a write reached the cache never lands after that write.
* When the database refuses, nothing is cached: ``write`` raises, and the cache is untouched.
* When the cache is silent or refuses for now, the caller still gets the row, and ``cached`` is
  False. A stale entry then ends with its TTL: at most ``lease + ttl`` after the commit.

Example::

    >>> import kvlab
    >>> kv = kvlab.connect()
    >>> cache = kvlab.CacheAside("users", ttl=300)
    >>> users = kvlab.WriteThrough(cache)
    >>> kv.run(users.save(7, lambda: ({"name": "Ann"}, 2))).cached   # row and version
    True
    >>> kv.run(users.save(7, lambda: ({"name": "Old"}, 1))).cached   # it came too late
    False
    >>> kv.run(cache.fetch(7, lambda: None))
    {'name': 'Ann'}

Round trips: one after the database. Keys: those of :mod:`kvlab.cache_aside`, and

    cache:<name>:{<key>}:version    string: the newest known version    remember, or the entry's

How writers and readers meet (W1 and W2 write versions 1 and 2; R reads):

A. Two writers in the wrong order.
   1. W1: the database commits version 1
   2. W2: the database commits version 2; W2 stores version 2
   3. W1: store version 1: version 2 is known, so nothing changes

B. A fill meets a deletion.
   1. R: takes the lease, loads row 1
   2. W2: deletes, stores the absence; the lease ends
   3. R: fill: the lease is gone, so nothing changes
   4. W1, late: store version 1: version 2 is known, so nothing changes

C. A reader fills without a version, after a write.
   1. W1: the database commits version 1
   2. W2: the database commits version 2; W2 stores version 2
   3. the entry is invalidated
   4. R: takes the lease, loads row 2, fills; version 2 stays known as long as this entry lives
   5. W1: store version 1: version 2 is known, so nothing changes

D. The limit: a value that was filled without a version does not show how new it is.
   1. W1: the database commits version 1
   2. W2: the database commits version 2
   3. R: takes the lease, loads row 2, fills
   4. W1: stores version 1 over it
   5. W2: stores version 2
   Between 4 and 5 the cache holds an older row than R had filled. If W2 dies before 5, version 1
   is served until its TTL ends. ``WriteThrough.fetch``, whose loader returns the version, closes
   this gap: the fill of step 3 carries version 2, and step 4 changes nothing.

Not promised: anything for writes that do not use ``save`` and ``remove`` (run ``invalidate`` after
them); anything for a writer that is held for longer than ``remember`` between its commit and the
cache; anything when the server loses its keys, or its last writes in a failover: the older row is
then served until its TTL ends, or the newest row is saved again.
"""

from __future__ import annotations

from kvlab.write_through.naive import NaiveWriteThrough
from kvlab.write_through.writer import Removed, Saved, WriteThrough

__all__ = ["NaiveWriteThrough", "Removed", "Saved", "WriteThrough"]
