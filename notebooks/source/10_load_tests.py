# %% [markdown]
# # Load tests that know the right answer
#
# *About 45 minutes. Before this chapter: 03 and 06.*
#
# A load test says how fast a system is. But a limiter that admits every request is fast, and a
# leaderboard that loses scores is fast too. So our load tests also say whether each answer was
# **allowed**.
#
# **The guarantee we want** of a load test:
#
# - it knows the right answer: the run fails after one admission too many or one wrong score;
# - it can fail: the tutorial's version fails under the same load;
# - its latencies are those of users who do not wait until the server is ready;
# - it says when the load generator was slow, and not the store.
#
# Each run in this chapter is a process of Locust, a load generator in Python. A run lasts two to
# four seconds, and its start takes some seconds more. **All runs of the chapter together take more
# than a minute.** Each run prints a line when it is done. In a terminal you start the same runs
# with `kvlab load rate-limiter` and `kvlab load leaderboard`. There you choose how long a run
# lasts, and `--web` opens Locust's page.

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
# Twenty users hit a sliding log. Its limit is 10 admissions per half second for each of two keys.
# Each user hits again as soon as it has its answer (a closed loop). The first call of each user is a
# warm-up, which no figure counts. There is one repetition.
#
# Each decision carries the server's time. At the end an **oracle** takes all decisions and asks two
# questions. Were there ever more than 10 admissions in half a second? And was anybody denied while
# there was room? The second question matters: a limiter that denies everybody never admits too many.

# %%
plain = load("rate-limiter", seconds=2, limit=10, window=0.5)
print(summary(plain))

# %% [markdown]
# Three lines say `HOLDS`. Each line says how much it has judged, and what it would have shown. A run
# in which no request was denied cannot judge the denials. Such a run ends with `SHOWS NOTHING` and
# also fails.
#
# ### Is the generator fast enough?
#
# A load generator is a program too. It measures its own CPU time, and how late its timers are: a
# reply waits as long until its user runs. If one interval of the run used nearly a whole core, or if
# half of its timers were late by more than 2 ms, then the users wait for the generator, and the
# summary warns. After each run a bare loop makes the same call: its rate is the line to compare with.
#
# ## 2. What a run leaves behind
#
# A run leaves a folder with all its files, or no folder. `report.html` is for people: open the file
# in a browser. The tables are for pandas or a spreadsheet.

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
# `windows` has a row for each key and each window of the clock: how many requests were admitted,
# how many may be admitted, and `busiest`. `busiest` is the highest count in any interval of a
# window's length that ends in this window. The cell after `windows` draws a chart of the same run.

# %%
windows.head(3).style.hide(axis="index").format(precision=2)

# %%
load_charts.latency_over_time(plain)

# %% [markdown]
# ## 3. Can the test fail?
#
# A test that has never failed is perhaps a test that cannot fail. So in the next run one user of
# five uses the tutorial's sliding window, on a separate key. This is **the control**. If the run
# does not catch the control, the run says nothing about the hardened limiter.
#
# The limit is 2 in 0.1 s. Forty users share the hardened limiter, and ten users share the naive
# limiter, for two seconds.

# %% tags=["predict"]
from kvlab.workshop import predict

caught = predict(
    "10-control",
    "In what share of its windows is the naive limiter caught?",
    unit="%",
)

# %%
limits = {"limit": 2, "window": 0.1, "keys": 1}
both = load("rate-limiter", seconds=2, users=50, control=True, **limits)
print(findings_text(both))
load_charts.admissions(both)

# %% tags=["predict"]
naive_windows = over_bound(both)["naive"]
caught.measured(naive_windows.over / naive_windows.windows * 100)

# %% [markdown]
# The naive limiter does not say *when* it admitted. So only calls that began and ended within one
# window's length count against the naive limiter. These calls are enough to catch it.
#
# ### Scores, and answers that are lost
#
# Players submit scores to a leaderboard, and ask for ranks and neighbours. One reply of fifty is
# lost: the server has run the command, and the client does not know this. redis-py then retries the
# command. The hardened board gives each submission an id, so that a retry does not count again.

# %% tags=["predict"]
wrong = predict(
    "10-lost-replies",
    "No exception reaches the caller in either version. Which board has wrong scores "
    "at the end?",
    ["naive", "hardened", "naive and hardened", "neither"],
)

# %%
lossy = {"seconds": 2, "members": 20, "lose_replies": 50}
boards = {
    "naive": load("leaderboard", naive=True, **lossy),
    "hardened": load("leaderboard", **lossy),
}
for name, run in boards.items():
    print(f"\n{name}, {run.errors_total} errors\n{findings_text(run, evidence=3)}")

# %% tags=["predict"]
broken = [name for name, run in boards.items() if run.broken]
wrong.measured(" and ".join(broken) or "neither")

# %% [markdown]
# Two questions were asked of each board:
#
# - **Scores.** Is each score the sum of the acknowledged submissions? A submission without an
#   answer may count once or not at all. So in this case every score in a range is right.
# - **Order.** During the load, four clients play on a small board and record each call and its
#   answer. Is there *one* order of all their calls that explains every answer? (This is
#   linearizability. `kvlab.instruments.judge_history` decides it.) The output shows the smallest
#   group of calls that no order explains.
#
# The next chart has the speed, with the verdict beside it. A board with wrong scores is not better,
# even if its curve is lower.

# %%
load_charts.compare_latency(boards)

# %% [markdown]
# ## 4. Four algorithms, one load
#
# The limit is 20 in 0.3 s for each of two keys. The load is an open loop with a **spike**: 100
# requests a second, and 500 a second in the middle fifth of the run. Arrivals are random (a Poisson
# process), and no two runs have the same arrivals. So do not compare the counts of two limiters.
# Compare the count of a limiter with the most that this limiter *may* admit.

# %% tags=["predict"]
more_than_20 = predict(
    "10-four",
    "All four limiters keep their promise. How many of the four admit more than 20 "
    "requests in their busiest 0.3 s?",
)

# %%
from kvlab.chapters.load_tests.tables import LIMITERS, accuracy, accuracy_chart

spike = {"seconds": 2, "limit": 20, "window": 0.3, "rate": 500, "shape": "spike"}
runs = {name: load("rate-limiter", algorithm=name, **spike) for name in LIMITERS}
table = accuracy(kv, runs, limit=20, window=0.3)
table.style.hide(axis="index").format(thousands=",")

# %% tags=["predict"]
more_than_20.measured(sum(table["busiest"] > 20))

# %% [markdown]
# The table has the requests that each algorithm admitted, and the most that the algorithm may admit
# by theory.

# %%
accuracy_chart(table, limit=20)

# %% [markdown]
# A judge that knows only "limit 20" would call correct limiters broken. The log is exact, and its
# price is memory: the log stores every admission. You must choose the right algorithm. May twice
# the limit arrive at the same time? If not, choose the log.
#
# The next chart has the latency. Each hit is one round trip and one script.

# %% tags=["predict"]
curves = predict(
    "10-curves",
    "Compare the medians of the four limiters. How many times as long is the "
    "longest as the shortest?",
)

# %%
load_charts.compare_latency(runs)

# %% tags=["predict"]
medians = [run.latency_all.percentile(50) for run in runs.values()]
curves.measured(max(medians) / min(medians))

# %% [markdown]
# Run the cells again: the order of the curves can change from run to run. So a small difference
# between the curves means nothing. The verdicts stay the same.
#
# ## 5. The slow moments that nobody measured
#
# A server can stop for half a second: a fork, swapping, a slow command. We stop a separate server
# for half a second (with SIGSTOP), in two runs of two seconds:
#
# - **closed loop:** there are 20 users, and each user calls again after its answer;
# - **open loop:** 500 calls a second are due, also when the answers are slow. A latency begins at
#   the **intended start** of the call.

# %% tags=["predict"]
paused = predict(
    "10-pause",
    "The server was stopped for half a second, a quarter of the run. Which loop "
    "reports a 99th percentile above 0.1 s?",
    ["closed", "open", "closed and open", "neither"],
)

# %%
pause = {"seconds": 2, "fault": ["pause@0.7:0.5"]}
closed = load("rate-limiter", **pause)
opened = load("rate-limiter", rate=500, **pause)
load_charts.coordinated_omission(closed, opened)

# %% tags=["predict"]
loops = {"closed": closed, "open": opened}
slow = [name for name, run in loops.items() if run.latency_all.percentile(99) > 0.1]
paused.measured(" and ".join(slow) or "neither")

# %%
from kvlab.chapters.load_tests.tables import p99_of_a_pause, slow_calls, users_by_rate

slow_calls({"closed loop": closed, "open loop": opened})

# %% [markdown]
# In the closed loop each of the 20 users had at most *one* slow call in the pause, and waited for
# its answer. The calls that the users would have made during the pause are missing. Gil Tene calls
# this **coordinated omission**. The users of a web site do not wait for each other.
#
# The next cell computes both percentiles for a server that pauses once in a run. In a closed loop
# there are as many slow calls as users, among all calls. In an open loop a call that is due in the
# pause waits until the pause ends. One per cent of all calls wait longest: those that are due when
# the pause begins, for one per cent of the run. So the 99th percentile is the length of the pause
# minus one per cent of the run. Move the knob `users`: the number of the closed loop depends on the
# number of users, and not on the length of the pause.

# %%
from ipywidgets import interact


def knob(users=20, seconds=10):
    return p99_of_a_pause(users, seconds, closed.rate)


_ = interact(knob, users=(1, 1000), seconds=(3, 60))
knob()

# %% [markdown]
# ## 6. Straight to the store, or through the app
#
# `POST /api/work` of the sample app: a web server, JSON, session, flags and limit. Limit, session
# and flags of one request travel in one round trip to the store. The oracle is the same, because
# the answer of the app has the time of the decision.

# %% tags=["predict"]
through_app = predict(
    "10-app",
    "The same 20 users call in a closed loop. How many times as long does a call "
    "take through the app as straight to the store, on average?",
)

# %%
through = load("rate-limiter", seconds=2, limit=10, window=0.5, app=True)
paths = {"to the store": plain, "through the app": through}
load_charts.compare_latency(paths)

# %% tags=["predict"]
through_app.measured(through.latency_all.mean / plain.latency_all.mean)

# %%
users_by_rate(paths, users=20).style.format(precision=2, thousands=",")

# %% [markdown]
# In a closed loop, **users ÷ rate is the time of one round of a user** (Little's law). A part of
# this time is the call. In the rest of this time the user waits for the generator's one core, and
# no latency shows that wait. So in a closed loop the throughput follows from the time of a round.
# If you want the latency at a load that you expect, fix the rate with `--rate`.
#
# ## 7. One generator, or two
#
# One Python process uses one core. `--processes 2` starts two generators. Before the verdict the
# records of both generators are merged, and their histograms are added.

# %% tags=["predict"]
twice = predict(
    "10-two-generators",
    "Two generators on this machine: how many times as many calls a second do they "
    "make as one?",
)

# %%
two = load("rate-limiter", seconds=2, limit=10, window=0.5, processes=2)
load_charts.compare_throughput({"one process": plain, "two processes": two})

# %% tags=["predict"]
twice.measured(two.rate / plain.rate)

# %%
cores = two.generator.cpu_share * two.generator.processes
print(f"The two generators used {cores:.1f} of {two.machine['cpus']} cores.")
print(f"Findings broken, from what both saw: {two.broken} of {len(two.findings)}.")

# %% [markdown]
# On one small machine this number says little. The generators and the server share the cores, so a
# second generator leaves less CPU time for the server. To find the limit of a *server*, run the
# generators on other machines (`--master`, `--worker`), and add generators until the rate no longer
# grows.
#
# ### The highest rate that holds
#
# Until now we chose the rate. `kvlab load rate-limiter --find-rate --slo p99=5ms` searches for the
# rate. A rate holds when 99 % of the calls take at most 5 ms **and** no promise of the limiter
# breaks. Each probe is an open loop. The search climbs to a rate that fails. Then the next rate is
# higher after a probe that held, and lower after a probe that did not. A search takes minutes, so
# the next cell reads a search that was kept.

# %%
from kvlab.chapters.load_tests.kept_search import kept_search, search_chart, search_text

search = kept_search()
print(search_text(search))
search_chart(search)

# %% [markdown]
# Near the limit the same rate holds in one probe and fails in the next probe. So the result is a rate
# **with its spread**, and not one number. From the **knee** on, the 99th percentile is at least twice
# its best. The median does not show the knee. The last line is about the generator. If the generator
# was late where a rate failed, then the search found the limit of the generator, and the line says
# so.
#
# ## 8. A restart in the middle
#
# The next run kills the server (`kill -9`). The server starts again one second later from its
# append-only file. The 20 users continue all the time. A hit without an answer may have counted or
# not, and the oracle accepts both.

# %% tags=["predict"]
restarted = predict(
    "10-restart",
    "One customer has used up the limit before the restart. Is this customer "
    "admitted too early after the restart?",
    ["no", "yes"],
)

# %%
restart = load("rate-limiter", seconds=4, fault=["restart@1:1"])
print(findings_text(restart))
load_charts.throughput(restart)

# %% tags=["predict"]
restarted.measured("yes" if restart.broken else "no")

# %% [markdown]
# The server read the counts from its file. While the server was down, a hit raised
# `ServerUnavailable`: the limiter did not guess an answer. (With `outage="open"` a limiter admits
# every request in an outage, and with `outage="closed"` no request.)
#
# ## The limits that remain
#
# - **A passed test is not a proof.** A load test sees only the schedules that happen. Chapter 09
#   tries *every* schedule of a few clients. A race that happens once in a million calls needs a
#   million calls, or the explorer.
# - **The oracle needs the server's times.** It judges each key alone. After the server's clock was
#   set back, the oracle can no longer judge.
# - **These runs last seconds, on a shared machine.** Short runs show what breaks, and what a pause
#   does. For numbers that you publish, use runs of minutes, several repetitions, and generators on
#   separate machines.
# - **A killed process is not a power cut.** After `kill -9` the operating system still writes the
#   data that it has in memory.
# - **An app may admit requests in an outage.** The oracle counts only the decisions that a server
#   made, so it does not count these admissions.

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
# `exercises/10_load_tests.ipynb` has a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function on cases whose right answer is known, and shows the first case in
# which your answer is wrong.
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
# If you need help, run `hint("10-short")`: three hints, then a solution.


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
# Two traps: a fixed window may admit twice its limit across an edge and still keep its promise; and
# a judge that returns the first number alone accepts a limiter that denies everybody.
#
# If you need help, run `hint("10")`: three hints, then a solution.


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
