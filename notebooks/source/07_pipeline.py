# %% [markdown]
# # Pipeline
#
# *About 40 minutes. Before this chapter: 00.*
#
# A pipeline sends many commands and then reads many replies: one round trip instead of many. Of all
# patterns in this workbook this one saves the most time with the least code. But many people think
# that a pipeline is a transaction, and it is not.
#
# **The guarantee we want:**
#
# - `kv.run(a, b)` is one round trip, and each reply reaches its op;
# - one failing op fails alone;
# - with `atomic=True` all ops are applied or no op is applied, also when the connection breaks;
# - a huge list travels in pieces that the server can hold;
# - concurrent awaits travel together, and the code that awaits stays as it is (`AsyncKv`).

# %%
import pandas as pd
from IPython.display import display

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
# Our dashboard is four ops, and `kv.run(*ops)` is the pipeline. The next cell prints each of the
# four commands, and its reply below it.

# %%
from kvlab.pipeline import add_to_counters, dashboard

messages = []
for n in range(9):
    messages += [n, f"message {n}"]
kv.run(
    Op("SET", Key("user:{7}:profile"), "Ada", "EX", 600),
    Op("ZADD", Key("user:{7}:notifications"), *messages),
    Op("HSET", Key("user:{7}:stats"), "wins", 3),
)
for op, reply in zip(dashboard(7), kv.run(*dashboard(7)), strict=True):
    print(op, reply, sep="\n  ")

# %% [markdown]
# The next cells read the dashboard in three ways: with four runs, with the tutorial's pipeline, and
# with one run. A proxy counts the round trips.

# %% tags=["predict"]
from kvlab.workshop import predict

trips_guess = predict(
    "07-dashboard",
    "How many round trips do the three ways take, together?",
)

# %%
from kvlab.chapters.pipeline.round_trips import count_round_trips

dashboards = count_round_trips(url, kv.prefix)
dashboards

# %% tags=["predict"]
trips_guess.measured(sum(dashboards["round trips"]))

# %% [markdown]
# Each way sends four commands. The pipeline and the single run need one round trip.
#
# ## One round trip is not one step
#
# A client adds 1 to each of 1,000 counters in one pipeline. The client crashes while it sends. Then
# the client starts again and repeats the batch. A gate in the client stops the client before a
# command that we choose. So the client crashes at the same place each time.

# %% tags=["predict"]
cut = predict(
    "07-cut",
    "The client has sent 154 commands and not the 155th when it crashes. How many "
    "counters has the server changed?",
)

# %%
from kvlab.chapters.pipeline.lost_connection import cut_and_repeated

COUNTERS = {f"c{i}": 1 for i in range(1000)}
DIES_BEFORE = 155


def naive_batch(client):
    NaivePipeline(client, prefix=kv.prefix).batch_update_counters(COUNTERS)


naive_cut = cut_and_repeated(kv, url, "INCRBY", DIES_BEFORE, naive_batch, "c[0-9]*")
print(naive_cut)

# %% tags=["predict"]
cut.measured(naive_cut.applied)

# %% [markdown]
# The server made no mistake. A pipeline is many commands that travel together, and the server
# applies each command as soon as it reads the command. `kv.run(ops)` without `atomic=True` does the
# same.
#
# ## The fix: `atomic=True`
#
# MULTI goes before the ops and EXEC after them. The server keeps the ops between the two, and
# applies all of them at EXEC, in one step. If no EXEC comes, the server forgets the ops.
#
# Each op here is a small script: INCRBY, and then PEXPIRE when the counter is new. (The tutorial's
# counters have no TTL.) The next cell prints one op, and then makes the same crash as above.


# %%
def atomic_batch(client):
    with Kv(client, prefix=kv.prefix) as counting:
        counting.run(add_to_counters("views", COUNTERS), atomic=True)


print(add_to_counters("views", COUNTERS)[0])
atomic_cut = cut_and_repeated(kv, url, "EVAL", DIES_BEFORE, atomic_batch, "counters:*")
print(atomic_cut)

# %% [markdown]
# The batch that was cut changed no counter, so after the repeated batch each counter has counted
# once.
#
# That was a cut inside *one* write. `explore` tests what can happen *between* writes. It runs two
# clients in every order of their writes. One order, with its faults if it has some, is a
# **schedule**. Two counters belong together. One client adds 1 to both counters, and another client
# looks at both. Requests and replies may be lost, clients may crash, and the server may forget its
# scripts.

# %% tags=["predict"]
ways = predict(
    "07-three-ways",
    "There are three ways to add: the tutorial's pipeline, one run for each "
    "counter, and `atomic`. How many of the three are wrong?",
)

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
    """both counters say 0 or both say 1, to the other client and at the end"""
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
display(stories[naive_adds])
display(stories[naive_adds].play(title="The naive batch"))
display(stories[adds_atomically].play(title="The batch with atomic"))

# %% tags=["predict"]
ways.measured(sum(not story.holds for story in stories.values()))

# %% [markdown]
# The picture is the tutorial's batch. The batch is one write, so the other client never sees half
# of the batch here. But redis-py retries after a lost reply and does not report the retry, so both
# counters count twice. With one run for each counter, the other client can look between the two
# runs, and a crash leaves one counter without its 1. `atomic` holds in every schedule: after a lost
# reply `kv.run` does not retry, and its `BatchFailed` says `OutcomeUnknown`.
#
# **Play the scheduler** in the two frames: choose who moves next, and what fails. The first frame can
# be broken, and the second cannot.
#
# ## One failing op fails alone
#
# One of three counters holds text, and a batch adds 1 to each of the three. The next cells send the
# batch without `atomic=True`, and then with it.

# %% tags=["predict"]
failing = predict(
    "07-failing-op",
    "The op on the text fails. Are the two other counters changed with `atomic=True`?",
    ["yes", "no"],
)

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

# %% tags=["predict"]
with_atomic = kv.run(gets)
failing.measured("yes" if with_atomic == [b"1", b"text", b"1"] else "no")

# %% [markdown]
# Each op has its value or its error in `BatchFailed.results`. **MULTI does not roll back**: MULTI
# promises that all ops are *tried* in one step. If one op must not run when another op fails, write
# a script that first checks and then writes.
#
# ## What it costs
#
# The next cells send batches of 50 counters in three ways, in turns: the tutorial's pipeline, the
# same INCRBY in MULTI, and the scripts with a TTL in MULTI. The load is a closed loop of one
# client. In every 20th batch the client crashes while it sends. A violation is a batch that is
# applied in part.


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
# When the client crashes, the tutorial's pipeline leaves a part of the batch, and the two other
# ways leave nothing. The table has the price: the time of each way over the time of the tutorial's
# pipeline, with its interval.
#
# Each of the three ways is one round trip. They differ in their bytes and in the work of the
# server. Outside MULTI a script travels as its hash (EVALSHA), which is short. In MULTI a script
# travels as its text (EVAL): if the server had forgotten a hash, this one op would fail, and the
# server would apply the rest of the batch.
#
# ## What it earns: trips × distance

# %% tags=["predict"]
far_away = predict(
    "07-distance",
    "A server is 20 ms away. How many times as long does it take to read 100 values "
    "one by one as in one run?",
)

# %%
from kvlab.chapters.pipeline import charts as pipeline_charts
from kvlab.chapters.pipeline.distance import at_farthest, time_by_distance

reads = [Op("GET", Key(f"n:{i}"), decode=int) for i in range(500)]
kv.run([Op("SET", Key(f"n:{i}"), i, "EX", 3600) for i in range(500)])

hundred = (reads[:100], range(100))
knobs = {"sizes": (1, 10, 100), "delays": (0, 0.001, 0.005, 0.020)}
distance = time_by_distance(url, kv.prefix, *hundred, **knobs)
pipeline_charts.time_by_distance(distance)

# %% tags=["predict"]
milliseconds_by_size = at_farthest(distance)
far_away.measured(milliseconds_by_size[1] / milliseconds_by_size[100])

# %% [markdown]
# The dashed lines are computed and not fitted: trips × distance. **This is the reason for
# pipelines.** Measurement and theory differ near the server. The distance between a measured line
# and its dashes is the work of the client, the server and the proxy for each command. A batch does
# not save this work.
#
# How large should a batch be? The next cells read 500 values in batches. The server is on this
# machine, without a proxy.

# %% tags=["predict"]
large_enough = predict(
    "07-batch-size",
    "How many ops must a batch have to reach 80 % of the highest throughput, by the "
    "fitted curve?",
)

# %%
from kvlab.chapters.pipeline.throughput import throughput_by_size

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
sizes = throughput_by_size(kv.run, reads, range(500), sizes=SIZES, turns=7)
pipeline_charts.throughput_by_size(sizes)

# %% tags=["predict"]
reaches = sizes["model"] >= 0.8 * sizes["model"].max()
large_enough.measured(sizes["size"][reaches].min())

# %% [markdown]
# Two numbers explain the curve: what a trip costs and what an op costs. When the ops of a batch
# cost more than its trip, a larger batch saves little time. A larger batch also needs memory, as
# the next section shows.
#
# Turn the knobs. Which size of a batch is large enough at 1 ms? And at 20 ms?

# %%
from ipywidgets import SelectionSlider, interact

milliseconds = SelectionSlider(options=(0.5, 1, 2, 5, 10, 20, 50), value=5)


@interact(batch=(1, 100), distance_ms=milliseconds)
def turn(batch=10, distance_ms=5):
    return pipeline_charts.predicted_time(distance, batch, distance_ms / 1000)


# %% [markdown]
# ## A huge list is chunked
#
# A pipeline has one more cost: the server keeps every reply until the client reads the reply. The
# tutorial's client reads after it has sent everything. `kv.run([ops])` sends 500 ops, reads 500
# replies, and then sends the next 500 ops.
#
# 5,000 replies of 8,000 bytes are 40 MB. We make the client stop after its first reply, and ask the
# server how many bytes of replies it holds.

# %% tags=["predict"]
unread = predict(
    "07-unread",
    "How much does the server hold for the tutorial's client?",
    unit="MB",
)

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


held = {}
for work in (tutorial, chunked):
    held[work] = bytes_held(url, "GET", work) / 1e6
    print(f"{work.__name__:9} the server holds {held[work]:4.1f} MB")

# %% tags=["predict"]
unread.measured(held[tutorial])

# %% [markdown]
# With chunks the server holds at most one chunk.
#
# ## AutoBatch: batches out of awaits
#
# In a web server there is no list of ops: each request awaits its own value. All ops that are
# awaited in one turn of the event loop leave together; no timer is used. Every `AsyncKv` does this.
# `AutoBatch` is an `AsyncKv` whose batches have limits that you choose.

# %% tags=["predict"]
tick = predict(
    "07-awaits",
    "First 200 tasks await one value each. Then one task awaits 200 values, one "
    "after the other. How many round trips does `AutoBatch` need for each of the two?",
    ["1 and 1", "1 and 200", "200 and 200"],
)

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
table = await trips_of_awaits(awaits, executors, range(200))
table

# %% tags=["predict"]
of_auto = table.xs("AutoBatch", level="through")["round trips"]
tick.measured(" and ".join(map(str, of_auto)))

# %% [markdown]
# One task that awaits each reply before its next op gives the executor one op at a time, so there
# is no batch.
#
# Now 1,000 tasks await one get each. redis-py does this with a blocking pool of 50 connections, as
# people usually advise. The load is closed, the bursts of the two take turns, and every reply is
# checked.

# %% tags=["predict"]
faster = predict(
    "07-bursts",
    "How many times as fast as redis-py with its pool is `AutoBatch`?",
)

# %%
N = 1_000
gets = [Op("GET", Key(f"n:{i % 500}")) for i in range(N)]
wanted = [b"%d" % (i % 500) for i in range(N)]
taken = await time_of_bursts(url, auto, gets, wanted, turns=6)
await auto.close()
await akv.close()
pipeline_charts.time_of_bursts(taken, N)

# %% tags=["predict"]
from kvlab.chapters.pipeline.awaits import PEER

medians = taken.groupby("subject")["seconds"].median()
faster.measured(medians[PEER] / medians["AutoBatch"])

# %% [markdown]
# Every reply was right in both. The pool of 50 needs a round trip for each get. `AutoBatch` needs a
# few round trips for all gets.
#
# ## The limits that remain
#
# - **A batch is atomic only with `atomic=True`.** And atomic does not mean that all ops succeed: if
#   one op fails, the other ops are still applied.
# - **A repeated batch counts twice** when the reply of EXEC was lost: `OutcomeUnknown`. With MULTI
#   alone you cannot find out. An `op_id` in a script prevents the second count (see chapter 06).
# - **A batch is as slow as all its ops.** One slow command delays all later replies. For this
#   reason a batch refuses blocking ops.
# - **A list of more than 500 ops** is several writes, and other clients may come between them.
# - **Memory.** The client holds a list of results as a whole. A tuple and an atomic batch are never
#   chunked, so the server holds all their replies. While the server applies an atomic batch, it
#   answers no other client.
# - **On a cluster** a batch is one round trip per node, and an atomic batch needs one slot (chapter
#   14).
#
# ## Your own code
#
# **Do some of your commands belong together?** Replace `order`, `look` and `setup` by your own
# code, and write the invariant for your values. (Try two calls instead of one pipeline.)


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
# `exercises/07_pipeline.ipynb` has a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `prices`: a page in one round trip.
# 2. `transfer`: a transfer that is never half done.

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
#    and the other prices are right.
#
# `return_exceptions=True` puts each op's error where its value would be, as in `asyncio.gather`.
#
# If you need help, run `hint("07-short")`: three hints, then a solution.


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
# ## The longer one: a transfer that is never half done
#
# Write `transfer(kv, source, target, amount)`. The account of a name is in `Key(f"{{bank}}:{name}")`.
#
# 1. The amount moves from `source` to `target`, and the function answers True.
# 2. When `source` has less than `amount`, nothing changes, and the function answers False. This holds for two
#    transfers at once too.
# 3. When a client crashes in the middle, the sum of the accounts is as before, and no account is below 0.
#
# A script is an op: `Op(Script("transfer", LUA), Key(…), Key(…), amount, decode=bool)`.
#
# If you need help, run `hint("07")`: three hints, then a solution.


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
