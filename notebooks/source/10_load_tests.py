# %% [markdown]
# # Load tests that know the right answer
#
# A load test tells how fast. A limiter that admits everybody is fast, and so is a leaderboard that
# loses scores. So ours also tell whether what happened was **allowed**.
#
# **The guarantee we want** of a load test:
#
# - it knows the right answer: one admission too many, one score that is wrong, and the run fails;
# - it would have noticed: the tutorial's version, under the same load, is caught;
# - its latencies are those of people who come when they like, not when the server has time;
# - it says when the generator, not the store, was what was slow.
#
# Each run here is Locust in a process of its own, for two to four seconds, with two or three more to
# start. **The chapter takes longer than the others, more than a minute.** Each run prints a
# line when it is done. In a terminal the same runs are `kvlab load rate-limiter` and `kvlab load
# leaderboard`; there they last as long as you like, and there is Locust's page (`--web`).

# %%
import tempfile
import textwrap
from pathlib import Path
from time import perf_counter

import pandas as pd
from ipywidgets import interact

import kvlab
from kvlab.instruments import charts, environment
from kvlab.instruments.measure import theory
from kvlab.load.command import record
from kvlab.load.record import charts as load_charts
from kvlab.load.record.summary import summary

# %%
kv, began = kvlab.connect(prefix="kvlab:ch10"), perf_counter()
pd.Series(environment(kv) | {"old keys removed": kv.clear()}, name="measured on").to_frame()


# %%
def load(name, **options):
    run = record(name, **options)
    kind = "open" if run.open_loop else "closed"
    print(f"{perf_counter() - began:3.0f} s  {run.title}: {run.calls:,} calls, {kind} loop, {run.verdict}")  # fmt: skip
    return run


def tell(run, evidence=0):
    for one in run.findings:
        says = f"{'HOLDS' if one.holds else 'BROKEN'}: {one.says}"
        lines = [*textwrap.wrap(says, 92), *one.evidence[:evidence]]
        print(*lines, sep="\n    ")


# %% [markdown]
# ## 1. One run, and its verdict
#
# Twenty users hit a sliding log as fast as they are answered, 10 admissions per half second for
# each of two keys. Closed loop, no warm-up, one repetition.
#
# Each decision carries the server's time. At the end an **oracle** takes them all: were there ever
# more than 10 in half a second? And was anybody denied while there was room? The second question
# matters: a limiter that denies everybody never admits too many.

# %%
plain = load("rate-limiter", seconds=2, limit=10, window=0.5)
print(summary(plain))

# %% [markdown]
# Two lines say `HOLDS`, each with what it has looked at. One that has looked at nothing would be worth
# nothing: a run in which nobody was denied ends with `SHOWS NOTHING`, and fails too.
#
# ### Whose speed is that?
#
# A load generator is a program as well. Before each run it makes calls that do nothing, with
# the same loop and the same recording: faster than that it cannot be. And it looks at its own CPU
# time: near a whole core it is the generator that people wait for, and the summary warns.
#
# ## 2. What a run leaves behind
#
# A folder, written whole or not at all. `report.html` is for people: open it in a browser. The tables
# are for pandas or a spreadsheet.

# %%
with tempfile.TemporaryDirectory() as place:
    folder = plain.save(Path(place) / "run")
    print(*(f"{file.name:14}{file.stat().st_size:>9,} bytes" for file in sorted(folder.iterdir())), sep="\n")  # fmt: skip
    timeline, windows = (pd.read_csv(folder / f"{n}.csv") for n in ("timeline", "windows"))
    latency = pd.read_csv(folder / "latency.csv")
display(latency.style.hide(axis="index").format(precision=0, thousands=","))  # noqa: F821
display(windows.head(3).style.hide(axis="index").format(precision=2))  # noqa: F821
timeline.head(4).style.hide(axis="index").format(precision=2, thousands=",", na_rep="")

# %% [markdown]
# `windows` has a row for each key and window of the clock: how many were admitted, how many may be, and
# `busiest`: the most in any interval of a window's length that ends here. `timeline` has a row for each
# quarter of a second (a second in runs longer than 20 s). The runs draw themselves:

# %%
load_charts.latency_over_time(plain)

# %% [markdown]
# ## 3. Would it have noticed?
#
# A test that has never failed may be one that cannot. So here one user of five takes the tutorial's
# sliding window, on a key of its own: **the control**. A run in which the control is not caught
# is a run that shows nothing about the others.
#
# **Predict.** Limit 2 in 0.1 s. Forty users share the hardened limiter, ten the naive one. Will the
# ten be caught within two seconds? How often?

# %%
both = load("rate-limiter", seconds=2, users=50, limit=2, window=0.1, keys=1, control=True)
tell(both)
over, naive = both.windows.eval("admitted > bound"), both.windows["key"].str.startswith("naive")
load_charts.admissions(both, title=(
    f"Over the limit: naive in {(over & naive).sum()} of {naive.sum()} windows, "
    f"hardened in {(over & ~naive).sum()} of {(~naive).sum()}"
))  # fmt: skip

# %% [markdown]
# The naive limiter does not say *when* it admitted. So only what is beyond doubt is held against it:
# calls that began and ended within one window's length. It is caught all the same.
#
# ### Scores, and answers that are lost
#
# Players submit scores to a leaderboard, and ask for ranks and neighbours. One answer of fifty is lost on
# its way: the server has done the command, and the client does not know. redis-py sends again what
# failed. The hardened board gives each submission an id, so that twice counts once.
#
# **Predict.** No exception reaches the caller in either version. Which scores are wrong at the
# end, and by how much?

# %%
lossy = {"seconds": 2, "members": 20, "lose_replies": 50}
boards = {"naive": load("leaderboard", naive=True, **lossy), "hardened": load("leaderboard", **lossy)}  # fmt: skip
for name, run in boards.items():
    print(f"\n{name}, {run.errors_total} errors")
    tell(run, evidence=3)

# %% [markdown]
# Two questions were asked of each board:
#
# - **Scores.** Is each the sum of what was acknowledged? A submission whose answer never came may
#   count once or not at all, so then the right answer has two ends.
# - **Order.** Beside the load, four clients play on a small board and write down what they asked and what
#   they were told. Is there *one* order of all their calls that explains every answer? (This is
#   linearizability; `kvlab.instruments.judge_history` decides it.) What is printed is the smallest
#   window that no order explains.
#
# And only now, speed, with the verdict beside it. The lower curve is not the better board if its
# scores are wrong.

# %%
load_charts.compare_latency(boards)

# %% [markdown]
# ## 4. Four algorithms, one load
#
# Limit 20 in 0.3 s, two keys. An open loop with a **spike**: 100 requests a second, and 500 in the middle
# fifth of the run. Arrivals come by chance (a Poisson process) and no two runs see the same ones:
# compare what a limiter *may* do with what it did, not the counts of two limiters.
#
# **Predict.** All four keep their promise. How many requests does each let through in the busiest
# 0.3 s: 20, or more?

# %%
from kvlab import FixedWindow, SlidingWindowCounter, SlidingWindowLog, TokenBucket

LIMIT, WINDOW = 20, 0.3
KINDS = {"fixed-window": FixedWindow, "sliding-log": SlidingWindowLog, "sliding-counter": SlidingWindowCounter, "token-bucket": TokenBucket}  # fmt: skip
spike = {"seconds": 2, "limit": LIMIT, "window": WINDOW, "rate": 500, "shape": "spike"}
runs = {name: load("rate-limiter", algorithm=name, **spike) for name in KINDS}

# %%
worst = [theory.fixed_window_worst(LIMIT), theory.sliding_log_worst(LIMIT), theory.sliding_counter_worst(LIMIT)]  # fmt: skip
worst = dict(zip(KINDS, [*worst, theory.token_bucket_worst(LIMIT, LIMIT / WINDOW, WINDOW)], strict=True))  # fmt: skip
rows = []
for name, kind in KINDS.items():
    full = kind("size", limit=1000, window=60)
    kv.run([full.hit(name) for _ in range(1000)])
    size = kv.client.memory_usage(kv.prefix + full.hit(name).keys[0].name, samples=0)
    rows.append((name, runs[name].windows["busiest"].max(), worst[name], runs[name].verdict, size))
columns = ["limiter", "busiest 0.3 s", "theory's worst", "its own bound", "bytes at limit 1,000"]
accuracy = pd.DataFrame(rows, columns=columns)
accuracy.style.hide(axis="index").format(thousands=",")

# %%
top = accuracy.loc[accuracy["busiest 0.3 s"].idxmax()]
word = "keeps" if top["its own bound"] == "HOLDS" else "breaks"
title = f"Limit {LIMIT}: {top.limiter} lets {top['busiest 0.3 s']} through in {WINDOW} s, and {word} its promise"  # fmt: skip
charts.bars(accuracy, x="limiter", y="busiest 0.3 s", limit=LIMIT, title=title, ylabel=f"admitted in the busiest {WINDOW} s")  # fmt: skip

# %% [markdown]
# A judge that knows only "limit 20" would call correct limiters broken. The log is exact, and pays for
# it: it remembers every admission. Which one is *right* is for you to say: may two windows' worth
# come at once?
#
# Now latency. Each hit is one round trip and one script, so expect the curves to lie close
# together, and their order to change from run to run.

# %%
half = {name: run.latency_all.percentile(50) for name, run in runs.items()}
low, high = min(half, key=half.get), max(half, key=half.get)
load_charts.compare_latency(runs, title=(
    f"Median: {low} {load_charts.duration(half[low])}, {high} {half[high] / half[low]:.1f} times that"
))  # fmt: skip

# %% [markdown]
# ## 5. The slow moments that nobody measured
#
# The server stands still for half a second: a fork, a swap, a slow command. We do this (SIGSTOP, on a
# server of its own) in two runs of two seconds:
#
# - **closed loop:** 20 users, each calls again when it was answered;
# - **open loop:** 500 calls a second are due, whatever the answers take, and a latency begins when
#   the call was *due*.
#
# **Predict.** A quarter of the run the server was away. What does each loop call its 99th percentile?

# %%
pause = {"seconds": 2, "fault": ["pause@0.7:0.5"]}
closed, opened = load("rate-limiter", **pause), load("rate-limiter", rate=500, **pause)
load_charts.coordinated_omission(closed, opened)

# %%
rows = []
for name, run in {"closed loop": closed, "open loop": opened}.items():
    seconds, answered = run.latency_all.curve()
    slow = 1 - answered[seconds < 0.1].max(initial=0)
    rows.append((name, run.calls, round(slow * run.calls), slow, run.verdict))
missed = pd.DataFrame(rows, columns=["", "calls", "slower than 0.1 s", "share", "verdict"])
missed.style.hide(axis="index").format({"calls": "{:,}", "share": "{:.1%}"})

# %% [markdown]
# In the closed loop each of 20 users had *one* slow call, and then waited with it. All those who would
# have come meanwhile are missing: **coordinated omission** (Gil Tene's name for it). The users of a
# web site do not wait for each other.
#
# The arithmetic, for a server that pauses once in a run. Closed: as many slow calls as users, among
# all calls. Open: one per cent of the calls were due in the first moments of the pause, so the 99th
# percentile is the pause, less one per cent of the run. Move the users: the closed loop's number says
# how many users you took, not how long the pause was.


# %%
def p99_of_a_pause(users=20, seconds=10):
    pauses = [n / 10 for n in range(21)]
    waits = [theory.closed_loop_pause(99, p, seconds, users, closed.rate) for p in pauses]
    waits += [theory.open_loop_pause(99, p, seconds) for p in pauses]
    loops = ["closed loop"] * 21 + ["open loop"] * 21
    frame = pd.DataFrame({"pause": pauses * 2, "loop": loops, "wait": waits})
    title = f"A pause of 2 s in {seconds} s: p99 holds {waits[20]:.3g} s of it closed, {waits[-1]:.3g} s open"
    return charts.lines(frame, x="pause", y="wait", by="loop", title=title, xlabel="pause (s)", ylabel="wait in the 99th percentile (s)")  # fmt: skip


display(p99_of_a_pause())  # noqa: F821
_ = interact(p99_of_a_pause, users=(1, 1000), seconds=(3, 60))

# %% [markdown]
# ## 6. Straight to the store, or through the app
#
# `POST /api/work` of the sample app: a web server, JSON, session, flags and limit. Limit, session and
# flags of one request travel in one round trip to the store. The oracle is the same: the answer carries
# the time of the decision.
#
# **Predict.** The same 20 users in a closed loop. How many times slower is a call? And of the
# calls a second, how many are left?

# %%
through = load("rate-limiter", seconds=2, limit=10, window=0.5, app=True)
load_charts.compare_latency({"to the store": plain, "through the app": through})

# %%
rows = [
    (name, run.rate, 20 / run.rate * 1e3, run.latency_all.mean * 1e3, run.verdict)
    for name, run in {"to the store": plain, "through the app": through}.items()
]
columns = ["", "calls a second", "users ÷ rate, ms", "of it in a call, ms", "verdict"]
law = pd.DataFrame(rows, columns=columns)
law.style.hide(axis="index").format(precision=2, thousands=",")

# %% [markdown]
# In a closed loop, **users ÷ rate is the time of one round of a user** (Little's law). A part of it is
# the call; the rest is a user who waits for the generator's one core until it may call again, and no
# latency shows that. So in a closed loop latency and throughput are one number, told twice. To
# learn how long a call takes at a load that you expect, fix the rate: `--rate`.
#
# ## 7. One generator, or two
#
# Python runs on one core. `--processes 2` starts two generators; what both saw is merged, histogram
# by histogram, before anything is said.
#
# **Predict.** Twice the calls?

# %%
two = load("rate-limiter", seconds=2, limit=10, window=0.5, processes=2)
load_charts.compare_throughput({"one process": plain, "two processes": two})

# %%
each = [run.intervals()["rate"].median() for run in (plain, two)]
ratio, cores = each[1] / each[0], two.generator.cpu_share * two.generator.processes
word = "more than" if ratio > 1.05 else "fewer than" if ratio < 0.95 else "about as many as"
print(f"Two processes made {word} one: {ratio:.1f} times the calls.")
print(f"They used {cores:.1f} of {two.machine['cpus']} cores together; the server ran on the same ones.")  # fmt: skip
print(f"Over the limit by the oracle, from what both saw: {two.broken} of {len(two.findings)} findings broken.")  # fmt: skip

# %% [markdown]
# On one small machine such a number says little: the generators and the server share its cores, so
# the second generator takes from the server what it adds. To find what a *server* can do, put the
# generators on other machines (`--master`, `--worker`) and add them until the rate no longer grows.
#
# ## 8. A restart in the middle
#
# The server is killed (`kill -9`) and comes back a second later from its append-only file, while 20 users
# go on. Hits whose answer never came may have counted or not, and the oracle allows for both.
#
# **Predict.** What does the limiter answer meanwhile? After the restart: is a customer who had used up
# the limit admitted again?

# %%
restart = load("rate-limiter", seconds=4, fault=["restart@1:1"])
tell(restart)
load_charts.throughput(restart)

# %% [markdown]
# The counts survived with the file. What was sent while nobody listened failed with `ServerUnavailable`:
# no admission is guessed. (A limiter may be told to let all in, or nobody: `outage="open"`, `"closed"`.)
#
# ## The limits that remain
#
# - **Passing is not proof.** A load meets the orders that happen; chapter 9 tries *every* order of
#   a few clients. A race of one in a million needs a million calls, or the explorer.
# - **The oracle judges one key's record.** It needs the server's times; a clock that is set back ends
#   what it can say.
# - **Seconds, on a shared machine.** Runs this short show what breaks and what a pause does. For numbers
#   to quote, take minutes, several repetitions, and generators on machines of their own.
# - **A killed process is not a power cut.** `kill -9` loses nothing that the operating system holds.
# - **An app that fails open** is not over-admission by the limiter, and the oracle counts no decision
#   that no server made.

# %% tags=["finding"]
caught = both.findings[-1].says.split(": ")[-1].replace(" admissions too many beyond doubt, of", " of")  # fmt: skip
held = both.findings[0].says.split(": ")[-1]
ends = [load_charts.duration(run.latency_all.percentile(99)) for run in (closed, opened)]
print(f"Admitted too many in one run: naive {caught}, hardened {held}; p99 of one pause: closed {ends[0]}, open {ends[1]}")  # fmt: skip

# %%
print(f"{kv.clear()} keys removed; the chapter took {perf_counter() - began:.0f} s")
kv.close()

# %% [markdown] tags=["exercise"]
# ## Exercise: judge a fixed window
#
# Write `judge_window(admitted, denied, limit, width)`. All times are whole microseconds of the server's
# clock, `width` too; a window is `time // width`. The times come in any order. Return two numbers:
#
# 1. **too many**: the admissions beyond `limit` in their window, over all windows;
# 2. **without reason**: the denials at a moment when fewer than `limit` had been admitted in that
#    window. An admission in the same microsecond as the denial may have come before it.
#
# Two traps: a fixed window may admit twice its limit across an edge and keep its promise; and
# a judge of the first number alone is happy with a limiter that denies everybody. Solve it in
# `exercises/10_load_tests.ipynb`.

# %% tags=["exercise-setup"]
import random
from collections import Counter, defaultdict  # noqa: F401

import kvlab
from kvlab import FixedWindow
from kvlab.instruments import judge, judge_denials

kv = kvlab.connect(prefix="kvlab:ex10")


# %% tags=["stub"]
def judge_window(admitted, denied, limit, width):
    """(admissions too many, denials without reason); all times in whole microseconds."""
    return 0, 0  # your turn


# %% tags=["solution"]
def judge_window(admitted, denied, limit, width):
    """(admissions too many, denials without reason); all times in whole microseconds."""
    windows = defaultdict(list)
    for moment in sorted(admitted):
        windows[moment // width].append(moment)
    too_many = sum(max(0, len(moments) - limit) for moments in windows.values())
    used = lambda at: sum(moment <= at for moment in windows.get(at // width, ()))  # noqa: E731
    return too_many, sum(used(at) < limit for at in denied)


# %% tags=["check"]
across = [999_998, 999_999, 1_000_000, 1_000_001]  # two at the end of a window, two in the next
assert judge_window(across, [], 2, 1_000_000) == (0, 0), "each window has its own limit of 2"
told = judge_window([5, 1, 3], [], 2, 1_000_000)
assert told == (1, 0), f"3 in one window of limit 2 is one too many, not {told[0]}"
told = judge_window([1, 5], [4, 5], 2, 1_000_000)
assert told[1] == 1, f"at 4 one was admitted, at 5 two: one denial without reason, not {told[1]}"
assert judge_window([], [7, 8], 1, 10)[1] == 2, "nobody was admitted: each denial is without reason"
print("the cases by hand are right")

# %% tags=["check"]
chance = random.Random(10)
for _ in range(200):
    admitted, denied = ([chance.randrange(5_000_000) for _ in range(30)] for _ in range(2))
    given = {"limit": 6, "window": 1.0}
    times = [[t / 1e6 for t in moments] for moments in (admitted, denied)]
    right = judge("fixed-window", times[0], **given).over, judge_denials("fixed-window", *times, **given).unjustified  # fmt: skip
    told = judge_window(admitted, denied, 6, 1_000_000)
    assert told == right, f"{sorted(admitted)}, denied {sorted(denied)}: {right}, not {told}"
print("200 records by chance: the same verdict as the workbook's oracle")

# %% tags=["check"]
kv.clear()
limiter, record = FixedWindow("judged", limit=10, window=0.2), {True: [], False: []}
for _ in range(2_000):
    decision = kv.run(limiter.hit("mia"))
    record[decision.allowed].append(round(decision.at * 1e6))
told = judge_window(record[True], record[False], 10, 200_000)
assert told == (0, 0), f"the real limiter was right each time, you say {told}"
worse = judge_window([*record[True], record[True][-1]] * 2, record[False], 10, 200_000)
assert worse[0], "twice the admissions must be too many"
kv.clear(), kv.close()
print(f"the real limiter: {len(record[True])} admitted, {len(record[False])} denied, all right")
