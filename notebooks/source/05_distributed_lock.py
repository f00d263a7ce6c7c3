# %% [markdown]
# # Distributed lock
#
# *About 45 minutes. Before this chapter: 00.*
#
# A nightly job runs on four machines and must run once. An order must be charged by one worker at a
# time. A few lines from a tutorial promise that, and they fail in several ways.
#
# **The guarantee we want:**
#
# - at most one client is inside at any time, and a dead client is out when its TTL ends;
# - only the owner releases the lock, and a lost answer locks nobody out;
# - a waiter is woken, and the waiter sends nothing in the meantime;
# - a holder that has lost the lock learns it, and a resource can refuse the holder's late write.

# %%
import pandas as pd
from IPython.display import display

from kvlab import Kv, Lock, NaiveLock, fenced_set
from kvlab.chapters.distributed_lock import promises
from kvlab.chapters.opening import open_chapter
from kvlab.core.server_url import server_url
from kvlab.instruments import ALL_FAULTS, Faults, charts, environment, explore

url = server_url()  # the embedded Valkey, or KVLAB_URL
kv = open_chapter("ch05", url)
pd.Series(environment(kv), name="the numbers below were measured on").to_frame()

# %% [markdown]
# ## The simple version, and a crash between two commands
#
# The next cell prints the simple version. `SETNX` takes the lock and `EXPIRE` gives it a TTL. `GET`
# asks who the owner is and `DEL` gives the lock back.
#
# We do not have to know the bad moment. `explore` runs small programs on a private server, in every
# order of their commands. With `crashes=True` a program also crashes, once after each of its
# commands. One order, with its fault if it has one, is a **schedule**. At the end of each schedule
# `explore` checks our **invariant**, a sentence that must be true. The picture is the shortest
# schedule that breaks the invariant. Time goes down, and the right column shows what the keys hold
# from then on.

# %% tags=["predict"]
from kvlab.workshop import predict

stuck = predict(
    "05-stuck",
    "A worker dies right after `SETNX`. When can the next worker take the lock?",
    ["immediately", "after 10 s", "never"],
)

# %%
from inspect import getsource

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

# %% tags=["predict"]
stuck.measured("after 10 s" if stuck_lock.holds else "never")

# %% [markdown]
# See the last column: the key has no TTL, so no worker can ever take the lock again.
#
# ## The wrong lock is deleted
#
# A schedule has one fault at most. So when B takes the lock *after* a TTL has ended, no second TTL
# ends. B's lock must then be there at the end.

# %% tags=["predict"]
stolen = predict(
    "05-theft",
    "A takes the lock, works, and gives the lock back: four commands. B takes the "
    "lock and keeps it. A's TTL may end at any moment. Can B lose the lock that it "
    "holds?",
    ["no", "yes: A deletes it"],
)


# %%
def b_keeps_its_lock(world):
    """B took the lock after a TTL had ended, so B still has the lock"""
    b_took_the_lock = world.results[1]  # what the client B returned
    if b_took_the_lock and promises.began_after_expiry(world, client=1):
        return promises.lock_is_taken(world)
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

# %% tags=["predict"]
stolen.measured("no" if theft.holds else "yes: A deletes it")

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
# The next cells ask the same two clients the same two questions, now with every fault that the
# explorer knows: crashes, lost replies, lost requests, TTLs that end, a server that forgets its
# scripts. Each fault happens once at each point where the fault can happen. (The client that
# `explore` gives to a function is a redis-py client that can also `run` ops.)

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
clients = {"A": takes_and_releases_hardened, "B": takes_hardened}
never_stuck = explore(clients, invariant=every_key_expires, faults=ALL_FAULTS)
no_theft = explore(clients, invariant=b_keeps_its_lock, faults=ALL_FAULTS)
print("every key has a TTL:", never_stuck.summary)
print("B keeps its lock:   ", no_theft.summary)
display(theft.play(title="The naive lock"))
display(no_theft.play(title="The hardened lock"))

# %% [markdown]
# See the two counts: no schedule breaks either promise.
#
# **Play the scheduler** in the two frames: choose who moves next, and what fails. The first frame can
# be broken, and the second cannot.
#
# In the pictures below, `held` is the key of the lock: the fence, then the owner's token. `fence` keeps
# the last fence. A release leaves a short-lived key `spent:…` with its answer, for a client that did not
# get the answer and retries. `waiting` and `wake` are for clients that wait.
#
# ## The holder that freezes
#
# Each worker notes its name when it has the lock, and then writes its name into a row. At the end the
# row should name the worker that took the lock last. We try three pairs: the simple lock, the hardened
# lock, and the hardened lock with a row that **checks fences**. `fenced_set` is the smallest such
# resource: a script that refuses a write whose fence is lower than a fence that it has seen.

# %% tags=["predict"]
late = predict(
    "05-freeze",
    "A holds the hardened lock, and A's process stops for a while: a long garbage "
    "collection, a closed laptop, a virtual machine that moves. A's TTL ends. B "
    "takes the lock and writes. A wakes up, and A's next line is a write. Does the "
    "lock stop this write?",
    ["yes", "no"],
)

# %%
holders = []  # the workers, in the order in which they took the lock


def forget_holders(kv):
    holders.clear()


def last_holder_wrote_last(world):
    """the row names the worker that took the lock last"""
    row = promises.what_the_row_says(world)
    return row is None or row == holders[-1]


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

# %% tags=["predict"]
late.measured("yes" if stories["hardened_worker"].holds else "no")

# %% [markdown]
# See the last two writes: the row says A, although B took the lock after A. No lock can stop a
# write that is already on its way. Only the resource can refuse the write, and the fence tells the
# resource which write is old.
#
# One broken schedule shows a mistake. Only all schedules together can show that there is no
# mistake:

# %%
found = {
    "the lock is never free again: naive": stuck_lock,
    "the lock is never free again: hardened": never_stuck,
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
# **Put your code between the two marks.** `kv` is your redis-py client, and the row is what the
# lock protects. The lines between the marks are a first version that many people write. Are these
# lines enough?


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
from ipywidgets import interact

from kvlab.chapters.distributed_lock.charts import freeze_chart

display(freeze_chart(ttl=5, pause=7))
_ = interact(freeze_chart, ttl=(1.5, 15.0, 0.5), pause=(0.0, 15.0, 0.5))

# %% [markdown]
# See the two diamonds: A's write arrives after B's write, and A still believes that the lock is its
# own. A longer TTL survives a longer pause. But after a crash of the holder everybody waits until
# the TTL ends.
#
# ## A holder that learns that its lock is lost
#
# `with kv.hold(lock) as held` runs a body under the lock. The body never starts without the lock.
# The lock is released when the body ends, also when the body raises. `held.check()` costs no round
# trip. `held.check()` raises `LockLost` as soon as the server may have given the lock to another
# client. So: **check after each slow step and before each write.** Here we move the executor's
# clock by hand.

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
# ## A lost answer
#
# We compare redis-py's own `Lock`. When its key is there, a client should know that this client is the
# owner. A client that crashed (its result is a `ClientCrashed`) is excused.

# %% tags=["predict"]
unanswered = predict(
    "05-lost-answer",
    "The server gives you the lock, and the network loses the answer. redis-py's "
    "own lock retries. What does the server answer now?",
    ["the lock is yours", "the lock is taken"],
)


# %%
def takes_redis_py(kv):
    """takes redis-py's lock"""
    return kv.lock("peer", timeout=10).acquire(blocking=False)


def the_owner_knows(world):
    """if the lock is taken, a client knows that it is the owner, or it crashed"""
    lock_is_free = not world.kv.keys("*")
    return lock_is_free or any(world.results)


# %%
aware = explore([takes_hardened] * 2, invariant=the_owner_knows, faults=ALL_FAULTS)
print("kvlab:", aware.summary)
unaware = explore({"A": takes_redis_py}, invariant=the_owner_knows, faults=ALL_FAULTS)
unaware

# %% tags=["predict"]
unanswered.measured("the lock is yours" if unaware.holds else "the lock is taken")

# %% [markdown]
# See the second `SET`: redis-py retries `SET NX` with the same token, finds its own key, and
# answers False. No client knows that it may release this key. In kvlab **the same op run again is
# the same hold**: the script recognises the token.
#
# ## Waiters are woken
#
# A refused waiter sleeps in `BLPOP` on the server, for at most the rest of the holder's TTL. The
# release script pushes one item to this list if a client waits. Does every client get the lock,
# also when the holder crashes or the release is lost? And what does one waiter send while a holder
# keeps the lock for half a second?


# %%
def waits(kv):
    """waits for the lock, takes it, and gives it back"""
    held = kv.run(lock.acquire(wait=60))
    if held:
        kv.run(lock.release(held))
    return held


def everybody_comes_in(world):
    """every client gets the lock, and a release wakes the client that waits"""
    in_vain = promises.waited_in_vain(world)
    return None not in world.results and not in_vain


# %%
from kvlab.chapters.distributed_lock import wake_ups

losses = Faults(crashes=True, lost_replies=True, lost_requests=True)
pair = {"A": waits, "B": waits}
story = explore(pair, invariant=everybody_comes_in, faults=losses, progress=False)
print("Does every client get the lock?", story.summary)
wake_ups.commands_while_waiting(url, kv.prefix, lock, seconds=0.5)

# %% [markdown]
# See the column `sent`: redis-py's waiter asks about ten times a second, and with a poll of 1 ms
# several hundred times. kvlab's waiter sends one `BLPOP` and sleeps. Its two EVALSHA are the try
# before the sleep and the try after the sleep.
#
# One client holds the lock and one client waits. The holder keeps the lock for a random time
# (seeded) between 50 and 150 ms, one turn in each tenth of this span. So the releases come at every
# point of the waiter's sleep, and a waiter that polls waits 50 ms on average. The naive lock has no
# wait: people write a loop with a sleep, here of 100 ms too. redis-py's lock comes a second time,
# with a poll of 1 ms. The four locks take turns, and one turn of each is the warm-up. A violation is
# a waiter that has the lock before the holder has begun its release.

# %% tags=["predict"]
wake_up = predict(
    "05-wake-up",
    "redis-py asks every 100 ms. How long does redis-py's waiter wait after a "
    "release, in the median?",
    unit="ms",
)

# %% tags=["finding"]
woken = wake_ups.four_locks(kv, lock, turns=10, seed=5)
median = woken.groupby("lock")["ms"].median()
ours = f"{median['hardened']:.1f} ms"
peer = f"{median['redis-py Lock']:.0f} ms"
naive = f"naive in {theft.violations} of {theft.schedules} schedules"
hardened = f"hardened in {no_theft.violations} of {no_theft.schedules}"
print(f"A deletes B's lock: {naive}, {hardened}; wake-up {ours}, redis-py {peer}")
look = {"xlabel": "from release to entry (ms, log scale)", "form": "{:.3g} ms"}
title = wake_ups.finding(woken)
charts.dots(woken, x="ms", y="label", by="lock", title=title, logx=True, **look)

# %% tags=["predict"]
wake_up.measured(round(median["redis-py Lock"]))

# %% [markdown]
# See the spread of the dots: a waiter that polls must finish its sleep first, so its dots lie
# anywhere between 0 and about 100 ms. A poll of 1 ms ends soon too. Its price is the number of
# commands in the table above.
#
# ## Fifty clients want the lock
#
# Each of fifty threads reads a number, adds one, and writes the sum back. Without a lock we force
# the worst case: every thread reads before any thread writes. With the lock we let the threads run.
# The threads themselves note who is inside. We do not ask the lock.

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
# See the blue steps: they never overlap.
#
# ## What it costs
#
# - **Round trips** to take a free lock and to give it back, counted by a proxy between us and the server.
# - **Latency** of the same two steps: one client in a closed loop, and no client waits. Each lock
#   gets 8 turns of 120 calls, and the locks alternate. Each turn has a warm-up of 10 calls. The
#   seed is 5. **Violations of the same run**: each turn ends with one late release. A's TTL ends
#   just before the last command of A's release, and B takes the lock. It is a violation when A
#   deletes B's lock.

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
paid = costs.latency(url, kv, turns=8, count=120, warmup=10, seed=5)
charts.latency_percentiles(paid.runs, title=paid.finding)

# %% [markdown]
# See both counts beside the curves: only the naive lock deletes B's lock, once in each of the 8 turns. A
# script is more work for the server than `SETNX`, and the hardened lock needs fewer round trips. The
# ratio in the title says which of these counts more on this machine.
#
# ## The limits that remain
#
# - **A frozen holder writes on.** `held.check()` narrows the gap. Only a resource that compares
#   fences closes the gap. A late write is refused after a write with a higher fence has
#   **arrived**, and not before.
# - **A failover can make two holders.** A replica that has not seen the acquire gives the lock away
#   again. If two holders cost money, let a constraint in the database decide.
# - **The server's clock counts.** When it jumps forward, TTLs end early. And `allkeys-*` eviction
#   removes locks.
# - **No fairness.** The release wakes the waiter that has waited longest. But a client that has
#   just arrived may take the lock first.
# - **A woken waiter that dies** keeps the others waiting for the rest of the last TTL that they saw.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `exercises/05_distributed_lock.ipynb` has a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `release`: release a lock, and only your own, with redis-py alone.
# 2. `job`: a job that loses its lock, and then writes nothing.

# %% tags=["exercise-setup"]
from kvlab import fenced_set
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: release your own lock
#
# The key `lock` holds the token of its owner, and has a TTL. Write `release(kv, token)`. `kv` is a redis-py
# client whose replies are text.
#
# 1. The function deletes the lock when the lock is that token's, and answers True.
# 2. The function does not delete the lock of another owner, also when your TTL ends in the middle of your
#    release. Then the function answers False, and also when there is no lock.
#
# If you need help, run `hint("05-short")`: three hints, then a solution.


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
# 2. When `work` raises, the lock is free immediately.
# 3. When the TTL ends during `work(row)`, that row is not written and no further row begins. The caller gets
#    `LockLost`.
# 4. A later holder has written the row, and the job has not noticed that its TTL has ended: the later value
#    stays. The caller gets `LockLost`.
#
# You have `kv.hold(lock, wait=0)`, `held.check()`, `held.fence` and `fenced_set(row, value, fence)`. A thread
# that renews the lock is not part of this exercise.
#
# If you need help, run `hint("05")`: three hints, then a solution.


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
