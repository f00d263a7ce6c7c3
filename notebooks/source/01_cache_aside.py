# %% [markdown]
# # Cache-aside
#
# Look in the cache; on a miss load from the database and put the value there. Ten lines that
# nearly every application has.
#
# **The guarantee we want:**
#
# - one load for each key and miss, however many readers and processes ask;
# - after an invalidation nobody is served what was loaded before it;
# - an empty value, and "there is no such row", are cached like any other value.
#
# The database is real too: SQLite with customers and orders. A profile adds up every order, so a
# load costs milliseconds of work, not a `sleep`.

# %%
import json

import pandas as pd

import kvlab
from kvlab import CacheAside, NaiveCacheAside
from kvlab.core.server_url import server_url
from kvlab.instruments import ClientCrashed, Origin, Proxy, environment, explore

kv, origin = kvlab.connect(url := server_url(), prefix="kvlab:ch01"), Origin()
kv.clear()
pd.Series(environment(kv), name="where the numbers below were measured").to_frame()

# %% [markdown]
# ## The simple version

# %%
import inspect

naive = NaiveCacheAside(kv.client, ttl=300, prefix=kv.prefix)
print(inspect.getsource(NaiveCacheAside.get))

# %% [markdown]
# ## Two readers, one cold key
#
# **Predict.** Two readers ask for the same key, which is not cached. Each does three things: look,
# load, store. In how many orders can these six steps come? In how many of them is the row loaded
# twice?
#
# `explore` answers by trying. It runs both readers on a private server, once for **every** order of
# their steps, and asks after each run whether the invariant holds. The shortest run that breaks it is
# drawn: time goes down, and on the right stands what the server holds. The database is one row in
# memory, `SteppedRow`; each access to it is a step that can come at any time, like a command.

# %%
from kvlab.instruments.explorer.stepped_row import SteppedRow

db = SteppedRow()
each = {"setup": db.reset, "progress": False}  # every run begins with the same row
reader = lambda client: NaiveCacheAside(client).get(7, db.read)  # noqa: E731
two = {"reader 1": reader, "reader 2": reader}
stampede = explore(two, invariant=lambda world: db.loads == 1, **each)
print(stampede.summary)
stampede

# %% [markdown]
# Only if one reader has stored before the other looks, is there one load.
#
# ## The fix: a lease
#
# `CacheAside.read` looks and, on a miss, takes a **lease** if it is free. That is one Lua script,
# so nothing comes between looking and taking. Who has the lease loads. The others are told that
# somebody is loading, and for how long the lease lives at most. They wait and look again.
#
# `fetch` is the whole pattern as a flow: `read`, then `load` and `fill`, or wait.

# %%
cache = CacheAside("profiles", ttl=300)
print(cache.read(7), "\n")
for who in ("first", "second"):
    found = kv.run(cache.read("by hand"))
    told = "load, here is the lease" if found.lease else f"wait, at most {found.wait:.0f} s"
    print(f"{who} reader: hit {found.hit}, {told}")

# %% [markdown]
# The same two readers, now with leases, and with one fault at every place where it can happen: a
# reply is lost, a reader dies, a key ends before its time.
#
# **Predict.** After which of these faults must the row be loaded again?

# %%
steady = CacheAside("profiles", ttl=300, jitter=0, early=0)
fetcher = lambda client: client.run(steady.fetch(7, db.read))  # noqa: E731
rows = []
for fault in ("none", "lost_replies", "crashes", "expiries"):
    given = each | {"reduce": True} | ({} if fault == "none" else {fault: True})
    met = explore([fetcher] * 2, invariant=lambda world: db.loads == 1, **given)
    rows.append((fault.replace("_", " "), met.schedules, met.violations))
columns = ["fault, at most one in a run", "schedules", "more than one load"]
pd.DataFrame(rows, columns=columns).style.hide(axis="index")

# %% [markdown]
# That is the promise with its small print: one load **while the lease lives**. If its holder dies, the
# others wait until it ends, then one of them loads. An entry or a lease that ends early costs a load
# too. What is lost on the way costs none: it is sent again, and `read` finds the lease its own.
# (`reduce=True`: of runs that differ only in the order of two steps that do not touch the same thing,
# one is enough.)
#
# ## Many readers
#
# **Predict.** The entry of a popular customer has just expired. 64 threads ask for it at the same
# moment. How long does the last one wait, with and without leases? A load may begin only when all
# have looked: what happens then is the cache's doing, not the scheduler's.

# %% tags=["cover"]
from functools import partial

from kvlab.chapters.cache_aside_cold_key import chart, crowd

READERS, load = 64, partial(origin.profile, 7)
visits = {"naive": crowd(READERS, lambda held: naive.get(7, held), load)}
loads = {"naive": origin.loads}
visits["hardened"] = crowd(READERS, lambda held: kv.run(cache.fetch(7, held)), load, kv=kv)
loads["hardened"] = origin.loads - loads["naive"]
chart(visits, loads, title=(
    f"{READERS} readers of a cold key: {loads['naive']} loads naive, {loads['hardened']} hardened"
))  # fmt: skip

# %% [markdown]
# ## The stale fill
#
# **Predict.** A reader misses, loads and stores, as before. Meanwhile a writer updates the row and
# deletes the key, as the textbook says. Is there an order after which the cache holds the old row?
# If so: in how many of the orders, and who would notice?

# %%
writer = lambda client: db.write() and NaiveCacheAside(client).invalidate(7)  # noqa: E731


def is_fresh(world):
    """what is cached is the row"""
    cached = world.kv.get("user:7")
    return cached is None or json.loads(cached) == db.row


stale = explore({"reader": reader, "writer": writer}, invariant=is_fresh, **each)
print(stale.summary)
stale

# %% [markdown]
# A rare order: a test that tries its luck will hardly meet it, and a busy site will. What is cached
# then stays until its TTL ends, and nobody gets an error.
#
# The fix costs no further round trip. `invalidate` deletes the entry **and the lease**. `fill` is
# a script: it stores only while its own lease is still there. The same meeting, with these faults, and
# two more: a request is lost, the server forgets its scripts. One exception is granted: a writer who
# dies between its update and its DEL cannot tell the cache. Then the old row must at least end with
# its TTL.


# %%
def still_fresh(world):
    """what is cached is the row; if the writer died, it ends with its TTL"""
    cached = world.kv.run(steady.read(7))
    ends = all(0 < world.kv.ttl(key) <= 300 for key in world.kv.keys("*"))
    died = isinstance(world.results[1], ClientCrashed)
    return ends and (not cached.hit or cached.value == db.row or died)


changer = lambda client: db.write() and client.run(steady.invalidate(7))  # noqa: E731
faults = ("lost_requests", "lost_replies", "script_flushes", "crashes", "expiries")
fresh = explore([fetcher, changer], invariant=still_fresh, **each | dict.fromkeys(faults, True))
print(fresh.summary)

# %% [markdown]
# ## Your own code
#
# **Change this cell.** Put your own function in the place of `get_user`: any code that takes a
# redis-py client. Give `explore` who else touches the key, and say what must be true when all are done.
#
# What stands here is a repair that is often proposed: fill with `NX`, only where nothing is. Does it
# help?


# %%
def get_user(client, load):
    cached = client.get("user")
    if cached is not None:
        return cached.decode()
    user = load()
    client.set("user", user, ex=300, nx=True)
    return user


explore({"reader": lambda client: get_user(client, db.read),
         "writer": lambda client: db.write() and client.delete("user")}, **each,
        invariant=lambda world: world.kv.get("user") in (None, db.row.encode()))  # fmt: skip

# %% [markdown]
# ## Empty values and absent rows
#
# `if cached:` takes 0, `""` and `[]` for a miss, and `if not user` never stores them. Someone who
# asks for ids that do not exist goes to the database each time. Ten reads of each:


# %%
def loads_of_ten(read, value):
    calls = []
    for _ in range(10):
        read(f"value {value!r}", lambda: calls.append(1) or value)
    return len(calls)


reads = {"naive": naive.get, "hardened": lambda *read: kv.run(cache.fetch(*read))}
values = {"name": "Ada"}, 0, "", [], None
rows = {repr(v): {name: loads_of_ten(read, v) for name, read in reads.items()} for v in values}
pd.DataFrame(rows).T.rename_axis("loads for ten reads of").reset_index().style.hide(axis="index")

# %% [markdown]
# ## What it costs
#
# Round trips, counted by a proxy between us and the server:

# %%
trips = {}
with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    other = NaiveCacheAside(far.client, prefix=kv.prefix)
    through = {"naive": other.get, "hardened": lambda *read: far.run(cache.fetch(*read))}
    for variant, read in through.items():
        for key, what in (("connected", "first"), ("counted", "miss"), ("counted", "hit")):
            proxy.reset()
            read(key, load)
            trips[variant, what] = proxy.requests
table = pd.Series(trips).unstack().loc[list(through), ["hit", "miss"]]
table.rename_axis("round trips").reset_index().style.hide(axis="index")

# %% [markdown]
# ## The cliff
#
# **Predict.** 40 entries are filled at the same moment, by a deploy or a batch job, with a TTL of
# one second. What does the database see one second later? And two seconds later?
#
# Hardened entries lose up to half of their life by lot (`jitter=0.5`), so they do not end together.
# Open loop: requests arrive whether or not the earlier ones are answered. No warm-up, one
# repetition: the cold edge is what we look at.

# %%
from kvlab.chapters.cache_aside_cold_key import filled_together
from kvlab.instruments import OpenLoop, Zipf

short = NaiveCacheAside(kv.client, ttl=1, prefix=kv.prefix)
spread = CacheAside("spread", ttl=1, jitter=0.5, early=1)
ways = {"naive": short.get, "hardened": lambda *read: kv.run(spread.fetch(*read))}
cliff = {
    name: filled_together(name, fetch, lambda key: origin.profile(key + 1), kv=kv, seed=1,
                          popularity=Zipf(40, 0.8), arrivals=OpenLoop(300, workers=8), duration=2.4)
    for name, fetch in ways.items()
}  # fmt: skip

# %%
from kvlab.instruments import charts

# the last bucket is not a whole one
series = {name: result.timeline_frame()["loads"][:24] for name, result in cliff.items()}
peak = {name: int(loads.max()) for name, loads in series.items()}
charts.timeline(series, [(i + 0.5) / 10 for i in range(24)], ylabel="loads in 100 ms",
    events={"1 s: TTL of the first fill": 1.0},
    title=f"40 entries filled together: up to {peak['naive']} loads in 100 ms naive, "
    f"{peak['hardened']} with jitter")  # fmt: skip

# %% [markdown]
# The same two runs, as the readers felt them. A violation is a load that began while the same row
# was being loaded already.

# %%
half, most = (
    cliff["hardened"].latency.percentile(p) / cliff["naive"].latency.percentile(p) for p in (50, 99)
)
charts.latency_percentiles(cliff, title=(
    f"Overlapping loads: {cliff['naive'].violations} naive, {cliff['hardened'].violations} hardened; "
    f"hardened takes {half:.1f} × at the median, {most:.1f} × at p99"
))  # fmt: skip

# %%
frame = pd.concat(result.to_frame() for result in cliff.values())
shown = frame[["name", "outcome", "count", "share", "p50_ms", "p99_ms"]]
print("; ".join(f"{k}: {cliff['naive'].environment[k]}" for k in ("loop", "workload", "seed")))
print(f"started late: {', '.join(f'{n} {r.late_share:.0%}' for n, r in cliff.items())}")
shown.style.hide(axis="index").format({"share": "{:.0%}", "p50_ms": "{:.2f}", "p99_ms": "{:.1f}"})

# %% [markdown]
# ## Renew before the end
#
# A hot entry that ends makes all its readers wait for one load. `early` avoids that: shortly before
# the end, each read tosses a coin that grows heavier as the end comes nearer and the longer a
# load takes (XFetch). Who wins gets the value **and** a lease; all others get the value.
#
# The coin comes from outside, so we can force it. `early=1e6` stands for "the end is near".

# %%
calm = CacheAside("hot", ttl=60, jitter=0, early=0)
near = CacheAside("hot", ttl=60, jitter=0, early=1e6, random=lambda: 0.5)
kv.run(calm.fetch(7, load))
for reader, look in (("far from the end", calm), ("first near it", near), ("second near it", near)):
    found = kv.run(look.read(7))
    print(f"{reader:17} served: {found.hit}   renews: {found.lease is not None}")

# %% [markdown]
# ## What it earns: the hit ratio
#
# **Predict.** You double the TTL. Do the misses halve?
#
# With Poisson requests at rate λ for a key, each fill earns λT hits on average before it ends, so
# the hit ratio is λT / (1 + λT), weighed over the keys by popularity. We measure the real
# `CacheAside` (jitter and early renewal off): three skews of popularity, three TTLs, open loop,
# one TTL of warm-up, more than ten of counting.

# %%
from kvlab.chapters import cache_aside_hit_ratio as hit_ratio

ratios = hit_ratio.measure(
    kv, lambda name, ttl: CacheAside(name, ttl, jitter=0, early=0), seed=1,
    skews=(0.5, 1.0, 1.5), ttls=(0.2, 0.4, 0.8), keys=40, rate=400, duration=10,
)  # fmt: skip
assert ratios.worst < 1, f"{ratios.worst:.2f} points off the formula; {ratios.described}"
print(f"largest distance {ratios.worst:.2f} points")
print(ratios.described)
ratios.table()

# %%
charts.hit_ratio_by_ttl(ratios.with_curve())

# %% [markdown]
# Twice the TTL does not halve the misses of a rare key: it is asked for once and ends before it is
# asked for again. The more skewed the popularity, the sooner a short TTL is enough.
#
# Turn the knobs: which TTL gives nine hits in ten? What does a stale value cost you meanwhile?

# %%
hit_ratio.knob(ratios, skew=0.8, ttl=0.3)

# %%
from ipywidgets import FloatLogSlider, FloatSlider, interact

_ = interact(
    lambda skew, ttl: hit_ratio.knob(ratios, skew, ttl),
    skew=FloatSlider(0.8, min=0, max=2, step=0.1),
    ttl=FloatLogSlider(0.3, min=-1.2, max=0.4, step=0.05, description="TTL, s"),
)

# %% [markdown]
# ## The limits that remain
#
# - **Fresh only as far as invalidations reach.** If the server cannot be reached when the row
#   changes, the old value lives until its TTL ends. The TTL is the bound, so choose it as one.
# - **One load only while the lease lives.** A load that outlives its `lease` is joined
#   by a second one, and its own fill is dropped.
# - **A loader that reads a lagging replica** caches old rows, and no lease can see that.
# - **A leader that dies** keeps the others waiting until its lease ends.
# - **The reader of step 1 still has the old row.** It asked before the update; only what is served
#   from the cache afterwards is promised.

# %% tags=["finding"]
print(f"{READERS} readers of a cold key: naive {loads['naive']} loads, hardened {loads['hardened']}; "
      f"stale fill in {stale.violations} of {stale.schedules} orders naive, {fresh.violations} of {fresh.schedules} hardened")  # fmt: skip
kv.clear()
kv.close()
origin.close()

# %% [markdown] tags=["exercise"]
# ## Exercise: a cached loader
#
# Open `exercises/01_cache_aside.ipynb`. You get the ops of a `CacheAside`: `cache.read(key)`,
# `cache.fill(key, lease, value)`, `cache.release(key, lease)`. Write `cached(key, load)` from them:
#
# 1. What is cached is served, also `0` and `None` (no such row).
# 2. An invalidation during the load is honoured: what was loaded before it is not cached.
# 3. When `load` raises, the next caller need not wait for a lease that nobody uses.
#
# A caller who gets neither a hit nor a lease may load for itself and leave the cache alone.

# %% tags=["exercise-setup"]
import contextlib

import kvlab
from kvlab import CacheAside

kv = kvlab.connect(prefix="kvlab:ex01")
kv.clear()
cache = CacheAside("exercise", ttl=60)


# %% tags=["stub"]
def cached(key, load):
    found = kv.run(cache.read(key))
    if found.value:  # is this a hit?
        return found.value
    return load()  # who stores it, under which lease? and what if it raises?


# %% tags=["solution"]
def cached(key, load):
    found = kv.run(cache.read(key))
    if found.hit:
        return found.value
    if found.lease is None:
        return load()
    try:
        value = load()
    except Exception:
        kv.run(cache.release(key, found.lease))
        raise
    kv.run(cache.fill(key, found.lease, value))
    return value


# %% tags=["check"]
def loads_of_three(key, value):
    calls = []
    answers = [cached(key, lambda: calls.append(1) or value) for _ in range(3)]
    assert answers == [value] * 3, f"three reads of {value!r} gave {answers}"
    return len(calls)


for value in ("Ada", 0, "", None):
    n = loads_of_three(f"value {value!r}", value)
    assert n == 1, f"{value!r} was loaded {n} times for three reads; it should be cached after one"
print("what was loaded once is cached, empty values and absent rows too")


# %% tags=["check"]
def overtaken():
    kv.run(cache.invalidate("row"))  # the row changes while we load it
    return "old"


cached("row", overtaken)
served = cached("row", lambda: "new")
assert served == "new", "the fill landed over the invalidation: under which lease did you fill?"
print("an invalidation during the load is honoured")


# %% tags=["check"]
def broken():
    raise LookupError("the database is down")


for _ in range(2):
    with contextlib.suppress(LookupError):
        cached("flaky", broken)
left = kv.run(cache.read("flaky"))
assert left.lease is not None, (
    f"the lease is still held for {left.wait:.0f} s after the load failed"
)
print("a failed load gives the lease back")

# %% tags=["check"]
kv.clear()
kv.close()
print("all checks pass")
