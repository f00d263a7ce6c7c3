# %% [markdown]
# # What would you pick instead?
#
# *About 40 minutes. Before this chapter: 00, and one of 01 to 08. Chapter 09 explains the explorer.*
#
# You need a rate limiter, a lock, a cache or sessions, and you do not want to write it. There are
# many libraries. Their pages show how to call them. Few pages say what happens when two clients
# come at the same time, when a client crashes, or when a reply is lost.
#
# This chapter asks each library the same questions. A library makes a **promise**, such as "one
# holder". The explorer runs two clients of the library in every order of their commands, and with
# every single fault. So the answer is not an opinion and not a benchmark: it is "no run breaks the
# promise", or one short run that breaks it.
#
# **The guarantee we want:** for each answer in this chapter you can see the code that was driven,
# the versions, and the run. You can make each answer again.

# %% [markdown]
# ## 1. The question, and who answers
#
# To run all libraries takes some minutes, and they must be installed. So the answers are kept in
# the repository, and this chapter reads them. The last section shows the command.

# %%
import pandas as pd

from kvlab.chapters.libraries.race_matrix import kept_matrix, race_matrix

pd.set_option("display.max_colwidth", None)
matrix = kept_matrix()
driven = [cell for cell in matrix.cells if cell.verdict != "can't be driven"]
packages = {cell.package for cell in driven} - {""}
print(f"{len(packages)} packages, {len(matrix.cells)} cells")
pd.Series(dict(matrix.environment), name="made on").to_frame()

# %% [markdown]
# A row is a library, or one part of it. The columns are the faults:
#
# | | what happens, once in a run, at every possible place |
# | --- | --- |
# | no fault | nothing: only the order of the commands differs |
# | crash | a client ends for good |
# | lost reply | the server did it, and the client gets a connection error |
# | lost request | the server did not do it, and the client gets the same error |
# | expiry | the TTL of a key ends |
# | clock | the clock of one client jumps by two hours |
#
# The code between the explorer and a library is an *adapter* of about ten lines. It calls the
# library as its documentation does. This is the adapter of the lock in redis-py:

# %%
import inspect

from benchmarks.libraries import locks

print(inspect.getsource(locks.by_redis_py))

# %% [markdown]
# redis-py is installed here, so the next cell drives the library itself. The promise of a lock has
# three parts: one holder; free when nobody holds it; never locked for ever.

# %% tags=["predict"]
from kvlab.workshop import predict

lost = predict(
    "11-lost-reply",
    "A client calls `acquire()`. The server sets the lock, and its reply is lost. "
    "redis-py retries by itself. What does `acquire()` return?",
    ["True", "False", "it raises"],
)

# %%
from benchmarks.libraries.explored import explored
from benchmarks.studies.explored_libraries import LIBRARIES

rows = {(library.family.name, library.name): library for library in LIBRARIES}
lock_cell, lock_story = explored(rows["lock", "redis-py Lock"], "lost reply")
lock_story

# %% tags=["predict"]
lost.measured(str(lock_story.shortest.results[0]))

# %% [markdown]
# The first SET has arrived. The retry finds a key that exists, so `acquire()` returns False, and
# **the client does not know that it holds the lock**. Nobody holds it and nobody can take it, until
# its TTL ends. One lost reply is enough for this.
#
# The kept matrix has the same run. `✗` in a picture stands for such a run.

# %%
kept = matrix.cell("redis-py Lock", "lost reply")
print("the same run:", kept.replay == lock_story.schedule)
print(kept)

# %% [markdown]
# Before a `✗` was written, the run was made once more **without the explorer**: on a real server,
# with two processes and a gate that lets their requests through in this order.
#
# ## 2. Rate limiters
#
# Two clients hit a limiter that allows one hit.

# %% tags=["predict"]
clock = predict(
    "11-clock",
    "The clock of one client is wrong by two hours. Some limiters take the time from "
    "the client, and some take it from the server. Which of these two breaks?",
    ["limits, moving window", "limits, fixed window", "both", "neither"],
)

# %%
race_matrix(matrix, "rate limiter")

# %% tags=["predict"]
names = ["limits, moving window", "limits, fixed window"]
wrong = [name for name in names if matrix.cell(name, "clock").verdict == "breaks"]
clock.measured({0: "neither", 1: "".join(wrong), 2: "both"}[len(wrong)])

# %% [markdown]
# Read a row from left to right. `✓ all 6` says: there are 6 schedules, and the promise holds in all
# of them. The number says how many there are, and it says nothing about quality. When the first
# column breaks, the others break too, because a run without a fault is one of theirs: `✗` alone.
#
# - **A look and an act in two commands** breaks without any fault.
# - **A counter and its TTL in two commands** breaks by a crash: the counter stays for ever.
# - **A client that retries by itself** counts one hit twice after a lost reply, and denies a visitor
#   who is within the limit. This depends on the connection that you give to the library.
# - **A time from the client** breaks by its clock.
#
# What do the libraries promise? These are their own words, in the versions of the picture:

# %%
quotes = {name: quote.words for name, quote in matrix.quotes.items()}
pd.Series(quotes, name="its own words").to_frame()

# %% [markdown]
# Most of them promise less than our sentence. Then `✗` is no bug: it is a property that you must
# know before you pick. aiocache says so in plain words.
#
# ## 3. Locks

# %%
race_matrix(matrix, "lock")

# %% [markdown]
# Look at the column *expiry*. `◇` means: **no library can hold this promise**. A holder that sleeps
# longer than its TTL does not know that another client is inside. Only a fence helps: a number that
# rises with each holder, and that the guarded thing checks (chapter 05).
#
# The column *lost reply* tells the locks apart. Some locks that hold there do not retry: the client
# gets an error, and so it knows that the lock may be taken. A lock that retries holds only if the
# retry looks whose token the key has.
#
# ## 4. Caches
#
# The first promise: after a write and an invalidation, no reader puts the old value back. The
# second promise is made by few: two readers of a cold key load it once.

# %% tags=["predict"]
fills = predict(
    "11-fills",
    "The first column, no fault: how many of the caches break the promise 'no fill "
    "lands over a later invalidation'?",
)

# %%
race_matrix(matrix, "cache, invalidation", "cache, cold key")

# %% tags=["predict"]
caches = matrix.families["cache, invalidation"]
fills.measured(sum(row[0].verdict == "breaks" for row in caches))

# %% [markdown]
# "Get, load, set" is the interface of nearly every cache. With this interface the cache cannot know
# that an invalidation came between the load and the set. Here is a **twin** of such a library: a
# reader and a writer that send the same commands. The schedule that is kept for the library fits its
# twin, and it breaks the twin in the same way.


# %%
def reader(kv):
    value = kv.get("cached")
    if value is None:
        value = kv.get("row")
        kv.set("cached", value, ex=60)


def writer(kv):
    kv.set("row", "new")
    kv.delete("cached")


# %%
def first_row(kv):
    kv.set("row", "old")


def no_old_value(world):
    """the cache does not have the old value"""
    return world.kv.get("cached") != "old"


# %%
from kvlab.instruments import replay

schedule = matrix.cell("cachelib", "none").replay
question = {"setup": first_row, "invariant": no_old_value}
text = {"client_options": {"decode_responses": True}}
replay(schedule, {"reader": reader, "writer": writer}, **question, **text)

# %% [markdown]
# The old value stays for its whole TTL. If your data may be old for a TTL, this does not matter, and
# you can pick any of them. If not, the fill needs a condition: a lease, as in chapter 01.
#
# ## 5. Sessions, scores, queues

# %% tags=["predict"]
logout = predict(
    "11-logout",
    "A slow request reads the session and saves it at its end. In between the user "
    "logs out in another tab. What is on the server at the end?",
    ["no session", "the session of the user"],
)

# %%
race_matrix(matrix, "sessions", "scores", "queue")


# %%
def slow_request(kv):
    session = kv.get("session:1")
    kv.set("session:1", session + ", page 2", ex=60)


def log_out(kv):
    if kv.get("session:1"):
        kv.delete("session:1")


def logged_in(kv):
    kv.set("session:1", "ann", ex=60)


# %%
def logged_out(world):
    """after the log-out there is no session"""
    return world.kv.get("session:1") is None


schedule = matrix.cell("flask-session", "none").replay
question = {"setup": logged_in, "invariant": logged_out}
tabs = {"slow request": slow_request, "log-out": log_out}
session_story = replay(schedule, tabs, **question, **text)
session_story

# %% tags=["predict"]
back = "no session" if session_story.holds else "the session of the user"
logout.measured(back)

# %% [markdown]
# This is the schedule that is kept for flask-session. One word repairs the twin: `xx=True` in the
# last SET, "only if the session still exists". No setting of the library adds this word.
#
# Scores differ by their retry: an increment that is retried counts twice, unless it carries an id.
# And a queue that pops its only copy of a job loses the job with the worker.
#
# ## 6. Our own rows, now
#
# kvlab is asked the same questions. The next cell explores our rows on this machine, without a
# fault and with lost replies. Our cold key is left out, because it alone takes seconds.

# %%
columns = ["none", "lost reply"]
ours = [
    library
    for (family, name), library in rows.items()
    if name.startswith("kvlab") and family != "cache, cold key"
]
found = [explored(library, fault)[0] for library in ours for fault in columns]
kept = [matrix.cell(cell.library, cell.fault, cell.family) for cell in found]
same = sum(now.verdict == then.verdict for now, then in zip(found, kept, strict=True))
print(f"{same} of {len(found)} verdicts are those of the kept matrix")
now = pd.DataFrame(found)
now.pivot(index=["family", "library"], columns="fault", values="verdict")[columns]

# %% [markdown]
# The authors of the promises are the authors of kvlab. So a row that holds is what you should
# expect, and it is no proof of quality. A promise of your own may break it. Section 9 says how to ask.
#
# ## 7. A call, and a whole request
#
# `kvlab bench` measures kvlab and a library in turns, and keeps each run in a folder. The repository
# keeps one run, and pandas reads it. `ratio` is the time of kvlab, measured by that of the library: 0.5
# is half of it. `low` and `high` are the ends of its interval. Where `differs` is False, no difference
# was seen.
#
# These calls go to a server on the same machine. A request of a web page asks a limiter, a session, the
# flags and a cache, and a server that is farther away. Four good libraries do not know each other, so
# their round trips add up.

# %%
from kvlab.bench import BenchRun
from kvlab.chapters.libraries.kept_bench import kept_folder

calls = BenchRun.load(kept_folder()).frame()
shown = ["peer", "version", "ratio", "low", "high", "differs"]
calls[calls["of_package"]].set_index(["benchmark", "case"])[shown].round(2)

# %% tags=["predict"]
ratio = predict(
    "11-request",
    "Each round trip takes 5 ms more. How many times as long do four libraries take "
    "as one `run` of kvlab?",
)

# %%
from kvlab.chapters.libraries.whole_request import (
    kept_requests,
    totals,
    whole_request_chart,
)

requests = kept_requests()
whole_request_chart(requests)

# %% tags=["predict"]
five = totals(requests)["ms"].loc[5.0]
ratio.measured(round(five["peers"] / five["kvlab"], 1))

# %% [markdown]
# Round trips are counted and do not change. Milliseconds belong to one machine that was busy.
# Without distance a request takes about a millisecond, by four libraries or by one `run`. **With
# distance you pay for the number of round trips**, and not for the code.
#
# ## 8. What to pick
#
# The table is computed from the matrix: the rows that were driven to the end and never break (no
# `✗`, `?` or `⊘`), in the order of the alphabet. Use it with the promise that *you* need.

# %%
from kvlab.chapters.libraries.race_matrix import unbroken

unbroken(matrix)

# %% [markdown]
# - **Is an error rare and cheap?** Pick the library that your framework has, and know its `✗`. A
#   counter that is wrong by one after a lost reply hurts nobody.
# - **Does a lost reply cost money** (a lock, a score)? Pick a row that holds there, or turn off the
#   retries of your client and handle the error.
# - **Must a log-out stay, or must a cache never show an old value?** Then the write needs a
#   condition on the server. Look for it in the code of the library: NX, XX, IFEQ, WATCH, or a script.
# - **Do you need a lock for correctness?** Pick a fence, not a lock.
# - **Is your server far away?** Count round trips first.
#
# The same matrix on one page. Below it each line opens the shortest run of a `✗`: who sent what, in
# which order, and the schedule.

# %%
race_matrix(matrix, title="Which promise holds in every order, under one fault")

# %%
from kvlab.chapters.libraries.broken_runs import broken_runs

broken_runs(matrix)

# %% [markdown]
# ## 9. If you disagree
#
# You maintain one of these libraries, or you use it in another way? All that is needed is here:
#
# 1. The adapters are in `benchmarks/libraries/`, the promises in `benchmarks/libraries/promises.py`.
# 2. `pip install kvlab[lab,peers]` installs the pinned versions.
# 3. One row again: `python -m benchmarks.studies.explored_libraries cachelib --timelines`. All rows:
#    the same without a name. `--save FILE` keeps the matrix.
# 4. One run again: change the adapter, and replay the schedule of the cell.
#
# The next cell prints the promise of a lock as code, and one kept cell with its schedule.

# %%
promise = inspect.getsource(rows["lock", "redis-py Lock"].family.invariant)
print(promise)
print(matrix.cell("sherlock", "lost reply"))

# %% [markdown]
# ## The limits that remain
#
# - **Two clients, one operation each, one fault at most.** A library may break with three.
# - **One way to use a library.** Another setting, or another client with other retries, may hold. A
#   limiter that holds for one hit an hour may be wrong for ten hits a second.
# - **A promise is ours.** Where the library does not make it, the picture says what you get, and not
#   that the library is wrong.
# - **Speed, memory, documentation, years of use** are no columns. They matter as much.
# - **A number of schedules is no grade.** A larger program has more schedules.

# %% tags=["finding"]
broken = {cell.library for cell in matrix.cells if cell.verdict == "breaks"}
own = [name for name in broken if name.startswith("kvlab")]
trips = totals(requests)["round_trips"].iloc[0]
print(
    f"{len(packages)} packages under six columns: each ✗ has its shortest run; kvlab "
    f"breaks in {len(own)} rows; one request takes {trips['peers']:g} round trips by "
    f"four libraries, {trips['kvlab']:g} by one run"
)

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `exercises/11_libraries.ipynb` has a short exercise (10 minutes) and a longer one.
#
# 1. `keeps_its_promise`: say what a limiter promises, so that wrong limiters are rejected.
# 2. `take`: the lock that refuses its own holder.

# %% tags=["exercise-setup"]
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: what a limiter promises
#
# Write `keeps_its_promise(world)`. A limiter allows one hit in an hour. One or two clients have hit
# it once each. `world.results` has what each client got: `True` (admitted), `False` (denied), or an
# exception if the client crashed. `world.kv` is a client that reads the keys at the end. The answer is
# `True` if the promise is kept, else `False`:
#
# 1. never over the limit;
# 2. never denied within the limit: somebody is admitted when no client has failed;
# 3. never for ever: each key has a TTL.
#
# `check` tries your sentence on a limiter that is right and on three that are wrong. If you need
# help, run `hint("11-short")`: three hints, then a solution.


# %% tags=["stub"]
def keeps_its_promise(world):
    return world.results.count(True) <= 1  # is that all?


# %% tags=["solution"]
def keeps_its_promise(world):
    admitted = world.results.count(True)
    nobody_failed = all(isinstance(result, bool) for result in world.results)
    if nobody_failed and admitted == 0:
        return False
    all_end = all(world.kv.ttl(key) > 0 for key in world.kv.keys("*"))
    return admitted <= 1 and all_end


# %% tags=["check"]
check("11-short", keeps_its_promise)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: the lock that refuses its own holder
#
# Write `take(kv, token)`. It takes the lock `door` for 30 seconds and returns `True`, or it returns
# `False` if another client has it. `kv` is a redis-py client whose replies are text, and it retries a
# command whose reply is lost. `token` is a text that belongs to this client alone. The key `door` has
# the token of its holder.
#
# 1. Of two clients one gets the door, in every order.
# 2. A client that gets `False` does not hold the door, also after a lost reply.
# 3. Wherever a client crashes, the door has a TTL.
#
# You may use `kv.lock(...)` of redis-py, and plain commands. If you need help, run `hint("11")`: three
# hints, then a solution.


# %% tags=["stub"]
def take(kv, token):
    lock = kv.lock("door", timeout=30, blocking=False)
    return lock.acquire(token=token)  # what if its reply is lost?


# %% tags=["solution"]
def take(kv, token):
    before = kv.set("door", token, nx=True, get=True, ex=30)
    return before in (None, token)


# %% tags=["check"]
check("11", take)
