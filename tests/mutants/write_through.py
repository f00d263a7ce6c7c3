from __future__ import annotations

from mutants.mutant import Mutant

PATTERN = "write_through"
MODULE = "kvlab/write_through/writer.py"
STORE = "kvlab/write_through/store.lua"
FILL = "kvlab/cache_aside/fill.lua"
TESTS = ("tests/write_through/test_write_through.py",)
EXPLORED = ("tests/write_through/test_write_through_explored.py",)

MUTANTS = (
    Mutant(
        PATTERN,
        removed="the comparison of versions in the store",
        promise="an older version never replaces a newer one",
        file=STORE,
        old="if known and known > version then return 0 end",
        new="",
        tests=TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the recognition of a store that is sent twice",
        promise="a store sent again does not bring back what was invalidated since",
        file=STORE,
        old="if known == version then",
        new="if false then",
        tests=TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the end of every lease with a store",
        promise="a fill whose load began before a write never lands after it",
        file=STORE,
        old="redis.call('DEL', KEYS[2])\n",
        new="",
        tests=EXPLORED,
    ),
    Mutant(
        PATTERN,
        removed="the tombstone: a removal that only deletes the entry",
        promise="a deleted row does not come back",
        file=MODULE,
        old="storing = self._store(key, None, version)",
        new='storing = Op("DEL", self.cache.key(key, "entry"), decode=bool)',
        tests=TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the version's longer life",
        promise="the newest version is known for remember, though its entry ends sooner",
        file=MODULE,
        old="max(life, milliseconds(remember))",
        new="life",
        tests=TESTS,
        words="remembered or outlives or ttl",
    ),
    Mutant(
        PATTERN,
        removed="the version's TTL",
        promise="every key expires",
        file=STORE,
        old="redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[4])",
        new="redis.call('SET', KEYS[3], ARGV[1])",
        tests=TESTS,
        words="ttl",
    ),
    Mutant(
        PATTERN,
        removed="the comparison of versions in the fill",
        promise="a lagging replica's row is not cached over a newer one",
        file=FILL,
        old="if known and version and version < known then",
        new="if false then",
        tests=TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the version that a fill leaves",
        promise="after a fill that says its version an older write does nothing",
        file=FILL,
        old="redis.call('SET', KEYS[3], ARGV[5], 'PX', string.format('%.0f', life))",
        new="local _ = life",
        tests=TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the version's longer life after a fill without one",
        promise="a version is known for as long as the entry of a later reader",
        file=FILL,
        old="redis.call('PEXPIRE', KEYS[3], string.format('%.0f', life))",
        new="local _ = life",
        tests=TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the answer without a cache",
        promise="when the cache cannot be told the caller still gets the row",
        file=MODULE,
        old="except Outage as error:\n            return False, error",
        new="except Outage:\n            raise",
        tests=TESTS,
        words="down or answer",
    ),
    Mutant(
        PATTERN,
        removed="forgetting the old row when the new one is refused",
        promise="a server out of memory does not go on serving the old row",
        file=MODULE,
        old="yield from self._forget(key)\n            return False, error",
        new="return False, error",
        tests=TESTS,
        words="memory",
    ),
    Mutant(
        PATTERN,
        removed="forgetting the row when a write is cancelled",
        promise="what a cancelled write may have committed is not hidden by the cache",
        file=MODULE,
        old="the database may have committed\n            yield from self._forget(key)",
        new="the database may have committed",
        tests=TESTS,
        words="cancelled",
    ),
)
