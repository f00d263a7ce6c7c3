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

import kvlab
from kvlab import Key, Kv, Lock, NaiveLock, Op, fenced_get, fenced_set
from kvlab.connections import resolve
from kvlab.instruments import ClientCrashed, Proxy, environment, gated
from kvlab.instruments.crowd import while_held

url = resolve()
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
# `gated` gives the worker a client that dies at the wire, before a named command.

# %%
from contextlib import suppress


def dies(work, **where):
    """Let ``work(client)`` run on a client that crashes at its gate."""
    with gated(url, crash=True, **where) as client, suppress(ClientCrashed):
        work(client)


dies(lambda client: NaiveLock(client, kv.prefix).acquire("orders", 10), before="EXPIRE")
print("TTL of the lock:", kv.client.ttl(kv.prefix + "lock:orders"), "(-1: none)")
print("ten others try:", [naive.acquire("orders") for _ in range(10)])

# %% [markdown]
# Nobody, ever: the key has no end. The fix is one command or one script. `try_acquire` is an op
# that runs a script: if nobody holds the lock, write owner and TTL in one `SET … NX PX`, and hand
# out a **fence**, a number that rises from hold to hold. (What it is for comes below.)
#
# The same crash. There is one command only, so a worker can die before it or after it.

# %%
lock, held_key = Lock("orders", ttl=10), f"{kv.prefix}lock:{{orders}}:held"
print(lock.try_acquire(), "\n")


def take(client):
    Kv(client, prefix=kv.prefix).run(lock.try_acquire())


for where in ("before", "after"):
    dies(take, **{where: "EVALSHA"})
    left = kv.client.pttl(held_key)
    print(f"dies {where} it:", "nothing is taken" if left == -2 else f"free again in {left:,} ms")

# %% [markdown]
# ## The wrong lock is deleted
#
# **Predict.** A looks: the lock is mine. A's TTL ends. B takes the lock. A sends its `DEL`. How many
# are inside now?
#
# A is stopped before its `DEL`. To end a TTL now, we set it to zero: no test waits for a clock.


# %%
def naive_race():
    kv.clear()
    client, key = gated(url, before="DEL"), kv.prefix + "lock:orders"
    a = NaiveLock(client, kv.prefix)
    mine = a.acquire("orders")
    b_takes = lambda: (kv.client.pexpire(key, 0), naive.acquire("orders"))[1]  # noqa: E731
    released, b = while_held(client, lambda: a.release("orders", mine), b_takes)
    return released, b, naive.acquire("orders")


# %%
def story(released, b, c, command):
    yield "A: takes the lock, works, wants to release"
    yield f"A: stands before its {command}"
    yield f"A's TTL ends. B: takes the lock → {'B is inside' if b else 'refused'}"
    yield f"A: goes on with its {command} → {'released' if released else 'refused, not mine'}"
    yield f"C: tries → {'inside. B and C are both inside' if c else 'refused, B is inside'}"


for number, step in enumerate(story(*naive_race(), "DEL"), start=1):
    print(f"{number}. {step}")

# %% [markdown]
# The fix: `release` compares the token and deletes **in one script**, so nothing comes between.
# The same schedule:


# %%
def hardened_race():
    kv.clear()
    client = gated(url, before="EVALSHA", nth=2)  # the first is its acquire, the second its release
    a = Kv(client, prefix=kv.prefix)
    mine = a.run(lock.try_acquire())
    b_takes = lambda: (kv.client.pexpire(held_key, 0), kv.run(lock.try_acquire()))[1]  # noqa: E731
    released, b = while_held(client, lambda: a.run(lock.release(mine)), b_takes)
    return released, b, kv.run(lock.try_acquire())


for number, step in enumerate(story(*hardened_race(), "release"), start=1):
    print(f"{number}. {step}")

# %% [markdown]
# ## The holder that freezes
#
# **Predict.** A holds the hardened lock and freezes: a long garbage collection, a laptop lid, a
# virtual machine that moves. Its TTL ends; B takes the lock, writes and releases. A wakes up, and
# its next line is a write. Does the lock stop it?
#
# A is stopped before its write, B does all its work, A goes on. Three ways: the simple lock, the
# hardened lock, and the hardened lock with a row that **checks fences**. `fenced_set` is the
# smallest such resource: a script that refuses a write whose fence is lower than one it has seen.


# %%
def freeze(take, write, command):
    """What A's late write is told."""
    kv.clear()
    client = gated(url, before=command)
    a, fence = Kv(client, prefix=kv.prefix), take()

    def b_works():
        kv.client.pexpire(kv.prefix + "lock:orders", 0)
        kv.client.pexpire(held_key, 0)
        kv.run(write("B", take()))

    return while_held(client, lambda: a.run(write("A", fence)), b_works)[0]


# %%
plain = lambda who, _: Op("SET", Key("row"), who, "EX", 60)  # noqa: E731
fenced = lambda who, fence: fenced_set("row", who, fence)  # noqa: E731
fence_of = lambda: kv.run(lock.try_acquire()).fence  # noqa: E731
ways = {
    "naive lock, plain row": (lambda: naive.acquire("orders"), plain, "SET"),
    "hardened lock, plain row": (fence_of, plain, "SET"),
    "hardened lock, fenced row": (fence_of, fenced, "EVALSHA"),
}
for name, way in ways.items():
    told = freeze(*way)
    row = kv.client.get(kv.prefix + "row") or kv.run(fenced_get("row"))
    print(f"{name:26} A's late write: {told!r:6}  the row says {row.decode()}")

# %% [markdown]
# No lock can stop a write that is on its way. Only the resource can, and the fence tells it how.
#
# A race that is forced happens every time, or never:

# %%
TIMES, stolen, landed = 20, {"naive": 0, "hardened": 0}, dict.fromkeys(ways, 0)
for _ in range(TIMES):
    stolen["naive"] += naive_race()[2] is not None
    stolen["hardened"] += hardened_race()[2] is not None
    for name, way in ways.items():
        landed[name] += freeze(*way) is not False
rows = [(f"A frees B's lock: {name} lock", n) for name, n in stolen.items()]
rows += [(f"A's late write lands: {name}", n) for name, n in landed.items()]
counted = pd.DataFrame(rows, columns=["what goes wrong", f"in {TIMES} forced schedules"])
counted.style.hide(axis="index")

# %% [markdown]
# ## Turn the knobs
#
# A works two seconds and freezes half-way. Which TTL survives which pause? And what does a longer
# TTL cost when the holder is not frozen but dead?

# %%
from kvlab.instruments import frozen

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
# The proxy lets the command through and swallows its reply. redis-py's `Lock` is the peer.

# %%
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

with Proxy(url) as proxy, Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 3)) as client:
    proxy.swallow_replies(1, only="SET")
    says = client.lock(kv.prefix + "lost", timeout=10).acquire(blocking=False)
    print(f"redis-py: acquire says {says}; keys held: {kv.client.exists(kv.prefix + 'lost')}")
    proxy.swallow_replies(1, only="EVALSHA")
    held = Kv(client, prefix=kv.prefix).run(lock.try_acquire())
    print(f"kvlab:    acquire says {held}; replies lost: {proxy.swallowed}")

# %% [markdown]
# redis-py draws its token once and asks `SET NX` again: the key is there (its own), so it says no,
# and nobody can release it. In kvlab **the same op run again is the same hold**: the script knows
# the token.
#
# ## Waiters are woken
#
# A refused waiter sleeps in `BLPOP` on the server, for at most the holder's remaining TTL. The
# release script pushes one item, if somebody waits. What one waiter sends, while a holder stays
# half a second:

# %%
import time
from concurrent.futures import ThreadPoolExecutor

kv.clear()
with Proxy(url) as proxy, Redis.from_url(proxy.url) as far, ThreadPoolExecutor(2) as pool:
    with kv.hold(lock), kv.client.lock(kv.prefix + "peer", timeout=10):
        ours = pool.submit(Kv(far, prefix=kv.prefix).run, lock.acquire(wait=30))
        theirs = pool.submit(far.lock(kv.prefix + "peer", timeout=10).acquire)
        time.sleep(0.5)
    came = ours.result() is not None and theirs.result()
    sent = [proxy.commands.count(name) for name in ("EVALSHA", "BLPOP", "SET")]
print("kvlab: {} EVALSHA, {} BLPOP    redis-py: {} SET    both came in: {}".format(*sent, came))

# %% [markdown]
# **Predict.** redis-py asks every 100 ms. How long does its waiter wait after a release, in the
# median? And ours?
#
# One holder, one waiter. The holder's stay is drawn (seeded) between 50 and 150 ms, so the poller is
# met at every phase of its sleep. The naive lock has no waiting; people write a loop around it, here
# with the same 100 ms. The three take turns; one turn of each is warm-up. A violation: the
# waiter is inside before the holder has begun to release.

# %%
from kvlab.instruments.contention import polling, wake_up_chart, wake_ups

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

from kvlab.instruments.contention import add_one, contend, most_inside, stays_chart

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
# it back, one client in a closed loop, nobody waits. The variants take turns. At the end of each
# turn one holder comes late, by the schedule above: a violation is somebody else's lock freed.

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
from kvlab.instruments import charts
from kvlab.instruments.contention import in_turns

cost = in_turns({
    "naive": (lambda: naive.release("p", naive.acquire("p")), lambda: naive_race()[2]),
    "hardened": (lambda: kv.run(release(kv.run(lock.try_acquire()))), lambda: hardened_race()[2]),
}, turns=8, count=120, warmup=10, seed=5)  # fmt: skip
print({key: cost["naive"].environment[key] for key in ("loop", "warmup", "repetitions", "seed")})
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

# %% tags=["finding"]
print(f"of {TIMES} forced schedules naive frees another's lock in {stolen['naive']}, hardened in "
      f"{stolen['hardened']}; wake-up {hardened:.1f} ms, redis-py {peer:.0f} ms")  # fmt: skip

# %%
print(f"{kv.clear()} keys removed")
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

# %% tags=["setup"]
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
