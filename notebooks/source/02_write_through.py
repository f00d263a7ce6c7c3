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

import kvlab
from kvlab import CacheAside, Kv, NaiveCacheAside, NaiveWriteThrough, WriteThrough
from kvlab.connections import resolve
from kvlab.instruments import Origin, environment

url = resolve(None, None)
kv, origin = kvlab.connect(url, prefix="kvlab:ch02"), Origin()
kv.clear()
pd.Series(environment(kv), name="where the numbers below were measured").to_frame()

# %% [markdown]
# ## The simple version

# %%
import inspect

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
    second = lambda: naive.save(7, lambda: [origin.save(7, name="second")[0]])  # noqa: E731
    client = gated(url, before="SETEX")
    slow = NaiveWriteThrough(client, ttl=300, prefix=kv.prefix)
    first, last = while_held(client, lambda: slow.save(7, lambda: [origin.save(7, name="first")[0]]), second)
    return first, last, json.loads(kv.client.get(f"{kv.prefix}user:7"))


# %%
def story(first, last, cached, write):
    old, new = first["version"], last["version"]
    end = "as the database" if cached == origin.read(7) else f"STALE, the database has {new}"
    yield f"writer 1: UPDATE, commit: version {old}; stands before its {write}"
    yield f"writer 2: UPDATE, commit: version {new}; {write} of {new}"
    yield f"writer 1: goes on with its {write} of {old}"
    yield f"the cache has version {cached['version']}, {cached['name']!r}: {end}"


for number, step in enumerate(story(*naive_writers(), "SETEX"), start=1):
    print(f"{number}. {step}")
print(f"and readers are served it for {kv.client.ttl(kv.prefix + 'user:7')} more seconds")

# %% [markdown]
# ## The fix: the version decides, not the clock
#
# `save` is a flow: it runs your write, which returns **row and version**, then stores both with one
# script. To see the op itself, we take the flow's steps by hand:

# %%
cache = CacheAside("customers", ttl=300)
through = WriteThrough(cache)
steps = iter(through.save(7, lambda: ({"name": "Ada"}, 2)))
print(f"step 1: {next(steps).__class__.__name__}, your write")
print(f"step 2: {steps.send(({'name': 'Ada'}, 2))}")

# %% [markdown]
# The script has three keys of one row: the entry, the lease of a reader who may be loading, and
# the newest version known. In one step on the server:
#
# 1. Is a newer version known? Then do nothing and answer 0.
# 2. Else store the row, and the version beside it. The version lives at least as long as the entry.
# 3. Delete the lease. A reader that is loading now may have read an older row; its fill will fail.
#
# The order in which writers reach the cache no longer matters. The same schedule:


# %%
def hardened_writers():
    second = lambda: kv.run(through.save(7, lambda: origin.save(7, name="second")))  # noqa: E731
    client = gated(url, before="EVALSHA")
    with Kv(client, prefix=kv.prefix) as slow:
        save = lambda: slow.run(through.save(7, lambda: origin.save(7, name="first")))  # noqa: E731
        first, last = while_held(client, save, second)
    return first, last, kv.run(through.fetch(7, versioned))


def versioned():
    row = origin.read(7)
    return None if row is None else (row, row["version"])


# %%
first, last, cached = hardened_writers()
for number, step in enumerate(story(first.row, last.row, cached, "store"), start=1):
    print(f"{number}. {step}")
print(f"writer 1 is told: cached={first.cached}; writer 2: cached={last.cached}")

# %% [markdown]
# A race that is forced happens every time, or never:

# %%
TIMES, stale = 20, {"naive": 0, "hardened": 0}
for _ in range(TIMES):
    for variant, race in (("naive", naive_writers), ("hardened", hardened_writers)):
        *_, cached = race()
        stale[variant] += cached["version"] < origin.read(7)["version"]
counted = pd.DataFrame({"schedules": TIMES, "cache older than the database": stale})
counted.rename_axis("variant").reset_index().style.hide(axis="index")

# %% [markdown]
# ## Every order of four steps
#
# Two writers with two steps each can meet in six orders. `walk` takes them one step at a time, on
# the real database and the real server. Versions count from the first write of the walk.

# %%
def walk(order):
    kv.clear()
    zero, pairs, rows = origin.read(7)["version"], {}, []
    for writer in order:
        step = "cache" if writer in pairs else "database"
        pair = pairs.get(writer) or pairs.setdefault(writer, origin.save(7, name=f"by {writer}"))
        if step == "cache":
            naive.save(7, lambda pair=pair: [pair[0]])
            kv.run(through.save(7, lambda pair=pair: pair))
        found = [v and v - zero for v in held()]
        rows.append((f"writer {writer}: {step}", origin.read(7)["version"] - zero, *found))
    return pd.DataFrame(rows, columns=["step", "database", "naive cache", "hardened cache"])


# %%
from itertools import permutations


def held():
    """The versions that the two caches hold now."""
    kept = kv.client.get(f"{kv.prefix}user:7"), kv.client.hget(f"{kv.prefix}{cache.key(7, 'entry')}", "value")
    return [raw and json.loads(raw)["version"] for raw in kept]


ORDERS = ["".join(order) for order in sorted(set(permutations("1122")))]
ends = {order: walk(order).iloc[-1] for order in ORDERS}
wrong = {v: [o for o, end in ends.items() if end[f"{v} cache"] != end["database"]] for v in stale}
print(f"{len(ORDERS)} orders; naive ends stale in {len(wrong['naive'])}: {', '.join(wrong['naive'])}; hardened in {len(wrong['hardened'])}")

# %%
def stepper(order):
    shown = walk(order).astype("string").fillna("nothing")
    return shown.style.hide(axis="index").set_caption(f"order {order}: each digit is a step of that writer")


stepper("1221")

# %% [markdown]
# Choose an order. Which rule tells you, from the digits alone, that the naive cache ends stale?

# %%
from ipywidgets import Dropdown, interact

interact(stepper, order=Dropdown(options=ORDERS, value="1212"))

# %% [markdown]
# ## A deleted row comes back
#
# **Predict.** A reader has loaded a row and is about to fill the cache. Now the row is deleted, and
# its key too, as in `remove` above. What does the next reader get?


# %%
def naive_ghost():
    client = gated(url, before="SETEX")
    reader = NaiveCacheAside(client, ttl=300, prefix=kv.prefix)
    remove = lambda: naive.remove(7, lambda: origin.remove(7))  # noqa: E731
    while_held(client, lambda: reader.get(7, lambda: origin.read(7)), remove)
    return NaiveCacheAside(kv.client, prefix=kv.prefix).get(7, lambda: origin.read(7))


def hardened_ghost():
    client = gated(url, before="EVALSHA", nth=2)  # the first is its read, the second its fill
    remove = lambda: kv.run(through.remove(7, lambda: origin.remove(7)))  # noqa: E731
    with Kv(client, prefix=kv.prefix) as reader:
        while_held(client, lambda: reader.run(through.fetch(7, versioned)), remove)
    return kv.run(through.fetch(7, versioned))


# %%
ghosts = {"naive": 0, "hardened": 0}
for _ in range(TIMES):
    for variant, race in (("naive", naive_ghost), ("hardened", hardened_ghost)):
        kv.clear()
        origin.save(7, name="Ada")
        served = race()
        ghosts[variant] += served is not None and origin.read(7) is None
print("1. reader: finds nothing, loads the row\n2. reader: stands before it fills the cache")
print("3. remover: DELETE, commit; then tells the cache\n4. reader: goes on with its fill")
print("5. next reader: is served a row that the database does not have: "
      + ", ".join(f"{variant} {n} of {TIMES} times" for variant, n in ghosts.items()))  # fmt: skip
origin.save(7, name="Ada");

# %% [markdown]
# `remove` does not delete the entry. It stores **the absence, with the version of the deletion**
# (a tombstone), and ends the lease. A late fill and a late writer both fail against it.
#
# ## No row, and a database that says no
#
# `updated[0]` of an empty result is `undefined`, and the simple version caches that. And when the
# database refuses? Here the simple version is right as well: it never comes to its SETEX.

# %%
from sqlalchemy.exc import IntegrityError


def saved_by(variant, key, **fields):
    update = lambda: origin.update(key, **fields)  # noqa: E731
    try:
        if variant == "hardened":
            return kv.run(through.save(key, update)).cached
        return naive.save(key, lambda: [row for row, _ in filter(None, [update()])]) is not None
    except IntegrityError:
        return "raises IntegrityError"


# %%
def entry(variant, key):
    if variant == "naive":
        raw = kv.client.get(f"{kv.prefix}user:{key}")
    else:
        raw = kv.client.hget(f"{kv.prefix}{cache.key(key, 'entry')}", "value")
    return "no entry" if raw is None else raw.decode()


cases = (("update of an unknown id", 5000, "Nobody"), ("an empty name, refused", 8, ""))
rows = [(case, variant, saved_by(variant, key, name=name), entry(variant, key))
        for case, key, name in cases for variant in ("naive", "hardened")]  # fmt: skip
pd.DataFrame(rows, columns=["case", "variant", "says that it cached a row", "cache then holds"]).style.hide(axis="index")

# %% [markdown]
# ## The cache is away after the commit
#
# The row is committed, and then the cache cannot be reached. A proxy in front of the server
# refuses connections. Readers go another way and still reach it. TTL: half a second.

# %%
import time

import redis

from kvlab.instruments import Proxy

brief = CacheAside("brief", ttl=0.5, jitter=0, early=0)
short = WriteThrough(brief)
kv.run(short.fetch(7, versioned))
with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix, timeout=0.2, deadline=0.3) as far:
    proxy.refuse()
    told = far.run(short.save(7, lambda: origin.save(7, name="Lovelace")))
    try:
        NaiveWriteThrough(far.client, prefix=kv.prefix).save(7, lambda: [origin.save(7, name="King")[0]])
    except redis.ConnectionError as error:
        lost = type(error).__name__

# %%
def gap():
    return origin.read(7)["version"] - kv.run(short.fetch(7, versioned))["version"]


left = kv.client.pttl(f"{kv.prefix}{brief.key(7, 'entry')}")
print(f"hardened: row {told.row['name']!r}, cached={told.cached}, {type(told.error).__name__}")
print(f"naive: {lost}, the row is lost to the caller; the database has {origin.read(7)['name']!r}")
print(f"readers at once: {gap()} versions behind, entry ends in {left} ms")
time.sleep(max(left, 0) / 1000 + 0.02)
print(f"after its TTL: {gap()} versions behind")

# %% [markdown]
# The naive caller gets an exception and cannot know that the row is committed. A retry would write
# twice. The hardened one gets its row, and `cached=False` with the reason. That is not a failure of
# the write: the cache is behind, for `lease + ttl` at most.
#
# ## Stale reads over time
#
# Now nothing is forced in order. Four writers change four hot rows, readers arrive in an open loop,
# and every read is judged: **stale** means that it was served a version older than one whose writer
# had been told "done" (committed, cache call over) before the read began.
#
# Three ways, the same load: **cache-aside** as in the seed (DEL after each write), **naive** and
# **hardened** write-through. Between each answer of the database and the cache command that follows
# it lies a random pause, drawn alike for all three, in writers and loading readers. It stands for
# what a busy process does there: collect garbage, lose its core, wait for a network. It makes the
# window wide enough to see in seconds. Further down it is taken away.
#
# **Predict.** Which of the three serves the most stale reads? Which loads most often?

# %%
from kvlab.instruments import OpenLoop, staleness

WRITERS, PAUSE = 4, 0.003
aside = NaiveCacheAside(kv.client, ttl=300, prefix=kv.prefix)
ways = {
    "cache-aside": (aside.get, lambda key, commit: (commit(), aside.invalidate(key))),
    "naive": (aside.get, lambda key, commit: naive.save(key, lambda: [commit()[0]])),
    "hardened": (
        lambda key, load: kv.run(through.fetch(key, lambda: (row := load()) and (row, row["version"]))),
        lambda key, commit: kv.run(through.save(key, commit)),
    ),
}


# %%
def measured(name, pause, duration):
    kv.clear()
    read, write = ways[name]
    return staleness.measure(
        read, write, origin, keys=4, writers=WRITERS, think=0.02, pause=pause, name=name,
        arrivals=OpenLoop(400, workers=6), duration=duration, bucket=0.3, seed=1,
    )  # fmt: skip


runs = {name: measured(name, PAUSE, 2.4) for name in ways}
facts = runs["naive"].reads.environment
print("; ".join(f"{k}: {facts[k]}" for k in ("loop", "workload", "seed", "warmup", "repetitions")))
print(f"started over 1 ms late: {', '.join(f'{n} {r.reads.late_share:.0%}' for n, r in runs.items())}")

# %%
per = {name: run.per_1000 for name, run in runs.items()}
staleness.chart(
    runs,
    title=f"Stale reads per 1,000: cache-aside {per['cache-aside']:.0f}, naive write-through "
    f"{per['naive']:.0f}, hardened {per['hardened']:.0f}",
    remark=f"{WRITERS} writers, four hot rows, mean pause {PAUSE * 1e3:g} ms between database and cache",
)

# %% [markdown]
# How one of them came about. These are the notes that the threads took; a line is written when its
# call has returned.

# %%
for name in ("cache-aside", "naive", "hardened"):
    print(f"{name}: {runs[name].reads.violations} stale reads of {runs[name].reads.count}")
    for number, line in enumerate(runs[name].ledger.schedule(), start=1):
        print(f"  {number}. {line}")

# %% [markdown]
# Cache-aside with DEL fails by the late **fill**, naive write-through by the late **writer**. It is
# one mistake: a value arrives without saying how old it is.
#
# Is the pause to blame? The same without it:

# %%
rows = [(name, run.reads, pause) for pause, each in ((PAUSE, runs), (0, {n: measured(n, 0, 1.2) for n in ways}))
        for name, run in each.items()]  # fmt: skip
bare = pd.DataFrame(
    [(name, pause * 1e3, reads.count, reads.violations, 1000 * reads.share("stale")) for name, reads, pause in rows],
    columns=["variant", "mean pause, ms", "reads", "stale", "stale per 1,000"],
)
bare.style.hide(axis="index").format({"mean pause, ms": "{:g}", "stale per 1,000": "{:.1f}"})

# %% [markdown]
# Rare is not never: a row that went stale stays so until somebody writes it again or the TTL ends.
# A quiet row has nobody to heal it.
#
# ## What it costs
#
# Round trips after the database, counted by a proxy:

# %%
trips = {}
with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    other = NaiveWriteThrough(far.client, prefix=kv.prefix)
    run = {"naive": lambda op, key, do: getattr(other, op)(key, lambda: [do()]),
           "hardened": lambda op, key, do: far.run(getattr(through, op)(key, lambda: (do(), 1)))}  # fmt: skip
    for variant in run:
        for key in ("connected", "counted"):
            proxy.reset()
            run[variant]("save", key, lambda: "row")
            trips[variant, "save"] = proxy.requests
        proxy.reset()
        run[variant]("remove", "gone", lambda: 1) if variant == "naive" else far.run(through.remove("gone", lambda: 1))
        trips[variant, "remove"] = proxy.requests

# %%
table = pd.Series(trips).unstack()[["save", "remove"]]
table.rename_axis("round trips").reset_index().style.hide(axis="index")

# %% [markdown]
# The reads of the run above, with what each variant got wrong in that same run. A reader that loads
# meets the pause too, so what a variant loads shows in its tail.

# %%
from kvlab.instruments import charts

p50 = {name: run.reads.latency.percentile(50) for name, run in runs.items()}
charts.latency_percentiles(
    {name: run.reads for name, run in runs.items()},
    title=f"Violations: cache-aside {runs['cache-aside'].reads.violations}, naive {runs['naive'].reads.violations}, "
    f"hardened {runs['hardened'].reads.violations}; median read {p50['hardened'] / p50['naive']:.1f} times the naive one",
)

# %% [markdown]
# ## What it earns
#
# Readers need not load what a writer has stored.

# %%
rows = [(name, run.reads.count, run.loads, 1000 * run.loads / run.reads.count, run.writes.count,
         run.writes.percentile(50) * 1e3, run.reads.violations) for name, run in runs.items()]  # fmt: skip
earned = pd.DataFrame(rows, columns=["variant", "reads", "loads", "loads per 1,000 reads", "writes",
                                     "write p50, ms", "stale reads"])  # fmt: skip
earned.style.hide(axis="index").format({"loads per 1,000 reads": "{:.0f}", "write p50, ms": "{:.1f}"})

# %% [markdown]
# ## The limits that remain
#
# The cache can order what it is told. It cannot know what it is not told. Three ways to show it,
# each against the hardened version:

# %%
def write_past():
    origin.save(7, name="changed in a SQL console")


def crashed_writer():
    client = gated(url, before="EVALSHA", crash=True)
    with client, Kv(client, prefix=kv.prefix) as doomed, contextlib.suppress(ClientCrashed):
        doomed.run(through.save(7, lambda: origin.save(7, name="by a writer that dies")))


def lost_version():
    early, late = origin.save(7, name="early"), origin.save(7, name="late")
    kv.run(through.save(7, lambda: late))
    kv.client.delete(f"{kv.prefix}{cache.key(7, 'version')}")  # evicted, or a failover lost it
    kv.run(through.save(7, lambda: early))


# %%
import contextlib

from kvlab.instruments import ClientCrashed

rows = []
for limit in (write_past, crashed_writer, lost_version):
    kv.clear()
    kv.run(through.fetch(7, versioned))
    limit()
    behind = origin.read(7)["version"] - kv.run(through.fetch(7, versioned))["version"]
    rows.append((limit.__name__, behind, kv.client.ttl(f"{kv.prefix}{cache.key(7, 'entry')}")))
pd.DataFrame(rows, columns=["limit", "versions behind", "for how long, s"]).style.hide(axis="index")

# %% [markdown]
# | what no cache protocol gives alone | why | what the database must do |
# |---|---|---|
# | an order of two commits | arrival at the cache says nothing about it | a version per row, raised in the same transaction, deletes included |
# | the cache told of *every* commit | a writer can die between the two | an outbox row in the transaction, or a change feed that replays |
# | writes that go past `save` | nobody tells the cache | the same feed, or `invalidate` after them |
# | a read that is true *when you act on it* | it was true when it was served | `UPDATE … WHERE version = …`: the database checks |
# | no stale fill from a lagging replica | its rows are old when they are loaded | say the version (`WriteThrough.fetch`), or read the primary |
#
# Without all that the TTL is the bound. Choose it as the longest time you can bear to be wrong.

# %% tags=["finding"]
print(f"two writers, {TIMES} forced schedules: stale cache naive {stale['naive']}, hardened {stale['hardened']}; "
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
    raw = kv.run(Op("HGET", Key(key), "row"))
    return None if raw is None else json.loads(raw)


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
