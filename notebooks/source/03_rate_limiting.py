# %% [markdown]
# # Rate limiting
#
# An API lets each customer make 10 requests in a time. Counting to ten is easy; counting to ten
# when fifty requests arrive together, and some clients crash, is what this chapter is about.
#
# **The guarantee we want**, for any number of clients:
#
# - never more than the limit, by a bound that is written down;
# - a request that fits is admitted, and one that is denied uses up nothing;
# - "try again in 0.3 s" is true;
# - a client that crashes, or a reply that is lost, leaves nothing broken behind.

# %%
import itertools
import time

import pandas as pd

import kvlab
from kvlab.chapters import rate_limiting_admissions as admissions
from kvlab.core.server_url import server_url
from kvlab.instruments import Proxy, environment, explore, replay

url = server_url()  # the embedded Valkey, or KVLAB_URL
kv = kvlab.connect(url, prefix="kvlab:ch03")
pd.Series(environment(kv) | {"old keys removed": kv.clear()}, name="measured on").to_frame()

# %% [markdown]
# ## The simple version: a counter with a TTL
#
# Read the code below.
#
# **Predict.** The process may be killed at any moment: a deploy, an out-of-memory kill. Which
# moment is the worst? What happens then to this customer's next requests? And to those of next week?
#
# We do not look for it by hand. `explore` runs the client again and again on a private server, and
# lets it crash once after each of its commands. `invariant` is what must be true at the end of
# every run; the shortest run that breaks it is drawn.

# %%
import inspect

from kvlab import NaiveFixedWindow, NaiveSlidingWindow

print(inspect.getsource(NaiveFixedWindow.check))


# %%
def every_key_expires(world):
    """every key has a TTL"""
    return all(world.kv.ttl(key) > 0 for key in world.kv.scan_iter())


ask = lambda kv: NaiveFixedWindow(kv).check("ann")  # noqa: E731
story = explore([ask], invariant=every_key_expires, crashes=True)
later = replay(story.schedule, [ask] * 13, invariant=every_key_expires).shortest.results[1:]
print(f"the same, and {len(later)} requests after it: {sum(later)} admitted, then denied")
story

# %% [markdown]
# No later request sets a TTL: this customer is denied for ever.
#
# **Predict.** Nobody crashes. The network loses one reply, and redis-py does what it does unless
# told otherwise: it sends the command again. How often is the request counted? And the TTL?

# %%
story = explore([ask], invariant=every_key_expires, lost_replies=True)
story

# %% [markdown]
# One request was counted twice. And the answer 2 is not the 1 after which the code sets a TTL: the
# same customer is locked out by one lost packet.
#
# ### Two bursts around the edge
#
# **Predict.** Limit 10 per second, nobody crashes. What is the most that can be admitted within
# one second? One request opens the window. The rest of the ten come just before it ends, and ten
# more just after.

# %%
from ipywidgets import interact

from kvlab.instruments import charts

one_second = NaiveFixedWindow(kv.client, limit=10, window=1, prefix=kv.prefix)
times = []
for requests, pause in ((1, 0.85), (9, 0.17), (10, 0)):
    times += [time.perf_counter() for _ in range(requests) if one_second.check("bob")]
    time.sleep(pause)
charts.admissions_per_window(times, limit=10, window=1.0)

# %% [markdown]
# Nearly twice the limit; the request that opened the window is just too old to count. No slip in
# the code does this: any counter that starts again from zero allows it. A sliding window does not
# start again.
#
# ## The sliding version: look, then add
#
# Remove old entries, count the rest (`ZCOUNT`), and if there is room add one (`ZADD`).
#
# **Predict.** Two clients, limit 1, no fault at all. Take every order in which their commands can
# reach the server. In how many of them are both admitted: in none, in a few, in most?

# %%
ask = lambda kv: NaiveSlidingWindow(kv, limit=1).check("ann")  # noqa: E731


def at_most_one(world):
    """at most 1 is admitted"""
    return sum(world.results) <= 1


race = explore([ask, ask], invariant=at_most_one)
print(f"{race.summary}, found in {race.seconds:.1f} s")
race

# %% [markdown]
# Between a look and the write that trusts it, somebody else can write.
#
# And whose time is it? Each client removes "old" entries by its own clock.
#
# **Predict.** One client has used up the limit. Nobody races: a second client comes alone, and its
# clock has jumped by a minute and a second. What does its first command do to the log? And if the
# clock is two seconds *behind*?


# %%
used_up = lambda kv: NaiveSlidingWindow(kv, limit=1, clock=lambda: time.time() - 1).check("ann")  # noqa: E731


def denied(world):
    """the second client is denied"""
    return world.results == [False]


for jump in (-2, 61):
    story = explore([ask], setup=used_up, invariant=denied, clock_jumps=jump)
    print(f"clock {jump:+} s: {story.summary}")
story

# %% [markdown]
# ## The fix: decide on the server, in one step
#
# A Lua script runs alone on the server: nobody can come between its look and its write. Each of
# the four limiters is one script, one round trip. Each reads the server's clock, computes what is
# left, and if the cost fits writes the new state *with its TTL* in the same step.
#
# | limiter | what it keeps | what it promises |
# | --- | --- | --- |
# | `FixedWindow` | one count | at most the limit in each window of the server's clock |
# | `SlidingWindowLog` | every admission | at most the limit in **any** interval of the window's length |
# | `SlidingWindowCounter` | two counts | its estimate, the last window fading out, stays within the limit |
# | `TokenBucket` | a level | at most burst + rate × t in any time t |
#
# A limiter is a value without a client; `hit` gives an op. After a look at one: two clients, limit 1,
# every order of their commands, and in each order one fault at each point. A crash, a lost reply, a
# lost request, a client's clock that jumps, the key's TTL at its end, a server that has forgotten
# its scripts. The naive ones go through the same space. (`reduce`: of runs that differ only in the
# order of two looks, one is made.)
#
# And what two clients can do, a crowd does: fifty stand before the command that admits them, limit 10,
# and go on together.

# %%
from kvlab import FixedWindow, SlidingWindowCounter, SlidingWindowLog, TokenBucket

KINDS = {
    "fixed-window": FixedWindow, "sliding-log": SlidingWindowLog,
    "sliding-counter": SlidingWindowCounter, "token-bucket": TokenBucket,
}  # fmt: skip
LONG = 10_000_000  # seconds: nothing is given back while we look
op = FixedWindow("api", limit=10, window=60).hit("ann")
print(op, kv.run(op), sep="\n\n")

# %%
EVERYTHING = {"crashes": True, "lost_replies": True, "lost_requests": True, "expiries": True,
              "script_flushes": True, "clock_jumps": [61], "reduce": True, "progress": False}  # fmt: skip


def keeps_its_word(world):
    """at most 1 admitted in each life of the key, and every key has a TTL"""
    lives = 1 + sum(event.kind == "expire" for event in world.trace)
    admitted = sum(getattr(answer, "allowed", answer) is True for answer in world.results)
    return admitted <= lives and every_key_expires(world)


# %% tags=["finding"]
ways = {"NaiveFixedWindow": lambda kv: NaiveFixedWindow(kv, limit=1).check("ann"), "NaiveSlidingWindow": ask}  # fmt: skip
for name, kind in KINDS.items():
    ways[name] = lambda kv, kind=kind: kv.run(kind("two", limit=1, window=LONG).hit("ann"))
found = {name: explore([w, w], invariant=keeps_its_word, **EVERYTHING) for name, w in ways.items()}
rows = [(name, story.schedules, story.violations, story.seconds) for name, story in found.items()]
space = pd.DataFrame(rows, columns=["limiter", "runs", "broken", "seconds"])
naive, hardened = space[:2].sum(), space[2:].sum()
print(f"Two clients, limit 1, each order and fault: naive broken in {naive.broken} of {naive.runs} runs, hardened in {hardened.broken} of {hardened.runs}")  # fmt: skip
space.style.hide(axis="index").format({"seconds": "{:.1f}"})

# %%
hits = {"naive sliding": ("ZADD", lambda c: NaiveSlidingWindow(c, prefix=kv.prefix).check("cat"))}
through = lambda client, op: kvlab.Kv(client, prefix=kv.prefix).run(op).allowed  # noqa: E731
for name, kind in KINDS.items():
    limiter = kind("crowd", limit=10, window=LONG)
    kv.run(limiter.peek("warm"))  # from now on the script is on the server
    hits[name] = "EVALSHA", lambda client, of=limiter: through(client, of.hit("cat"))
rows = [(name, "hardened" if name in KINDS else "naive", admissions.admitted_past(url, *hit), 10)
        for name, hit in hits.items()]  # fmt: skip
crowd = pd.DataFrame(rows, columns=["case", "variant", "admitted", "limit"])
most = crowd.groupby("variant")["admitted"].max()
charts.over_admission(crowd, title=f"50 at once, limit 10: naive admits {most['naive']}, each hardened limiter {most['hardened']}")  # fmt: skip

# %% [markdown]
# ## A lost reply, once more
#
# The hardened hit is one command, but a command too can be sent twice. **Without** `op_id` it is
# sent once, and the caller gets `OutcomeUnknown`: it may have been counted. **With** `op_id` the server
# keeps its answer beside the count for a minute; sending again is safe, so it happens by itself.

# %%
limiter, told = FixedWindow("lost", limit=10, window=LONG), []


def counted_once(world):
    told.append(type(world.results[0]).__name__)
    return world.kv.run(limiter.peek("fay")).remaining == 9


for op_id in (None, "request-1"):
    hit = lambda kv, op_id=op_id: kv.run(limiter.hit("fay", op_id=op_id))  # noqa: E731
    print(explore([hit], invariant=counted_once, lost_replies=True).summary, told[-1], sep="; reply lost: ")  # fmt: skip
replay("r0", [hit], invariant=counted_once)

# %% [markdown]
# ## Your own limiter
#
# **Put your code in place of `check`**: it gets a redis-py client and a user, and answers whether it
# admits. The one here sets the TTL first, so that no crash can leave a counter without one. Is it enough?


# %%
# YOUR CODE instead of this function
def check(kv, user, limit=1):
    kv.set(f"hits:{user}", 0, ex=60, nx=True)
    return kv.incr(f"hits:{user}") <= limit


mine = explore([lambda kv: check(kv, "ann")] * 2, invariant=keeps_its_word, **EVERYTHING)
print(mine.summary)
mine

# %% [markdown]
# ## Four algorithms, one load
#
# **Predict.** All four are correct. Will they admit the same requests? The load is an open loop:
# bursts of 6 to 16 requests, seeded, no warm-up, one repetition; limit 10 per half second. It
# starts at an edge of the server's window, and each request asks all four in one round trip.
#
# A judge that knows only "limit 10" would call correct limiters wrong. So below the picture each is
# judged by what it promises, from the server's times of its admissions. "Any interval" is the most
# that fell into one window's length, beside the worst that theory allows.

# %%
WINDOW = 0.5
asked = admissions.bursts(10, seed=3, size=(6, 16), gap=(0.1, 0.3), spread=0.08)
limiters = {name: kind("load", limit=10, window=WINDOW) for name, kind in KINDS.items()}
edge = admissions.next_edge(kv.client, WINDOW)
answers = admissions.replay(
    kv, lambda: [limiter.hit("dan") for limiter in limiters.values()], asked
)
admitted = {
    name: [decision.at - edge for decision in decisions if decision.allowed]
    for name, decisions in zip(limiters, answers, strict=True)
}

# %%
within = {name: admissions.most_within(times, WINDOW) for name, times in admitted.items()}
top = max(within, key=within.get)
admissions.strips(asked, admitted, WINDOW, title=(
    f"Limit 10: {top} let {within[top]} through within {WINDOW:g} s, the log {within['sliding-log']}"
))  # fmt: skip

# %%
from kvlab.instruments import certain_overlap, judge
from kvlab.instruments.measure import theory

worst = [theory.fixed_window_worst(10), theory.sliding_log_worst(10)]
worst += [theory.sliding_counter_worst(10), theory.token_bucket_worst(10, 10 / WINDOW, WINDOW)]
worst = dict(zip(KINDS, worst, strict=True))
rows = []
for name, times in admitted.items():
    said = judge(name, [edge + t for t in times], limit=10, window=WINDOW)
    rows.append((name, said.bound, said.worst, said.over, within[name], worst[name]))
columns = ["limiter", "its bound", "most by it", "too many", "any interval", "theory's worst"]
pd.DataFrame(rows, columns=columns).style.hide(axis="index").format({"most by it": "{:.3g}"})

# %% [markdown]
# ## "Try again in …" must be true
#
# A denied decision says when the same hit fits. We use up all 10, ask for 5 more, and then look as
# often as we can until each limiter says yes. The last "no" must lie before the promised moment,
# the first "yes" at or after it. What is left between the two is how often we looked.

# %%
limiters = {name: kind("wait", limit=10, window=WINDOW) for name, kind in KINDS.items()}
admissions.next_edge(kv.client, WINDOW)
waits = admissions.watch_waits(kv, limiters, "eve", fill=10, cost=5)
waits = pd.DataFrame(waits, columns=["limiter", "retry_after, s", "last no, ms", "first yes, ms"])
true = (waits["last no, ms"] < 0) & (waits["first yes, ms"] >= 0)
log = SlidingWindowLog("api", limit=10, window=60)
_, no = kv.run(log.hit("eve", cost=8), log.hit("eve", cost=5), atomic=True)
fields = [f"{name}: {value}" for name, value in no.headers().items()]
print("the same in HTTP, in whole seconds, rounded up:", *fields, sep="\n  ")
waits.assign(true=true.map({True: "yes", False: "no"})).style.hide(axis="index").format(precision=3)

# %% [markdown]
# ## Whose request is it?
#
# The tutorial limits by `X-Forwarded-For`. The client writes that header.

# %%
from kvlab.rate_limiting.client_address import client_address
from kvlab.rate_limiting.naive import naive_client_address

claims = [f"198.51.100.{n}" for n in range(100)]  # one attacker, a new name for each request
proxies = ["10.0.0.0/8"]  # ours: each appends the address that it saw
seen = [client_address("10.0.0.5", f"{claim}, 203.0.113.7", proxies) for claim in claims]
limiter = FixedWindow("who", limit=10, window=LONG)
by_claim = kv.run([limiter.hit(naive_client_address(claim)) for claim in claims])
by_address = kv.run([limiter.hit(address) for address in seen])
print(f"by what the client says: {sum(d.allowed for d in by_claim)} of 100 admitted")
print(f"by what our proxy saw:   {sum(d.allowed for d in by_address)} of 100, all {set(seen)}")
print(f"no header: everybody is {naive_client_address(None)!r}")

# %% [markdown]
# ## What it costs
#
# - **Round trips**, counted by a proxy on the wire: limit 1, so the first request is admitted and
#   the second denied.
# - **Latency, with the violations of the same run**: a server 4 ms away (the proxy delays), a closed
#   loop of 6 workers on one key, seed 1, warm-up 50 calls, one repetition each. The naive version
#   does not say when it decided, so only what is beyond doubt is held against it: the hardened one
#   is judged more strictly.
# - **Memory**. The log is exact because it remembers each admission. Bytes of one full key (`MEMORY
#   USAGE`), beside the most that one interval may hold. Below the table are two knobs: the most that
#   some interval of one window can hold, if the clients choose the worst moments. Lower the bucket's
#   burst: it comes close to the log, at a fraction of the memory.

# %%
rows = []
with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    naive = NaiveSlidingWindow(far.client, limit=1, prefix=kv.prefix)
    log = SlidingWindowLog("trips", limit=1, window=LONG)
    ways = {"naive": lambda: naive.check("hal"), "hardened": lambda: far.run(log.hit("hal"))}
    far.client.ping(), far.run(log.peek("warm"))  # both connections are open
    for answer, (variant, ask) in itertools.product(("admitted", "denied"), ways.items()):
        proxy.reset(), ask(), rows.append((answer, variant, proxy.requests))
trips = pd.DataFrame(rows, columns=["op", "variant", "round_trips"])
title = "To admit one request: naive {} round trips, hardened {}"
charts.round_trips(trips, title=title.format(*trips["round_trips"]))

# %%
from kvlab.instruments import ClosedLoop, Uniform
from kvlab.instruments.measure import experiment

bound, spans, moments = {"limit": 30, "window": 0.4}, [], []
judged = {
    "naive": lambda: certain_overlap(spans, **bound).over,
    "hardened": lambda: judge("sliding-log", moments, **bound).over,
}


def keep(answer, began):
    spans.extend([(began, time.perf_counter())] if answer is True else [])
    moments.extend([answer.at] if getattr(answer, "allowed", False) else [])


# %%
how = {"arrivals": ClosedLoop(6), "count": 600, "warmup": 50, "seed": 1, "progress": False}
with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    proxy.delay(0.004)
    naive, log = NaiveSlidingWindow(far.client, 30, 400, kv.prefix), SlidingWindowLog("race", **bound)  # fmt: skip
    ask = {"naive": lambda: naive.check("ida"), "hardened": lambda: far.run(log.hit("ida"))}
    results = {}
    for name in ask:
        hit = lambda _, name=name: keep(began=time.perf_counter(), answer=ask[name]())  # noqa: E731
        results[name] = experiment.run(hit, Uniform(1), check=judged[name], **how)
told = [f"{n} {r.latency.percentile(50) * 1e3:.0f} ms, {r.violations} too many" for n, r in results.items()]  # fmt: skip
charts.latency_percentiles(results, title=f"Median: {'; '.join(told)}")

# %%
rows = []
for name, kind in KINDS.items():
    bytes_at = []
    for limit in (10, 100, 1000):
        limiter = kind(f"size{limit}", limit=limit, window=LONG)
        kv.run([limiter.hit("jon") for _ in range(limit)])
        key = kv.prefix + limiter.hit("jon").keys[0].name
        bytes_at.append(kv.client.memory_usage(key, samples=0))
    rows.append((name, *bytes_at, worst[name]))
columns = ["limiter", "limit 10", "limit 100", "limit 1000", "worst interval at limit 10"]
pd.DataFrame(rows, columns=columns).style.hide(axis="index").format(thousands=",")


# %%
def worst_interval(limit=10, burst=10):
    most = [theory.fixed_window_worst(limit), theory.sliding_log_worst(limit)]
    most += [theory.sliding_counter_worst(limit), theory.token_bucket_worst(burst, limit, 1.0)]
    title = f"A limit of {limit} lets up to {max(most)} through in one interval"
    frame = pd.DataFrame({"limiter": [*[*KINDS][:3], f"bucket, burst {burst}"], "most": most})
    return charts.bars(frame, x="limiter", y="most", title=title, ylabel="requests", limit=limit)


display(worst_interval())  # noqa: F821
_ = interact(worst_interval, limit=(1, 100), burst=(1, 100))

# %% [markdown]
# ## The limits that remain
#
# - **Failover forgets.** Replication is asynchronous: a new primary may lack the last hits, and
#   admits them again. Eviction forgets too; use `noeviction` or `volatile-ttl`.
# - **No fairness.** Of fifty that wait, any ten get in.
# - **The server's clock is the clock.** If it jumps ahead, windows end early.
# - **An address is not a person.** Many share one behind NAT; an IPv6 customer holds a whole /64
#   (`ipv6_prefix=64`).
# - **When the server is down** somebody must choose: raise, let all in (`outage="open"`) or nobody
#   (`outage="closed"`). No answer is right for every API.

# %%
print(f"{kv.clear()} keys removed")
kv.close()

# %% [markdown] tags=["exercise"]
# ## Exercise: a caller that waits as long as it must
#
# Many clients retry at once, or every second, or with a random backoff. Yours knows better:
# a denied decision says when the hit fits.
#
# Write the flow `patient(limiter, key, cost, give_up)`. It asks, waits `retry_after`, and asks
# again until it is admitted. It returns the last `Decision` **without waiting** when the wait would
# bring the time waited over `give_up` seconds. A cost that never fits says `math.inf`.
#
# In a flow, `yield from op` runs an op, and `yield from Wait(seconds)` waits. Solve it in
# `exercises/03_rate_limiting.ipynb`; the check runs on the real server.

# %% tags=["exercise-setup"]
import math
import time

import kvlab
from kvlab import SlidingWindowLog, Wait, flow
from kvlab.instruments import judge

kv = kvlab.connect(prefix="kvlab:ex03")
limiter = SlidingWindowLog("patient", limit=5, window=0.4)


# %% tags=["stub"]
@flow
def patient(limiter, key, cost, give_up):
    """Hit until admitted; the last decision when the waits would exceed ``give_up`` seconds."""
    decision = yield from limiter.hit(key, cost)
    return decision  # your turn: wait and ask again


# %% tags=["solution"]
@flow
def patient(limiter, key, cost, give_up):
    """Hit until admitted; the last decision when the waits would exceed ``give_up`` seconds."""
    waited = 0.0
    decision = yield from limiter.hit(key, cost)
    while not decision.allowed and waited + decision.retry_after <= give_up:
        yield from Wait(decision.retry_after)
        waited += decision.retry_after
        decision = yield from limiter.hit(key, cost)
    return decision


# %% tags=["check"]
kv.clear()
before = kv.round_trips
decisions = [kv.run(patient(limiter, "kim", 1, give_up=5)) for _ in range(20)]
asked = kv.round_trips - before
assert all(d.allowed for d in decisions), "each of 20 requests must get in, given 5 s of patience"
verdict = judge("sliding-log", [d.at for d in decisions], limit=5, window=0.4)
assert verdict.holds, f"{verdict.over} were admitted too many"
assert asked <= 40, f"{asked} round trips for 20 requests: wait retry_after, then ask once"
print(f"20 requests, all admitted, {asked} round trips, at most {verdict.worst} per 0.4 s")

# %% tags=["check"]
began = time.perf_counter()
never = kv.run(patient(limiter, "lea", 6, give_up=5))
assert not never.allowed, "a cost of 6 never fits a limit of 5"
assert never.retry_after == math.inf, "return the decision as the server gave it"
kv.run(limiter.hit("lea", 5))
late = kv.run(patient(limiter, "lea", 5, give_up=0.01))
assert not late.allowed, "this wait is longer than give_up allows: return without waiting"
assert time.perf_counter() - began < 0.3, "what exceeds give_up must return without waiting"
kv.clear(), kv.close()
print("gives up at once, and only when it must")
