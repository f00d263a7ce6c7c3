"""Write-through: the database first, then its row into the cache that readers use.

Guarantee, where every writer of a key goes through ``save`` and ``remove``, and the database
gives each write of a key a higher version than the one before (deletions too, and rows that are
made again):

* While an entry lives, and for ``remember`` after the newest write in any case, an older version
  never replaces a newer one, and a deleted row does not come back.
* A fill whose load began before a write reached the cache never lands after it.
* Nothing is cached when the database refuses: ``write`` raises, the cache is untouched.
* When the cache cannot be told, the caller still gets the row, and ``cached`` is False. What is
  stale then ends with its TTL: at most ``lease + ttl`` after the commit.

One round trip after the database. The keys are those of :mod:`kvlab.cache_aside`, and

    cache:<name>:{<key>}:version    string: the newest version known    remember, or the entry's

How writes and readers meet (W1, W2 write versions 1 and 2; R reads):

A. Two writers change places.
   1. W1: database → 1    2. W2: database → 2, stores 2    3. W1: stores 1 → 2 is known, nothing

B. A fill meets a deletion.
   1. R: lease, loads row 1    2. W2: deletes, stores the absence; the lease ends with it
   3. R: fills → its lease is gone, nothing    4. W1, late: stores 1 → 2 is known, nothing

C. A reader fills after a write, without a version.
   1. W1: database → 1    2. W2: database → 2, stores 2    3. the entry is invalidated
   4. R: lease, loads row 2, fills; version 2 is still known, and now for as long as this entry
   5. W1: stores 1 → 2 is known, nothing

D. The limit. A reader's value without a version hides how new it is.
   1. W1: database → 1    2. W2: database → 2    3. R: lease, loads row 2, fills
   4. W1: stores 1 over it    5. W2: stores 2
   Between 4 and 5 the cache is as old as it would be without R, but R's value was newer. If W2
   died before 5, row 1 is served until its TTL ends. ``WriteThrough.fetch``, whose loader says
   the version, closes this: at 3 the fill says 2, and 4 does nothing.

Not promised: anything for writes that go past ``save`` and ``remove`` (``invalidate`` after
them), for a writer that is held for longer than ``remember`` between its commit and the cache,
or when the server loses its keys.
"""

from __future__ import annotations

from kvlab.write_through.naive import NaiveWriteThrough
from kvlab.write_through.writer import Removed, Saved, WriteThrough

__all__ = ["NaiveWriteThrough", "Removed", "Saved", "WriteThrough"]
