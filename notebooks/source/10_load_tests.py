# %% [markdown]
# # Load tests that know the right answer
#
# *About 45 minutes. Before this chapter: 03 and 06.*
#
# A load test says how fast a system is. A limiter that admits everybody is fast, and so is a
# leaderboard that loses scores. So our load tests also say whether what happened was **allowed**.
#
# **The guarantee we want** of a load test:
#
# - it knows the right answer: one admission too many, or one score that is wrong, and the run fails;
# - it would have noticed: the tutorial's version, under the same load, is caught;
# - its latencies are those of people who come when they like, not when the server has time;
# - it says when the generator was slow, and not the store.
#
# Each run here is Locust in a process of its own, for two to four seconds, with two or three more to
# start. **All runs of the chapter together take more than a minute.** Each run prints a line when it is
# done. In a terminal the same runs are `kvlab load rate-limiter` and `kvlab load leaderboard`. There a
# run lasts as long as you like, and there is Locust's page (`--web`).

# %%
import pandas as pd

from kvlab.chapters.load_tests.findings import findings_text, over_bound
from kvlab.chapters.opening import open_chapter
from kvlab.instruments import environment
from kvlab.load.command import record
from kvlab.load.record import charts as load_charts
from kvlab.load.record.summary import summary

kv = open_chapter("ch10")
pd.Series(environment(kv), name="the numbers below were measured on").to_frame()


# %%
def load(name, **options):
    run = record(name, **options)
    loop = "open loop" if run.open_loop else "closed loop"
    print(f"{run.title}: {run.calls:,} calls, {loop}, {run.verdict}")
    return run


# %% [markdown]
# ## 1. One run, and its verdict
#
# Twenty users hit a sliding log as fast as they are answered: 10 admissions per half second for
# each of two keys. Closed loop, no warm-up, one repetition.
#
# Each decision carries the server's time. At the end an **oracle** takes all decisions and asks two
# questions. Were there ever more than 10 admissions in half a second? And was anybody denied while
# there was room? The second question matters: a limiter that denies everybody never admits too many.

# %%
plain = load("rate-limiter", seconds=2, limit=10, window=0.5)
print(summary(plain))

# %% [markdown]
# Two lines say `HOLDS`, each with what it has looked at. A line that has looked at nothing would be
# worth nothing: a run in which nobody was denied ends with `SHOWS NOTHING`, and fails too.
#
# ### Whose speed is that?
#
# A load generator is a program as well. Before each run the generator makes calls that do nothing, with
# the same loop and the same recording: it cannot be faster than that. And the generator looks at its own
# CPU time. Near a whole core, users wait for the generator, and the summary warns.
#
# ## 2. What a run leaves behind
#
# A folder, written whole or not at all. `report.html` is for people: open it in a browser. The tables
# are for pandas or a spreadsheet.

# %%
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as place:
    folder = plain.save(Path(place) / "run")
    for file in sorted(folder.iterdir()):
        print(f"{file.name:14}{file.stat().st_size:>9,} bytes")
    timeline = pd.read_csv(folder / "timeline.csv")
    windows = pd.read_csv(folder / "windows.csv")
timeline.head(4).style.hide(axis="index").format(precision=2, na_rep="")

# %% [markdown]
# `timeline` has a row for each quarter of a second (for each second in runs longer than 20 s).
# `windows` has a row for each key and window of the clock: how many were admitted, how many may be, and
# `busiest`: the most in any interval of a window's length that ends in this window.

# %%
windows.head(3).style.hide(axis="index").format(precision=2)

# %% [markdown]
# The runs draw themselves:

# %%
load_charts.latency_over_time(plain)

# %% [markdown]
# ## 3. Would it have noticed?
#
# A test that has never failed may be a test that cannot fail. So here one user of five takes the
# tutorial's sliding window, on a key of its own: **the control**. A run in which the control is not
# caught shows nothing about the others.
#
# **Predict.** Limit 2 in 0.1 s. Forty users share the hardened limiter, ten the naive one. Will the
# ten be caught within two seconds? How often?

# %%
limits = {"limit": 2, "window": 0.1, "keys": 1}
both = load("rate-limiter", seconds=2, users=50, control=True, **limits)
print(findings_text(both))
load_charts.admissions(both)

# %% [markdown]
# The naive limiter does not say *when* it admitted. So only what is beyond doubt counts against it:
# calls that began and ended within one window's length. The naive limiter is caught all the same.
#
# ### Scores, and answers that are lost
#
# Players submit scores to a leaderboard, and ask for ranks and neighbours. One answer of fifty is lost on
# its way: the server has done the command, and the client does not know. redis-py retries what failed.
# The hardened board gives each submission an id, so that a retry does not count again.
#
# **Predict.** No exception reaches the caller in either version. Which scores are wrong at the
# end, and by how much?

# %%
lossy = {"seconds": 2, "members": 20, "lose_replies": 50}
boards = {
    "naive": load("leaderboard", naive=True, **lossy),
    "hardened": load("leaderboard", **lossy),
}
for name, run in boards.items():
    print(f"\n{name}, {run.errors_total} errors\n{findings_text(run, evidence=3)}")

# %% [markdown]
# Two questions were asked of each board:
#
# - **Scores.** Is each score the sum of what was acknowledged? A submission whose answer never came may
#   count once or not at all, so then the right answer is a range.
# - **Order.** Beside the load, four clients play on a small board and write down what they asked and what
#   they were answered. Is there *one* order of all their calls that explains every answer? (This is
#   linearizability; `kvlab.instruments.judge_history` decides it.) Printed is the smallest
#   window that no order explains.
#
# And only now the speed, with the verdict beside it. The lower curve is not the better board if its
# scores are wrong.

# %%
load_charts.compare_latency(boards)

# %% [markdown]
# ## 4. Four algorithms, one load
#
# Limit 20 in 0.3 s, two keys. An open loop with a **spike**: 100 requests a second, and 500 in the middle
# fifth of the run. Arrivals come by chance (a Poisson process), and no two runs see the same arrivals:
# compare what a limiter *may* do with what it did, not the counts of two limiters.
#
# **Predict.** All four keep their promise. How many requests does each let through in the busiest
# 0.3 s: 20, or more?

# %%
from kvlab.chapters.load_tests.tables import LIMITERS, accuracy, accuracy_chart

spike = {"seconds": 2, "limit": 20, "window": 0.3, "rate": 500, "shape": "spike"}
runs = {name: load("rate-limiter", algorithm=name, **spike) for name in LIMITERS}
table = accuracy(kv, runs, limit=20, window=0.3)
table.style.hide(axis="index").format(thousands=",")

# %% [markdown]
# The table has what each algorithm let through, and the most that it may let through by theory.

# %%
accuracy_chart(table, limit=20)

# %% [markdown]
# A judge that knows only "limit 20" would call correct limiters broken. The log is exact, and pays for
# it: the log remembers every admission. Which one is *right* is for you to say: may two windows' worth
# come at once?
#
# Now latency. Each hit is one round trip and one script. **Predict** how far the four curves lie apart.

# %%
load_charts.compare_latency(runs)

# %% [markdown]
# The curves lie close together, and their order changes from run to run: this order is noise, the
# verdicts are not.
#
# ## 5. The slow moments that nobody measured
#
# The server stands still for half a second: a fork, a swap, a slow command. We do this (SIGSTOP, on a
# server of its own) in two runs of two seconds:
#
# - **closed loop:** 20 users, each calls again after its answer;
# - **open loop:** 500 calls a second are due, whatever the answers take, and a latency begins at the
#   **intended start** of the call.
#
# **Predict.** The server was away for a quarter of the run. What does each loop report as its 99th
# percentile?

# %%
pause = {"seconds": 2, "fault": ["pause@0.7:0.5"]}
closed = load("rate-limiter", **pause)
opened = load("rate-limiter", rate=500, **pause)
load_charts.coordinated_omission(closed, opened)

# %%
from kvlab.chapters.load_tests.tables import p99_of_a_pause, slow_calls, users_by_rate

slow_calls({"closed loop": closed, "open loop": opened})

# %% [markdown]
# In the closed loop each of 20 users had *one* slow call, and waited for its answer. The calls that users
# would have made meanwhile are missing: **coordinated omission** (Gil Tene's name for it). The users of
# a web site do not wait for each other.
#
# The arithmetic, for a server that pauses once in a run. Closed: as many slow calls as users, among
# all calls. Open: one per cent of the calls were due in the first moments of the pause, so the 99th
# percentile is the pause, less one per cent of the run. Move the users: the closed loop's number says
# how many users you took, not how long the pause was.

# %%
from ipywidgets import interact


def knob(users=20, seconds=10):
    return p99_of_a_pause(users, seconds, closed.rate)


_ = interact(knob, users=(1, 1000), seconds=(3, 60))
knob()

# %% [markdown]
# ## 6. Straight to the store, or through the app
#
# `POST /api/work` of the sample app: a web server, JSON, session, flags and limit. Limit, session and
# flags of one request travel in one round trip to the store. The oracle is the same: the answer carries
# the time of the decision.
#
# **Predict.** The same 20 users in a closed loop. How many times slower is a call? And how many calls a
# second are left?

# %%
through = load("rate-limiter", seconds=2, limit=10, window=0.5, app=True)
paths = {"to the store": plain, "through the app": through}
load_charts.compare_latency(paths)

# %%
users_by_rate(paths, users=20).style.format(precision=2, thousands=",")

# %% [markdown]
# In a closed loop, **users ÷ rate is the time of one round of a user** (Little's law). A part of this time
# is the call. The rest is a user who waits for the generator's one core until it may call again, and no
# latency shows that. So in a closed loop latency and throughput are one number in two forms. To
# learn how long a call takes at a load that you expect, fix the rate: `--rate`.
#
# ## 7. One generator, or two
#
# Python runs on one core. `--processes 2` starts two generators. What both generators saw is merged,
# histogram by histogram, before the verdict.
#
# **Predict.** Do two generators make twice the calls?

# %%
two = load("rate-limiter", seconds=2, limit=10, window=0.5, processes=2)
load_charts.compare_throughput({"one process": plain, "two processes": two})

# %%
cores = two.generator.cpu_share * two.generator.processes
print(
    f"Two processes used {cores:.1f} of {two.machine['cpus']} cores; so did the server."
)
print(f"Findings broken, from what both saw: {two.broken} of {len(two.findings)}.")

# %% [markdown]
# On one small machine such a number says little: the generators and the server share its cores, so
# the second generator takes from the server what it adds. To find what a *server* can do, put the
# generators on other machines (`--master`, `--worker`) and add generators until the rate no longer grows.
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
print(findings_text(restart))
load_charts.throughput(restart)

# %% [markdown]
# The counts survived with the file. What was sent while nobody listened failed with `ServerUnavailable`:
# no admission is guessed. (You may tell a limiter to admit everybody, or nobody: `outage="open"` or
# `"closed"`.)
#
# ## The limits that remain
#
# - **Passing is not proof.** A load meets the orders that happen; chapter 09 tries *every* order of
#   a few clients. A race of one in a million needs a million calls, or the explorer.
# - **The oracle judges one key's record.** The oracle needs the server's times; a clock that is set back
#   ends what the oracle can say.
# - **Seconds, on a shared machine.** Runs this short show what breaks and what a pause does. For numbers
#   to quote, take minutes, several repetitions, and generators on machines of their own.
# - **A killed process is not a power cut.** `kill -9` loses nothing that the operating system holds.
# - **An app that fails open** is not over-admission by the limiter, and the oracle counts no decision
#   that no server made.

# %% tags=["finding"]
over = over_bound(both)
closed_p99 = load_charts.duration(closed.latency_all.percentile(99))
open_p99 = load_charts.duration(opened.latency_all.percentile(99))
print(
    f"Windows over the bound in one run: naive {over['naive']}, hardened "
    f"{over['hardened']}; p99 of one pause: closed {closed_p99}, open {open_p99}"
)

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Open `exercises/10_load_tests.ipynb`: a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `latencies`: latency from the intended start.
# 2. `judge_window`: a judge of a fixed window.

# %% tags=["exercise-setup"]
from collections import defaultdict

from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: latency from the intended start
#
# One user should call every `interval` seconds, and has one connection: a call starts at its intended start,
# or when the call before it has ended. Write `latencies(interval, durations)`. `durations` are the seconds
# that the server took for each call. Return for each call the seconds from its **intended** start to its end.
#
# Stuck? Run `hint("10-short")`: three hints, then a solution.


# %% tags=["stub"]
def latencies(interval, durations):
    return durations  # and the calls that had to wait?


# %% tags=["solution"]
def latencies(interval, durations):
    end = 0.0
    found = []
    for number, duration in enumerate(durations):
        intended = number * interval
        end = max(end, intended) + duration
        found.append(end - intended)
    return found


# %% tags=["check"]
check("10-short", latencies)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: judge a fixed window
#
# Write `judge_window(admitted, denied, limit, width)`. All times are whole microseconds of the server's
# clock, `width` too; a window is `time // width`. The times come in any order. Return two numbers:
#
# 1. **too many**: the admissions beyond `limit` in their window, over all windows;
# 2. **without reason**: the denials at a moment when fewer than `limit` had been admitted in that
#    window. An admission in the same microsecond as the denial may have come before it.
#
# Two traps: a fixed window may admit twice its limit across an edge and keep its promise; and
# a judge of the first number alone is happy with a limiter that denies everybody.
#
# Stuck? Run `hint("10")`: three hints, then a solution.


# %% tags=["stub"]
def judge_window(admitted, denied, limit, width):
    """(admissions too many, denials without reason); times in whole microseconds."""
    return 0, 0  # your turn; defaultdict(list) can hold the admissions of a window


# %% tags=["solution"]
def judge_window(admitted, denied, limit, width):
    """(admissions too many, denials without reason); times in whole microseconds."""
    windows = defaultdict(list)  # the admissions of each window
    for moment in admitted:
        windows[moment // width].append(moment)
    too_many = sum(max(0, len(moments) - limit) for moments in windows.values())
    without_reason = 0
    for at in denied:
        used = sum(moment <= at for moment in windows[at // width])
        without_reason += used < limit
    return too_many, without_reason


# %% tags=["check"]
check("10", judge_window)
