# %% [markdown]
# # Pipeline
#
# *About 40 minutes. Before this chapter: 00.*
#
# Send many commands, then read many replies: one round trip instead of many. Nothing else in this
# workbook earns as much for as little code. A pipeline is also taken for something that it is not: a
# transaction.
#
# **The guarantee we want:**
#
# - `kv.run(a, b)` is one round trip, and each reply reaches its op;
# - one failing op fails alone;
# - with `atomic=True` all ops are applied or none is, also when the connection is cut;
# - a huge list travels in pieces that the server can hold;
# - concurrent awaits travel together, without a change at the place that awaits (`AutoBatch`).

# %%
import pandas as pd

import kvlab
from kvlab import Key, Kv, NaivePipeline, Op
from kvlab.chapters.opening import open_chapter
from kvlab.core.server_url import server_url
from kvlab.instruments import Faults, charts, environment, explore

url = server_url()  # the embedded Valkey, or KVLAB_URL
kv = open_chapter("ch07", url)
pd.Series(environment(kv), name="the numbers below were measured on").to_frame()

# %% [markdown]
# ## The simple version
#
# The tutorial has a dashboard of four reads, and a batch of counters. The dashboard is right.

# %%
import inspect

print(inspect.getsource(NaivePipeline.dashboard))
print(inspect.getsource(NaivePipeline.batch_update_counters))

# %% [markdown]
# Our dashboard is four ops, and `kv.run(*ops)` is the pipeline. Printed are the four commands and
# their four replies.

# %%
from kvlab.pipeline import add_to_counters, dashboard

messages = [part for n in range(9) for part in (n, f"message {n}")]
kv.run(
    Op("SET", Key("user:{7}:profile"), "Ada", "EX", 600),
    Op("ZADD", Key("user:{7}:notifications"), *messages),
    Op("HSET", Key("user:{7}:stats"), "wins", 3),
)
print(*dashboard(7), "", *kv.run(*dashboard(7)), sep="\n")

# %% [markdown]
# **Predict.** How many round trips does the dashboard take, in four runs, by the tutorial and in one
# run? A proxy counts what travels.

# %%
from kvlab.chapters.pipeline.round_trips import count_round_trips

count_round_trips(url, kv.prefix)

# %% [markdown]
# Four commands each time, and one round trip instead of four.
#
# ## One round trip is not one step
#
# **Predict.** A client adds 1 to each of 1,000 counters in one pipeline. The client dies while it
# sends: 154 commands have left, the 155th has not. How many counters has the server changed? Then the
# client is started again and repeats the batch. What do the counters say?
#
# A gate in the client stops it before the command that we name. So the client dies at the same place
# in every run.

# %%
from kvlab.chapters.pipeline.lost_connection import cut_and_repeated

COUNTERS = {f"c{i}": 1 for i in range(1000)}
DIES_BEFORE = 155


def naive_batch(client):
    NaivePipeline(client, prefix=kv.prefix).batch_update_counters(COUNTERS)


naive_cut = cut_and_repeated(kv, url, "INCRBY", DIES_BEFORE, naive_batch, "c[0-9]*")
print(naive_cut)

# %% [markdown]
# Nothing failed in the server. A pipeline is many commands that travel together, and the server
# applies each command when the server reads it. `kv.run(ops)` alone is the same in this respect.
#
# ## The fix: `atomic=True`
#
# MULTI goes before the ops and EXEC after them. The server keeps what comes between, and applies all of
# it at EXEC, in one step. Without an EXEC the server forgets it.
#
# An op here is a small script, since the tutorial's counters also live for ever: INCRBY, then PEXPIRE
# when the counter is new. Printed is one op, then the same schedule as above.


# %%
def atomic_batch(client):
    with Kv(client, prefix=kv.prefix) as counting:
        counting.run(add_to_counters("views", COUNTERS), atomic=True)


print(add_to_counters("views", COUNTERS)[0])
atomic_cut = cut_and_repeated(kv, url, "EVAL", DIES_BEFORE, atomic_batch, "counters:*")
print(atomic_cut)

# %% [markdown]
# The cut batch changed nothing, so the repeated batch counts once.
#
# That was a cut inside *one* write. `explore` finds what comes *between* writes. Two counters belong
# together. One client adds 1 to both, another client looks at both. Commands and replies may be lost,
# clients may crash, and the server may forget its scripts.
#
# **Predict.** There are three ways to add: the tutorial's pipeline, one run for each counter, and
# `atomic`. Which of them is wrong?

# %%
PAIR = add_to_counters("pair", {"a": 1, "b": 1})
KEYS = [f"kv:{op.keys[0].name}" for op in PAIR]  # "kv:" is the explorer's own prefix


def naive_adds(kv):
    NaivePipeline(kv).batch_update_counters(dict.fromkeys(KEYS, 1))


def adds_one_by_one(kv):
    for op in PAIR:
        kv.run(op)


# %%
def adds_atomically(kv):
    kv.run(PAIR, atomic=True)


def looks(kv):
    return [int(value or 0) for value in kv.mget(KEYS)]


def both_or_none(world):
    """both counters say the same, 0 or 1, to the looker and at the end"""
    return all(pair in ([0, 0], [1, 1]) for pair in (world.results[1], looks(world.kv)))


# %%
losses = Faults(
    crashes=True, lost_replies=True, lost_requests=True, script_flushes=True
)
stories = {}
for adds in (naive_adds, adds_one_by_one, adds_atomically):
    clients = {"adds": adds, "looks": looks}
    story = explore(clients, invariant=both_or_none, faults=losses)
    print(f"{adds.__name__:15} {story.summary}")
    stories[adds] = story
stories[naive_adds]

# %% [markdown]
# The picture is the tutorial's batch. The batch is one write, so no order of writes tears it here. But
# redis-py retries when the reply is lost, without a word, and everything is counted twice. One by one,
# the looker comes between, and a crash leaves a half. `atomic` is whole in every run: after a lost
# reply `kv.run` does not retry, and its `BatchFailed` says `OutcomeUnknown`.
#
# ## One failing op fails alone
#
# **Predict.** One of three counters holds text. What becomes of the two others? And with `atomic`?

# %%
from kvlab.errors import BatchFailed

three = add_to_counters("g", {"a": 1, "b": 1, "c": 1})
gets = [Op("GET", op.keys[0]) for op in three]
for atomic in (False, True):
    kv.run([Op("DEL", op.keys[0]) for op in three])
    kv.run(Op("SET", three[1].keys[0], "text", "EX", 60))
    try:
        kv.run(three, atomic=atomic)
    except BatchFailed as failed:
        results = [getattr(result, "code", result) for result in failed.results]
        print(f"atomic={atomic}: {results}, then", kv.run(gets))

# %% [markdown]
# Each op has its value or its error in `BatchFailed.results`. **MULTI does not roll back**: MULTI
# promises that all ops are *tried* in one step. Where one op may forbid another, write a script that
# looks first and writes after.
#
# ## What it costs
#
# Batches of 50 counters, in three ways that take turns: the tutorial's pipeline, the same INCRBY in
# MULTI, and the scripts with a TTL in MULTI. Closed loop of one client. Every 20th batch is sent by a
# client that dies midway. A violation is a batch that is applied in part.


# %%
def send_naively(kv, ops):
    names = {op.keys[0].name: 1 for op in ops}
    NaivePipeline(kv.client, prefix=kv.prefix).batch_update_counters(names)


def send_in_multi(kv, ops):
    kv.run([Op("INCRBY", op.keys[0], 1) for op in ops], atomic=True)


def send_hardened(kv, ops):
    kv.run(ops, atomic=True)


# %%
from kvlab.chapters.pipeline.batch_cost import Sender, batch_costs

senders = {
    "naive": Sender(send_naively, dies_before="INCRBY"),
    "MULTI": Sender(send_in_multi, dies_before="INCRBY"),
    "hardened": Sender(send_hardened, dies_before="EVAL"),
}
costs = batch_costs(kv, url, senders, turns=7)
print(costs.table)
charts.latency_percentiles(costs.runs, title=costs.finding)

# %% [markdown]
# The tutorial's pipeline leaves a half of every batch whose client died, the two others leave nothing.
# The table says the price: the time over the tutorial's, with its interval.
#
# Each of the three is one round trip. The difference is bytes and the server's work. In MULTI a script
# travels as its text (EVAL), not as its hash: a hash that the server has forgotten would fail alone,
# and the rest of the batch would be applied without it.
#
# ## What it earns: trips × distance
#
# **Predict.** 100 values from a server 20 ms away, asked for one by one: how long? And in one run?

# %%
from kvlab.chapters.pipeline import charts as pipeline_charts
from kvlab.chapters.pipeline.distance import at_farthest, time_by_distance

reads = [Op("GET", Key(f"n:{i}"), decode=int) for i in range(500)]
kv.run([Op("SET", Key(f"n:{i}"), i, "EX", 3600) for i in range(500)])

hundred = (reads[:100], range(100))
knobs = {"sizes": (1, 10, 100), "delays": (0, 0.001, 0.005, 0.020)}
distance = time_by_distance(url, kv.prefix, *hundred, **knobs)
pipeline_charts.time_by_distance(distance)

# %% [markdown]
# The dashed lines are arithmetic, and nothing is fitted: trips × distance. **That is why the pattern
# exists.** Measurement and theory part near the server: what lies above the dashes is the work of the
# client, the server and the proxy, for each command. No batch takes this work away.
#
# How large should a batch be? **Predict** the size from which on a larger batch earns little. The
# server is the nearest there is, without a proxy: 500 values in batches.

# %%
from kvlab.chapters.pipeline.throughput import throughput_by_size

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
sizes = throughput_by_size(kv.run, reads, range(500), sizes=SIZES, turns=7)
pipeline_charts.throughput_by_size(sizes)

# %% [markdown]
# Two numbers explain the curve: what a trip costs and what an op costs. When the ops of a batch cost
# more than its trip, a larger batch earns little. A larger batch also has a price: see below.
#
# Turn the knobs. Which batch is large enough at 1 ms? And at 20 ms?

# %%
from ipywidgets import SelectionSlider, interact

milliseconds = SelectionSlider(options=(0.5, 1, 2, 5, 10, 20, 50), value=5)


@interact(batch=(1, 100), distance_ms=milliseconds)
def turn(batch=10, distance_ms=5):
    return pipeline_charts.predicted_time(distance, batch, distance_ms / 1000)


# %% [markdown]
# ## A huge list is chunked
#
# A pipeline has one more cost: the server keeps every reply until the client reads it. The tutorial's
# client reads after it has sent everything. `kv.run([ops])` sends 500 ops and reads 500 replies.
#
# **Predict.** 5,000 replies of 8,000 bytes are 40 MB. How much of them does the server hold? We force
# it: the client stops when it has read its first reply, and we ask the server.

# %%
kv.run(Op("SET", Key("big"), "x" * 8_000, "EX", 60))


def tutorial(client):
    pipeline = client.pipeline(transaction=False)
    for _ in range(5_000):
        pipeline.get(kv.name(Key("big")))
    pipeline.execute()


# %%
from kvlab.chapters.pipeline.unread_replies import bytes_held


def chunked(client):
    with Kv(client, prefix=kv.prefix) as reader:
        reader.run([Op("GET", Key("big"))] * 5_000)


for work in (tutorial, chunked):
    held = bytes_held(url, "GET", work)
    print(f"{work.__name__:9} the server holds {held / 1e6:4.1f} MB")

# %% [markdown]
# With chunks the server holds at most one chunk.
#
# ## AutoBatch: batches out of awaits
#
# In a web server nobody has the list: each request awaits its own value. `AutoBatch` takes the place
# of an `AsyncKv`. Everything that one turn of the event loop asks for leaves together. There is no
# window and no timer.
#
# **Predict.** 200 tasks await one value each. How many round trips? And 200 awaits of one task, one
# after the other?

# %%
import asyncio

akv = await kvlab.aconnect(url, prefix=kv.prefix)
auto = kvlab.AutoBatch(akv)


async def of_200_tasks(kv):
    return await asyncio.gather(*(kv.run(op) for op in reads[:200]))


async def of_one_task(kv):
    return [await kv.run(op) for op in reads[:200]]


# %%
from kvlab.chapters.pipeline.awaits import time_of_bursts, trips_of_awaits

awaits = {"200 tasks": of_200_tasks, "one after the other": of_one_task}
executors = {"AsyncKv": akv, "AutoBatch": auto}
await trips_of_awaits(awaits, executors, range(200))

# %% [markdown]
# A task that waits for each reply before its next question has nothing to share.
#
# **Predict.** 1,000 concurrent gets, each awaited by a task of its own: redis-py with a blocking pool
# of 50 connections, which is the usual advice, against `AutoBatch`. How many times as fast is
# `AutoBatch`? Closed load, bursts that take turns, every reply checked.

# %%
N = 1_000
gets = [Op("GET", Key(f"n:{i % 500}")) for i in range(N)]
wanted = [b"%d" % (i % 500) for i in range(N)]
taken = await time_of_bursts(url, auto, gets, wanted, turns=6)
await auto.close()
await akv.close()
pipeline_charts.time_of_bursts(taken, N)

# %% [markdown]
# Both get every reply right. The pool of 50 pays a round trip for each get, `AutoBatch` pays a few.
#
# ## The limits that remain
#
# - **Not atomic unless you ask.** And atomic is not "all succeed": one op may fail, the rest stays.
# - **A repeated batch counts twice** when the reply of EXEC was lost: `OutcomeUnknown`. MULTI cannot
#   tell you; an `op_id` in a script can (see chapter 06).
# - **A batch is as slow as all its ops.** One slow command holds up the replies behind it. Blocking
#   ops are refused in a batch for that reason.
# - **A list of more than 500 ops** is several writes, and other clients may come between them.
# - **Memory.** The client holds a list of results as a whole. A tuple and an atomic batch are never
#   chunked: the server holds them too, and answers nobody else while it applies an atomic batch.
# - **On Cluster** a batch is one round trip per node, and an atomic batch needs one slot.
#
# **Do commands of yours belong together?** Replace `order`, `look` and `setup` by your own code, and say
# in the invariant what must add up. (Try two calls in place of one pipeline.)


# %%
def order(kv):
    with kv.pipeline(transaction=True) as both:
        both.rpush("orders", "tea").decr("stock").execute()


def look(kv):
    with kv.pipeline(transaction=True) as both:
        return both.llen("orders").get("stock").execute()


# %%
def nothing_is_lost(world):
    """orders and stock are 9 together"""
    orders, stock = world.results[1]
    return orders + int(stock) == 9


explore(
    [order, look],
    setup=lambda kv: kv.set("stock", 9),
    invariant=nothing_is_lost,
    crashes=True,
)

# %% tags=["finding"]
farthest = at_farthest(distance)
print(
    f"1,000 counters cut midway: naive {naive_cut.applied} applied, atomic "
    f"{atomic_cut.applied}; 100 values at 20 ms: {farthest[1]:,.0f} ms one by one, "
    f"{farthest[100]:.0f} ms in one run"
)

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Open `exercises/07_pipeline.ipynb`: a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `prices`: a page in one round trip.
# 2. `transfer`: a transfer that cannot tear.

# %% tags=["exercise-setup"]
from kvlab import Key, Op, Script
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: a page in one round trip
#
# Write `prices(kv, names)`. It returns a dict of name to whole number. The price of a name is in
# `Key(f"price:{name}")`. `kv` is an executor.
#
# 1. **One round trip**, whatever the number of names.
# 2. A price that is absent is `None`. A price whose key holds something that is not a string is `None` too,
#    and does not spoil the others.
#
# `return_exceptions=True` puts each op's error where its value would be, as in `asyncio.gather`.
#
# Stuck? Run `hint("07-short")`: three hints, then a solution.


# %% tags=["stub"]
def prices(kv, names):
    # one round trip for each name, and the first error ends it
    return {name: int(kv.run(Op("GET", Key(f"price:{name}")))) for name in names}


# %% tags=["solution"]
def prices(kv, names):
    ops = [Op("GET", Key(f"price:{name}"), idempotent=True) for name in names]
    replies = kv.run(*ops, return_exceptions=True)
    found = dict.fromkeys(names)
    for name, reply in zip(names, replies, strict=True):
        if isinstance(reply, bytes):
            found[name] = int(reply)
    return found


# %% tags=["check"]
check("07-short", prices)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: a transfer that cannot tear
#
# Write `transfer(kv, source, target, amount)`. The account of a name is in `Key(f"{{bank}}:{name}")`.
#
# 1. The amount moves from `source` to `target`, and the function answers True.
# 2. When `source` has less than `amount`, nothing changes, and the function answers False. This holds for two
#    transfers at once too.
# 3. A client that dies in the middle destroys no money and leaves no debt.
#
# A script is an op: `Op(Script("transfer", LUA), Key(…), Key(…), amount, decode=bool)`.
#
# Stuck? Run `hint("07")`: three hints, then a solution.


# %% tags=["stub"]
def transfer(kv, source, target, amount):
    kv.run(Op("DECRBY", Key(f"{{bank}}:{source}"), amount))  # is there enough?
    kv.run(Op("INCRBY", Key(f"{{bank}}:{target}"), amount))  # do you come here?
    return True


# %% tags=["solution"]
LUA = """
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then return 0 end
redis.call('DECRBY', KEYS[1], ARGV[1])
redis.call('INCRBY', KEYS[2], ARGV[1])
return 1"""


# %% tags=["solution"]
def transfer(kv, source, target, amount):
    accounts = [Key(f"{{bank}}:{name}") for name in (source, target)]
    return kv.run(Op(Script("transfer", LUA), *accounts, amount, decode=bool))


# %% tags=["check"]
check("07", transfer)
