# %% [markdown]
# # Distributed lock
#
# A nightly job runs on four machines and must run once. An order may be charged by one worker at a
# time. A few lines from a tutorial do it, and fail in several ways.
#
# **The guarantee we want:**
#
# - at most one client is inside at any time, and a dead one is out after its TTL;
# - only the owner releases; a lost answer locks nobody out;
# - who waits is woken, and asks nobody in the meantime;
# - a holder that lost the lock learns it, and a resource can refuse its late write.

# %%
import pandas as pd
from redis import Redis

import kvlab
from kvlab import Kv, Lock, NaiveLock, fenced_get, fenced_set
from kvlab.core.server_url import server_url
from kvlab.instruments import Proxy, environment, explore

url = server_url()
kv = kvlab.connect(url, prefix="kvlab:ch05")
kv.clear()
pd.Series(environment(kv), name="where the numbers below were measured").to_frame()

# %% [markdown]
# ## The simple version
#
# `SETNX` takes the lock, `EXPIRE` gives it a TTL. `GET` looks who owns it, `DEL` gives it back.

# %%
import inspect

naive = NaiveLock(kv.client, kv.prefix)
for method in (NaiveLock.acquire, NaiveLock.release):
    print(inspect.getsource(method).replace('"""', "# ", 1).replace('"""', ""))

# %% [markdown]
# ## A crash between two commands
#
# **Predict.** A worker dies right after `SETNX`. When can the next one take the lock?
#
# We need not know the bad moment. `explore` runs a small program on a private server, again and
# again: every order of its commands, and with `crashes=True` also a death after each of them. At the
# end of each run it asks our **invariant**. It draws the shortest run that breaks it: time goes
# down, and on the right is what the keys hold from then on.


# %%
def every_key_ends(world):
    """every key has a TTL"""
    return all(world.kv.ttl(key) > 0 for key in world.kv.keys("*"))


simply = lambda kv: NaiveLock(kv).acquire("orders", 10)  # noqa: E731
stuck = explore({"A": simply}, invariant=every_key_ends, crashes=True)
stuck

# %% [markdown]
# The next one: never. The key has no end. The fix is one command or one script. `try_acquire` is an
# op that runs a script: if nobody holds the lock, write owner and TTL in one `SET … NX PX`, and hand
# out a **fence**, a number that rises from hold to hold. (What it is for comes below.)
#
# The same experiment, with every fault that the explorer knows how to make: crashes, lost replies
# and requests, TTLs that end, a server that forgets its scripts. One in each run, at every point.

# %%
faults = "crashes", "lost_replies", "lost_requests", "expiries", "script_flushes"
EVERY = dict.fromkeys(faults, True) | {"progress": False}
lock = Lock("orders", ttl=10)
takes = lambda kv: kv.run(lock.try_acquire())  # noqa: E731
print(lock.try_acquire(), "\n")
ends = explore({"A": takes, "B": takes}, invariant=every_key_ends, **EVERY)
print(ends.summary)

# %% [markdown]
# ## The wrong lock is deleted
#
# **Predict.** A takes the lock, works, and gives it back: four commands. B takes it and stays. A's
# TTL may end at any moment. Can B lose the lock that it holds, and if so, to whom?
#
# A run has one fault at most. So when B comes *after* a TTL has ended, no second one ends, and B's
# lock, the simple or the hardened one, must still be there when all is over.


# %%
def b_keeps_it(world):
    """B came after a TTL had ended, so what B took is still there"""
    who = [event.client for event in world.trace]  # None: nobody did it, a TTL ended
    came_after = None in who[: who.index(1)]
    kept = world.kv.exists("lock:orders", "kv:lock:{orders}:held")
    return kept or not (came_after and world.results[1])


simply_use = lambda kv: (mine := simply(kv)) and NaiveLock(kv).release("orders", mine)  # noqa: E731
theft = explore({"A": simply_use, "B": simply}, invariant=b_keeps_it, expiries=True)
theft

# %% [markdown]
# A asked "is it mine?" and was told yes. That was true, and then it was not. A's `DEL` removes what
# B holds, C can come in, and A is told that its release went well.
#
# The fix: `release` compares the token and deletes **in one script**, so nothing comes between. The
# same two clients and the same question, under every fault:


# %%
def use(kv):
    held = kv.run(lock.try_acquire())
    return held and kv.run(lock.release(held))


kept = explore({"A": use, "B": takes}, invariant=b_keeps_it, **EVERY)
print(kept.summary)

# %% [markdown]
# ## The holder that freezes
#
# **Predict.** A holds the hardened lock and freezes: a long garbage collection, a laptop lid, a
# virtual machine that moves. Its TTL ends; B takes the lock and writes. A wakes up, and its next
# line is a write. Does the lock stop it?
#
# Who comes in notes its name, then writes it into a row. In the end the row should say who came last.
# Three ways: the simple lock, the hardened lock, and the hardened lock with a row that **checks
# fences**. `fenced_set` is the smallest such resource: a script that refuses a write whose fence is
# lower than one it has seen.

# %%
came = []  # in this order they took the lock


def last_one_wrote(world):
    """the row says who took the lock last"""
    row = world.kv.get("row") or world.kv.run(fenced_get("row"))
    return row is None or row == came[-1].encode()


def worker(name, take, write):
    return lambda kv: (held := take(kv)) and (came.append(name) or write(kv, name, held))


# %%
def late(take, write):
    return explore({name: worker(name, take, write) for name in "AB"}, expiries=True,
                   setup=lambda kv: came.clear(), invariant=last_one_wrote)  # fmt: skip


plain = lambda kv, name, held: kv.set("row", name)  # noqa: E731
fenced = lambda kv, name, held: kv.run(fenced_set("row", name, held.fence))  # noqa: E731
ways = {"naive lock, plain row": late(simply, plain),
        "hardened lock, plain row": late(takes, plain),
        "hardened lock, fenced row": late(takes, fenced)}  # fmt: skip
ways["hardened lock, plain row"]

# %% [markdown]
# No lock can stop a write that is on its way. Only the resource can, and the fence tells it how.
#
# One bad run shows a flaw. It takes all of them to show that there is none:

# %%
found = [("the lock stays for ever: naive", stuck), ("the lock stays for ever: hardened", ends),
         ("A deletes B's lock: naive", theft), ("A deletes B's lock: hardened", kept),
         *((f"A writes late: {name}", story) for name, story in ways.items())]  # fmt: skip
table = pd.DataFrame([(what, s.violations, s.schedules) for what, s in found],
                     columns=["what goes wrong", "in how many", "of all schedules"])  # fmt: skip
table.style.hide(axis="index")

# %% [markdown]
# ## Turn the knobs
#
# A works two seconds and freezes half-way. Which TTL survives which pause? And what does a longer
# TTL cost when the holder is not frozen but dead?

# %%
from kvlab.chapters import distributed_lock_freeze as frozen

frozen.chart(frozen.frozen(ttl=5, pause=7))

# %%
from ipywidgets import FloatSlider, interact

_ = interact(
    lambda ttl, pause: frozen.chart(frozen.frozen(ttl, pause)),
    ttl=FloatSlider(5, min=1.5, max=15, step=0.5, description="TTL, s"),
    pause=FloatSlider(7, min=0, max=15, step=0.5, description="pause, s"),
)  # fmt: skip

# %% [markdown]
# ## The body that notices
#
# `with kv.hold(lock) as held` runs a body under the lock: it never starts without it, and whatever
# ends it releases. `held.check()` costs no round trip. It raises `LockLost` from the moment on at
# which the server may have given the lock away. So: **check after each slow step, before each
# write.** Here the executor's clock is a list that we move by hand.

# %%
now = [0.0]
with Kv(kv.client, prefix=kv.prefix, clock=lambda: now[0]) as watched:
    kv.clear()
    try:
        with watched.hold(lock) as held:
            for seconds in (4, 4, 4):
                now[0] += seconds
                print(f"after {now[0]:.0f} s of work: {held.remaining:.0f} s left")
                held.check()
    except kvlab.errors.LockLost as lost:
        print("LockLost:", lost)

# %% [markdown]
# ## The answer that got lost
#
# **Predict.** The server gives you the lock and the answer is lost on the way. The client library
# asks again. What does it hear?
#
# The peer is redis-py's own `Lock`. When its key is there, somebody should know that it is theirs.


# %%
def its_owner_knows(world):
    """the lock is taken, and its holder knows it"""
    return any(world.results) or not world.kv.keys("*")


peer_takes = lambda kv: kv.lock("peer", timeout=10).acquire(blocking=False)  # noqa: E731
losses = {"lost_replies": True, "lost_requests": True, "invariant": its_owner_knows}
unaware, aware = explore({"A": peer_takes}, **losses), explore({"A": takes, "B": takes}, **losses)
print(f"redis-py {unaware.summary}; kvlab {aware.summary}")
unaware

# %% [markdown]
# redis-py draws its token once and asks `SET NX` again: the key is there (its own), so it says no,
# and nobody can release it. In kvlab **the same op run again is the same hold**: the script knows
# the token.
#
# ## Waiters are woken
#
# A refused waiter sleeps in `BLPOP` on the server, for at most the holder's remaining TTL. The
# release script pushes one item, if somebody waits. Does everybody get in, also when the holder
# dies, or its release is lost? And what does one waiter send, while a holder stays half a second?


# %%
def waits(kv):
    held = kv.run(lock.acquire(wait=60))
    return held and (kv.run(lock.release(held)), "came in")


def everybody_came_in(world):
    """nobody waited in vain, and nobody's time was up unless something failed"""
    return None not in world.results and {e.kind for e in world.trace} != {"go", "time out"}


losses = {"crashes": True, "lost_replies": True, "lost_requests": True, "progress": False}
print(explore({"A": waits, "B": waits}, invariant=everybody_came_in, **losses).summary)

# %%
import time
from concurrent.futures import ThreadPoolExecutor

kv.clear()
with Proxy(url) as proxy, Redis.from_url(proxy.url) as far, ThreadPoolExecutor(2) as pool:
    with kv.hold(lock), kv.client.lock(kv.prefix + "peer", timeout=10):
        ours = pool.submit(Kv(far, prefix=kv.prefix).run, lock.acquire(wait=30))
        theirs = pool.submit(far.lock(kv.prefix + "peer", timeout=10).acquire)
        time.sleep(0.5)
    both = ours.result() is not None and theirs.result()
    sent = [proxy.commands.count(name) for name in ("EVALSHA", "BLPOP", "SET")]
print("kvlab: {} EVALSHA, {} BLPOP    redis-py: {} SET    both came in: {}".format(*sent, both))

# %% [markdown]
# **Predict.** redis-py asks every 100 ms. How long does its waiter wait after a release, in the
# median? And ours?
#
# One holder, one waiter. The holder's stay is drawn (seeded) between 50 and 150 ms, so the poller is
# met at every phase of its sleep. The naive lock has no waiting; people write a loop around it, here
# with the same 100 ms. The three take turns; one turn of each is warm-up. A violation: the
# waiter is inside before the holder has begun to release.

# %%
from kvlab.chapters.distributed_lock_contention import polling, wake_up_chart, wake_ups
from kvlab.instruments import charts

kv.clear()
ask, give_back = lambda: naive.acquire("poll"), lambda token: naive.release("poll", token)
woken = wake_ups({
    "naive": lambda: polling(ask, give_back, every=0.1),
    "redis-py Lock": lambda: kv.client.lock(kv.prefix + "peer", timeout=10),
    "hardened": lambda: kv.hold(lock),
}, held=(0.05, 0.15), turns=10, seed=5)  # fmt: skip
hardened, peer = (woken[name].median * 1e3 for name in ("hardened", "redis-py Lock"))
wake_up_chart(woken, title=f"The woken waiter is inside after {hardened:.1f} ms, redis-py's after {peer:.0f} ms")  # fmt: skip

# %% [markdown]
# ## Fifty want in
#
# Fifty threads add one to a number by reading it and writing it back. Without a lock we force the
# worst case: everybody reads before anybody writes. With the lock we let them run. Who is inside is
# noted by the threads, not by the lock.

# %%
from contextlib import nullcontext
from threading import Barrier

from kvlab.chapters.distributed_lock_contention import (
    add_one,
    contend,
    in_turns,
    most_inside,
    stays_chart,
)

MANY, number, found = 50, kv.prefix + "number", {}
crowds = {"no lock": (nullcontext, Barrier(MANY).wait), "hardened": (lambda: kv.hold(lock), None)}
for name, (make, between) in crowds.items():
    kv.clear()
    stays = contend(MANY, make, lambda _, b=between: add_one(kv.client, number, b))
    found[name] = (len(stays), most_inside(stays), int(kv.client.get(number)))
pd.DataFrame(found, index=["came through", "most inside at once", "number at the end"]).T

# %%
fences = [stay.held.fence for stay in stays]
print("fences rise in order of entry:", fences == sorted(set(fences)))
stays_chart(stays, title=(
    f"{MANY} clients, at most {found['hardened'][1]} inside at any time, "
    f"all through in {stays[-1].ended * 1e3:.0f} ms"
))  # fmt: skip

# %% [markdown]
# ## What it costs
#
# Round trips, counted by a proxy between us and the server. Then the time to take the lock and give
# it back, one client in a closed loop, nobody waits. The variants take turns. Their violations are
# those from above: schedules in which A deletes B's lock.

# %%
trips, acquire, release = {}, lock.acquire(wait=0), lock.release
with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    simple = NaiveLock(far.client, kv.prefix)
    steps = {"naive": (lambda: simple.acquire("x"), lambda held: simple.release("x", held)),
             "hardened": (lambda: far.run(acquire), lambda held: far.run(release(held)))}  # fmt: skip
    for name, (take, give_back) in [*steps.items()] * 2:  # the first time connects
        proxy.reset()
        held, taking = take(), proxy.requests
        give_back(held)
        trips[name] = {"acquire": taking, "release": proxy.requests - taking}
pd.DataFrame(trips).T.rename_axis("round trips").reset_index().style.hide(axis="index")

# %%
from dataclasses import replace

cost = in_turns({
    "naive": (lambda: naive.release("p", naive.acquire("p")), lambda: None),
    "hardened": (lambda: kv.run(release(kv.run(lock.try_acquire()))), lambda: None),
}, turns=8, count=120, warmup=10, seed=5)  # fmt: skip
print({key: cost["naive"].environment[key] for key in ("loop", "warmup", "repetitions", "seed")})
cost = {n: replace(cost[n], violations=s.violations) for n, s in (("naive", theft), ("hardened", kept))}  # fmt: skip
naive_ms, hardened_ms = (cost[n].latency.percentile(50) * 1e3 for n in ("naive", "hardened"))
charts.latency_percentiles(cost, title=(
    f"Half are done in {naive_ms:.2g} ms naive, {hardened_ms:.2g} ms hardened"))  # fmt: skip

# %% [markdown]
# ## The limits that remain
#
# - **A frozen holder goes on.** `held.check()` narrows the gap; only a resource that compares fences
#   closes it. And it refuses only what comes after a higher fence has **written**.
# - **Failover can make two holders.** A replica that has not seen the acquire gives the lock away
#   again. If two holders cost money, let the database's own constraint decide.
# - **The server's clock.** When it jumps forward, TTLs end early. `allkeys-*` eviction removes locks.
# - **No fairness.** The one blocked longest is woken, but a newcomer may be faster.
# - **A woken waiter that dies** keeps the others waiting for what was left of the last TTL they saw.
#
# ## Your own lock
#
# Replace the lines between the two marks by your own: `kv` is your redis-py client, and `row` is
# what the lock protects. What is there now is what most of us write first.


# %%
def my_turn(kv, name):
    # --- your code from here ---
    if kv.set("my:lock", name, nx=True, ex=10):
        came.append(name)  # keep this line: it notes who is inside
        kv.set("row", name)
        kv.delete("my:lock")
    # --- to here ---


explore({name: lambda kv, name=name: my_turn(kv, name) for name in "AB"}, expiries=True,
        setup=lambda kv: came.clear(), invariant=last_one_wrote)  # fmt: skip

# %% tags=["finding"]
print(f"A deletes B's lock: naive in {theft.violations} of {theft.schedules} schedules, hardened in "
      f"{kept.violations} of {kept.schedules}; wake-up {hardened:.1f} ms, redis-py {peer:.0f} ms")  # fmt: skip
kv.clear()
kv.close()

# %% [markdown] tags=["exercise"]
# ## Exercise: a job that loses its lock and does no harm
#
# Open `exercises/05_distributed_lock.ipynb`. Write `job(kv, lock, rows, work)`: for each row it
# computes `work(row)`, which may be slow, and stores the result.
#
# 1. No lock, no work: `LockNotAcquired` reaches the caller, after one try.
# 2. When `work` raises, the lock is free at once.
# 3. When the TTL ended during `work(row)`, that row is not written and no further row is begun.
# 4. A later holder has written the row, and our clock noticed nothing: its value stays.
#
# You have `kv.hold(lock, wait=0)`, `held.check()`, `held.fence` and `fenced_set(row, value, fence)`.

# %% tags=["exercise-setup"]
import kvlab
from kvlab import Kv, Lock, fenced_get, fenced_set

kv = kvlab.connect(prefix="kvlab:ex05")
kv.clear()
lock = Lock("exercise", ttl=60)


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
def outcome(rows, work, kv=kv):
    """The name of the error that ends the job, or None."""
    try:
        job(kv, lock, rows, work)
    except Exception as error:
        return type(error).__name__
    return None


ended = outcome(["a", "b"], lambda row: row.upper())
assert ended is None, f"an undisturbed job should not raise, this one raised {ended}"
wrote = [kv.run(fenced_get(row)) for row in ("a", "b")]
assert wrote == [b"A", b"B"], f"the rows hold {wrote}, not A and B"
other = kv.run(lock.try_acquire())
assert other is not None, "the job is over, and the lock is still taken"
print("an undisturbed job writes its rows and gives the lock back")

# %% tags=["check"]
begun = []
ended = outcome(["c"], lambda row: begun.append(row) or "C")
assert not begun, "somebody else holds the lock, and the job began its work all the same"
assert ended == "LockNotAcquired", f"the lock is taken: LockNotAcquired expected, not {ended}"
kv.run(lock.release(other))
print("no lock, no work")


# %% tags=["check"]
def broken(row):
    raise LookupError("no such row")


assert outcome(["c"], broken) == "LookupError", "the caller should see what work() raised"
freed = kv.run(lock.try_acquire())
assert freed is not None, "work() raised, and the lock stays taken for its whole TTL"
kv.run(lock.release(freed))
print("a job that fails gives the lock back")

# %% tags=["check"]
now, begun = [0.0], []


def slow(row):
    begun.append(row)
    now[0] += 61 if row == "e" else 1
    return "late"


ended = outcome(["d", "e", "f"], slow, Kv(kv.client, prefix=kv.prefix, clock=lambda: now[0]))
assert kv.run(fenced_get("e")) is None, "the TTL ended during work('e'), and e was written: check"
assert begun == ["d", "e"], f"the lock was lost during e, yet the work went on: {begun}"
assert kv.run(fenced_get("d")) == b"late", "d was done in time and should be written"
assert ended == "LockLost", f"LockLost expected, not {ended}"
print("a job that is too slow stops before its next write")


# %% tags=["check"]
def overtaken(row):
    kv.client.pexpire(f"{kv.prefix}lock:{{exercise}}:held", 0)  # we freeze; our clock does not see
    later = kv.run(lock.try_acquire())
    kv.run(fenced_set(row, "from a later holder", later.fence))
    kv.run(lock.release(later))
    return "from a frozen one"


ended = outcome(["g"], overtaken)
row = kv.run(fenced_get("g")).decode()
assert row == "from a later holder", f"the row says {row!r}: which fence did you write with?"
assert ended == "LockLost", f"the write was refused, and the caller was told {ended}, not LockLost"
print("a late write is refused, and the caller learns it")

# %% tags=["check"]
kv.clear()
kv.close()
print("all checks pass")
