from __future__ import annotations

import json

import redis
from workshop.answers.answer import Answers

ANSWERS = Answers()


@ANSWERS.right("02-short")
def save_then_delete(kv, table, key, row):
    table.write(key, row)
    kv.delete(f"row:{key}")


@ANSWERS.right("02-short")
def save_between_two_deletes(kv, table, key, row):
    kv.unlink(f"row:{key}")
    try:
        table.write(key, row)
    finally:
        kv.unlink(f"row:{key}")


@ANSWERS.right("02-short")
def save_then_let_it_expire(kv, table, key, row):
    table.write(key, row)
    kv.pexpire(f"row:{key}", 0)


@ANSWERS.wrong("02-short", "the database refused it, it is cached")
def save_cache_first(kv, table, key, row):
    """Cache first: a refused write leaves a row that is in no database."""
    kv.set(f"row:{key}", json.dumps(row), ex=60)
    table.write(key, row)


@ANSWERS.wrong("02-short", "the database has")
def save_then_set(kv, table, key, row):
    """Writes the row into the cache: two writers arrive there in the other order."""
    table.write(key, row)
    kv.set(f"row:{key}", json.dumps(row), ex=60)


@ANSWERS.wrong("02-short", "a reader cached the old row before the write")
def save_after_delete(kv, table, key, row):
    """Deletes before the write: a reader brings the old row back in between."""
    kv.delete(f"row:{key}")
    table.write(key, row)


@ANSWERS.wrong("02-short", 'the cache still has "old"')
def save_without_the_cache(kv, table, key, row):
    """Forgets the cache."""
    table.write(key, row)
    kv.ping()


@ANSWERS.wrong("02-short", "the database refused the row, and the caller got nothing")
def save_and_swallow(kv, table, key, row):
    """Catches the database's error, and the caller gets none."""
    try:
        table.write(key, row)
    except Exception:
        print("could not write")
    kv.delete(f"row:{key}")


@ANSWERS.wrong("02-short", 'the cache still has "old"')
def save_deletes_another_key(kv, table, key, row):
    """Deletes the key without its prefix."""
    table.write(key, row)
    kv.delete(key)


# --- 02 ---

NEWER = """
local known = tonumber(redis.call('HGET', KEYS[1], 'version') or '-1')
if known >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'row', ARGV[2], 'version', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1"""


@ANSWERS.right("02")
def store_in_a_script(kv, key, version, row):
    return kv.eval(NEWER, 1, key, version, json.dumps(row), 60_000)


@ANSWERS.right("02")
def store_with_watch(kv, key, version, row):
    with kv.pipeline() as pipe:
        while True:
            try:
                pipe.watch(key)
                if int(pipe.hget(key, "version") or -1) >= version:
                    return 0
                pipe.multi()
                pipe.hset(key, mapping={"row": json.dumps(row), "version": version})
                pipe.expire(key, 60)
                pipe.execute()
                return 1
            except redis.WatchError:
                continue


@ANSWERS.right("02")
def store_by_recursion(kv, key, version, row):
    stored = []

    def attempt(pipe):
        stored.clear()
        known = pipe.hget(key, "version")
        pipe.multi()
        if known is None or int(known) < version:
            pipe.hset(key, mapping={"row": json.dumps(row), "version": str(version)})
            pipe.expire(key, 60)
            stored.append(1)

    kv.transaction(attempt, key)
    return len(stored)


@ANSWERS.wrong("02", "versions 6 and 7 were stored, and the cache has 'row 6'")
def store_always(kv, key, version, row):
    """Stores whatever comes last."""
    with kv.pipeline() as pipe:
        pipe.hset(key, mapping={"row": json.dumps(row), "version": version})
        pipe.expire(key, 60)
        pipe.execute()
    return 1


@ANSWERS.wrong("02", "9 replaced 10: are versions numbers?")
def store_compares_text(kv, key, version, row):
    """Compares versions as texts: '9' is after '10'."""
    lua = NEWER.replace("tonumber(", "tostring(")
    return kv.eval(lua, 1, key, version, json.dumps(row), 60_000)


@ANSWERS.wrong("02", "version 3 deleted the row, and the cache has 'Ada, late'")
def store_without_a_tombstone(kv, key, version, row):
    """A deletion deletes the version too, and a late writer finds nothing."""
    if row is None:
        return kv.delete(key)
    return kv.eval(NEWER, 1, key, version, json.dumps(row), 60_000)


@ANSWERS.wrong("02", "k has no TTL")
def store_without_a_ttl(kv, key, version, row):
    """Forgets the TTL."""
    lua = NEWER.replace("redis.call('PEXPIRE', KEYS[1], ARGV[3])", "")
    return kv.eval(lua, 1, key, version, json.dumps(row), 60_000)


@ANSWERS.wrong("02", "versions 6 and 7 were stored, and the cache has 'row 6'")
def store_reads_then_writes(kv, key, version, row):
    """Compares in Python: another writer comes between HGET and HSET."""
    if int(kv.hget(key, "version") or -1) >= version:
        return 0
    with kv.pipeline() as pipe:
        pipe.hset(key, mapping={"row": json.dumps(row), "version": version})
        pipe.expire(key, 60)
        pipe.execute()
    return 1


@ANSWERS.wrong("02", "k has no TTL")
def store_expires_afterwards(kv, key, version, row):
    """The TTL is a command of its own: a crash between the two."""
    lua = NEWER.replace("redis.call('PEXPIRE', KEYS[1], ARGV[3])", "")
    stored = kv.eval(lua, 1, key, version, json.dumps(row))
    kv.expire(key, 60)
    return stored
