# %% [markdown]
# # Cache-aside
#
# *About 45 minutes. Before this chapter: 00.*
#
# A program looks in the cache. If the value is there, that is a **hit**. On a **miss** the program
# loads the value from the database and stores the value in the cache. Nearly every application has
# these ten lines.
#
# **The guarantee we want:**
#
# - one load for each key and miss, also when many readers in many processes ask;
# - after an invalidation, no reader is served a value that was loaded before it;
# - an empty value, and "there is no such row", are cached like any other value.
#
# The database is real too: SQLite with customers and orders. The profile of a customer adds up the
# customer's orders, so a load is milliseconds of real work and not a `sleep`. The next cell opens
# this chapter's namespace on the server. The cell after it prints **the simple version**.

# %%
import inspect
import json

import pandas as pd

from kvlab import CacheAside, NaiveCacheAside
from kvlab.chapters.opening import open_chapter
from kvlab.instruments import ALL_FAULTS, ClientCrashed, Origin, environment, explore

kv = open_chapter("ch01")
origin = Origin()
pd.Series(environment(kv), name="the numbers below were measured on").to_frame()

# %%
naive = NaiveCacheAside(kv.client, ttl=300, prefix=kv.prefix)
print(inspect.getsource(NaiveCacheAside.get))

# %% [markdown]
# ## Two readers, one cold key
#
# `explore` tries all orders. It runs both readers on a private server, once for **every** order of
# their steps, and after each run it checks the **invariant**: a sentence that must be true. One
# order, with its faults if it has some, is a **schedule**. Here the database is not SQLite but one
# row in memory, `SteppedRow`: each access to the row is a step too, so it can come at any time.

# %% tags=["predict"]
from kvlab.workshop import predict

cold = predict(
    "01-cold-key",
    "Two readers ask for the same key, which is not cached. Each reader has three "
    "steps: look, load, store. These six steps can come in 20 orders. In how many "
    "of the orders is the row loaded twice?",
)

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

# %% tags=["predict"]
cold.measured(stampede_story.violations)

# %% [markdown]
# The first line counts the schedules. The picture shows the shortest schedule that breaks the
# invariant. Time goes down, and the right column shows what the server holds. The row is loaded
# only once when one reader has stored the row before the other reader looks.
#
# ## The fix: a lease
#
# `CacheAside.read` looks, and on a miss it takes a **lease** if the lease is free. This is one Lua
# script, so no other command runs between the look and the take. The reader with the lease loads.
# The other readers learn that one reader loads the value, and how long its lease lives at most.
# They wait, and then they look again. A **TTL** (time to live) of 300 means that the server deletes
# an entry after 300 seconds.

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
# The first reader must load the value. The second reader must not load the value. `fetch` is the
# whole pattern as a flow: `read`, then `load` and `fill`, or wait and read again. (The client that
# `explore` gives to a function is a redis-py client that can also `run` ops and flows.)
#
# The next cells run the same two readers with leases, and with one fault at every point where the
# fault can happen. There are five kinds of faults: a request is lost, a reply is lost, the server
# forgets its scripts, a client crashes, a key ends early. (`jitter` and `early` are explained
# below; here both are off.)

# %% tags=["predict"]
again = predict(
    "01-faults",
    "After how many of the five kinds of faults can it happen that the row is "
    "loaded a second time?",
)

# %%
from kvlab.chapters.cache_aside.faults import explore_fault_by_fault

steady = CacheAside("profiles", ttl=300, jitter=0, early=0)


def leased_reader(client):
    """fetches the row; only the reader with the lease loads it"""
    return client.run(steady.fetch(7, db.read))


table = explore_fault_by_fault([leased_reader] * 2, setup=db.reset, invariant=one_load)
table.style.hide(axis="index")

# %% tags=["predict"]
again.measured(sum(table["broken"] > 0))

# %% [markdown]
# That is the exact promise: one load **while the lease lives**. If the reader with the lease
# crashes, the others wait until the lease ends, and then one of them loads. When an entry or a
# lease ends early, the row is loaded once more. A lost message causes no further load: the client
# retries the command, and `read` finds its own lease.
#
# ## Many readers

# %% tags=["predict"]
many = predict(
    "01-many",
    "The entry of a popular customer has just ended. 64 threads ask for it at the "
    "same moment, without leases. A load begins only when all 64 have looked, so "
    "that the cache decides the number of loads and not the thread scheduler. How "
    "many loads does the database see?",
)

# %% tags=["cover"]
from kvlab.chapters.cache_aside.cold_key import read_cold_key
from kvlab.chapters.cache_aside.cold_key_chart import cold_key_chart


def fetch(key, load):
    return kv.run(cache.fetch(key, load))


alone = read_cold_key(64, naive.get, origin.profile)
leased = read_cold_key(64, fetch, origin.profile, kv=kv)
title = f"64 readers of a cold key: {alone.loads} loads naive, {leased.loads} hardened"
cold_key_chart({"naive": alone, "hardened": leased}, title=title)

# %% tags=["predict"]
many.measured(alone.loads)

# %% [markdown]
# Without leases 64 loads run at once, and each load makes the other loads slower. With leases one
# reader loads, and the other readers wait for its value.
#
# ## The stale fill

# %% tags=["predict"]
stale = predict(
    "01-stale-fill",
    "A reader misses, loads and stores, as before. Meanwhile a writer updates the "
    "row and deletes the key, as the textbook says. These five steps can come in 10 "
    "orders. After how many of the orders does the cache hold the old row?",
)


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

# %% tags=["predict"]
stale.measured(stale_story.violations)

# %% [markdown]
# This order is rare. A test that relies on luck will hardly find it. A busy site will. The old row
# stays in the cache until its TTL ends, and nobody gets an error.
#
# The fix costs no further round trip. `invalidate` deletes the entry **and the lease**. `fill` is a
# script that stores only while its own lease is still there. The next cells run the same reader and
# writer with every kind of fault. There is one exception: a writer that crashes between its update
# and its invalidation cannot tell the cache. In this case the old row must at least end with its
# TTL.


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
from IPython.display import display

fresh_story = explore(
    {"reader": leased_reader, "writer": hardened_writer},
    setup=db.reset,
    invariant=fresh_or_writer_crashed,
    faults=ALL_FAULTS,
)
print(fresh_story.summary)
display(stale_story.play(title="The naive cache"))
display(fresh_story.play(title="The hardened cache"))

# %% [markdown]
# No schedule with at most one fault leaves an old row in the cache.
#
# **Play the scheduler** in the two frames: choose who moves next, and what fails. The first frame can
# be broken, and the second cannot.
#
# ## Your own code
#
# **Change this cell.** Put your own function in the place of `get_user`: any code that takes a
# redis-py client. Give `explore` the other clients that touch the key, and say what must be true at
# the end.
#
# The cell holds a repair that people often propose: the reader stores with `NX`, so only if the key
# does not exist. Does `NX` help?


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
# `NX` does not help: the key does not exist after the DEL, so the late reader stores the old row.
#
# ## Empty values and absent rows
#
# The simple version has `if cached:`, so it treats 0, `""` and `[]` as a miss. It also has `if not
# user`, so it never stores such a value. A client that asks for an id that does not exist reaches
# the database each time. The table counts the loads of ten reads of each value:

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
# A hit costs one round trip in both versions. The lease costs no further round trip: it travels in
# the same script as the look and in the same script as the fill.
#
# ## Entries that end together
#
# 40 entries are filled at the same moment, by a deploy or a batch job, with a TTL of one second.
# Then 300 requests a second arrive in an open loop: a request arrives whether or not the earlier
# ones are answered.
#
# In the hardened version each entry loses a random part of its life, here up to one half
# (`jitter=0.5`), so that entries that were filled together do not end together.

# %% tags=["predict"]
cliff_loads = predict(
    "01-cliff",
    "Without jitter: how many loads does the database get in the busiest 0.1 s, "
    "about one second after the entries were filled?",
)

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

# %% tags=["predict"]
cliff_loads.measured(first_peak)

# %% [markdown]
# The naive entries end together, so their loads come together at 1 s. Later peaks are lower and
# wider, because after the first peak the entries were loaded at different moments. With jitter the
# entries end at different moments. The next chart shows how long the readers of the same two runs
# waited. A violation is a load that began while the same row was already being loaded.

# %%
from kvlab.instruments import charts

late = f"{together.late_share:.0%} and {apart.late_share:.0%} started over 1 ms late"
print("open loop, 300 requests/s, no warm-up, 1 repetition, seed 1;", late)
overlaps = f"{together.violations} naive, {apart.violations} hardened"
title = f"Loads of a row that was being loaded already: {overlaps}"
charts.latency_percentiles(cliff, title=title)

# %% [markdown]
# The hardened version has a price. Some entries end earlier, so more requests load a row. And a
# reader waits when another reader loads the row.
#
# ## Renew before the end
#
# When a hot entry ends, all its readers wait for one load. `early` avoids this wait: shortly before
# the end, each read draws a random number. The read wins with a certain probability. This
# probability is higher near the end, and higher when a load takes long. (This algorithm is called
# XFetch.) The winner gets the value **and** a lease, and renews the entry. All other readers get
# the value.
#
# We can pass our own random number to `CacheAside`. With `early=1e6` a read behaves as if the end
# were near.

# %%
calm = CacheAside("hot", ttl=60, jitter=0, early=0)
near = CacheAside("hot", ttl=60, jitter=0, early=1e6, random=lambda: 0.5)
kv.run(calm.fetch(7, lambda: "a value"))
rows = []
for reader, view in (("far from the end", calm), ("near it", near), ("next", near)):
    found = kv.run(view.read(7))
    rows.append((reader, found.hit, found.lease is not None))
table = pd.DataFrame(rows, columns=["reader", "gets the value", "renews"])
table.style.hide(axis="index")

# %% [markdown]
# Nobody waits: one reader renews while all others still get the value.
#
# ## What it earns: the hit ratio
#
# Requests for a key come at random moments (a Poisson process), λ of them in a second on average.
# An entry lives for T seconds. So each fill serves λT hits on average, and the hit ratio is
# λT / (1 + λT). The ratio of the whole cache is the mean over the keys, weighted by popularity.
#
# We measure the real `CacheAside` with three skews and three TTLs. The skew (of a Zipf
# distribution) says how unequal the keys are: at 0 all keys are equally popular, and at 1.5 a few
# keys get most of the requests. The warm-up lasts one TTL. We then count for more than ten TTLs.

# %% tags=["predict"]
halved = predict(
    "01-double-ttl",
    "You double the TTL. Do the misses halve?",
    ["yes", "no: more than half are left", "no: fewer than half are left"],
)

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
answer = "No" if least > 0.5 else "Not seen"
title = f"{answer}: twice the TTL leaves {least:.0%} to {most:.0%} of the misses"
misses_by_ttl(ratios, title=title)

# %% tags=["predict"]
halved.measured("no: more than half are left" if least > 0.5 else "not seen")

# %% [markdown]
# A rare key is requested once, and its entry ends before the next request for that key. A longer
# TTL changes nothing for such a key. On a machine with free cores the measured points lie near the
# formula. On a busy machine many requests start late and come in bursts, and then the points leave
# the formula.
#
# Turn the knobs (they need a running notebook). Which TTL gives nine hits of ten? And how old can a
# value become with this TTL?

# %%
from ipywidgets import FloatLogSlider, FloatSlider, fixed, interact

skew = FloatSlider(0.8, min=0, max=2, step=0.1)
ttl = FloatLogSlider(0.3, min=-1.2, max=0.4, step=0.05, description="TTL, s")
_ = interact(knob, ratios=fixed(ratios), skew=skew, ttl=ttl)

# %% [markdown]
# ## The limits that remain
#
# - **A lost invalidation leaves an old value.** If the server cannot be reached when the row
#   changes, the old value lives until its TTL ends. So choose as the TTL the longest time for which
#   you can accept an old value.
# - **One load only while the lease lives.** When a load takes longer than its `lease`, another
#   reader starts a second load, and the fill of the first load is refused.
# - **A loader that reads a lagging replica** stores old rows in the cache. No lease can see that.
# - **A reader that crashes while it has a lease** makes the other readers wait until the lease
#   ends.
# - **A reader that loaded before the update still returns the old row.** The promise is about later
#   reads from the cache.

# %% tags=["finding"]
print(
    f"64 readers of a cold key: naive {alone.loads} loads, hardened {leased.loads}; "
    f"stale fill: naive in {stale_story.violations} of {stale_story.schedules} "
    f"schedules, hardened in {fresh_story.violations} of {fresh_story.schedules}"
)
origin.close()

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `exercises/01_cache_aside.ipynb` has a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `remember`: a value in the cache, with redis-py alone.
# 2. `cached`: a loader that respects invalidations, with the ops of a `CacheAside`.

# %% tags=["exercise-setup"]
import json

from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: remember a value
#
# Write `remember(kv, key, load)`. `kv` is a redis-py client whose replies are text.
#
# 1. The function returns the value of `key`: from the cache, or from `load()`. A value is loaded once,
#    also when it is `0`, `""`, `[]` or `None` (there is no such row). Values are JSON.
# 2. Every key has a TTL of at most 60 s, also when you crash in the middle. A TTL may end at any moment.
# 3. An error of `load()` reaches the caller, and nothing is cached.
#
# If you need help, run `hint("01-short")`: three hints, then a solution.


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
# 1. The function returns what is cached, also `0` and `None` (there is no such row).
# 2. A value that was loaded before an invalidation is not cached.
# 3. When `load` raises, the next caller does not wait for the lease of the failed load.
#
# A caller that gets neither a hit nor a lease may load the value and leave the cache alone.
#
# If you need help, run `hint("01")`: three hints, then a solution.


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
