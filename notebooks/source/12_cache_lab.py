# %% [markdown]
# # The cache lab: what to evict, and what it costs
#
# *About 35 minutes. Before this chapter: 01.*
#
# A cache is smaller than the data, so it must throw entries away. `maxmemory` sets the limit of the
# server's memory. `maxmemory-policy` chooses what is **evicted** (thrown away) when the limit is
# reached. This chapter runs the policies of a real server side by side, on the same keys, and draws
# theory over each measured number:
#
# - **no limit**: the cache forgets nothing. Only the first request for a key misses.
# - **Belady's optimum**: the cache knows the future, and evicts the key that is asked for last
#   again. No cache that stores each missed key does better.
# - **exact LRU** (least recently used) evicts the key whose last use is longest ago.
# - **Che's formula** computes the hit ratio of an exact LRU from the popularities alone.

# %%
import pandas as pd

from kvlab.chapters.cache_lab import charts, workloads
from kvlab.instruments import environment
from kvlab.server import engines

with engines.start("valkey") as server, server.client() as client:
    engine = client.info("server").get("valkey_version", "unknown")
machine = environment() | {"engine": f"Valkey {engine}, one server for each cache"}
pd.Series(machine, name="the numbers below were measured on").to_frame()

# %% [markdown]
# ## Four workloads
#
# Each workload has 24,000 requests. One client sends them in a closed loop, and pauses to keep a
# pace of 5,000 a second. The first 8,000 are the warm-up. Each cache holds about 2,000 items of 60
# bytes. The seed is 12.
#
# - **Zipf**: 10,000 keys, a few of them very popular, and nothing changes.
# - **moving hot spot**: a tenth of the keys gets nine tenths of the requests, and this tenth changes
#   every 4,000 requests.
# - **Zipf and a scan**: half of the requests come from a job that reads keys that nobody else reads.
# - **latest**: every tenth request writes a new key, and new keys are the popular ones.

# %%
sequences = workloads.workloads()
pd.DataFrame(
    {
        name: {"requests": len(keys), "different keys": len(set(keys.tolist()))}
        for name, keys in sequences.items()
    }
).T

# %% tags=["predict"]
from kvlab.workshop import predict

best_guess = predict(
    "12-best-for-zipf",
    "The popularities follow Zipf and never change. Which policy has the highest "
    "hit ratio?",
    ["LRU", "LFU", "random", "volatile-ttl"],
)

# %%
measured = {name: workloads.four_policies(keys) for name, keys in sequences.items()}
frames = [workloads.table(name, sequences[name], measured[name]) for name in measured]
ratios = pd.concat(frames)
ratios.pivot(index="cache", columns="workload", values="hit ratio").round(3)

# %%
charts.by_workload(ratios, title=charts.best_policies(ratios))

# %% tags=["predict"]
best = charts.best_of(ratios)
best_guess.measured(best["Zipf"])

# %% [markdown]
# **LFU** counts how often a key is used. Where popularity does not change, counting is what one
# wants: the popular keys stay. When the hot spot moves, the counts are about yesterday, and LFU
# keeps keys that nobody asks for.
#
# **LRU** adapts immediately, and a scan empties it: each key of the scan is the most recent one.
# **volatile-ttl** evicts the key whose TTL ends first. All keys have one TTL here, so it is *first
# in, first out*. **random** needs no clock and no counter, and it is never much worse.
#
# The distance from the best policy to Belady's optimum is what a cleverer policy could win. The
# distance from Belady to *no limit* is what more memory could win. For these short sequences it is
# nearly nothing: who knows the future needs no more than 2,000 items.
#
# ## Measured LRU and Che's formula
#
# Che's formula assumes that the requests are independent and that the popularities stay. The
# workload *Zipf* is made so.

# %%
zipf = ratios[ratios["workload"] == "Zipf"].set_index("cache")["hit ratio"]
lru_names = ["LRU", "exact LRU", "Che's LRU"]
in_points = 100 * (zipf[lru_names] - zipf["Che's LRU"])
pd.DataFrame({"hit ratio": zipf[lru_names], "points from Che": in_points}).round(3)

# %% [markdown]
# The server's LRU is a sample: it looks at `maxmemory-samples` keys and evicts the one that was used
# least recently among them. So the server is a little below an exact LRU, and an exact LRU of 24,000
# requests is near Che.
#
# ## A clock that ticks once a second
#
# The server remembers *when* a key was used, in whole seconds. What does the same workload give
# when the requests come as fast as they can?

# %% tags=["predict"]
clock_guess = predict(
    "12-fast-clock",
    "The whole workload takes a second or two. LRU now has a hit ratio nearest to "
    "that of …",
    ["exact LRU", "random", "LFU"],
)

# %%
from kvlab.chapters.cache_lab.real_cache import CacheSettings, measure

hurried = {
    "LRU": CacheSettings("allkeys-lru", workloads.ITEMS),
    "random": CacheSettings("allkeys-random", workloads.ITEMS),
}
asked = sequences["Zipf"]
at_once = measure(hurried, asked, rate=0, warm=workloads.WARM)
fast = pd.Series({name: one.ratio for name, one in at_once.items()})
pd.DataFrame({"5,000 a second": zipf[["LRU", "random"]], "at once": fast}).round(3)

# %% tags=["predict"]
others = zipf[["exact LRU", "random", "LFU"]]
clock_guess.measured((others - fast["LRU"]).abs().idxmin())

# %% [markdown]
# Within one second all keys look equally old, so LRU chooses by chance. A benchmark that replays an
# hour of requests in a second measures *random* and calls it LRU. The pace belongs to the workload.
#
# ## Sampling, and the size of the cache
#
# One sample is random eviction. Ten samples cost CPU time at each eviction, and are nearer to an
# exact LRU. The same run has three more caches of other sizes.

# %%
caches = {
    f"samples {n}": CacheSettings("allkeys-lru", workloads.ITEMS, samples=n)
    for n in (1, 5, 10)
}
SIZES = (500, 1_000, 4_000)
caches |= {f"items {n}": CacheSettings("allkeys-lru", n) for n in SIZES}
sampled = measure(caches, asked, rate=workloads.RATE, warm=workloads.WARM)
samples = {name: sampled[name].ratio for name in list(caches)[:3]}
pd.Series(samples, name="hit ratio").round(3).to_frame()

# %%
by_size = {name: one for name, one in sampled.items() if "items" in name}
by_size["items 2000"] = measured["Zipf"]["LRU"]
curves = workloads.curves(sequences["Zipf"])
title = charts.distance(by_size, curves["Che's LRU"], least=workloads.ITEMS)
charts.by_size(curves, by_size, title=title)

# %% [markdown]
# The curve is the **miss-ratio curve**: what each further item earns. Its lines come from the trace
# (the list of the requests) alone, in one pass and without a server. Read a size from this curve
# before you buy memory. The points are the server's LRU, at the number of items that it really
# held.
#
# Small caches part from the curve: an item stays in them for less than a second, and the server's
# clock cannot tell which of two items is older.
#
# ## Your own access log
#
# `read_access_log` reads a CSV file or one key a line, plain or gz. The next cell reads a trace that
# was recorded from a cache of this workbook. **Put the path of your own log in its place.**

# %%
from kvlab.chapters.cache_lab import recorded, theory
from kvlab.instruments import read_access_log

log = read_access_log(recorded.path(), key="key", time="seconds")
sizes = [50, 100, 200, 500, 1_000, 2_000]
own = theory.lru_curve(log.asked, sizes)
print(
    f"{len(log):,} requests for {log.asked.max() + 1:,} keys in {log.times[-1]:.0f} s"
)
print(f"without a limit {theory.no_limit(log.asked):.1%} hit")
pd.Series(own, name="hit ratio of an LRU of so many items").round(3).to_frame()

# %% [markdown]
# ## Neighbours: a hot key and a big key
#
# One server answers one command at a time. A client asks for a small key again and again. What does
# it notice of others?

# %% tags=["predict"]
neighbour_guess = predict(
    "12-worst-neighbour",
    "Which neighbour makes the longest wait?",
    ["a hot key: two clients ask for one key", "a big key: HGETALL of 100,000 fields"],
)

# %%
from kvlab.chapters.cache_lab.neighbours import latencies

waits = latencies().set_index("situation")
waits.round(3).rename(columns=lambda name: f"{name}, ms")

# %% tags=["predict"]
neighbour_guess.measured(waits["max"].drop("alone").idxmax())

# %% [markdown]
# A hot key makes every call a little slower, because the server is busy. A big key stops everybody
# for as long as its command runs: look at the maximum. Read big values in parts (`HSCAN`), and delete
# them with `UNLINK`.
#
# ## What an entry costs
#
# The values have 20 bytes. The rest is the key, and the server's own bookkeeping. An entry is a
# string of its own, a field of one big hash, or a field of a hash with 100 fields.

# %%
from kvlab.chapters.cache_lab.memory import bytes_an_entry
from kvlab.instruments.charts.shapes.bars import bars

entries = bytes_an_entry()
cheap = entries.loc[entries["bytes"].idxmin()]
title = f"The same entry costs {entries['bytes'].max()} or {cheap['bytes']} bytes"
bars(entries, x="layout", y="bytes", title=title, ylabel="bytes an entry, key included")

# %% [markdown]
# Small hashes are stored as one block without pointers (`hash-max-listpack-entries`). More entries
# fit into the same memory, and so the hit ratio rises along the miss-ratio curve. The price: fields
# of a hash are evicted together, and they share a TTL.
#
# ## The limits that remain
#
# - **A policy is a guess about your workload.** Record it, read its curve, then choose.
# - **Evict nothing that must stay.** `allkeys-*` evicts locks and sessions too: put them on another
#   server, or use `volatile-*` and give only cache entries a TTL.
# - **Che and Belady know sizes in items.** Values of different sizes need weights.

# %% tags=["finding"]
hot = ratios[ratios["workload"] == "moving hot spot"].set_index("cache")["hit ratio"]
che, optimum = zipf[["Che's LRU", "Belady's optimum"]]
print(
    f"hit ratio under Zipf: LRU {zipf['LRU']:.2f} (Che's formula {che:.2f}), LFU "
    f"{zipf['LFU']:.2f}, optimum {optimum:.2f}; a moving hot spot: "
    f"LRU {hot['LRU']:.2f}, LFU {hot['LFU']:.2f}"
)

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `exercises/12_cache_lab.ipynb` has a short exercise (10 minutes) and a longer one.
#
# 1. `hits`: the hits of an exact LRU.
# 2. `items_for`: the smallest cache that is enough.

# %% tags=["exercise-setup"]
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: the hits of an exact LRU
#
# Write `hits(asked, items)`. `asked` is the list of the keys in the order of the requests, and the cache
# holds at most `items` of them (1 or more). A key that is not held is a miss, and is stored. When there
# is no room, the key that was **used least recently** is evicted. Return the number of hits.
#
# If you need help, run `hint("12-short")`: three hints, then a solution.


# %% tags=["stub"]
def hits(asked, items):
    held = []
    found = 0
    for key in asked:
        if key in held:
            found += 1
        elif len(held) == items:
            held.pop(0)
        held.append(key)  # and what does a hit change?
    return found


# %% tags=["solution"]
def hits(asked, items):
    held = []
    found = 0
    for key in asked:
        if key in held:
            found += 1
            held.remove(key)
        elif len(held) == items:
            held.pop(0)
        held.append(key)
    return found


# %% tags=["check"]
check("12-short", hits)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: the smallest cache that is enough
#
# Write `items_for(asked, wanted)`. `asked` is again the list of the keys. Return the smallest number of
# items, 1 or more, with which an exact LRU has a hit ratio of at least `wanted`. Return `None` when no
# cache is large enough. The hit ratio is hits divided by requests, and the first request for a key is a
# request too.
#
# If you need help, run `hint("12")`: three hints, then a solution.


# %% tags=["stub"]
def items_for(asked, wanted):
    return len(set(asked))  # enough, as far as any size is; but is it the smallest?


# %% tags=["solution"]
def lru_hits(asked, items):
    held = []
    found = 0
    for key in asked:
        if key in held:
            found += 1
            held.remove(key)
        elif len(held) == items:
            held.pop(0)
        held.append(key)
    return found


# %% tags=["solution"]
def items_for(asked, wanted):
    for items in range(1, len(set(asked)) + 1):
        if lru_hits(asked, items) / len(asked) >= wanted:
            return items
    return None


# %% tags=["check"]
check("12", items_for)
