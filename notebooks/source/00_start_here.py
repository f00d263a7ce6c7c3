# %% [markdown]
# # Start here
#
# Eight patterns that nearly every Redis user writes: cache-aside, write-through, rate limiting,
# sessions, a distributed lock, a leaderboard, pipelines, feature flags. Each reads well in a
# tutorial, and most are wrong as soon as two clients meet or one of them crashes.
#
# Every chapter goes the same way: **the guarantee** → the simple version → you **predict** → it
# **breaks** on a real server → the fix → the same schedule again → what it **costs**, what it
# **earns**, and what it still does **not** promise → an exercise.
#
# This chapter takes ten minutes: is the machine ready, a first operation, the price of a round
# trip, and how to read the charts.

# %% [markdown]
# ## Is this machine ready?
#
# The engines that can run here. The workbook starts its own Valkey; nothing to install, and it
# is gone soon after you close the last notebook. (`kvlab doctor` in a terminal says more.)

# %%
import pandas as pd

from kvlab.server import engines

pd.DataFrame(
    [(e.name, e.version or "absent", e.missing or "") for e in engines.engines().values()],
    columns=["engine", "version", "why not"],
).style.hide(axis="index")

# %%
import kvlab
from kvlab import Key, Op
from kvlab.instruments import environment

kv = kvlab.connect(prefix="kvlab:ch00")
kv.clear()
pd.Series(environment(kv), name="where the numbers below were measured").to_frame()

# %% [markdown]
# ## An operation is data
#
# An `Op` is a command that has not run yet. `kv.run` runs it. `Key` says where the prefix goes, so
# that this notebook touches nothing outside `kvlab:ch00:`. Printed, an op is the redis-cli line that
# it stands for, with the key as it is before the prefix.

# %%
greet = Op("SET", Key("greeting"), "hello", "EX", 60)
print(greet)
print(kv.run(greet), kv.run(Op("GET", Key("greeting"))))

# %% [markdown]
# An op is not its result. To test one by accident is an error, not a silent `True`:

# %%
try:
    if Op("GET", Key("greeting")):
        print("never reached")
except kvlab.errors.NotRunYet as error:
    print(error)

# %% [markdown]
# ## What a round trip costs
#
# Several ops given to one `run` travel together: **one `run` is one round trip.** The executor
# counts them.

# %%
before = kv.round_trips
for number in range(3):
    kv.run(Op("SET", Key(f"n:{number}"), number, "EX", 60))
one_by_one = kv.round_trips - before

before = kv.round_trips
kv.run(*(Op("GET", Key(f"n:{number}")) for number in range(3)))
print(f"three runs: {one_by_one} round trips; one run of three ops: {kv.round_trips - before}")

# %% [markdown]
# **Predict.** A page needs ten values. Your server is 5 ms away. How long does the page wait if it
# asks for them one by one? And together? Write it down, then run the next cell.
#
# A proxy between us and the server delays every reply, so that the network of a data centre (0.5
# to 1 ms) or of two regions (20 ms) fits on a laptop.

# %%
import statistics
import timeit

from kvlab.instruments import Proxy


def seconds(call, repeats=5):
    """Median seconds of a call."""
    return statistics.median(timeit.repeat(call, number=1, repeat=repeats))


# %%
rows, ops = [], [Op("GET", Key(f"n:{number}")) for number in range(10)]
with Proxy(kvlab.server.join().url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    far.run(ops)
    for milliseconds in (0, 1, 5, 20):
        proxy.delay(milliseconds / 1000)
        apart = seconds(lambda: [far.run(op) for op in ops])
        together = seconds(lambda: far.run(ops))
        rows += [(milliseconds, "one by one", apart * 1e3, 10 * milliseconds)]
        rows += [(milliseconds, "in one run", together * 1e3, milliseconds)]
cost = pd.DataFrame(rows, columns=["round trip, ms", "how", "ms", "network alone, ms"])
cost.round(1).style.hide(axis="index").format(precision=1)

# %%
from kvlab.instruments import charts

at_5 = cost[cost["round trip, ms"] == 5].set_index("how")["ms"]
charts.lines(
    cost, x="round trip, ms", y="ms", by="how", theory="network alone, ms",
    title=f"Ten values at 5 ms: {at_5['one by one']:.0f} ms one by one, "
    f"{at_5['in one run']:.0f} ms in one run",
    xlabel="round trip to the server (ms)", ylabel="time for ten values (ms)",
    remark="lines: measured    dashes: round trips × network alone",
)  # fmt: skip

# %% [markdown]
# The dashed lines are arithmetic: trips × distance. The measured lines rise with them; what lies
# between is the work of client, proxy and server, once for each trip. The further the server, the
# more of the wait is distance. **That is why this workbook counts round trips**, and why each
# hardened pattern does its work in one.

# %% [markdown]
# ## How to read a latency chart
#
# Two thousand reads of one key, one after the other. First the number that most dashboards show:

# %%
from kvlab.instruments import ClosedLoop, Uniform, charts, experiment

read = Op("GET", Key("greeting"), decode=lambda reply: "hit" if reply else "miss")
result = experiment(
    lambda key: kv.run(read), Uniform(1), seed=1, arrivals=ClosedLoop(1),
    count=2_000, warmup=200, name="GET", kv=kv,
)  # fmt: skip
latency = result.latency
print(f"mean {latency.mean * 1e6:.0f} µs, slowest {latency.max * 1e6:.0f} µs")

# %% [markdown]
# The mean hides the slow ones, and each user meets those: a page of ten reads meets the slowest
# tenth of them two times in three. So we draw **percentiles**: read "99 %" as "99 of 100 requests were
# answered within". The axis is stretched towards the right, where the trouble is.

# %%
charts.latency_percentiles({"GET": result}, title=(
    f"Half of the reads take {latency.percentile(50) * 1e6:.0f} µs, "
    f"one in a hundred {latency.percentile(99) / latency.percentile(50):.1f} times that"
))  # fmt: skip

# %% [markdown]
# Three habits of this workbook:
#
# - **Correctness stands beside speed.** A latency chart names its violations: how often the
#   promise was broken in that same run, or "not checked".
# - **Ratios, not absolute times.** Yours differ from those above. Two variants are measured in
#   turns in one run, and the ratio is what counts.
# - **Nothing is typed in.** Titles, tables and captions are computed by the cell above them.
#
# Chapters 1 to 8 take one pattern each, in any order. Chapter 9 is for code of your own: it shows
# how to try any function that uses redis-py in every order of its commands. Chapter 10 is about
# load: tests with Locust that know the right answer.

# %% [markdown]
# ## Clean up
#
# `kv.clear()` removes the keys under this notebook's prefix and nothing else.

# %%
print(f"{kv.clear()} keys removed")
kv.close()
