# %% [markdown]
# # Distributed lock
#
# A nightly job runs on four machines and must run once. An order may be charged by one worker at a
# time. Twelve lines of a tutorial do it, and fail in three ways.
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
from kvlab.instruments import ClientCrashed, environment, gated
from kvlab.instruments.crowd import while_held

url = resolve(None, None)
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
def dies(work, **where):
    """Let ``work(client)`` run on a client that crashes at its gate."""
    with gated(url, crash=True, **where) as client:
        try:
            work(client)
        except ClientCrashed:
            return
    raise AssertionError("it should have died")


dies(lambda client: NaiveLock(client, kv.prefix).acquire("orders", 10), before="EXPIRE")
print("TTL of the lock:", kv.client.ttl(kv.prefix + "lock:orders"), "(-1: none)")
print("ten others try:", [naive.acquire("orders") for _ in range(10)])

# %% [markdown]
# Nobody, ever: the key has no end. The fix is one command or one script. `try_acquire` is an op
# that runs a script: if nobody holds the lock, write owner and TTL in one `SET … NX PX`, and hand
# out a **fence**, a number that rises from hold to hold. (What it is for comes below.)

# %%
lock = Lock("orders", ttl=10)
op = lock.try_acquire()
print(op, "\n")
held = kv.run(op)
print(held, "\nanother attempt:", kv.run(lock.try_acquire()))
kv.run(lock.release(held))

# %% [markdown]
# The same crash. There is one command only, so a worker can die before it or after it.

# %%
held_key = f"{kv.prefix}lock:{{orders}}:held"


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
    a_takes_b = lambda: (kv.client.pexpire(key, 0), naive.acquire("orders"))[1]  # noqa: E731
    released, b = while_held(client, lambda: a.release("orders", mine), a_takes_b)
    return released, b, naive.acquire("orders")


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
# A is stopped before its write, B does all its work, A goes on.


# %%
def freeze(take, write, command):
    """What the row holds after A's late write, and what A's write was told."""
    kv.clear()
    client = gated(url, before=command)
    a, fence = Kv(client, prefix=kv.prefix), take()
    def b_works():  # noqa: E306
        kv.client.pexpire(kv.prefix + "lock:orders", 0), kv.client.pexpire(held_key, 0)
        return kv.run(write("B", take()))
    told, _ = while_held(client, lambda: a.run(write("A", fence)), b_works)  # fmt: skip
    return told


plain = lambda who, _: Op("SET", Key("row"), who, "EX", 60)  # noqa: E731
fenced = lambda who, fence: fenced_set("row", who, fence)  # noqa: E731

# %% [markdown]
# Three ways: the simple lock, the hardened lock with a plain row, the hardened lock with a row that
# **checks fences**. `fenced_set` is the smallest such resource: a script that refuses a write whose
# fence is lower than one it has seen.

# %%
ways = {
    "naive lock, plain row": (lambda: naive.acquire("orders"), plain, "SET"),
    "hardened lock, plain row": (lambda: kv.run(lock.try_acquire()).fence, plain, "SET"),
    "hardened lock, fenced row": (lambda: kv.run(lock.try_acquire()).fence, fenced, "EVALSHA"),
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
TIMES, stolen = 20, {"naive": 0, "hardened": 0}
landed = dict.fromkeys(ways, 0)
for _ in range(TIMES):
    stolen["naive"] += naive_race()[2] is not None
    stolen["hardened"] += hardened_race()[2] is not None
    for name, way in ways.items():
        landed[name] += freeze(*way) not in (False,)
rows = [(f"A's release frees B's lock: {name}", n) for name, n in stolen.items()]
rows += [(f"A's late write lands: {name}", n) for name, n in landed.items()]
counted = pd.DataFrame(rows, columns=["what goes wrong", f"of {TIMES} forced schedules"])
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

interact(
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
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.instruments import Proxy

kv.clear()
with Proxy(url) as proxy, redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 3)) as client:
    proxy.swallow_replies(1, only="SET")
    says = client.lock(kv.prefix + "peer", timeout=10).acquire(blocking=False)
    print(f"redis-py: acquire says {says}; keys held: {kv.client.exists(kv.prefix + 'peer')}")
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
# release script pushes one item, if somebody waits. What one waiter sends, while a holder stays a
# second:

# %%
import time
from contextlib import contextmanager
from concurrent.futures import ThreadPoolExecutor

sent, peer = [], kv.client.lock(kv.prefix + "peer2", timeout=10)
with Proxy(url) as proxy, redis.Redis.from_url(proxy.url) as far, ThreadPoolExecutor(2) as pool:
    kv.clear()
    with kv.hold(lock), peer:
        ours = pool.submit(Kv(far, prefix=kv.prefix).run, lock.acquire(wait=30))
        theirs = pool.submit(far.lock(kv.prefix + "peer2", timeout=10).acquire)
        time.sleep(1)
    ours.result(), theirs.result()
    seen = pd.Series(proxy.commands).value_counts()
print(f"kvlab: {seen['EVALSHA']} EVALSHA, {seen['BLPOP']} BLPOP     redis-py: {seen['SET']} SET")

# %% [markdown]
# **Predict.** redis-py asks every 100 ms. How long does its waiter wait after a release, in the
# median? And ours?
#
# One holder, one waiter. The holder's stay is drawn (seeded) between 50 and 150 ms, so the poller is
# met at every phase of its sleep. The three take turns; one turn of each is warm-up. A violation: the
# waiter is inside before the holder has begun to release.

# %%
from kvlab.instruments.contention import wake_up_chart, wake_ups


@contextmanager
def naive_polling():
    while (token := naive.acquire("poll")) is None:
        time.sleep(0.1)
    yield
    naive.release("poll", token)


# %%
kv.clear()
woken = wake_ups({
    "naive": naive_polling,
    "redis-py Lock": lambda: kv.client.lock(kv.prefix + "peer", timeout=10),
    "hardened": lambda: kv.hold(lock),
}, turns=12, seed=5)  # fmt: skip
wake_up_chart(woken, title=(
    f"After a release the waiter is inside in {woken['hardened'].median * 1e3:.1f} ms, "
    f"with redis-py's Lock in {woken['redis-py Lock'].median * 1e3:.0f} ms"
))  # fmt: skip

# %% [markdown]
# ## Fifty want in
#
# Fifty threads add one to a number by reading it and writing it back. Without a lock we force the
# worst case: everybody reads before anybody writes. With the lock we let them run. Who is inside is
# noted by the threads, not by the lock.

# %%
import threading
from contextlib import nullcontext

from kvlab.instruments.contention import contend, most_inside, stays_chart

MANY, number = 50, kv.prefix + "number"


def add_one(_, before_writing=lambda: None):
    read = int(kv.client.get(number) or 0)
    before_writing()
    kv.client.set(number, read + 1, ex=60)


# %%
results, everybody = {}, threading.Barrier(MANY)
for name, make, body in (
    ("no lock", nullcontext, lambda held: add_one(held, everybody.wait)),
    ("hardened", lambda: kv.hold(lock, wait=30), lambda held: add_one(held) or held.fence),
):
    kv.clear()
    stays = contend(MANY, make, body)
    results[name] = (len(stays), most_inside(stays), int(kv.client.get(number)))
fences = [stay.value for stay in stays]
print("fences rise in order of entry:", all(a < b for a, b in zip(fences, fences[1:])))
pd.DataFrame(results, index=["came through", "most inside at once", "number at the end"]).T

# %%
stays_chart(stays, title=(
    f"{MANY} clients, at most {results['hardened'][1]} inside at any time, "
    f"all through in {stays[-1].ended * 1e3:.0f} ms"
))  # fmt: skip

# %% [markdown]
# ## What it costs
#
# Round trips, counted by a proxy between us and the server:

# %%
trips = {}
with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    simple = NaiveLock(far.client, kv.prefix)
    for _ in range(2):  # the first time connects
        for name, acquire, release in (
            ("naive", lambda: simple.acquire("x"), lambda held: simple.release("x", held)),
            ("hardened", lambda: far.run(lock.acquire(0)), lambda h: far.run(lock.release(h))),
        ):
            proxy.reset()
            held, trips[name, "acquire"] = acquire(), proxy.requests
            release(held)
            trips[name, "release"] = proxy.requests - trips[name, "acquire"]
table = pd.Series(trips).unstack()
table.rename_axis("round trips").reset_index().style.hide(axis="index")

# %% [markdown]
# Time for taking and giving back, one client, nobody waits. About one holder in a hundred comes
# late, by the schedule above: its TTL ends before the last command of its release. Those turns
# stand still at a gate, so they count as violations (somebody else's lock freed) and not as
# latencies. Closed loop, the variants one after the other, 100 calls of warm-up.

# %%
from dataclasses import replace

from kvlab.instruments import ClosedLoop, Uniform, charts
from kvlab.instruments import run as experiment

pairs = {
    "naive": (lambda: naive.release("p", naive.acquire("p")), naive_race),
    "hardened": (lambda: kv.run(lock.release(kv.run(lock.try_acquire()))), hardened_race),
}


def measure(name, pair, race):
    freed = []
    def turn(key):  # noqa: E306
        kv.clear() if key == 0 else pair()
        return "late" if key == 0 and (freed.append(race()[2]), kv.clear()) else "in time"
    return experiment(turn, Uniform(100), seed=5, arrivals=ClosedLoop(1), count=1_000, warmup=100,
                      check=lambda: sum(c is not None for c in freed), name=name, kv=kv,
                      progress=False)  # fmt: skip


# %%
cost = {name: measure(name, *pair) for name, pair in pairs.items()}
late = cost["naive"].counts["late"]
in_time = {n: replace(r, outcomes={"in time": r.outcomes["in time"]}) for n, r in cost.items()}
ratio = in_time["hardened"].latency.percentile(50) / in_time["naive"].latency.percentile(50)
print(f"{cost['naive'].environment['loop']}, seed {cost['naive'].environment['seed']}, "
      f"{late} late holders in {cost['naive'].count:,} turns")  # fmt: skip
charts.latency_percentiles(in_time, title=(
    f"Take and give back: {ratio:.2f} times the naive median; locks of others freed: "
    f"{cost['naive'].violations} naive, {cost['hardened'].violations} hardened"
))  # fmt: skip

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
      f"{stolen['hardened']}; wake-up {woken['hardened'].median * 1e3:.1f} ms, "
      f"redis-py {woken['redis-py Lock'].median * 1e3:.0f} ms")  # fmt: skip

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
from kvlab.errors import LockLost, LockNotAcquired

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
    except (LockLost, LockNotAcquired, LookupError) as error:
        return type(error).__name__
    return None


assert outcome(["a", "b"], lambda row: row.upper()) is None, "an undisturbed job should not raise"
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
