# %% [markdown]
# # Start here
#
# *About 15 minutes. You need nothing before it but a little Python.*
#
# Eight patterns that nearly every Redis user writes: cache-aside, write-through, rate limiting,
# sessions, a distributed lock, a leaderboard, pipelines, feature flags. Each of them reads well in
# a tutorial. Most of them are wrong as soon as two clients meet or one client crashes.
#
# In this chapter you see a first mistake of this kind, in four lines of code, and its repair. Then
# you learn what an *op* and a *round trip* are, and how to read the charts. At the end there is a
# list of the words that all chapters use.
#
# **How to use a notebook.** Click into a cell and press **Shift+Enter**: the cell runs, and its
# output appears below it. Run the cells from top to bottom. A cell needs the cells above it. So
# after a `NameError`, or after a restart of the kernel (the Python process of the notebook), use
# the menu *Run* → *Run All Above Selected Cell*.
#
# ## A first race
#
# A page counts its visitors. The function below reads the number, adds one and writes the sum.
# `client` is an object of redis-py, the usual library for Redis in Python: it sends the commands.


# %%
def count_visit(client):
    """reads the number, adds one, writes the sum"""
    number = int(client.get("visits") or 0)
    client.set("visits", number + 1)


# %% [markdown]
# The next cell asks for a **prediction**. Run the cell, give your answer (in a box for a number,
# press Enter), and then run the cells below it. A wrong prediction teaches more than no prediction.

# %% tags=["predict"]
from kvlab.workshop import predict

lost_visit = predict(
    "00-race",
    "Two visitors come at the same time, so two clients run the function. Each sends "
    "two commands. The four commands can come in 6 orders. In how many of the orders "
    "is a visit lost?",
)

# %% [markdown]
# `explore` runs both clients on a real server, once for **each** order of their commands. After
# each run it checks a sentence that must be true at the end. The sentence gets the `world` at the
# end: `world.kv` is a client that reads the keys, and `world.results` has what the functions
# returned.

# %%
from kvlab.instruments import explore


def both_are_counted(world):
    """the number of visits is 2"""
    return world.kv.get("visits") == b"2"


two_visitors = {"visitor 1": count_visit, "visitor 2": count_visit}
race_story = explore(two_visitors, invariant=both_are_counted)
race_story

# %% tags=["predict"]
lost_visit.measured(race_story.violations)

# %% [markdown]
# The picture is the shortest order that breaks the sentence. Time goes down. A solid arrow is a
# command, and a dashed arrow is its reply; `nil` says that the key does not exist. Both clients
# read before one of them writes, so both write 1. No client gets an error.
#
# This is a **race**: each client is right alone, and the order of the commands decides whether they
# are right together. One order is a **schedule**. The sentence is the **invariant**.
#
# The repair is one command. `INCR` reads, adds and writes in one step on the server, so no other
# command can come in between:


# %%
def count_visit_in_one_step(client):
    """adds one, in one step"""
    client.incr("visits")


repaired = explore([count_visit_in_one_step] * 2, invariant=both_are_counted)
print(repaired.summary)

# %% [markdown]
# You have seen a race and its repair. The chapters do the same with the eight patterns, in the same
# steps: **the guarantee** → the simple version → you **predict** → the simple version **breaks** →
# the fix → the same test again → what the fix **costs**, what the fix **earns**, and what the fix
# does **not** promise → an exercise. In charts and tables the simple version is called *naive*, and
# the version that keeps the guarantee is called *hardened*.
#
# ## Which server runs here?
#
# The workbook starts its own Valkey, so you install nothing. Valkey is a free fork of Redis: it has
# the same commands. The next cell lists the engines (servers) that can run on this machine. With
# Valkey every chapter runs. Where there is no Valkey (on Windows), fakeredis takes its place, a
# server in Python: explorations and exercises run, times mean nothing, and a cell that measures the
# server itself fails.
# (`kvlab doctor` in a terminal says more.)

# %%
import pandas as pd

from kvlab.server import engines

found = [
    (engine.name, engine.version or "absent", engine.missing or "")
    for engine in engines.engines().values()
]
table = pd.DataFrame(found, columns=["engine", "version", "why not"])
table.style.hide(axis="index")

# %% [markdown]
# `open_chapter` connects to the server, and gives this notebook a **namespace**: a prefix before
# each of its keys. So two people can run the same chapter at the same time, and you can open a
# chapter twice.
# The notebooks do not share keys. The result `kv` is called an **executor**, because it runs ops.
# `kv.client` is the redis-py client in it: the simple versions of the patterns use this client.

# %%
from kvlab.chapters.opening import open_chapter
from kvlab.instruments import environment

kv = open_chapter("ch00")
facts = environment(kv)
pd.Series(facts, name="the numbers below were measured on").to_frame()

# %% [markdown]
# The table says where the numbers of this page come from. Yours will differ.
#
# ## A command that has not run yet
#
# An operation is data: an `Op` is a command that has not run yet. `kv.run` runs it. `Key` marks the
# key's name, so that `kv.run` can put the prefix before it. `EX 60` is a **TTL** (time to live):
# the server deletes the key after 60 seconds.

# %%
from kvlab import Key, Op

greet = Op("SET", Key("greeting"), "hello", "EX", 60)
read = Op("GET", Key("greeting"))
print(greet)
print(kv.run(greet))
print(kv.run(read))

# %% [markdown]
# A printed op is the redis-cli line that it stands for, without the prefix. A reply such as
# `b'hello'` is bytes, as the server sends it. An op is not its result. An `if` on an op is a
# mistake, so `if` raises an error:

# %%
from kvlab.errors import NotRunYet

try:
    if read:
        print("this line is never reached")
except NotRunYet as error:
    print(error)

# %% [markdown]
# ## What a round trip costs
#
# A **round trip** is the way of a request to the server and of its reply back. Several ops that are
# given to one `run` travel together: **one `run` is one round trip.** The executor counts them.

# %%
before = kv.round_trips
for number in range(3):
    kv.run(Op("SET", Key(f"number:{number}"), number, "EX", 60))
print("three runs of one op:", kv.round_trips - before, "round trips")

before = kv.round_trips
kv.run([Op("GET", Key(f"number:{number}")) for number in range(3)])
print("one run of three ops:", kv.round_trips - before, "round trip")

# %% [markdown]
# A proxy between this notebook and the server delays every reply. So a laptop can show the network
# of a data centre (0.5 to 1 ms) and the network between two regions (20 ms). In the next cells
# `far` is an executor that connects through the proxy.

# %% tags=["predict"]
page_guess = predict(
    "00-page",
    "A page needs ten values. Your server is 5 ms away. How long does the page wait "
    "if it asks for the values one by one?",
    unit="ms",
)

# %%
ops = [Op("GET", Key(f"number:{number}")) for number in range(10)]


def one_by_one(far):
    for op in ops:
        far.run(op)


def in_one_run(far):
    far.run(ops)


# %%
import statistics
import timeit

import kvlab
from kvlab.core.server_url import server_url
from kvlab.instruments import Proxy, charts


def median_ms(page, far):
    seconds = timeit.repeat(lambda: page(far), number=1, repeat=5)
    return statistics.median(seconds) * 1000


# %%
rows = []
with Proxy(server_url()) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    far.run(ops)
    for distance in (0, 1, 5, 20):
        proxy.delay(distance / 1000)
        rows.append(("one by one", distance, median_ms(one_by_one, far), 10 * distance))
        rows.append(("in one run", distance, median_ms(in_one_run, far), distance))
columns = ["how", "round trip, ms", "page, ms", "network alone, ms"]
times = pd.DataFrame(rows, columns=columns)
times.style.hide(axis="index").format(precision=1)

# %% [markdown]
# Look at the rows of 5 ms: they answer the question. The same numbers as a chart:

# %%
at_5_ms = times[times["round trip, ms"] == 5]
alone, joint = at_5_ms["page, ms"].tolist()
charts.lines(
    times,
    x="round trip, ms",
    y="page, ms",
    by="how",
    theory="network alone, ms",
    title=f"Ten values at 5 ms: {alone:.0f} ms one by one, {joint:.0f} ms in one run",
    xlabel="round trip to the server (ms)",
    ylabel="time for ten values (ms)",
)

# %% tags=["predict"]
page_guess.measured(round(alone, 1))

# %% [markdown]
# The dashed lines are computed: round trips × distance. The measured lines rise with the dashed
# lines. The gap between a measured line and its dashed line is the work of client, proxy and server
# in each round trip. **This is why the workbook counts round trips**, and why each hardened pattern
# needs few.
#
# ## How to read a latency chart
#
# The next cell reads one key 2,000 times, one read after the other. It prints the mean, which most
# dashboards show:

# %%
from kvlab.instruments import Uniform, experiment


def read_greeting(key):
    kv.run(read)


result = experiment(read_greeting, Uniform(1), seed=1, count=2_000, warmup=200, kv=kv)
latency = result.latency
print(f"mean {latency.mean * 1e6:.0f} µs, slowest {latency.max * 1e6:.0f} µs")

# %% [markdown]
# The mean hides the slow reads. But users meet slow reads: of the pages with ten reads, two of
# three have at least one read from the slowest tenth. So the workbook draws **percentiles**. Read
# "99 %" as "99 of 100 requests were answered within this time".

# %%
median = latency.percentile(50) * 1e6
slow = latency.percentile(99) * 1e6
title = f"Half of the reads take {median:.0f} µs or less, one in 100 over {slow:.0f} µs"
charts.latency_percentiles({"GET": result}, title=title)

# %% [markdown]
# The horizontal axis is stretched towards the right, where the slow requests are. The vertical axis
# has the **latency**: the time from the moment when a call was due (its *intended start*) until its
# answer. Its scale is logarithmic: each large step is ten times as long as the step below it.
#
# Three habits of this workbook:
#
# - **A chart of speed also shows correctness.** A latency chart has the number of violations: how
#   often the promise was broken in that same run. If nothing was checked, the chart says "not
#   checked".
# - **Ratios, not absolute times.** Your times differ from those above. Two variants are measured in
#   turns in one run, and you compare their ratio.
# - **No result is typed by hand.** Titles, tables and findings are computed from the run in that
#   notebook.
#
# ## The words of this workbook
#
# | word | meaning |
# | --- | --- |
# | naive | the simple version, as tutorials have it |
# | hardened | the version that keeps the guarantee |
# | client | a program that uses the server; in code, the object of redis-py that sends its commands |
# | schedule | one order of the clients' commands, with its faults if it has some; a *run* carries it out |
# | fault | a crash, a lost request, a lost reply, a TTL that ends at a bad moment, a server that forgets its scripts |
# | invariant | a sentence that must be true at the end of every schedule |
# | story | what `explore` returns: how many schedules break the invariant, and the shortest of them |
# | op | a command that has not run yet |
# | executor | `kv`, which runs ops |
# | script | a small program in Lua that the server runs in one step: no other command comes in between |
# | flow | several ops in a row, which may wait between them; `kv.run` runs a flow as it runs an op |
# | closed loop | a load in which each user sends the next request after the last answer |
# | open loop | a load in which requests come at planned moments, also when the answers are slow |
# | in turns | two variants are measured alternately, so that a busy moment of the machine meets both |
# | warm-up | the calls before a measurement, which do not count |
# | seed | the number that makes random draws repeatable |
#
# ## The chapters
#
# Chapters 1 to 8 take one pattern each, and you can read them in any order. Chapter 9 is about your
# own code: it runs any function that uses redis-py in every order of the commands. Chapter 10 is
# about load tests with Locust (a load generator in Python) that know the right answer. Chapter 11
# asks other libraries the same questions, 12 is a lab of caches, 13 sends the same ops over HTTPS,
# and 14 goes beyond one server.
#
# ## Exercises, hints, and what you have done
#
# Each chapter from 1 on ends with two exercises, a short one and a longer one, in a notebook of the
# folder `exercises`. An exercise has a function that is not right yet. Change the function, run its
# cell, and then run the cell with `check`. `check` tries your function, and `hint` helps. Your
# checks, hints and predictions are kept in your copy of the workbook:

# %%
from kvlab.workshop import progress

progress()

# %% [markdown]
# ## Start and stop
#
# - **Closing a page stops nothing.** JupyterLab keeps the Python process of every notebook that you
#   have run, with its variables and connections. To stop them: menu *Kernel* → *Shut Down All
#   Kernels…*.
# - **To stop the lab:** menu *File* → *Shut Down*, or press Ctrl-C in the terminal where you started
#   it. This stops all notebooks too.
# - **The workbook's own Valkey** stops by itself a few seconds after its last user has stopped.
# - **Stuck in an exercise?** Each exercise has a solution in the folder `solutions`. The lab does
#   not list this folder. To open a solution: menu *File* → *Open from Path…*,
#   `solutions/01_cache_aside.ipynb`.
# - **To begin again:** menu *Kernel* → *Restart Kernel and Run All Cells…*. Every cell of every
#   chapter can run again.
#
# A notebook removes its own keys when its process stops. `kv.clear()` removes them immediately.
# `kv.clear()` removes the keys of this notebook and no other key:

# %%
print(kv.clear(), "keys removed")
