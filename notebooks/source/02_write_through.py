# %% [markdown]
# # Write-through
#
# Change the row in the database, then put the new row into the cache. Readers find it there at
# once, and nobody has to load.
#
# **The guarantee we want:**
#
# - an older version never replaces a newer one in the cache;
# - a deleted row does not come back;
# - nothing is cached that the database refused;
# - if the cache cannot be told, the caller knows, and what is stale ends with its TTL.
#
# The database is SQLite behind SQLAlchemy. Each write of a row gives it the next **version**, in
# the same transaction. Deletes count too.

# %%
import pandas as pd
import redis

import kvlab
from kvlab import CacheAside, Key, NaiveCacheAside, NaiveWriteThrough, Op, WriteThrough
from kvlab.core.server_url import server_url
from kvlab.instruments import Origin, environment, explore, replay

url = server_url()
kv, origin = kvlab.connect(url, prefix="kvlab:ch02"), Origin()
kv.clear()
pd.Series(environment(kv), name="where the numbers below were measured").to_frame()

# %% [markdown]
# ## The simple version

# %%
import contextlib
import inspect
import itertools
import json
import time
from timeit import timeit

from kvlab.instruments.explorer.stepped_row import SteppedRow

naive = NaiveWriteThrough(kv.client, ttl=300, prefix=kv.prefix)
print(inspect.getsource(NaiveWriteThrough.save))
print(inspect.getsource(NaiveWriteThrough.remove))

# %% [markdown]
# ## Two writers
#
# **Predict.** Two writers change the same row. Each commits, then stores its own row in the cache. In
# how many orders can these four steps come? In how many of them does the cache end with another row
# than the database?
#
# `explore` runs both on a private server in **every** order of their steps, and asks after each run
# whether the invariant holds. Its database is one row in memory, `SteppedRow`: the first write makes it
# "v1", the second "v2", and each write is a step of its own.


# %%
def same_row(world):
    """what is cached is the row"""
    return world.kv.get("user:7") in (None, json.dumps(db.row).encode())


db = SteppedRow()
each = {"setup": db.reset, "progress": False}  # every run begins with the same row
saver = lambda client: NaiveWriteThrough(client).save(7, lambda: [db.write()[0]])  # noqa: E731
two = {"writer 1": saver, "writer 2": saver}
writers = explore(two, invariant=same_row, **each)
print(writers.summary)
writers

# %% [markdown]
# ## The fix: the version decides, not who comes last
#
# `save` is a flow: it runs your write, which returns **row and version**, then stores both with one
# script. The script has three keys of one row: the entry, the lease of a reader who may be loading,
# and the newest version known. In one step on the server:
#
# 1. Is a newer version known? Then do nothing and answer 0.
# 2. Else store the row, and the version beside it. The version lives at least as long as the entry.
# 3. Delete the lease. A reader that is loading now may have read an older row; its fill will fail.
#
# So the order in which writers reach the cache does not matter. To see the op itself, we take the
# flow's steps by hand:

# %%
cache = CacheAside("customers", ttl=300)
through = WriteThrough(cache)
steps = iter(through.save(7, lambda: ({"name": "Ada"}, 2)))
print(f"step 1: {next(steps).__class__.__name__}, your write")
print(f"step 2: {steps.send(({'name': 'Ada'}, 2))}")

# %% [markdown]
# ## The same four steps
#
# In the order "0 1 1 0" writer 1 commits, writer 2 commits and stores, writer 1 stores. The naive
# cache ends stale. Here is the hardened one in that same order:

# %%
steady = WriteThrough(CacheAside("customers", ttl=300, jitter=0, early=0))
store = lambda client: client.run(steady.save(7, db.write))  # noqa: E731
ways = {"naive": two, "hardened": {"writer 1": store, "writer 2": store}}


def fresh(world):
    """what is cached is the row"""
    found = world.kv.run(steady.cache.read(7))
    return same_row(world) and (not found.hit or found.value == db.row)


replay(writers.schedule, ways["hardened"], setup=db.reset, invariant=fresh)

# %% [markdown]
# Choose another. Which rule tells you, from the digits alone, that the naive cache ends stale?

# %%
from ipywidgets import Dropdown, interact

choice = Dropdown(options=["0 0 1 1", "0 1 0 1", "0 1 1 0", "1 0 0 1", "1 0 1 0", "1 1 0 0"])
_ = interact(
    lambda order, variant: replay(order, ways[variant], setup=db.reset, invariant=fresh),
    order=choice,
    variant=Dropdown(options=list(ways)),
)

# %% [markdown]
# Now all orders, and in them one fault at every place where it can happen: a writer dies, a request or
# a reply is lost, a key ends before its time, the server forgets its scripts. Two exceptions are
# granted, for no cache can do better: a writer that dies between its commit and the cache, and a server
# that loses the version. Then the row in the cache must at least end with its TTL.


# %%
def promised(world):
    """what is cached is the row; if a writer died or the version was lost, it ends with its TTL"""
    ends = all(0 < world.kv.ttl(key) <= 300 for key in world.kv.keys("*"))
    excused = any(e.kind == "crash" or e.key.endswith(b"version") for e in world.trace)
    return ends and (excused or fresh(world))


FAULTS = ("lost_requests", "lost_replies", "script_flushes", "crashes", "expiries")
every = each | {"reduce": True} | dict.fromkeys(FAULTS, True)
ordered = explore(ways["hardened"], invariant=promised, **every)
print(ordered.summary)

# %% [markdown]
# (`reduce=True`: of runs that differ only in the order of two steps that do not touch the same thing,
# one is enough.)
#
# ## A deleted row comes back
#
# **Predict.** A reader misses, loads and fills. Meanwhile the row is deleted, then its key, as in
# `remove` above. Is there an order after which the next reader is served a row that does not exist?

# %%
reader = lambda client: NaiveCacheAside(client).get(7, db.read)  # noqa: E731
remover = lambda client: NaiveWriteThrough(client).remove(7, db.delete)  # noqa: E731
ghost = explore({"reader": reader, "remover": remover}, invariant=same_row, **each)
print(ghost.summary)
ghost

# %% [markdown]
# The hardened `remove` does not delete the entry. It stores **the absence, with the version of the
# deletion** (a tombstone), and ends the lease. A late fill and a late writer both fail against it:

# %%
fetch = lambda client: client.run(steady.fetch(7, db.read_versioned))  # noqa: E731
remove = lambda client: client.run(steady.remove(7, db.delete))  # noqa: E731
for name, other in {"reader": fetch, "late writer": store}.items():
    print(f"{name} and remover:", explore([other, remove], invariant=promised, **every).summary)

# %% [markdown]
# ## Your own code
#
# **Change this cell.** Put your own function in the place of `save_user`: any code that takes a
# redis-py client. Give `explore` who else touches the key, and say what must be true when all are done.
#
# What stands here is a repair that is often proposed: look at the version in the cache, and store only
# what is newer. Does it help?


# %%
def save_user(client, write):
    row, version = write()
    if int(client.hget("user", "version") or 0) < version:
        client.hset("user", mapping={"row": row, "version": version})
        client.expire("user", 300)


yours = {name: lambda client: save_user(client, db.write) for name in ("writer 1", "writer 2")}
explore(yours, invariant=lambda world: world.kv.hget("user", "row").decode() == db.row, **each)

# %% [markdown]
# ## No such row, and a database that says no
#
# `updated[0]` of an empty result is `undefined`, and the simple version caches that. And when the
# database refuses? There the simple version is right as well: it never comes to its SETEX.

# %%
from sqlalchemy.exc import IntegrityError

rows = []
for case, key, name in (("update of an unknown id", 5000, "Nobody"), ("an empty name", 8, "")):
    update = lambda: origin.update(key, name=name)  # noqa: B023, E731
    with contextlib.suppress(IntegrityError):
        naive.save(key, lambda: [pair[0] for pair in [update()] if pair])  # noqa: B023
    with contextlib.suppress(IntegrityError):
        kv.run(through.save(key, update))
    kept = kv.run(Op("GET", Key(f"user:{key}")), Op("HGET", cache.key(key, "entry"), "value"))
    rows.append((case, *(value.decode() if value else "nothing" for value in kept)))
pd.DataFrame(rows, columns=["case", "naive has", "hardened has"]).style.hide(axis="index")

# %% [markdown]
# ## The cache is away after the commit
#
# The row is committed, and then the cache cannot be reached. A proxy in front of the server
# refuses the writer's connections. Readers go another way and still reach it. TTL: half a second.

# %%
from kvlab.instruments import Proxy

brief = WriteThrough(CacheAside("brief", ttl=0.5, jitter=0, early=0))
kv.run(brief.save(9, lambda: origin.save(9, name="Ada")))
with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    proxy.refuse()
    told = far.run(brief.save(9, lambda: origin.save(9, name="Lovelace")))
    print(f"hardened: {told.row['name']!r}, cached={told.cached}, {type(told.error).__name__}")
    try:
        NaiveWriteThrough(far.client).save(9, lambda: [origin.save(9, name="King")[0]])
    except redis.ConnectionError as error:
        print(f"naive: {type(error).__name__}, and the database has {origin.read(9)['name']!r}")


# %%
def behind(through, key):
    served = kv.run(through.fetch(key, lambda: versioned(origin.read(key))))
    return origin.read(key)["version"] - served["version"]


versioned = lambda row: row and (row, row["version"])  # noqa: E731
left = kv.client.pttl(f"{kv.prefix}{brief.cache.key(9, 'entry')}")
print(f"at once: readers are {behind(brief, 9)} versions behind; the entry ends in {left} ms")
time.sleep(max(left, 0) / 1000 + 0.02)
print(f"after its TTL: {behind(brief, 9)} versions behind")

# %% [markdown]
# The naive caller gets an exception and cannot know that the row is committed; a retry writes
# twice. The hardened one gets its row, and `cached=False` with the reason. The write is good; the
# cache is behind, until `lease + ttl` after the commit at the latest.
#
# ## Stale reads over time
#
# Now no order is forced. Several writers change a few hot rows, readers arrive in an open loop, and
# every read is judged. **Stale** means: served a version older than one whose writer had been told
# "done" (committed, and its cache call over) before the read began.
#
# Three variants, the same load: **cache-aside** as in the seed (DEL after each write), **naive**
# and **hardened** write-through. Between each answer of the database and the cache command after it
# lies a random pause, drawn alike for all three, in writers and in readers that load. It stands for
# what happens there to a busy process: garbage collection, a lost core, a slow network. It makes
# the window wide enough to see in seconds. Further down it is taken away.
#
# **Predict.** Which of the three serve stale reads? Which one loads most often?

# %%
from kvlab.chapters import write_through_staleness as staleness
from kvlab.instruments import OpenLoop

aside = NaiveCacheAside(kv.client, ttl=300, prefix=kv.prefix)
variants = {
    "cache-aside": (aside.get, lambda key, write: (write(), aside.invalidate(key))),
    "naive": (aside.get, lambda key, write: naive.save(key, lambda: [write()[0]])),
    "hardened": (
        lambda key, load: kv.run(through.fetch(key, lambda: versioned(load()))),
        lambda key, write: kv.run(through.save(key, write)),
    ),
}

# %%
KEYS, WRITERS, THINK, PAUSE = 2, 4, 0.025, 0.005


def measured(variant, pause, duration):
    kv.clear()
    return staleness.measure(*variants[variant], origin, keys=KEYS, writers=WRITERS, think=THINK,
                             pause=pause, arrivals=OpenLoop(200, workers=6), duration=duration,
                             seed=1, name=variant)  # fmt: skip


runs = {variant: measured(variant, PAUSE, duration=2.25) for variant in variants}

# %%
per = {variant: run.per_1000 for variant, run in runs.items()}
staleness.chart(runs, title=(
    f"Stale reads per 1,000: cache-aside {per['cache-aside']:.0f}, "
    f"naive {per['naive']:.0f}, hardened {per['hardened']:.0f}"
))  # fmt: skip

# %%
print(f"{WRITERS} writers (closed loop, mean think time {THINK * 1e3:g} ms) of {KEYS} rows")
facts = runs["naive"].reads.environment
print("; ".join(f"{k}: {facts[k]}" for k in ("loop", "workload", "seed", "warmup", "repetitions")))
late = ", ".join(f"{variant} {run.reads.late_share:.0%}" for variant, run in runs.items())
print(f"reads that started over 1 ms late: {late}")
for variant, run in runs.items():
    print(f"\n{variant}: {run.reads.violations} stale reads of {run.reads.count}")
    for number, line in enumerate(run.ledger.schedule(), start=1):
        print(f"  {number}. {line}")

# %% [markdown]
# The numbered lines show how one stale read came about, from the notes that the threads took; a step
# is noted when its call has returned.
#
# Cache-aside with DEL fails by a late **fill**, naive write-through by a late **writer**. It is one
# mistake: a value arrives and does not say how old it is. Is the pause to blame? With it and without:

# %%
bare = {variant: measured(variant, 0, duration=1.2) for variant in variants}
rows = [
    (pause * 1e3, variant, run.reads.count, run.reads.violations, run.per_1000,
     1000 * run.loads / run.reads.count)
    for pause, each in ((PAUSE, runs), (0, bare)) for variant, run in each.items()
]  # fmt: skip
columns = ["mean pause, ms", "variant", "reads", "stale", "stale per 1,000", "loads per 1,000"]
forms = dict.fromkeys(columns[4:], "{:.0f}") | {"mean pause, ms": "{:g}"}
pd.DataFrame(rows, columns=columns).style.hide(axis="index").format(forms)

# %% [markdown]
# Where a naive variant shows 0 without the pause, that is luck: its window is smaller, not shut. And
# hot rows heal with their next write. A quiet row that went stale stays so until its TTL ends.
#
# **What it earns** stands in the same table: write-through readers find what the writer stored, so
# they load next to nothing. Cache-aside sends a reader to the database after every write.
#
# ## What it costs
#
# Round trips after the database, counted by a proxy. Then one save, hardened over naive, measured in
# turns without its database. Last the reads of the run above, with what went wrong in that same run;
# a reader that loads meets the pause too.

# %%
from kvlab.workshop import round_trips

with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    ways_to_run = {"naive": round_trips.naively, "hardened": lambda _: round_trips.on(far)}
    rows = [
        (case.op, variant, round_trips.count(far, lambda: proxy.requests, case, how(case)))
        for case in round_trips.cases(far, far.client) if case.pattern == "write-through"
        for variant, how in ways_to_run.items() if case.naive or variant == "hardened"
    ]  # fmt: skip
pd.DataFrame(rows, columns=["op", "variant", "round trips"]).style.hide(axis="index")

# %%
from kvlab.instruments import charts, compare

newer = itertools.count(1)
save = compare(
    lambda: timeit(lambda: kv.run(through.save("x", lambda: ("row", next(newer)))), number=40),
    lambda: timeit(lambda: naive.save("x", lambda: ["row"]), number=40),
)
print(f"one save without its database, hardened over naive: {save}")
reads = {variant: run.reads for variant, run in runs.items()}
middle = [f"{variant} {r.latency.percentile(50) * 1e3:.1f} ms" for variant, r in reads.items()]
charts.latency_percentiles(reads, title=f"Median read: {', '.join(middle)}")

# %% [markdown]
# ## The limits that remain
#
# The cache can order what it is told. It cannot know what it is not told:
#
# | no cache protocol gives, alone | why | what the database must do |
# |---|---|---|
# | the order of two commits | who reaches the cache first says nothing about it | a version per row, raised in the same transaction, by deletes too |
# | news of *every* commit | a writer can die between database and cache | an outbox row in the transaction, or a change feed |
# | news of writes that go past `save` | nobody tells the cache | the same feed; or `invalidate` after them |
# | a value that is true *when you act on it* | it was true when it was served | `UPDATE … WHERE version = …`: the database checks |
# | fresh rows from a lagging replica | the row is old when it is loaded | say its version (`WriteThrough.fetch`), or read the primary |
#
# Without the database's help the TTL is the bound: choose it as the longest time for which you can
# bear to be wrong. The explorer finds three of these limits in the hardened version, if we grant it
# no exception:

# %%
limits = {
    "the writer dies after its commit": ([store, store], {"crashes": True}),
    "the server loses the version key": ([store, store], {"expiries": True}),
    "a write past save": ([store, lambda client: db.write() and None], {}),
}
met = {what: explore(who, invariant=fresh, **each, **how) for what, (who, how) in limits.items()}
rows = [(what, s.schedules, s.violations, s.schedule) for what, s in met.items()]
columns = ["limit", "schedules", "stale", "the shortest, for replay"]
pd.DataFrame(rows, columns=columns).style.hide(axis="index")

# %% tags=["finding"]
print(f"two writers, stale in {writers.violations} of {writers.schedules} orders naive, {ordered.violations} of {ordered.schedules} hardened; "
      f"stale reads per 1,000: {per['naive']:.0f} and {per['hardened']:.0f}")  # fmt: skip
kv.clear()
kv.close()
origin.close()

# %% [markdown] tags=["exercise"]
# ## Exercise: store if newer
#
# Open `exercises/02_write_through.ipynb`. Write the Lua script behind `store(key, version, row)`.
# It keeps a hash with the fields `row` and `version`, and returns 1 when it stored, else 0:
#
# 1. An older version never replaces a newer one, in whatever order they arrive.
# 2. Versions are numbers: 10 is newer than 9.
# 3. A deleted row is stored as `null` with the deletion's version, so that a late writer cannot
#    bring it back.
# 4. The key has a TTL after every store.

# %% tags=["exercise-setup"]
import json
from itertools import permutations

import kvlab
from kvlab import Key, Op, Script

kv = kvlab.connect(prefix="kvlab:ex02")
kv.clear()


def row_of(key):
    return json.loads(kv.run(Op("HGET", Key(key), "row")) or "null")


# %% tags=["stub"]
LUA = """
-- KEYS[1] hash: row (JSON), version   ARGV[1] version   ARGV[2] row   ARGV[3] life (ms)
redis.call('HSET', KEYS[1], 'row', ARGV[2], 'version', ARGV[1])
return 1
"""


def store(key, version, row, ttl=60):
    script = Script("store_if_newer", LUA)
    return Op(script, Key(key), version, json.dumps(row), ttl * 1000, decode=bool)


# %% tags=["solution"]
LUA = """
-- KEYS[1] hash: row (JSON), version   ARGV[1] version   ARGV[2] row   ARGV[3] life (ms)
local known = tonumber(redis.call('HGET', KEYS[1], 'version') or '-1')
if known >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'row', ARGV[2], 'version', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""


def store(key, version, row, ttl=60):
    script = Script("store_if_newer", LUA)
    return Op(script, Key(key), version, json.dumps(row), ttl * 1000, decode=bool)


# %% tags=["check"]
for order in permutations((1, 2, 3)):
    key = f"order {order}"
    for version in order:
        kv.run(store(key, version, f"row {version}"))
    got = row_of(key)
    assert got == "row 3", f"versions arrived as {order}, and the cache ended with {got!r}"
print("six orders of three versions, and each ends with the newest")

# %% tags=["check"]
for old, new in ((9, 10), (99, 100), (2**53 - 2, 2**53 - 1)):
    kv.run(store(f"digits {new}", new, "new"))
    answer = kv.run(store(f"digits {new}", old, "old"))
    assert row_of(f"digits {new}") == "new", f"{old} replaced {new}: are they compared as numbers?"
    assert answer is False, f"{old} was refused after {new}, and the answer should be 0"
print("versions are compared as numbers, and a refusal is told")

# %% tags=["check"]
kv.run(store("gone", 1, "Ada"))
kv.run(store("gone", 3, None))
kv.run(store("gone", 2, "Ada, by a late writer"))
assert row_of("gone") is None, "a late writer brought the deleted row back"
left = kv.run(Op("PTTL", Key("gone")))
assert 0 < left <= 60_000, f"PTTL is {left}: every key needs a TTL, tombstones too"
print("a deleted row stays deleted, and its tombstone ends")

# %% tags=["check"]
kv.clear()
kv.close()
print("all checks pass")
