# %% [markdown]
# # Cache-aside
#
# *45 minutes. Before it: chapter 0.*
#
# Look in the cache. On a miss load from the database, and put the value into the cache. Nearly
# every application has these ten lines.
#
# **The guarantee we want:**
#
# - one load for each key and miss, however many readers and processes ask;
# - after an invalidation, no reader is served a value that was loaded before it;
# - an empty value, and "there is no such row", are cached like any other value.
#
# The database is real too: SQLite with customers and orders. A profile adds up every order, so a
# load costs milliseconds of work, and not a `sleep`. The next cell opens this chapter's namespace on
# the server. The cell after it prints **the simple version**.

# %%
import inspect
import json

import pandas as pd

from kvlab import CacheAside, NaiveCacheAside
from kvlab.chapters.opening import open_chapter
from kvlab.instruments import ALL_FAULTS, ClientCrashed, Origin, environment, explore

kv = open_chapter("ch01")
origin = Origin()
pd.Series(environment(kv), name="where the numbers below were measured").to_frame()

# %%
naive = NaiveCacheAside(kv.client, ttl=300, prefix=kv.prefix)
print(inspect.getsource(NaiveCacheAside.get))

# %% [markdown]
# ## Two readers, one cold key
#
# **Predict.** Two readers ask for the same key, which is not cached. Each reader has three steps:
# look, load, store. In how many orders can these six steps come? In how many of the orders is the
# row loaded twice?
#
# `explore` answers by trying. It runs both readers on a private server, once for **every** order of
# their steps, and checks the invariant after each run. The database is one row in memory,
# `SteppedRow`: each access to the row is a step too, so it can come at any time.

# %%
from kvlab.instruments.explorer.stepped_row import SteppedRow

db = SteppedRow()


def naive_reader(client):
    """looks in the cache; on a miss loads the row and stores it"""
    return NaiveCacheAside(client).get(7, db.read)


# %%
def one_load(world):
    """the row is loaded once"""
    return db.loads == 1


readers = {"reader 1": naive_reader, "reader 2": naive_reader}
stampede_story = explore(readers, setup=db.reset, invariant=one_load)
stampede_story

# %% [markdown]
# The first line counts the orders. The picture is the shortest one that breaks the invariant: time
# goes down, and on the right stands what the server holds. There is only one load when one reader
# has stored before the other one looks.
#
# ## The fix: a lease
#
# `CacheAside.read` looks, and on a miss it takes a **lease** if the lease is free. This is one Lua
# script, so nothing comes between looking and taking. The reader with the lease loads. The others
# learn that somebody is loading, and how long the lease lives at most. They wait and look again.

# %%
cache = CacheAside("profiles", ttl=300)
print(cache.read(7))
kv.run(cache.invalidate("by hand"))  # so that this cell can run again
first = kv.run(cache.read("by hand"))
second = kv.run(cache.read("by hand"))
print("first reader has the lease:", first.lease is not None)
print("second reader has the lease:", second.lease is not None)
print(f"second reader waits: at most {second.wait:.0f} s")

# %% [markdown]
# The first reader must load, the second must not. `fetch` is the whole pattern as a flow: `read`,
# then `load` and `fill`, or wait and read again.
#
# Now the same two readers with leases, and one fault at every place where it can happen.
#
# **Predict.** After which of the faults in the table must the row be loaded again?

# %%
from kvlab.chapters.cache_aside.faults import explore_fault_by_fault

steady = CacheAside("profiles", ttl=300, jitter=0, early=0)


def leased_reader(client):
    """fetches the row; only the reader with the lease loads it"""
    return client.run(steady.fetch(7, db.read))


table = explore_fault_by_fault([leased_reader] * 2, setup=db.reset, invariant=one_load)
table.style.hide(axis="index")

# %% [markdown]
# That is the promise with its small print: one load **while the lease lives**. If the reader with
# the lease crashes, the others wait until the lease ends, and then one of them loads. An entry or a
# lease that ends early costs a load too. A lost message costs none: the client retries the command,
# and `read` finds its own lease.
#
# ## Many readers
#
# **Predict.** The entry of a popular customer has just ended. 64 threads ask for it at the same
# moment. How many loads does the database see, and how long does the last reader wait: without
# leases, and with them? A load begins only when all 64 have looked, so that the cache decides the
# number of loads and not the thread scheduler.

# %% tags=["cover"]
from kvlab.chapters.cache_aside.cold_key import read_cold_key
from kvlab.chapters.cache_aside.cold_key_chart import cold_key_chart


def fetch(key, load):
    return kv.run(cache.fetch(key, load))


alone = read_cold_key(64, naive.get, origin.profile)
leased = read_cold_key(64, fetch, origin.profile, kv=kv)
title = f"64 readers of a cold key: {alone.loads} loads naive, {leased.loads} hardened"
cold_key_chart({"naive": alone, "hardened": leased}, title=title)

# %% [markdown]
# 64 loads at once slow each other down, so the database is the slowest when it is needed the most.
# With leases one reader loads, and the others wait for its value.
#
# ## The stale fill
#
# **Predict.** A reader misses, loads and stores, as before. Meanwhile a writer updates the row and
# deletes the key, as the textbook says. Is there an order after which the cache holds the old row?
# If so: in how many of the orders, and who would notice?


# %%
def naive_writer(client):
    """updates the row, then deletes the key"""
    db.write()
    NaiveCacheAside(client).invalidate(7)


def cache_is_fresh(world):
    """what is cached is the row"""
    cached = world.kv.get("user:7")
    return cached is None or json.loads(cached) == db.row


# %%
clients = {"reader": naive_reader, "writer": naive_writer}
stale_story = explore(clients, setup=db.reset, invariant=cache_is_fresh)
stale_story

# %% [markdown]
# The order is rare: a test that relies on luck will hardly meet it, and a busy site will. The old
# row stays in the cache until its TTL ends, and nobody gets an error.
#
# The fix costs no further round trip. `invalidate` deletes the entry **and the lease**. `fill` is a
# script that stores only while its own lease is still there. Now the same meeting, with every kind
# of fault. There is one exception: a writer that crashes between its update and its DEL cannot tell
# the cache. Then the old row must at least end with its TTL.


# %%
def hardened_writer(client):
    """updates the row, then invalidates the entry and the lease"""
    db.write()
    client.run(steady.invalidate(7))


def fresh_or_writer_crashed(world):
    """what is cached is the row, or the writer crashed; every key has a TTL"""
    found = world.kv.run(steady.read(7))
    crashed = isinstance(world.results[1], ClientCrashed)
    ends = all(0 < world.kv.ttl(key) <= 300 for key in world.kv.keys("*"))
    return ends and (crashed or not found.hit or found.value == db.row)


# %%
fresh_story = explore(
    {"reader": leased_reader, "writer": hardened_writer},
    setup=db.reset,
    invariant=fresh_or_writer_crashed,
    faults=ALL_FAULTS,
)
print(fresh_story.summary)

# %% [markdown]
# No order and no single fault leaves an old row in the cache.
#
# ## Your own code
#
# **Change this cell.** Put your own function in the place of `get_user`: any code that takes a
# redis-py client. Give `explore` the other clients that touch the key, and say what must be true at
# the end.
#
# Here stands a repair that is often proposed: fill with `NX`, only where nothing is. Does it help?


# %%
def get_user(client):
    cached = client.get("user")
    if cached is not None:
        return cached.decode()
    user = db.read()
    client.set("user", user, ex=300, nx=True)
    return user


def user_is_fresh(world):
    """what is cached is the row"""
    return world.kv.get("user") in (None, db.row.encode())


# %%
def change_user(client):
    """updates the row, then deletes the key"""
    db.write()
    client.delete("user")


clients = {"reader": get_user, "writer": change_user}
explore(clients, setup=db.reset, invariant=user_is_fresh)

# %% [markdown]
# `NX` does not help: the key is empty after the DEL, so the late fill stores.
#
# ## Empty values and absent rows
#
# `if cached:` takes 0, `""` and `[]` for a miss, and `if not user` never stores them. Whoever asks
# for ids that do not exist reaches the database each time. Ten reads of each value:

# %%
from kvlab.chapters.cache_aside.empty_values import loads_of_ten_reads

values = [{"name": "Ada"}, 0, "", [], None]
table = loads_of_ten_reads({"naive": naive.get, "hardened": fetch}, values)
table.style.hide(axis="index")

# %% [markdown]
# The naive version loads every empty value ten times. The hardened version loads each value once.
#
# ## What it costs
#
# Round trips, counted by a proxy between us and the server:

# %%
from kvlab.workshop.round_trips import counted

trips = counted("cache-aside")
trips.style.hide(axis="index")

# %% [markdown]
# A hit costs one round trip in both versions. The lease makes no operation dearer: it travels
# together with the look and with the fill.
#
# ## The cliff
#
# **Predict.** 40 entries are filled at the same moment, by a deploy or a batch job, with a TTL of
# one second. What does the database see one second later? And two seconds later?
#
# In the hardened version each entry loses a random part of its life, here up to one half
# (`jitter=0.5`), so that entries that were filled together do not end together. 300 requests a
# second arrive in an open loop: a request arrives whether or not the earlier ones are answered.

# %%
from kvlab.chapters.cache_aside.filled_together import read_after_common_fill

short = NaiveCacheAside(kv.client, ttl=1, prefix=kv.prefix)
spread = CacheAside("spread", ttl=1, jitter=0.5, early=1)


def fetch_spread(key, load):
    return kv.run(spread.fetch(key, load))


together = read_after_common_fill("naive", short.get, origin.profile, kv)
apart = read_after_common_fill("hardened", fetch_spread, origin.profile, kv)

# %%
from kvlab.chapters.cache_aside.filled_together_chart import filled_together_chart, peak

cliff = {"naive": together, "hardened": apart}
first_peak = peak(together, 0.9, 1.4)
second_peak = peak(together, 1.8, 2.4)
spread_peak = peak(apart, 0.0, 2.4)
title = (
    f"40 entries filled together: {first_peak} loads in 100 ms after 1 s, "
    f"{second_peak} after 2 s; with jitter at most {spread_peak}"
)
filled_together_chart(cliff, title=title)

# %% [markdown]
# The naive entries end together, and their readers load together: first at 1 s, and again about a
# second later, less sharply, because each key is asked for again at a moment of its own. With jitter
# there is no such edge. Now the same two runs, as the readers felt them. A violation is a load that
# began while the same row was being loaded already.

# %%
from kvlab.instruments import charts

late = f"{together.late_share:.0%} and {apart.late_share:.0%} started over 1 ms late"
print("open loop, 300 requests/s, no warm-up, 1 repetition, seed 1;", late)
overlaps = f"{together.violations} naive, {apart.violations} hardened"
title = f"Loads of a row that was being loaded already: {overlaps}"
charts.latency_percentiles(cliff, title=title)

# %% [markdown]
# The hardened version pays for its order: some entries end early, so more requests load, and the
# readers of a row that is being loaded wait for it.
#
# ## Renew before the end
#
# When a hot entry ends, all its readers wait for one load. `early` avoids this wait: shortly before
# the end, each read draws a random number. The nearer the end and the longer a load takes, the more
# likely the read wins (XFetch). The winner gets the value **and** a lease, and renews the entry. All
# others get the value.
#
# The random number comes from outside, so we can force it. `early=1e6` stands for "the end is near".

# %%
calm = CacheAside("hot", ttl=60, jitter=0, early=0)
near = CacheAside("hot", ttl=60, jitter=0, early=1e6, random=lambda: 0.5)
kv.run(calm.fetch(7, lambda: "a value"))
rows = []
for reader, view in (("far from the end", calm), ("near it", near), ("next", near)):
    found = kv.run(view.read(7))
    rows.append((reader, found.hit, found.lease is not None))
pd.DataFrame(rows, columns=["reader", "gets the value", "renews"]).style.hide(
    axis="index"
)

# %% [markdown]
# Nobody waits: one reader renews while all others still get the value.
#
# ## What it earns: the hit ratio
#
# **Predict.** You double the TTL. Do the misses halve?
#
# With Poisson requests at rate λ for a key and a TTL of T, each fill serves λT hits on average
# before it ends. So the hit ratio is λT / (1 + λT), weighted over the keys by popularity. We measure
# the real `CacheAside`: three skews of popularity, three TTLs, one TTL of warm-up, more than ten
# TTLs of counting.

# %%
from kvlab.chapters.cache_aside.hit_ratio import measure


def plain_cache(name, ttl):
    """the formula knows neither jitter nor early renewal"""
    return CacheAside(name, ttl, jitter=0, early=0)


grid = {"skews": (0.5, 1.0, 1.5), "ttls": (0.2, 0.4, 0.8), "keys": 40}
ratios = measure(kv, plain_cache, **grid, rate=400, duration=10, seed=1)
print(ratios.described)
ratios.table()

# %%
from kvlab.chapters.cache_aside.hit_ratio_charts import knob, misses_by_ttl

least, most = ratios.misses_left
title = f"No: twice the TTL leaves {least:.0%} to {most:.0%} of the misses, not 50%"
misses_by_ttl(ratios, title=title)

# %% [markdown]
# A rare key is asked for once, and its entry ends before the key is asked for again: a longer TTL
# changes nothing for it. The measured points lie on the formula, within about one percentage point.
# They leave it when the machine is busy: then many requests start late, and they come in bursts.
#
# Turn the knobs (they need a running notebook): which TTL gives nine hits of ten? And how old may a
# value be meanwhile?

# %%
from ipywidgets import FloatLogSlider, FloatSlider, fixed, interact

skew = FloatSlider(0.8, min=0, max=2, step=0.1)
ttl = FloatLogSlider(0.3, min=-1.2, max=0.4, step=0.05, description="TTL, s")
_ = interact(knob, ratios=fixed(ratios), skew=skew, ttl=ttl)

# %% [markdown]
# ## The limits that remain
#
# - **A value is only as fresh as the invalidations that arrive.** If the server cannot be reached
#   when the row changes, the old value lives until its TTL ends. The TTL is the bound: choose it as
#   one.
# - **One load only while the lease lives.** When a load takes longer than its `lease`, a second load
#   joins it, and the fill of the first load is dropped.
# - **A loader that reads a lagging replica** caches old rows, and no lease can see that.
# - **A reader that crashes under its lease** keeps the others waiting until the lease ends.
# - **A reader that loaded before the update still returns the old row.** The promise covers only
#   what is served from the cache afterwards.

# %% tags=["finding"]
print(
    f"64 readers of a cold key: naive {alone.loads} loads, hardened {leased.loads}; "
    f"stale fill in {stale_story.violations} of {stale_story.schedules} orders naive, "
    f"{fresh_story.violations} of {fresh_story.schedules} hardened"
)
origin.close()

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Open `exercises/01_cache_aside.ipynb`: a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `remember`: a value in the cache, with redis-py alone.
# 2. `cached`: a loader that honours invalidations, with the ops of a `CacheAside`.

# %% tags=["exercise-setup"]
import json

from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: remember a value
#
# Write `remember(kv, key, load)`. `kv` is a redis-py client whose replies are text.
#
# 1. The function returns the value of `key`: from the cache, or from `load()`. A value is loaded once,
#    also when it is `0`, `""`, `[]` or `None` (no such row). Values are JSON.
# 2. Every key has a TTL of at most 60 s, also when you crash in the middle.
# 3. An error of `load()` reaches the caller, and nothing is cached.
#
# Stuck? Run `hint("01-short")`: three hints, then a solution.


# %% tags=["stub"]
def remember(kv, key, load):
    value = json.loads(kv.get(key) or "null")
    if value:  # is this a hit?
        return value
    value = load()
    kv.set(key, json.dumps(value))  # for how long?
    return value


# %% tags=["solution"]
def remember(kv, key, load):
    found = kv.get(key)
    if found is not None:
        return json.loads(found)
    value = load()
    kv.set(key, json.dumps(value), ex=60)
    return value


# %% tags=["check"]
check("01-short", remember)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: a cached loader
#
# Write `cached(kv, cache, key, load)`. `kv` is an executor: `kv.run(op)`. You get the ops of a
# `CacheAside`: `cache.read(key)`, `cache.fill(key, lease, value)` and `cache.release(key, lease)`.
#
# 1. The function returns what is cached, also `0` and `None` (no such row).
# 2. A value that was loaded before an invalidation is not cached.
# 3. When `load` raises, the next caller does not wait for the lease of the failed load.
#
# A caller that gets neither a hit nor a lease may load the value and leave the cache alone.
#
# Stuck? Run `hint("01")`: three hints, then a solution.


# %% tags=["stub"]
def cached(kv, cache, key, load):
    found = kv.run(cache.read(key))
    if found.value:  # is this a hit?
        return found.value
    return load()  # who stores it, under which lease? and what if it raises?


# %% tags=["solution"]
def load_under(kv, cache, key, lease, load):
    try:
        return load()
    except Exception:
        kv.run(cache.release(key, lease))
        raise


# %% tags=["solution"]
def cached(kv, cache, key, load):
    found = kv.run(cache.read(key))
    if found.hit:
        return found.value
    if found.lease is None:
        return load()
    value = load_under(kv, cache, key, found.lease, load)
    kv.run(cache.fill(key, found.lease, value))
    return value


# %% tags=["check"]
check("01", cached)
