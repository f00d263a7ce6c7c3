# %% [markdown]
# # Distributed lock
#
# *About 45 minutes. Before this chapter: 00.*
#
# A nightly job runs on four machines and must run once. An order must be charged by one worker at a
# time. A few lines from a tutorial promise that, and they fail in several ways.
#
# **The guarantee that we want:**
#
# - at most one client is inside at any time, and a dead client is out when its TTL ends;
# - only the owner releases the lock, and a lost answer locks nobody out;
# - a waiter is woken, and the waiter asks nobody in the meantime;
# - a holder that has lost the lock learns it, and a resource can refuse the holder's late write.

# %%
from inspect import getsource

import pandas as pd

from kvlab import Kv, Lock, NaiveLock, fenced_get, fenced_set
from kvlab.chapters.opening import open_chapter
from kvlab.core.server_url import server_url
from kvlab.instruments import ALL_FAULTS, charts, environment, explore

url = server_url()  # the embedded Valkey, or KVLAB_URL
kv = open_chapter("ch05", url)
pd.Series(environment(kv), name="where the numbers below were measured").to_frame()

# %% [markdown]
# ## The simple version, and a crash between two commands
#
# The next cell prints the simple version. `SETNX` takes the lock and `EXPIRE` gives it a TTL. `GET`
# asks who the owner is and `DEL` gives the lock back.
#
# **Predict.** A worker dies right after `SETNX`. When can the next worker take the lock?
#
# We need not know the bad moment. `explore` runs a small program on a private server again and again:
# in every order of its commands, and with `crashes=True` also with a death after each command. At the
# end of each run it checks our **invariant**, a sentence that must be true. It draws the shortest run
# that breaks the invariant: time goes down, and the right column shows what the keys hold from then on.

# %%
for method in (NaiveLock.acquire, NaiveLock.release):
    print(getsource(method))


# %%
def takes(kv):
    """takes the simple lock"""
    return NaiveLock(kv).acquire("orders", 10)


def every_key_expires(world):
    """every key has a TTL"""
    return all(world.kv.ttl(key) > 0 for key in world.kv.keys("*"))


stuck_lock = explore({"A": takes}, invariant=every_key_expires, crashes=True)
stuck_lock

# %% [markdown]
# See the last column: the key has no TTL, so no worker can ever take the lock again.
#
# ## The wrong lock is deleted
#
# **Predict.** A takes the lock, works, and gives the lock back: four commands. B takes the lock and
# keeps it. A's TTL may end at any moment. Can B lose the lock that it holds? Who takes it away?
#
# A run has one fault at most. So when B takes the lock *after* a TTL has ended, no second TTL ends,
# and B's lock must still be there at the end of the run.


# %%
def b_keeps_its_lock(world):
    """B took the lock after a TTL had ended, so B still has the lock"""
    moved = [event.client for event in world.trace]  # None: no client, a TTL ended
    b_came_later = None in moved[: moved.index(1)]
    if b_came_later and world.results[1]:
        return world.kv.exists("lock:orders", "kv:lock:{orders}:held") == 1
    return True


# %%
def takes_and_releases(kv):
    """takes the simple lock and gives it back"""
    token = takes(kv)
    if token is None:
        return False
    return NaiveLock(kv).release("orders", token)


clients = {"A": takes_and_releases, "B": takes}
theft = explore(clients, invariant=b_keeps_its_lock, expiries=True)
theft

# %% [markdown]
# See A's last two commands: `GET` answered that the lock is A's. That was true, and then A's TTL
# ended. A's `DEL` removes B's lock, and A returns True.
#
# ## The fix: one script for each step
#
# - `try_acquire` is one script. If nobody holds the lock, the script writes owner and TTL in one
#   `SET … NX PX` and answers with a **fence**: a number that rises from hold to hold. (We need the
#   fence below.)
# - `release` is one script. It compares the owner and deletes. No command can come between the two.
#
# The same two clients and the same two questions, now with every fault that the explorer knows:
# crashes, lost replies and requests, TTLs that end, a server that forgets its scripts. Each run has
# one fault, and there is a run for each point at which the fault can happen.

# %%
lock = Lock("orders", ttl=10)


def takes_hardened(kv):
    return kv.run(lock.try_acquire())


def takes_and_releases_hardened(kv):
    held = kv.run(lock.try_acquire())
    if held is None:
        return False
    return kv.run(lock.release(held))


# %%
print(lock.try_acquire(), "\n")
clients = {"A": takes_and_releases_hardened, "B": takes_hardened}
never_stuck = explore(clients, invariant=every_key_expires, faults=ALL_FAULTS)
no_theft = explore(clients, invariant=b_keeps_its_lock, faults=ALL_FAULTS)
print("every key has a TTL:", never_stuck.summary)
print("B keeps its lock:   ", no_theft.summary)

# %% [markdown]
# See the two counts: no schedule breaks either promise.
#
# ## The holder that freezes
#
# **Predict.** A holds the hardened lock and freezes: a long garbage collection, a laptop lid, a
# virtual machine that moves. A's TTL ends. B takes the lock and writes. A wakes up, and A's next line
# is a write. Does the lock stop this write?
#
# Each worker notes its name when it has the lock, and then writes its name into a row. At the end the
# row should name the worker that took the lock last. We try three pairs: the simple lock, the hardened
# lock, and the hardened lock with a row that **checks fences**. `fenced_set` is the smallest such
# resource: a script that refuses a write whose fence is lower than a fence that it has seen.

# %%
holders = []  # the workers, in the order in which they took the lock


def forget_holders(kv):
    holders.clear()


def last_holder_wrote_last(world):
    """the row names the worker that took the lock last"""
    rows = [world.kv.get("row"), world.kv.run(fenced_get("row"))]
    return not any(rows) or holders[-1].encode() in rows


# %%
def naive_worker(name, kv):
    """takes the simple lock, then writes its name into the row"""
    if takes(kv):
        holders.append(name)
        kv.set("row", name)


def hardened_worker(name, kv):
    """takes the hardened lock, then writes its name into the row"""
    if kv.run(lock.try_acquire()):
        holders.append(name)
        kv.set("row", name)


# %%
def fencing_worker(name, kv):
    """takes the hardened lock, then writes its name and its fence"""
    held = kv.run(lock.try_acquire())
    if held:
        holders.append(name)
        kv.run(fenced_set("row", name, held.fence))


# %%
from functools import partial

stories = {}
for worker in (naive_worker, hardened_worker, fencing_worker):
    stories[worker.__name__] = explore(
        {"A": partial(worker, "A"), "B": partial(worker, "B")},
        setup=forget_holders,
        invariant=last_holder_wrote_last,
        expiries=True,
    )
stories["hardened_worker"]

# %% [markdown]
# See the last two writes: the row says A, although B took the lock after A. No lock can stop a write
# that is on its way. Only the resource can stop it, and the fence says how.
#
# One broken run shows a fault. Only all runs together can show that there is none:

# %%
found = {
    "the lock stays for ever: naive": stuck_lock,
    "the lock stays for ever: hardened": never_stuck,
    "A deletes B's lock: naive": theft,
    "A deletes B's lock: hardened": no_theft,
    "A writes late: naive lock, plain row": stories["naive_worker"],
    "A writes late: hardened lock, plain row": stories["hardened_worker"],
    "A writes late: hardened lock, fenced row": stories["fencing_worker"],
}
rows = [(what, story.violations, story.schedules) for what, story in found.items()]
columns = ["what goes wrong", "in how many", "of all schedules"]
pd.DataFrame(rows, columns=columns).style.hide(axis="index")

# %% [markdown]
# See the last three lines: both locks let a late write through, and the row with fences does not.
#
# ## Your own lock
#
# **Put your code between the two marks.** `kv` is your redis-py client, and the row is what the lock
# protects. The lines that stand there now are what most of us write first. Are they enough?


# %%
def your_worker(name, kv):
    # --- your code from here ---
    if kv.set("my:lock", name, nx=True, ex=10):
        holders.append(name)  # keep this line: it notes who is inside
        kv.set("row", name)
        kv.delete("my:lock")
    # --- to here ---


workers = {"A": partial(your_worker, "A"), "B": partial(your_worker, "B")}
rule = last_holder_wrote_last
explore(workers, setup=forget_holders, invariant=rule, expiries=True)

# %% [markdown]
# See the writes of the row: A's TTL ends, B takes the lock and writes, and A writes after B.
#
# ## Turn the knobs
#
# Run the next cell to get the knobs. A works two seconds and freezes in the middle. Which TTL survives
# which pause? And what does a longer TTL cost when the holder is dead and not frozen?

# %%
from IPython.display import display
from ipywidgets import interact

from kvlab.chapters.distributed_lock.charts import freeze_chart

display(freeze_chart(ttl=5, pause=7))
_ = interact(freeze_chart, ttl=(1.5, 15.0, 0.5), pause=(0.0, 15.0, 0.5))

# %% [markdown]
# See the two diamonds: A's write arrives after B's write, and A still believes that the lock is its own.
# A longer TTL survives a longer pause; after a crash everybody waits for that TTL.
#
# ## The body that notices
#
# `with kv.hold(lock) as held` runs a body under the lock. The body never starts without the lock, and
# however the body ends, the lock is released. `held.check()` costs no round trip. It raises `LockLost`
# from the moment at which the server may have given the lock away. So: **check after each slow step
# and before each write.** Here we move the executor's clock by hand.

# %%
from kvlab.errors import LockLost

now = [0.0]  # seconds
watched = Kv(kv.client, prefix=kv.prefix, clock=lambda: now[0])
try:
    with watched.hold(lock) as held:
        for seconds in (4, 4, 4):
            now[0] += seconds
            print(f"after {now[0]:.0f} s of work: {held.remaining:.0f} s left")
            held.check()
except LockLost as lost:
    print("LockLost:", lost)

# %% [markdown]
# See the third line: after 12 s nothing is left of the 10 s, and the check stops the body.
#
# ## The answer that got lost
#
# **Predict.** The server gives you the lock, and the network loses the answer. The client library
# retries. What does the server answer now?
#
# We compare redis-py's own `Lock`. When its key is there, some client should know that it is the owner.


# %%
def takes_redis_py(kv):
    return kv.lock("peer", timeout=10).acquire(blocking=False)


def the_owner_knows(world):
    return any(world.results) or not world.kv.keys("*")


aware = explore([takes_hardened] * 2, invariant=the_owner_knows, faults=ALL_FAULTS)
print("kvlab:", aware.summary)
unaware = explore({"A": takes_redis_py}, invariant=the_owner_knows, faults=ALL_FAULTS)
unaware

# %% [markdown]
# See the second `SET`: redis-py retries `SET NX` with the same token, finds its own key, and says no.
# Nobody can release that key. In kvlab **the same op run again is the same hold**: the script knows the
# token.
#
# ## Waiters are woken
#
# A refused waiter sleeps in `BLPOP` on the server, for at most the rest of the holder's TTL. The
# release script pushes one item if somebody waits. Does everybody get in, also when the holder dies or
# the release is lost? And what does one waiter send while a holder stays for half a second?


# %%
def waits(kv):
    held = kv.run(lock.acquire(wait=60))
    if held:
        kv.run(lock.release(held))
    return held


def everybody_comes_in(world):
    """nobody waits in vain, and nobody's time is up unless something failed"""
    kinds = {event.kind for event in world.trace}
    return None not in world.results and kinds != {"go", "time out"}


# %%
story = explore(
    {"A": waits, "B": waits},
    invariant=everybody_comes_in,
    crashes=True,
    lost_replies=True,
    lost_requests=True,
    progress=False,
)
print(story.summary)

# %%
from kvlab.chapters.distributed_lock import wake_ups

wake_ups.commands_while_waiting(url, kv.prefix, lock, seconds=0.5)

# %% [markdown]
# See the column `sent`: redis-py's waiter asks about ten times a second. The woken waiter sends one
# `BLPOP` and sleeps; its two EVALSHA are the try before the wait and the try after it.
#
# **Predict.** redis-py asks every 100 ms. How long does its waiter wait after a release, in the median?
# And how long does ours wait?
#
# One client holds the lock and one waits. The holder's stay is random (seeded) between 50 and 150 ms, so
# that the release meets the sleeping waiter at any point of its sleep. The naive lock cannot wait. People
# write a loop around it, here with the same 100 ms. The three locks take turns; one turn of each is the
# warm-up. A violation is a waiter that is inside before the holder has begun its release.

# %% tags=["finding"]
woken = wake_ups.three_locks(kv, lock, turns=10, seed=5)
median = woken.groupby("lock")["ms"].median()
ours = f"{median['hardened']:.1f} ms"
peer = f"{median['redis-py Lock']:.0f} ms"
naive = f"naive in {theft.violations} of {theft.schedules} schedules"
hardened = f"hardened in {no_theft.violations} of {no_theft.schedules}"
print(f"A deletes B's lock: {naive}, {hardened}; wake-up {ours}, redis-py {peer}")
title = f"A woken waiter waits {ours}, redis-py's waiter {peer}"
look = {"xlabel": "from release to entry (ms, log scale)", "form": "{:.3g} ms"}
charts.dots(woken, x="ms", y="label", by="lock", title=title, logx=True, **look)

# %% [markdown]
# See the spread of the dots: a waiter that polls waits for the rest of its sleep, so its dots lie
# anywhere up to 100 ms.
#
# ## Fifty clients want the lock
#
# Fifty threads add one to a number: each reads it and writes it back. Without a lock we force the worst
# case: everybody reads before anybody writes. With the lock we let the threads run. The threads note who
# is inside; the lock is not asked.

# %%
from kvlab.chapters.distributed_lock import stays
from kvlab.chapters.distributed_lock.charts import stays_chart

free = stays.without_lock(kv, clients=50)
locked = stays.under_lock(kv, lock, clients=50)
fences = [stay.held.fence for stay in locked.stays]
print("fences rise in order of entry:", fences == sorted(set(fences)))
without = f"No lock: {free.most_inside} inside at once, sum {free.number}"
title = f"{without}. Lock: {locked.most_inside} inside, sum {locked.number}"
stays_chart(locked.stays, title=title)

# %% [markdown]
# See the blue steps: they never overlap. Each hand-over is one wake-up.
#
# ## What it costs
#
# - **Round trips** to take a free lock and to give it back, counted by a proxy between us and the server.
# - **Latency** of the same two steps: one client in a closed loop, nobody waits, 8 turns of 120 calls
#   for each lock, the locks in turns, a warm-up of 10 calls in each turn, seed 5. **Violations of the
#   same run**: each turn ends with one late release. A's TTL ends just before the last command of A's
#   release, and B takes the lock. It is a violation when A deletes B's lock.

# %%
from kvlab.chapters.distributed_lock import costs

trips = costs.round_trips(url, kv.prefix)
total = trips.groupby("variant")["round_trips"].sum()
title = (
    f"Take and give back: naive {total.naive} round trips, hardened {total.hardened}"
)
charts.round_trips(trips, title=title)

# %% [markdown]
# See the pairs of bars: a step that is one script is one round trip.

# %%
results = costs.latency(url, kv, turns=8, count=120, warmup=10, seed=5)
naive = results["naive"]
hardened = results["hardened"]
title = (
    f"Median {naive.latency.percentile(50) * 1e3:.2g} ms naive, "
    f"{hardened.latency.percentile(50) * 1e3:.2g} ms hardened; "
    f"B's lock deleted {naive.violations} and {hardened.violations} times"
)
charts.latency_percentiles(results, title=title)

# %% [markdown]
# See both curves and both counts: in the median the two locks cost about the same, and only the naive lock
# deletes B's lock, in each of the 8 turns. A script costs the server more than `SETNX` does; the round trips
# that it saves pay for that.
#
# ## The limits that remain
#
# - **A frozen holder writes on.** `held.check()` narrows the gap. Only a resource that compares fences
#   closes the gap, and only for writes that come after a higher fence has **written**.
# - **A failover can make two holders.** A replica that has not seen the acquire gives the lock away
#   again. If two holders cost money, let a constraint in the database decide.
# - **The server's clock counts.** When it jumps forward, TTLs end early. And `allkeys-*` eviction
#   removes locks.
# - **No fairness.** The waiter that has been blocked longest is woken, but a newcomer may be faster.
# - **A woken waiter that dies** keeps the others waiting for the rest of the last TTL that they saw.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Open `exercises/05_distributed_lock.ipynb`: a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `release`: give a lock back, and only your own, with redis-py alone.
# 2. `job`: a job that loses its lock and does no harm.

# %% tags=["exercise-setup"]
from kvlab import fenced_set
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: give back what is yours
#
# The key `lock` holds the token of its owner, and has a TTL. Write `release(kv, token)`. `kv` is a redis-py
# client whose replies are text.
#
# 1. The function deletes the lock when the lock is that token's, and answers True.
# 2. It leaves the lock of another alone, also when your TTL ends in the middle of your release. It then
#    answers False, as it does when there is no lock.
#
# Stuck? Run `hint("05-short")`: three hints, then a solution.


# %% tags=["stub"]
def release(kv, token):
    if kv.get("lock") == token:
        return kv.delete("lock") == 1  # whose lock is it by now?
    return False


# %% tags=["solution"]
COMPARE_AND_DELETE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0"""


def release(kv, token):
    return kv.eval(COMPARE_AND_DELETE, 1, "lock", token) == 1


# %% tags=["check"]
check("05-short", release)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: a job that loses its lock
#
# Write `job(kv, lock, rows, work)`. For each row the job computes `work(row)`, which may be slow, and stores
# the result. `kv` is an executor.
#
# 1. Without the lock there is no work: `LockNotAcquired` reaches the caller after one try.
# 2. When `work` raises, the lock is free at once.
# 3. When the TTL ends during `work(row)`, that row is not written and no further row begins. The caller gets
#    `LockLost`.
# 4. When a later holder has written the row and our clock has noticed nothing, the later value stays. The
#    caller gets `LockLost`.
#
# You have `kv.hold(lock, wait=0)`, `held.check()`, `held.fence` and `fenced_set(row, value, fence)`. A thread
# that renews the lock is not part of this exercise.
#
# Stuck? Run `hint("05")`: three hints, then a solution.


# %% tags=["stub"]
def job(kv, lock, rows, work):
    held = kv.run(lock.try_acquire())  # and if it is None?
    for row in rows:
        value = work(row)  # what if this takes longer than the TTL? what if it raises?
        kv.run(fenced_set(row, value, fence=1))  # which fence?
    kv.run(lock.release(held))


# %% tags=["solution"]
def job(kv, lock, rows, work):
    with kv.hold(lock, wait=0) as held:
        for row in rows:
            value = work(row)
            held.check()
            if not kv.run(fenced_set(row, value, held.fence)):
                raise held.lost("a higher fence has written")


# %% tags=["check"]
check("05", job)
