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
from kvlab import CacheAside, Kv, NaiveCacheAside, NaiveWriteThrough, WriteThrough
from kvlab.connections import resolve
from kvlab.instruments import Origin, environment

url = resolve()
kv, origin = kvlab.connect(url, prefix="kvlab:ch02"), Origin()
kv.clear()
pd.Series(environment(kv), name="where the numbers below were measured").to_frame()

# %% [markdown]
# ## The simple version

# %%
import contextlib
import inspect
import itertools
import time
from timeit import timeit

naive = NaiveWriteThrough(kv.client, ttl=300, prefix=kv.prefix)
print(inspect.getsource(NaiveWriteThrough.save))
print(inspect.getsource(NaiveWriteThrough.remove))

# %% [markdown]
# ## Two writers
#
# **Predict.** Two processes change the same row, one shortly after the other. Each commits, then
# writes its own row to the cache. Which row is in the cache afterwards? For how long?
#
# `gated` stops writer 1 at the wire, before it sends its SETEX. So the order is the same each time.

# %%
import json

from kvlab.instruments import gated
from kvlab.instruments.crowd import while_held


def naive_writers():
    client = gated(url, before="SETEX")
    slow = NaiveWriteThrough(client, ttl=300, prefix=kv.prefix)
    write = lambda who, name: who.save(7, lambda: [origin.save(7, name=name)[0]])  # noqa: E731
    first, last = while_held(client, lambda: write(slow, "first"), lambda: write(naive, "second"))
    return first, last, json.loads(kv.client.get(f"{kv.prefix}user:7"))


# %%
def story(first, last, cached, write):
    old, new = first["version"], last["version"]
    end = "as in the database" if cached == origin.read(7) else f"STALE, the database has {new}"
    print(f"1. writer 1: UPDATE, commit: version {old}; stands before its {write}")
    print(f"2. writer 2: UPDATE, commit: version {new}; {write} of {new}")
    print(f"3. writer 1: goes on with its {write} of {old}")
    print(f"4. the cache has version {cached['version']}, {cached['name']!r}: {end}")


story(*naive_writers(), write="SETEX")
print(f"and readers are served it for {kv.client.ttl(kv.prefix + 'user:7')} more seconds")

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
# flow's steps by hand; then the same schedule as above:

# %%
cache = CacheAside("customers", ttl=300)
through = WriteThrough(cache)
steps = iter(through.save(7, lambda: ({"name": "Ada"}, 2)))
print(f"step 1: {next(steps).__class__.__name__}, your write")
print(f"step 2: {steps.send(({'name': 'Ada'}, 2))}")


# %%
def versioned(row):
    return row and (row, row["version"])


def hardened_writers():
    client = gated(url, before="EVALSHA")
    flow = lambda name: through.save(7, lambda: origin.save(7, name=name))  # noqa: E731
    with Kv(client, prefix=kv.prefix) as slow:
        saved = while_held(client, lambda: slow.run(flow("first")), lambda: kv.run(flow("second")))
    return *saved, kv.run(through.fetch(7, lambda: versioned(origin.read(7))))


# %%
first, last, cached = hardened_writers()
story(first.row, last.row, cached, write="store")
print(f"writer 1 is told cached={first.cached}, writer 2 cached={last.cached}")
TIMES, stale = 20, {"naive": 0, "hardened": 0}
for _ in range(TIMES):
    for variant, race in (("naive", naive_writers), ("hardened", hardened_writers)):
        *_, cached = race()
        stale[variant] += cached["version"] < origin.read(7)["version"]
counted = pd.DataFrame({"schedules": TIMES, "cache older than the database": stale})
caption = "a race that is forced happens every time, or never"
counted.rename_axis("variant").reset_index().style.hide(axis="index").set_caption(caption)

# %% [markdown]
# ## Every order of four steps
#
# Two writers with two steps each can meet in six orders. `stepper` takes them one step at a time,
# on the real database and the real server. In "1221" writer 1 commits, writer 2 commits, writer 2
# tells the cache, writer 1 tells the cache. Versions count from the first write.
#
# Choose an order in the last cell of this section. Which rule tells you, from the digits alone, that
# the naive cache ends stale?


# %%
def stepper(order):
    kv.clear()
    zero, pairs, rows = origin.read(7)["version"], {}, []
    for writer in order:
        step = "tells the cache" if writer in pairs else "commits"
        pair = pairs.get(writer) or pairs.setdefault(writer, origin.save(7, name=f"by {writer}"))
        if step != "commits":
            naive.save(7, lambda pair=pair: [pair[0]])
            kv.run(through.save(7, lambda pair=pair: pair))
        kept = [json.loads(value)["version"] - zero if value else "nothing" for value in held(7)]
        rows.append((f"writer {writer} {step}", origin.read(7)["version"] - zero, *kept))
    return pd.DataFrame(rows, columns=["step", "database", "naive", "hardened"])


# %%
def held(key):
    entry = f"{kv.prefix}{cache.key(key, 'entry')}"
    return kv.client.get(f"{kv.prefix}user:{key}"), kv.client.hget(entry, "value")


ORDERS = ["1122", "1212", "1221", "2112", "2121", "2211"]
ends = {order: stepper(order).iloc[-1] for order in ORDERS}
for variant in stale:
    wrong = [order for order, end in ends.items() if end[variant] != end["database"]]
    print(f"{variant}: {len(wrong)} of {len(ORDERS)} orders end stale: {wrong or 'none'}")
stepper("1221").style.hide(axis="index")

# %%
from ipywidgets import Dropdown, interact

choice = Dropdown(options=ORDERS, value="1212")
_ = interact(lambda order: stepper(order).style.hide(axis="index"), order=choice)

# %% [markdown]
# ## A deleted row comes back
#
# **Predict.** A reader has loaded a row and is about to fill the cache. Now the row is deleted, and
# its key too, as in `remove` above. What does the next reader get?


# %%
def naive_ghost(load, delete):
    client = gated(url, before="SETEX")
    reader = NaiveCacheAside(client, ttl=300, prefix=kv.prefix)
    while_held(client, lambda: reader.get(7, load), lambda: naive.remove(7, delete))


def hardened_ghost(load, delete):
    client = gated(url, before="EVALSHA", nth=2)  # the first is its read, the second its fill
    fetch, remove = through.fetch(7, lambda: versioned(load())), through.remove(7, delete)
    with Kv(client, prefix=kv.prefix) as reader:
        while_held(client, lambda: reader.run(fetch), lambda: kv.run(remove))


# %%
back = {"naive": 0, "hardened": 0}
for _ in range(TIMES):
    for i, (variant, race) in enumerate(zip(back, (naive_ghost, hardened_ghost), strict=True)):
        kv.clear()
        origin.save(7, name="Ada")
        race(lambda: origin.read(7), lambda: origin.remove(7))
        back[variant] += held(7)[i] not in (None, b"null")
print("1. reader: finds nothing, loads the row; stands before its fill")
print("2. remover: DELETE, commit; then tells the cache\n3. reader: goes on with its fill")
times = ", ".join(f"{variant} {n} of {TIMES} times" for variant, n in back.items())
print(f"4. the cache has a row that the database does not: {times}")

# %% [markdown]
# `remove` does not delete the entry. It stores **the absence, with the version of the deletion**
# (a tombstone), and ends the lease. A late fill and a late writer both fail against it.
#
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
    rows.append((case, *(value.decode() if value else "nothing" for value in held(key))))
pd.DataFrame(rows, columns=["case", "naive has", "hardened has"]).style.hide(axis="index")

# %% [markdown]
# ## The cache is away after the commit
#
# The row is committed, and then the cache cannot be reached. A proxy in front of the server
# refuses the writer's connections. Readers go another way and still reach it. TTL: half a second.

# %%
from kvlab.instruments import Proxy

brief = WriteThrough(CacheAside("brief", ttl=0.5, jitter=0, early=0))
kv.run(brief.fetch(9, lambda: versioned(origin.read(9))))
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
from kvlab.instruments import OpenLoop, staleness

aside = NaiveCacheAside(kv.client, ttl=300, prefix=kv.prefix)
ways = {
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
    return staleness.measure(*ways[variant], origin, keys=KEYS, writers=WRITERS, think=THINK,
                             pause=pause, arrivals=OpenLoop(200, workers=6), duration=duration,
                             seed=1, name=variant)  # fmt: skip


runs = {variant: measured(variant, PAUSE, duration=2.25) for variant in ways}

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
bare = {variant: measured(variant, 0, duration=1.2) for variant in ways}
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
# Three of these limits, run against the hardened version. Without the database's help the TTL is the
# bound: choose it as the longest time for which you can bear to be wrong.


# %%
def crashed_writer():
    client = gated(url, before="EVALSHA", crash=True)
    with client, Kv(client, prefix=kv.prefix) as doomed, contextlib.suppress(ClientCrashed):
        doomed.run(through.save(7, lambda: origin.save(7, name="by a writer that died")))


def lost_version():
    early, late = origin.save(7, name="early"), origin.save(7, name="late")
    kv.run(through.save(7, lambda: late))
    kv.client.delete(f"{kv.prefix}{cache.key(7, 'version')}")  # evicted, or lost in a failover
    kv.run(through.save(7, lambda: early))


# %%
from kvlab.instruments import ClientCrashed

limits = {"a write past save": lambda: origin.save(7, name="in a SQL console"),
          "the writer dies after its commit": crashed_writer,
          "the server loses the version key": lost_version}  # fmt: skip
rows = []
for what, happens in limits.items():
    kv.run(through.save(7, lambda: origin.save(7, name="Ada")))
    happens()
    rows.append((what, behind(through, 7), kv.client.ttl(f"{kv.prefix}{cache.key(7, 'entry')}")))
pd.DataFrame(rows, columns=["limit", "versions behind", "for seconds"]).style.hide(axis="index")

# %% tags=["finding"]
print(f"two writers, {TIMES} forced orders: stale cache naive {stale['naive']}, hardened {stale['hardened']}; "
      f"stale reads per 1,000: {per['naive']:.0f} and {per['hardened']:.0f}")  # fmt: skip

# %%
print(f"{kv.clear()} keys removed")
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

# %% tags=["setup"]
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
