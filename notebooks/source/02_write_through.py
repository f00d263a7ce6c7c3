# %% [markdown]
# # Write-through
#
# *About 45 minutes. Before this chapter: 00 and 01.*
#
# A writer changes the row in the database. Then the writer stores the new row in the cache. Readers
# find the new row in the cache, and no reader has to load the row.
#
# **The guarantee we want:**
#
# - an older version never replaces a newer one in the cache;
# - a deleted row does not come back;
# - a row that the database refused is not cached;
# - if the cache cannot be reached, the caller learns this, and the old row ends with its TTL.
#
# The database is SQLite behind SQLAlchemy. Each write of a row gives the row its next **version**,
# in the same transaction. A deletion raises the version too. The next cell opens this chapter's
# namespace on the server. The cell after it prints **the simple version**.

# %%
import inspect
import json

import pandas as pd

from kvlab import CacheAside, NaiveCacheAside, NaiveWriteThrough, WriteThrough
from kvlab.chapters.opening import open_chapter
from kvlab.instruments import ALL_FAULTS, Origin, environment, explore, replay

kv = open_chapter("ch02")
origin = Origin()
pd.Series(environment(kv), name="the numbers below were measured on").to_frame()

# %%
print(inspect.getsource(NaiveWriteThrough.save))
print(inspect.getsource(NaiveWriteThrough.remove))

# %% [markdown]
# ## Two writers
#
# `explore` runs both writers on a private server in **every** order of their steps. After each run
# it checks the **invariant**: a sentence that must be true. One order, with its faults if it has
# some, is a **schedule**. Here the database is not SQLite but one row in memory, `SteppedRow`. The
# first write makes the row "v1", and the second write makes the row "v2". Each write is a step too.

# %% tags=["predict"]
from kvlab.workshop import predict

writers = predict(
    "02-two-writers",
    "Two writers change the same row. Each writer commits, then stores its own row "
    "in the cache. These four steps can come in 6 orders. In how many of the orders "
    "does the cache end with another row than the database?",
)

# %%
from kvlab.instruments.explorer.stepped_row import SteppedRow

db = SteppedRow()


def naive_writer(client):
    """commits a new row, then stores the row in the cache"""
    NaiveWriteThrough(client).save(7, lambda: [db.write()[0]])


# %%
from IPython.display import display


def cache_has_the_row(world):
    """what is cached is the row"""
    return world.kv.get("user:7") in (None, json.dumps(db.row).encode())


naive_writers = {"writer 1": naive_writer, "writer 2": naive_writer}
writers_story = explore(naive_writers, setup=db.reset, invariant=cache_has_the_row)
display(writers_story)
writers_story.play(title="The naive writers")

# %% tags=["predict"]
writers.measured(writers_story.violations)

# %% [markdown]
# The picture shows the shortest schedule that breaks the invariant: the writer that committed first
# stores last. The database has "v2", and every reader gets "v1" until the TTL ends.
#
# **Play the scheduler** in the frame: choose who moves next, until the cache ends with the old row.
#
# ## The fix: the version decides
#
# `save` is a flow: it runs your write, which returns **row and version**. Then `save` stores both
# with one script, in one step on the server:
#
# 1. If a newer version is known, the script changes nothing and answers 0.
# 2. Otherwise the script stores the row, and the version beside the row. The version lives at least
#    as long as the entry.
# 3. The script deletes the lease. A reader that is loading at this moment may have an older row.
#    Without the lease its fill fails.
#
# So the order in which writers reach the cache does not matter. The next cell makes one order
# again: "0 1 1 0" broke the naive version. `0` is the next step of writer 1, and `1` of writer 2:
# writer 1 commits, writer 2 commits and stores, and writer 1 stores.

# %%
steady = WriteThrough(CacheAside("customers", ttl=300, jitter=0, early=0))


def hardened_writer(client):
    """commits a new row, then stores row and version in the cache"""
    return client.run(steady.save(7, db.write))


def cache_is_fresh(world):
    """what is cached is the row"""
    found = world.kv.run(steady.cache.read(7))
    return not found.hit or found.value == db.row


# %%
hardened_writers = {"writer 1": hardened_writer, "writer 2": hardened_writer}
replay(
    writers_story.schedule,
    hardened_writers,
    setup=db.reset,
    invariant=cache_is_fresh,
)

# %% [markdown]
# The last script answers 0: a newer version is known, so the old row is not stored.
#
# Choose another order (the menus need a running notebook). How can you see from the digits that the
# naive cache ends with an old row?

# %%
from ipywidgets import interact


def same_order(order, version):
    if version == "naive":
        return replay(order, naive_writers, setup=db.reset, invariant=cache_has_the_row)
    return replay(order, hardened_writers, setup=db.reset, invariant=cache_is_fresh)


orders = ["0 0 1 1", "0 1 0 1", "0 1 1 0", "1 0 0 1", "1 0 1 0", "1 1 0 0"]
_ = interact(same_order, order=orders, version=["naive", "hardened"])

# %% [markdown]
# The next cell runs all orders, with one fault of every kind at every point where the fault can
# happen. Two faults are excused, because no cache can prevent their effect. The first is a writer
# that crashes between its commit and the cache. The second is a server that loses the version. In
# these two cases the row in the cache must at least end with its TTL.


# %%
def fresh_or_excused(world):
    """what is cached is the row, or a fault excuses it; every key has a TTL"""
    ends = all(0 < world.kv.ttl(key) <= 300 for key in world.kv.keys("*"))
    crashed = any(event.kind == "crash" for event in world.trace)
    version_lost = any(event.key.endswith(b"version") for event in world.trace)
    return ends and (cache_is_fresh(world) or crashed or version_lost)


settings = {"setup": db.reset, "invariant": fresh_or_excused, "faults": ALL_FAULTS}
ordered_story = explore(hardened_writers, reduce=True, **settings)
print(ordered_story.summary)
ordered_story.play(title="The hardened writers")

# %% [markdown]
# No schedule with at most one fault breaks the promise. (`reduce=True`: some schedules differ only
# in the order of two steps on different keys or rows. `explore` then runs one of these schedules.)
#
# **Play the scheduler** in the frame again: choose who moves next, and what fails. You cannot win.
#
# ## A deleted row comes back

# %% tags=["predict"]
ghost = predict(
    "02-ghost",
    "A reader misses, loads and fills. Meanwhile another client deletes the row, "
    "and then deletes the key, as in `remove` above. Can the next reader get a row "
    "that does not exist?",
    ["no", "yes"],
)


# %%
def naive_reader(client):
    """looks in the cache; on a miss loads the row and stores it"""
    return NaiveCacheAside(client).get(7, db.read)


def naive_remover(client):
    """deletes the row, then the key"""
    NaiveWriteThrough(client).remove(7, db.delete)


# %%
clients = {"reader": naive_reader, "remover": naive_remover}
ghost_story = explore(clients, setup=db.reset, invariant=cache_has_the_row)
ghost_story

# %% tags=["predict"]
ghost.measured("no" if ghost_story.holds else "yes")

# %% [markdown]
# The reader loads before the deletion and fills after it: the cache serves a ghost for the whole TTL.
#
# The hardened `remove` does not delete the entry. It stores **the absence, with the version of the
# deletion** (a tombstone), and ends the lease. The tombstone has the newest version, so a late fill
# and a late writer both fail:


# %%
def hardened_reader(client):
    return client.run(steady.fetch(7, db.read_versioned))


def hardened_remover(client):
    """deletes the row, then stores the absence and its version"""
    return client.run(steady.remove(7, db.delete))


for late in (hardened_reader, hardened_writer):
    story = explore([late, hardened_remover], reduce=True, **settings)
    print(f"{late.__name__} and remover: {story.summary}")

# %% [markdown]
# No late fill and no late writer replaces the tombstone.
#
# ## Your own code
#
# **Change this cell.** Put your own function in the place of `save_user`: any code that takes a
# redis-py client. Give `explore` the other clients that touch the key, and say what must be true at
# the end.
#
# The cell holds a repair that people often propose: the writer looks at the version in the cache,
# and stores its row only if its version is newer. Does this help?


# %%
def save_user(client):
    row, version = db.write()
    if int(client.hget("user", "version") or 0) < version:
        client.hset("user", mapping={"row": row, "version": version})
        client.expire("user", 300)


# %%
def user_is_fresh(world):
    """what is cached is the row"""
    return world.kv.hget("user", "row") == db.row.encode()


clients = {"writer 1": save_user, "writer 2": save_user}
explore(clients, setup=db.reset, invariant=user_is_fresh)

# %% [markdown]
# This does not help: both writers look, and both find no newer version. The look and the store must
# be one step.
#
# ## No such row, and a database that refuses
#
# The tutorial takes `updated[0]` of the result. If no row has this id, the result is empty, and the
# simple version caches "null". If the database refuses the write, the simple version is right: it
# never reaches its SETEX.

# %%
from kvlab.chapters.write_through.refusals import cached_after_no_write

cached_after_no_write(kv, origin).style.hide(axis="index")

# %% [markdown]
# The naive version caches "null" for an id that does not exist.
#
# ## The cache cannot be reached after the commit
#
# The writer commits the row, and then the writer cannot reach the cache: its connections go through
# a proxy, and the proxy refuses them. Readers connect directly and still reach the cache. The TTL
# is one second.

# %%
from kvlab.chapters.write_through.outage import save_without_cache
from kvlab.core.server_url import server_url

save_without_cache(kv, server_url(), origin).style.hide(axis="index")

# %% [markdown]
# In both versions the database has the new row, and readers get the old row until the TTL ends. The
# naive caller gets an exception and cannot know that the row is committed. If this caller retries,
# the row is written twice. The hardened caller gets its row, and `cached=False` with the reason.
#
# ## Stale reads over time
#
# In the next experiment no order is forced. Several writers change a few rows that are read often.
# Readers arrive in an open loop, and every read is judged. A version is **acknowledged** when the
# writer has committed it and the writer's cache call has returned. A read is **stale** when it gets
# a version older than a version that was acknowledged before the read began.
#
# Three variants get the same load: **cache-aside** as in chapter 1 (DEL after each write),
# **naive** and **hardened** write-through. There is a random pause between each answer of the
# database and the next cache command, in writers and in readers that load. All three variants draw
# the pause in the same way. The pause stands for what can stop a busy process at that point:
# garbage collection, a core that is busy with another process, a slow network. With the pause,
# stale reads appear within seconds. A later cell measures without the pause.

# %% tags=["predict"]
stale_variants = predict(
    "02-stale",
    "How many of the three serve stale reads?",
)

# %%
from kvlab.chapters.write_through.staleness import measure_each
from kvlab.chapters.write_through.variants import variants

runs = measure_each(variants(kv), kv, origin, pause=0.005, duration=2.25)
facts = runs["naive"].reads.environment
print("4 writers (closed loop, mean think time 25 ms) of 2 rows")
print("readers:", facts["loop"], f"seed {facts['seed']}, no warm-up, 1 repetition")
late = [f"{name} {run.reads.late_share:.0%}" for name, run in runs.items()]
print("reads that started over 1 ms late:", ", ".join(late))

# %%
from kvlab.chapters.write_through.staleness_chart import staleness_chart

stale = [f"{name} {run.per_1000:.0f}" for name, run in runs.items()]
staleness_chart(runs, title=f"Stale reads per 1,000: {', '.join(stale)}")

# %% tags=["predict"]
stale_variants.measured(sum(run.per_1000 > 0 for run in runs.values()))

# %% [markdown]
# The hardened version serves no stale read. How did a stale read happen in the other variants? The
# threads took notes. A step is noted when its call has returned:

# %%
for name, run in runs.items():
    print(f"{name}: {run.reads.violations} stale reads of {run.reads.count}")
    for line in run.ledger.explain():
        print("  ", line)

# %% [markdown]
# Cache-aside with DEL fails by a late **fill**. Naive write-through fails by a late **writer** or a
# late fill. The mistake is the same: a value arrives at the cache without its version. Does this
# happen only because of the pause? The table has both, with the pause and without the pause:

# %%
from kvlab.chapters.write_through.staleness_chart import staleness_table

bare = measure_each(variants(kv), kv, origin, pause=0, duration=1.2)
staleness_table({0.005: runs, 0: bare})

# %% [markdown]
# If a naive variant shows 0 without the pause, that is luck: the moment in which the mistake can
# happen is shorter, but it still exists. A row that is written often gets a fresh value with the
# next write. A row that is written rarely stays stale until its TTL ends.
#
# **What it earns** is in the same table: readers of write-through find what the writer stored, so
# they seldom load. In cache-aside a reader must load after every write.
#
# ## What it costs
#
# The first line is a ratio: the time of one hardened save over the time of one naive save, both
# without the database, measured in turns. The table has the round trips after the database, counted
# by a proxy:

# %%
from kvlab.chapters.write_through.costs import compare_saves
from kvlab.workshop.round_trips import counted

print("one save, hardened over naive:", compare_saves(kv))
counted("write-through").style.hide(axis="index")

# %% [markdown]
# A save is one round trip in both versions. The ratio says what the script costs more than a SETEX.
# The next chart has the reads of the run above, with the violations of that same run:

# %%
from kvlab.instruments import charts

reads = {name: run.reads for name, run in runs.items()}
violations = [f"{name} {result.violations}" for name, result in reads.items()]
loads = [str(run.ledger.loads) for run in runs.values()]
title = f"Stale reads: {', '.join(violations)}; loads: {', '.join(loads)}"
charts.latency_percentiles(reads, title=title)

# %% [markdown]
# A read that loads also waits for the pause, and cache-aside loads most often.
#
# ## The limits that remain
#
# The cache can order the versions that arrive. The cache cannot know a change that no client sends
# to the cache:
#
# | no cache protocol gives, alone | why | what the database must do |
# |---|---|---|
# | the order of two commits | the writer that reaches the cache first need not have committed first | a version per row, raised in the same transaction, by deletions too |
# | news of *every* commit | a writer can crash between database and cache | an outbox (a table of changes in the same transaction, which a second program sends on), or the database's feed of changes |
# | news of writes that do not use `save` | nobody tells the cache | the same feed; or `invalidate` after them |
# | a value that is true *when you act on it* | it was true when it was served | `UPDATE … WHERE version = …`: the database checks |
# | fresh rows from a lagging replica | the row is old when it is loaded | return its version (`WriteThrough.fetch`), or read the primary |
#
# Without the database's help only the TTL limits how long an old value lives. So choose the longest
# time for which you can accept an old value. The explorer finds three of these limits in the
# hardened version when no fault is excused:


# %%
def writer_without_save(client):
    db.write()


fresh = {"setup": db.reset, "invariant": cache_is_fresh}
crash = explore(hardened_writers, crashes=True, **fresh)
loss = explore(hardened_writers, expiries=True, **fresh)
bypass = explore([hardened_writer, writer_without_save], **fresh)
print(f"the writer crashes: {crash.summary}; the shortest is {crash.schedule}")
print(f"the version is lost: {loss.summary}; the shortest is {loss.schedule}")
print(f"a write without save: {bypass.summary}; the shortest is {bypass.schedule}")

# %% tags=["finding"]
naive_rate, hardened_rate = (runs[name].per_1000 for name in ("naive", "hardened"))
print(
    f"two writers, cache stale: naive in {writers_story.violations} of "
    f"{writers_story.schedules} schedules, hardened in {ordered_story.violations} of "
    f"{ordered_story.schedules}; "
    f"stale reads per 1,000: naive {naive_rate:.0f}, hardened {hardened_rate:.0f}"
)
origin.close()

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `exercises/02_write_through.ipynb` has a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `save`: a row in the database, and no old copy of the row in the cache.
# 2. `store`: a copy in the cache that only a newer version replaces.

# %% tags=["exercise-setup"]
import json

from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: save a row, delete its copy
#
# Write `save(kv, table, key, row)`. `table.write(key, row)` writes the row into the database; it may raise.
# The cache keeps the row's copy under `row:<key>`. `kv` is a redis-py client whose replies are text.
#
# 1. After `save` the cache does not hold an older row than the database. This is true for two writers in
#    every order, and also when a reader has cached the old row during the write. (The next reader loads the
#    row; you need not fill the cache.)
# 2. When the database refuses the row, the caller gets the error.
#
# If you need help, run `hint("02-short")`: three hints, then a solution.


# %% tags=["stub"]
def save(kv, table, key, row):
    kv.set(f"row:{key}", json.dumps(row), ex=60)  # and if the database refuses the row?
    table.write(key, row)


# %% tags=["solution"]
def save(kv, table, key, row):
    table.write(key, row)
    kv.delete(f"row:{key}")


# %% tags=["check"]
check("02-short", save)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: store if newer
#
# Write `store(kv, key, version, row)`. The key is a hash with the fields `row` (JSON) and `version`. The
# function answers 1 when it stored the row, and 0 when it did not. `kv.eval(LUA, 1, key, …)` runs a script.
#
# 1. An older version never replaces a newer one, in whatever order they arrive.
# 2. Versions are numbers: 10 is newer than 9.
# 3. A deleted row (`None`) is stored as `null` with the version of the deletion, so that a late writer
#    cannot bring it back.
# 4. The key has a TTL after every store: 60 s.
#
# If you need help, run `hint("02")`: three hints, then a solution.

# %% tags=["stub"]
LUA = """
-- KEYS[1] hash: row (JSON), version   ARGV[1] version   ARGV[2] row   ARGV[3] life (ms)
redis.call('HSET', KEYS[1], 'row', ARGV[2], 'version', ARGV[1])
return 1
"""


def store(kv, key, version, row):
    return kv.eval(LUA, 1, key, version, json.dumps(row), 60_000)


# %% tags=["solution"]
LUA = """
-- KEYS[1] hash: row (JSON), version   ARGV[1] version   ARGV[2] row   ARGV[3] life (ms)
local known = tonumber(redis.call('HGET', KEYS[1], 'version') or '-1')
if known >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'row', ARGV[2], 'version', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""


# %% tags=["solution"]
def store(kv, key, version, row):
    return kv.eval(LUA, 1, key, version, json.dumps(row), 60_000)


# %% tags=["check"]
check("02", store)
