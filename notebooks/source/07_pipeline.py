# %% [markdown]
# # Pipeline
#
# Send many commands, then read many replies: one round trip instead of many. Nothing else in this
# workbook earns as much for as little code. It is also taken for something that it is not: a
# transaction.
#
# **The guarantee we want:**
#
# - `kv.run(a, b)` is one round trip, and each reply reaches its op;
# - one failing op fails alone;
# - with `atomic=True` all ops are applied or none is, a cut connection included;
# - a huge list travels in pieces that the server can hold;
# - concurrent awaits travel together, without a change at the place that awaits (`AutoBatch`).

# %%
import pandas as pd

import kvlab
from kvlab import Key, Kv, NaivePipeline, Op
from kvlab.core.server_url import server_url
from kvlab.instruments import environment, explore

url = server_url()
kv = kvlab.connect(url, prefix="kvlab:ch07")
kv.clear()
pd.Series(environment(kv), name="where the numbers below were measured").to_frame()

# %% [markdown]
# ## The simple version
#
# A dashboard of four reads, and a batch of counters, as the tutorial has them. The dashboard is
# right. Ours is four ops, and `kv.run(*ops)` is the pipeline; a proxy counts what travels.

# %%
import inspect

naive = NaivePipeline(kv.client, prefix=kv.prefix)
print(inspect.getsource(NaivePipeline.dashboard))
print(inspect.getsource(NaivePipeline.batch_update_counters))

# %%
from kvlab.pipeline import add_to_counters, dashboard

news = [part for n in range(9) for part in (n, f"message {n}")]
kv.run(
    Op("SET", Key("user:{7}:profile"), "Ada", "EX", 600),
    Op("ZADD", Key("user:{7}:notifications"), *news),
    Op("HSET", Key("user:{7}:stats"), "wins", 3),
)
print(*dashboard(7), "", *kv.run(*dashboard(7)), sep="\n")

# %%
from kvlab.instruments import Proxy

trips = []
with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    tutorial = NaivePipeline(far.client, prefix=kv.prefix)
    ways = {"four runs": lambda: [far.run(op) for op in dashboard(7)],
            "tutorial": lambda: tutorial.dashboard("{7}"), "one run": lambda: far.run(*dashboard(7))}  # fmt: skip
    for name, read in ways.items():
        read(), proxy.reset(), read()  # the first connects
        trips.append((name, proxy.requests, len(proxy.commands)))
pd.DataFrame(trips, columns=["dashboard", "round trips", "commands"]).style.hide(axis="index")

# %% [markdown]
# ## One round trip is not one step
#
# **Predict.** A client adds 1 to each of 1,000 counters in one pipeline. It dies while it sends:
# 154 commands have left, the 155th has not. How many counters has the server changed? The client is
# started again and repeats the batch. What do the counters say?
#
# A client with a gate dies at the wire, before the command we name. So it dies at the same place
# each time.

# %%
from kvlab.chapters.pipeline_lost_connection import cut_and_repeated

COUNTERS, DIES_BEFORE = {f"c{i}": 1 for i in range(1000)}, 155


def naive_batch(client):
    return NaivePipeline(client, prefix=kv.prefix).batch_update_counters(COUNTERS)


torn = cut_and_repeated(kv, url, "INCRBY", DIES_BEFORE, naive_batch, "c[0-9]*")
print(*(f"{number}. {step}" for number, step in enumerate(torn.steps, start=1)), sep="\n")

# %% [markdown]
# Nothing failed in the server: a pipeline is many commands that happen to travel together, and each
# is applied when it is read. `kv.run(ops)` without more is the same in this respect.
#
# ## The fix: `atomic=True`
#
# MULTI goes before the ops and EXEC after them. The server keeps what comes between and applies it
# at EXEC, in one step; without an EXEC it forgets it. An op here is a small script, since the
# tutorial's counters also live for ever: INCRBY, then PEXPIRE when the counter is new. Below is one,
# then the same schedule.
#
# That was a cut inside *one* write. What comes *between* writes, `explore` finds without being told.
# Two counters belong together; one client adds 1 to both, another looks at both; and anything may
# be lost, crash, or be forgotten.
#
# **Predict.** Which of three ways is wrong: the tutorial's pipeline, one run for each, `atomic`?


# %%
def atomic_batch(client):
    with Kv(client, prefix=kv.prefix) as counting:
        return counting.run(add_to_counters("views", COUNTERS), atomic=True)


print(add_to_counters("views", COUNTERS)[0], "\n")
whole = cut_and_repeated(kv, url, "EVAL", DIES_BEFORE, atomic_batch, "counters:*")
print(*(f"{number}. {step}" for number, step in enumerate(whole.steps, start=1)), sep="\n")

# %%
two = add_to_counters("pair", {"a": 1, "b": 1})
names = {op.keys[0].name: 1 for op in two}
ways = {"naive": lambda kv: NaivePipeline(kv, prefix="kv:").batch_update_counters(names),
        "one by one": lambda kv: [kv.run(op) for op in two],
        "atomic": lambda kv: kv.run(two, atomic=True)}  # fmt: skip
look = lambda kv: kv.run([Op("GET", key, decode=lambda n: int(n or 0), idempotent=True) for key in map(Key, names)])  # fmt: skip # noqa: E731
fine = lambda world: all(a == b <= 1 for a, b in (look(world.kv), world.results[1]))  # noqa: E731
faults = {"crashes": True, "lost_replies": True, "lost_requests": True, "script_flushes": True}
told = {way: explore({"adds": add, "looks": look}, invariant=fine, **faults) for way, add in ways.items()}  # fmt: skip
print(*(f"{way:10} {story.summary}" for way, story in told.items()), sep="\n")
told["naive"]

# %% [markdown]
# The tutorial's batch is one write, so no order of writes tears it here. But redis-py sends it again
# when the reply is lost, without a word, and everything is counted twice. One by one, the looker
# comes between, and a crash leaves a half. `atomic` is whole in every run; after a lost reply
# `kv.run` sends nothing again, and its `BatchFailed` says `OutcomeUnknown`.
#
# ## One failing op fails alone
#
# **Predict.** One of three counters holds text. What becomes of the two others? And with `atomic`?

# %%
from kvlab.errors import BatchFailed

three = add_to_counters("g", {"a": 1, "b": 1, "c": 1})
for atomic in (False, True):
    kv.clear()
    kv.run(Op("SET", three[1].keys[0], "text", "EX", 60))
    try:
        kv.run(three, atomic=atomic)
    except BatchFailed as failed:
        shown = [getattr(r, "code", r) for r in failed.results]
        print(f"atomic={atomic}: {shown}, then", kv.run([Op("GET", op.keys[0]) for op in three]))

# %% [markdown]
# Each op has its value or its error in `BatchFailed.results`. **MULTI does not roll back**: it
# promises that all are *tried* in one step. Where one may forbid the other, write a script that
# looks first and writes after.
#
# ## What it costs
#
# Batches of 50 counters, in turns: the tutorial's pipeline, the same INCRBY in MULTI, and the
# scripts with a TTL in MULTI. Closed loop of one. Every 20th batch is sent by a client that dies
# midway. A violation is a batch that is applied in part.

# %%
from itertools import count

FIFTY, number = dict.fromkeys(map(str, range(50)), 1), count(1)


def tutorial(kv, ops):
    names = {op.keys[0].name: 1 for op in ops}
    return NaivePipeline(kv.client, prefix=kv.prefix).batch_update_counters(names)


def in_multi(kv, ops):
    return kv.run([Op("INCRBY", op.keys[0], 1) for op in ops], atomic=True)


# %%
from kvlab.chapters.pipeline_lost_connection import deaths_in_turns

deaths = deaths_in_turns(
    kv, url, lambda: add_to_counters(f"batch {next(number)}", FIFTY), turns=7,
    ways={"naive": ("INCRBY", tutorial), "MULTI": ("INCRBY", in_multi),
          "hardened": ("EVAL", lambda kv, ops: kv.run(ops, atomic=True))},
)  # fmt: skip
runs = deaths.runs
for way, run in runs.items():
    price = "" if way == "naive" else f"; median time over naive: {deaths.prices[way]}"
    print(f"{way:8} {run.violations:2} of {deaths.died} applied in part{price}")

# %%
from kvlab.instruments import charts

charts.latency_percentiles({way: runs[way] for way in ("naive", "hardened")}, title=(
    f"{deaths.died} died midway, applied in part: "
    f"{runs['naive'].violations} naive, {runs['hardened'].violations} hardened"
))  # fmt: skip

# %% [markdown]
# One round trip in each of the three; the difference is bytes and the server's work. In MULTI a
# script travels as its text (EVAL), not as its hash: a hash that the server has forgotten would fail
# alone, and the rest be applied without it.
#
# ## What it earns: trips × distance
#
# **Predict.** 100 values from a server 20 ms away, asked for one by one: how long? In one run?

# %%
from kvlab.chapters.pipeline_batches import by_distance

reads = [Op("GET", Key(f"n:{i}"), decode=int) for i in range(500)]
kv.run([Op("SET", Key(f"n:{i}"), i, "EX", 600) for i in range(500)])
with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    distance = by_distance(
        far.run, lambda: far.run(Op("PING")), proxy, reads[:100], range(100),
        sizes=(1, 10, 100), delays=(0, 0.001, 0.005, 0.020), repeats=3,
    )  # fmt: skip

# %%
from kvlab.chapters import pipeline_charts as batch_charts

farthest = distance[distance["delay"] == distance["delay"].max()].set_index("size")["seconds"] * 1e3
batch_charts.time_by_distance(distance, title=(
    f"100 values from {distance['delay'].max() * 1e3:.0f} ms away: {farthest[1]:,.0f} ms one by one, "
    f"{farthest[100]:.0f} ms in one run"
))  # fmt: skip

# %% [markdown]
# The dashed lines are arithmetic, and nothing is fitted: trips × distance. **That is why the pattern
# exists.** What lies above the dashes is work: the client's, the server's and the proxy's, which
# handles each command by itself. No batch takes work away.
#
# How large should a batch be? The nearest server there is, no proxy; 500 values in batches:

# %%
from kvlab.chapters.pipeline_batches import throughput

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
sizes = throughput(kv.run, reads, range(500), sizes=SIZES, turns=7)
gain = sizes["rate"] / sizes["rate"].iloc[0]
enough = sizes["size"][sizes["rate"] >= 0.8 * sizes["rate"].max()].iloc[0]
batch_charts.throughput_by_size(sizes, title=(
    f"Batches: {gain.max():.0f} times the throughput, most of it (80 %) with {enough}"
))  # fmt: skip

# %% [markdown]
# Two numbers explain the curve: what a trip costs and what an op costs. Once the ops of a batch cost
# more than its trip, a larger one earns little, and it has its price: see below.
#
# Turn the knobs. Which batch is large enough at 1 ms? And at 20?

# %%
batch_charts.knob(distance, size=10, distance=0.005)

# %%
from ipywidgets import IntSlider, SelectionSlider, interact

interact(
    lambda batch, milliseconds: batch_charts.knob(distance, batch, milliseconds / 1e3),
    batch=IntSlider(10, min=1, max=100),
    milliseconds=SelectionSlider(options=(0.5, 1, 2, 5, 10, 20, 50), value=5, description="distance, ms"),
)  # fmt: skip

# %% [markdown]
# ## A huge list is chunked
#
# A pipeline has one more cost: the server keeps every reply until the client reads it, and the
# tutorial's client reads after it has sent all. `kv.run([ops])` sends 500, reads 500.
#
# Forced: the client stops when it has read its first reply, and we ask the server what it holds.

# %%
from kvlab.chapters.pipeline_lost_connection import held_back

MANY, BYTES = 5_000, 8_000
kv.run(Op("SET", Key("big"), "x" * BYTES, "EX", 60))
gets = [Op("GET", Key("big"))] * MANY


def all_at_once(client):
    pipeline = client.pipeline(transaction=False)
    for get in gets:
        pipeline.get(kv.name(get.keys[0]))
    return pipeline.execute()


# %%
def in_chunks(client):
    with Kv(client, prefix=kv.prefix) as reader:
        return reader.run(gets)


ways = {"tutorial's way, all at once": all_at_once, "kv.run([ops])": in_chunks}
held = pd.Series({name: held_back(url, "GET", way) / 1e6 for name, way in ways.items()})
print(f"{MANY:,} replies of {BYTES:,} bytes")
table = held.rename_axis("client").reset_index(name="held by the server, MB")
table.style.hide(axis="index").format(precision=1)

# %% [markdown]
# ## AutoBatch: batches out of awaits
#
# In a web server nobody has the list: each request awaits its own value. `AutoBatch` takes the place
# of an `AsyncKv`. What one turn of the event loop asks for leaves together. No window, no timer.
#
# **Predict.** 200 tasks await one value each. How many round trips? And 200 awaits of one task, one
# after the other?

# %%
import asyncio

from kvlab import AutoBatch

akv = await kvlab.aconnect(url, prefix=kv.prefix)
auto, some = AutoBatch(akv), reads[:200]
at_once = lambda kv: asyncio.gather(*(kv.run(op) for op in some))  # noqa: E731


async def in_order(kv):
    return [await kv.run(op) for op in some]


# %%
rows = []
for how, ask in {"200 tasks": at_once, "one after the other": in_order}.items():
    for name, executor in {"each by itself": akv, "AutoBatch": auto}.items():
        before, got = executor.round_trips, await ask(executor)
        wrong = sum(a != b for a, b in zip(got, range(200), strict=True))
        rows.append((how, name, executor.round_trips - before, wrong))
awaits = pd.DataFrame(rows, columns=["awaits", "through", "round trips", "wrong replies"])
awaits.style.hide(axis="index")

# %% [markdown]
# Whoever waits for each reply before the next question has nothing to share.
#
# 1,000 concurrent gets, each awaited by a task of its own: redis-py with a blocking pool of 50,
# which is the usual advice, against `AutoBatch`. Closed load, bursts in turns, every reply checked.

# %%
import redis.asyncio as aredis

from kvlab.chapters.pipeline_batches import bursts

N, PEER = 1_000, "redis-py,\npool of 50"
pool = aredis.BlockingConnectionPool.from_url(url, max_connections=50, timeout=None)
peer, wanted = aredis.Redis(connection_pool=pool), [b"%d" % (i % 500) for i in range(N)]
gets = [Op("GET", Key(f"n:{i % 500}")) for i in range(N)]
taken = await bursts({
    PEER: lambda: asyncio.gather(*(peer.get(akv.name(get.keys[0])) for get in gets)),
    "AutoBatch": lambda: asyncio.gather(*(auto.run(get) for get in gets)),
}, wanted, turns=6)  # fmt: skip

# %%
by_turn = taken.pivot(index="turn", columns="subject", values="seconds")
ratios = by_turn[PEER] / by_turn["AutoBatch"]
times = f"{ratios.median():.1f} times ({ratios.min():.1f} to {ratios.max():.1f})"
batch_charts.turns_of(taken, {PEER: "naive", "AutoBatch": "hardened"},
    ylabel=f"time for {N:,} gets (ms)",
    title=f"{N:,} concurrent gets: AutoBatch is {times} as fast")  # fmt: skip

# %% [markdown]
# ## The limits that remain
#
# - **Not atomic unless asked.** And atomic is not "all succeed": one op may fail, the rest stays.
# - **A repeated batch counts twice** when the reply of EXEC was lost: `OutcomeUnknown`. MULTI cannot
#   tell you; an `op_id` in a script can (see rate limiting).
# - **A batch is as slow as all its ops.** One slow command holds up the replies behind it. Blocking
#   ops are refused in a batch for that reason.
# - **A list of more than 500** is several writes; what others see between them is up to them.
# - **Memory.** A list of results is held whole by the client. A tuple, and an atomic batch, are never
#   chunked: the server holds it too, and answers nobody else while it applies it.
# - **On Cluster** a batch is one round trip per node, and an atomic one needs one slot.
#
# **Commands of yours that belong together?** Replace `order`, `look_at` and `setup` by your own code,
# and say in the invariant what must add up. (Two calls in place of one pipeline:
# try it.)


# %%
# ---- paste your own code here ----
def order(kv):
    with kv.pipeline(transaction=True) as both:
        both.rpush("orders", "tea").decr("stock").execute()


def look_at(kv):
    with kv.pipeline(transaction=True) as both:
        return both.llen("orders").get("stock").execute()


explore([order, look_at], setup=lambda kv: kv.set("stock", 9), invariant=lambda world: sum(map(int, world.results[1])) == 9, crashes=True)  # fmt: skip

# %% tags=["finding"]
print(f"1,000 counters cut midway: naive {torn.applied} applied, atomic {whole.applied}; "
      f"100 values at 20 ms: {farthest[1]:,.0f} ms one by one, {farthest[100]:.0f} ms in one run")  # fmt: skip

# %%
await auto.close()
await akv.close()
await peer.aclose()
await pool.disconnect()
print(f"{kv.clear()} keys removed")
kv.close()

# %% [markdown] tags=["exercise"]
# ## Exercise: a page in one round trip, a transfer that cannot tear
#
# Open `exercises/07_pipeline.ipynb` and write two functions.
#
# 1. `prices(names)` → a dict of name to integer price, **in one round trip** whatever the number of
#    names. A price that is absent is `None`; so is one whose key holds something that is not a
#    string, and it does not spoil the others.
# 2. `transfer(source, target, amount)`: take from one counter, add to the other, in one round trip.
#    A client that dies midway must not destroy money.
#
# `return_exceptions=True` puts each op's error where its value would be, as in `asyncio.gather`.

# %% tags=["exercise-setup"]
import kvlab
from kvlab import Key, Kv, Op
from kvlab.chapters.pipeline_lost_connection import cut_midway
from kvlab.core.server_url import server_url

url = server_url()
kv = kvlab.connect(url, prefix="kvlab:ex07")
kv.clear()
kv.run(Op("SET", Key("price:tea"), 3, "EX", 600), Op("SET", Key("price:jam"), 5, "EX", 600),
       Op("HSET", Key("price:odd"), "a", 1), Op("SET", Key("{bank}:ada"), 100, "EX", 600))  # fmt: skip
print("ready: three prices, and 100 on the account of ada")


# %% tags=["stub"]
def prices(kv, names):
    # one round trip for each name, and the first error ends it
    return {name: int(kv.run(Op("GET", Key(f"price:{name}")))) for name in names}


def transfer(kv, source, target, amount):
    kv.run(Op("DECRBY", Key(f"{{bank}}:{source}"), amount))
    kv.run(Op("INCRBY", Key(f"{{bank}}:{target}"), amount))


# %% tags=["solution"]
def prices(kv, names):
    ops = (Op("GET", Key(f"price:{name}"), idempotent=True) for name in names)
    replies = kv.run(*ops, return_exceptions=True)
    return {
        name: None if reply is None or isinstance(reply, Exception) else int(reply)
        for name, reply in zip(names, replies, strict=True)
    }


def transfer(kv, source, target, amount):
    take = Op("DECRBY", Key(f"{{bank}}:{source}"), amount)
    add = Op("INCRBY", Key(f"{{bank}}:{target}"), amount)
    kv.run(take, add, atomic=True)


# %% tags=["check"]
before = kv.round_trips
got = prices(kv, ["tea", "jam", "none"])
assert got == {"tea": 3, "jam": 5, "none": None}, f"absent is None, the others are ints: {got}"
assert kv.round_trips - before == 1, f"{kv.round_trips - before} round trips for three prices"
got = prices(kv, ["tea", "odd", "jam"])
assert got == {"tea": 3, "odd": None, "jam": 5}, f"one bad key spoils the answer: {got}"
before = kv.round_trips
many = prices(kv, [f"p{i}" for i in range(1200)])
assert set(many.values()) == {None}, "1,200 prices that do not exist are all None"
assert kv.round_trips - before == 1, "kv.run([ops]) sends 500 a round trip; kv.run(*ops) all"
print("any number of prices in one round trip; a bad key fails alone")


# %% tags=["check"]
def money():
    keys = (Op("GET", Key(f"{{bank}}:{who}")) for who in ("ada", "bob"))
    return [int(reply or 0) for reply in kv.run(*keys)]


transfer(kv, "ada", "bob", 30)
assert money() == [70, 30], f"after a transfer of 30 of 100: {money()}, expected [70, 30]"


def dies(client):
    transfer(Kv(client, prefix=kv.prefix), "ada", "bob", 30)


cut_midway(url, "INCRBY", 1, dies)
assert sum(money()) == 100, f"the client died between taking and adding; left are {money()}"
print("a client that dies midway has transferred nothing")

# %% tags=["check"]
kv.clear()
kv.close()
print("all checks pass")
