# %% [markdown]
# # Start here
#
# *About 10 minutes. You need nothing before it.*
#
# Eight patterns that nearly every Redis user writes: cache-aside, write-through, rate limiting,
# sessions, a distributed lock, a leaderboard, pipelines, feature flags. Each of them reads well in
# a tutorial. Most of them are wrong as soon as two clients meet or one client crashes.
#
# Every chapter has the same steps: **the guarantee** → the simple version → you **predict** → the
# simple version **breaks** on a real server → the fix → the same test again → what the fix
# **costs**, what the fix **earns**, and what the fix does **not** promise → an exercise.
#
# This chapter checks your machine. Then it shows a first operation, the price of a round trip, and
# how to read the charts.

# %% [markdown]
# ## Is this machine ready?
#
# The next cell lists the engines that can run here. The workbook starts its own Valkey, so you
# install nothing. (`kvlab doctor` in a terminal says more.)

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
# One engine with a version is enough: every chapter runs with it.
#
# `open_chapter` gives this notebook a namespace of its own on the server. Two people can run the
# same chapter at once. You can also open a chapter twice. The notebooks do not share keys.

# %%
from kvlab.chapters.opening import open_chapter
from kvlab.instruments import environment

kv = open_chapter("ch00")
facts = environment(kv)
pd.Series(facts, name="where the numbers below were measured").to_frame()

# %% [markdown]
# The table says where the numbers of this page come from. Yours will differ.
#
# ## An operation is data
#
# An `Op` is a command that has not run yet. `kv.run` runs it. `Key` marks the key's name, so that
# `kv.run` can put the notebook's own prefix before it.

# %%
from kvlab import Key, Op

greet = Op("SET", Key("greeting"), "hello", "EX", 60)
read = Op("GET", Key("greeting"))
print(greet)
print(kv.run(greet))
print(kv.run(read))

# %% [markdown]
# A printed op is the redis-cli line that it stands for, without the prefix. An op is not its
# result. An `if` on an op is a mistake, so `if` raises an error:

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
# Several ops that are given to one `run` travel together: **one `run` is one round trip.** The
# executor counts its round trips.

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
# of a data centre (0.5 to 1 ms) and the network between two regions (20 ms).

# %% tags=["predict"]
from kvlab.workshop import predict

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
page = pd.DataFrame(rows, columns=columns)
page.style.hide(axis="index").format(precision=1)

# %% [markdown]
# Look at the rows of 5 ms: they answer the question. The same numbers as a chart:

# %%
at_5_ms = page[page["round trip, ms"] == 5]["page, ms"]
title = "Ten values at 5 ms: {:.0f} ms one by one, {:.0f} ms in one run"
charts.lines(
    page,
    x="round trip, ms",
    y="page, ms",
    by="how",
    theory="network alone, ms",
    title=title.format(*at_5_ms),
    xlabel="round trip to the server (ms)",
    ylabel="time for ten values (ms)",
)

# %% tags=["predict"]
page_guess.measured(round(at_5_ms.iloc[0], 1))

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
# The axis is stretched towards the right, where the slow requests are.
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
# Chapters 1 to 8 take one pattern each, and you can read them in any order. Chapter 9 is about your
# own code: it runs any function that uses redis-py in every order of the commands. Chapter 10 is
# about load tests with Locust that know the right answer. Chapter 11 asks other libraries the same
# questions, 12 is a lab of caches, 13 sends the same ops over HTTPS, and 14 goes beyond one server.
#
# ## Exercises, hints, and what you have done
#
# Each chapter ends with two exercises, a short one and a longer one. `check` tries your function, and
# `hint` helps. Your checks, hints and predictions are kept in your copy of the workbook:

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
# A notebook removes its own keys when its process stops. `kv.clear()` removes them at once.
# `kv.clear()` removes the keys of this notebook and no other key:

# %%
print(kv.clear(), "keys removed")
