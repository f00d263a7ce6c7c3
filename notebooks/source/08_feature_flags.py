# %% [markdown]
# # Feature flags
#
# A flag turns code on without a deploy: for everybody, for nobody, or for some of the users. A page
# asks for ten flags, a thousand pages a second ask, and somebody turns one while they do.
#
# **The guarantee we want:**
#
# - a check costs no round trip, and answers when the server is gone;
# - flags that change together are seen together: all of a change or none of it;
# - a user who is in stays in while the percentage grows;
# - who is in for one flag says nothing about another;
# - a change reaches every process at once, and no lost message keeps an old answer alive.

# %%
import itertools
import logging
import time

import pandas as pd
import redis

import kvlab
from kvlab.core.server_url import server_url
from kvlab.instruments import environment

# %%
url = server_url()  # the embedded Valkey, or KVLAB_URL
logging.getLogger("kvlab.flags").setLevel("ERROR")  # a lost connection is printed below instead
kv = kvlab.Kv(redis.Redis.from_url(url, client_name="ch08"), prefix="kvlab:ch08")
pd.Series(environment(kv) | {"old keys removed": kv.clear()}, name="measured on").to_frame()

# %% [markdown]
# ## The simple version: a hash of "1" and "0"
#
# **Predict.** We turn a flag on and ask whether it is on. What is the answer? The client is
# redis-py as it comes.

# %%
import inspect

from kvlab import NaiveFlags

print(inspect.getsource(NaiveFlags.set_flag), inspect.getsource(NaiveFlags.get_flag), sep="\n")
as_it_comes = NaiveFlags(kv.client, prefix=kv.prefix)
as_text = NaiveFlags(redis.Redis.from_url(url, decode_responses=True), prefix=kv.prefix)
as_it_comes.set_flag("new-checkout", True)
for name, naive in (("as it comes", as_it_comes), ("decode_responses=True", as_text)):
    stored = naive.client.hget(naive.key, "new-checkout")
    print(f"{name:22} stored {stored!r:5} == '1': {naive.get_flag('new-checkout')}")

# %% [markdown]
# The flag is on and the answer is `False`, always: redis-py answers bytes, and `b"1" == "1"` is
# false in Python. No error, no log line; the new checkout just never appears. From here on the
# naive version gets a client that answers text.
#
# ### Half a change
#
# Two flags belong together: the new checkout writes orders that only the new receipt can print. A
# page reads both, and a release turns both on. Two commands each, so six orders.
#
# **Predict.** In how many of the six is the page mixed? And when the release may be killed after
# its first command: when does the mixed page end? `explore` runs every order, each from an empty
# server on, and shows the shortest that is wrong.

# %%
from kvlab.instruments import explore

PAIR = ("new-checkout", "new-receipt")
read_two = lambda client: [NaiveFlags(client).get_flag(flag) for flag in PAIR]  # noqa: E731
write_two = lambda client: [NaiveFlags(client).set_flag(flag, True) for flag in PAIR]  # noqa: E731
not_mixed = lambda world: len(set(world.results[0])) == 1  # noqa: E731
naive_pair = {"page": read_two, "release": write_two}
mixed = explore(naive_pair, invariant=not_mixed, client_options={"decode_responses": True})
mixed

# %%
none_or_both = lambda world: len(NaiveFlags(world.kv).get_all_flags()) in (0, 2)  # noqa: E731
died = explore(naive_pair, invariant=none_or_both, crashes=True, client_options={"decode_responses": True})  # fmt: skip
died

# %% [markdown]
# It does not end: every page from now on is mixed, and no version says that something is missing.
#
# ## The fix: one commit, one snapshot
#
# - `set_many` is one Lua script: it counts the version up, writes all the flags, and publishes the
#   version on a channel. One step, one round trip.
# - `read_all` is one `HGETALL`. Its reply is a `FlagSnapshot`: all flags as of one version. A check
#   looks into it and asks no server.
# - Values are JSON, read as bytes: `true`, `false`, or a percentage.
# - Defaults are declared in the code. A flag neither stored nor declared raises `UnknownFlag`.

# %%
from kvlab import FeatureFlags, Flag, FlagWatcher
from kvlab.errors import UnknownFlag

flags = FeatureFlags("shop", defaults={"new-checkout": False, "new-receipt": False})
print(flags.set_many({"new-checkout": True, "new-receipt": True}), "\n")
print(flags.read_all(), "\n")
try:
    kv.run(flags.read_all()).is_enabled("new-chekout")
except UnknownFlag as error:
    print(error)

# %% [markdown]
# ### Every order again
#
# The same page and the same release, now of one command each. More may happen as well: crashes,
# requests and replies that get lost, a server that forgets its scripts, two of these in one run.

# %%
both = lambda snapshot: tuple(snapshot.is_enabled(flag) for flag in PAIR)  # noqa: E731
page = lambda kv: both(kv.run(flags.read_all()))  # noqa: E731
release = lambda kv: kv.run(flags.set_many(dict.fromkeys(PAIR, True)))  # noqa: E731
whole = lambda world: all(isinstance(seen, BaseException) or seen[0] == seen[1] for seen in (world.results[0], page(world.kv)))  # fmt: skip # noqa: E731
held = explore({"page": page, "release": release}, invariant=whole, max_faults=2, progress=False,
               crashes=True, lost_requests=True, lost_replies=True, script_flushes=True)  # fmt: skip
told = [("naive", "none", "the page", mixed), ("naive", "a crash", "what is stored", died),
        ("hardened", "two of any kind", "both", held)]  # fmt: skip
rows = [(*about, story.violations, story.schedules) for *about, story in told]
halves = pd.DataFrame(rows, columns=["variant", "faults in a run", "looked at", "mixed in", "of runs"])  # fmt: skip
halves.style.hide(axis="index")

# %% [markdown]
# A page that has its snapshot may be one version behind: whole, and old. That is the promise. Take
# **one snapshot per request** and keep it; two snapshots in a request are two versions.
#
# **Two values of yours that belong together?** Replace `change`, `read` and what `setup` stores by your
# own code, and say in the invariant which pairs may be seen. (`hset` twice instead of once: try it.)


# %%
# ---- paste your own code here ----
def change(kv):
    kv.hset("plan", mapping={"name": "pro", "price": 20})


def read(kv):
    return kv.hmget("plan", "name", "price")


free, pro = [b"free", b"0"], [b"pro", b"20"]
explore([read, change], setup=lambda kv: kv.hset("plan", mapping={"name": "free", "price": 0}), invariant=lambda world: world.results[0] in (free, pro), crashes=True)  # fmt: skip

# %% [markdown]
# ## Who is in: a percentage
#
# `Flag(10)` is on for 10 % of the users. No list is stored: a user is in when
# `hash(salt, user) mod 10,000` is below 1,000. The salt is the flag's name.
#
# **Predict.** 100,000 users, a rollout of 10 %. How far from 10,000 may the count be, if the hash
# is as good as a fair draw?

# %%
from kvlab.chapters import feature_flags_rollout as rollouts
from kvlab.feature_flags import bucket

USERS = range(100_000)
places = [bucket("new-checkout", user) / 10_000 for user in USERS]
inside = {user for user in USERS if Flag(10).includes("new-checkout", user)}
expected, bound = rollouts.binomial_bound(len(USERS), 0.10)
off, fits = len(inside) - expected, abs(len(inside) - expected) <= bound
rollouts.evenness(places, 10, title=(
    f"10 % of {len(USERS):,} users: {len(inside):,} are in, {off:+,.0f}; "
    f"{'within' if fits else 'OUTSIDE'} the bound of ± {bound:,.0f}"
))  # fmt: skip

# %% [markdown]
# **Sticky and growing.** The bucket of a user does not change, only the line below which one is in.
# So who was in at a lower percentage is in at a higher one. For contrast, drawing again for each
# step (`random() < percent`, the version many write first):

# %%
import random

draw, rows, before, drawn_before = random.Random(8), [], set(), set()
for percent in (1, 5, 10, 20, 50, 100):
    now = {user for user in USERS[:20_000] if Flag(percent).includes("new-checkout", user)}
    drawn = {user for user in USERS[:20_000] if draw.random() * 100 < percent}
    rows.append((percent, len(now), len(before - now), len(drawn), len(drawn_before - drawn)))
    before, drawn_before = now, drawn
columns = ["percent", "in", "thrown out", "drawn anew: in", "drawn anew: thrown out"]
pd.DataFrame(rows, columns=columns).style.hide(axis="index").format(thousands=",")

# %% [markdown]
# **Independent.** If two flags drew the same tenth of the users, that tenth would meet every
# experiment, and no effect could be told from another. Two flags at 10 %, and what independence
# expects:

# %%
other = {user for user in USERS if Flag(10).includes("new-receipt", user)}
n, cells = len(USERS), []
for a, b in itertools.product((True, False), repeat=2):
    seen = sum(((user in inside) == a) and ((user in other) == b) for user in USERS)
    share = (0.1 if a else 0.9) * (0.1 if b else 0.9)
    want, within = rollouts.binomial_bound(n, share)
    cells.append(("in" if a else "out", "in" if b else "out", seen, want, within, abs(seen - want) <= within))  # fmt: skip
columns = [*PAIR, "users", "expected", "bound ±", "within"]
pd.DataFrame(cells, columns=columns).style.hide(axis="index").format("{:,.0f}", subset=columns[2:5])

# %% [markdown]
# Two flags that belong together get the same `salt`, and then the same users.
#
# Move the two knobs below. Raise "now": people join, nobody leaves. Lower it below "was": those who
# joined last leave first. Another salt: a new draw, and many are thrown out.


# %%
def step(was=10, now=20, new_salt=False):
    before = [Flag(was).includes("new-checkout", user) for user in range(400)]
    salt = "another" if new_salt else None
    after = [Flag(now, salt).includes("new-checkout", user) for user in range(400)]
    pairs = list(zip(before, after, strict=True))
    out, joined = pairs.count((True, False)), pairs.count((False, True))
    title = f"{was:g} % to {now:g} % of 400 users: {joined} join, {out} thrown out"
    return rollouts.who_is_in(before, after, title=title)


step()

# %%
from ipywidgets import interact

_ = interact(step, was=(0, 100), now=(0, 100))

# %% [markdown]
# ## Told of each change: the watcher
#
# A snapshot gets old. A `FlagWatcher` subscribes to the channel, waits until the server has
# confirmed that, and only then reads, so no change falls between. Each message makes it read
# everything again: a lost message costs time, never truth.
#
# Now things break. 1. We are told of a change. 2. The server cuts the subscription (`CLIENT KILL`),
# and the next change is made while nobody listens. 3. The server is gone.

# %%
import threading

from kvlab.instruments import Proxy

proxy = Proxy(url)
far = kvlab.Kv(redis.Redis.from_url(proxy.url, client_name="ch08", retry=None), prefix=kv.prefix)
out_of_touch, in_touch = (lambda w: w.error is not None), (lambda w: w.stale_since is None)
paused, go = threading.Event(), threading.Event()
watcher = FlagWatcher(far, flags, resync=3600, wait=lambda s: (paused.set(), go.wait(5)))
assert watcher.wait_until(in_touch)
version = kv.run(flags.set("new-checkout", Flag(10)))
print(f"1. version {version} is set; the watcher has it: {watcher.wait_for(version)}")

# %%
subscribed = kv.client.client_list(_type="pubsub")
for client in (c for c in subscribed if c["name"] == "ch08"):  # nobody else's
    kv.client.client_kill_filter(_id=client["id"])
assert paused.wait(10)
version = kv.run(flags.set("new-checkout", Flag(20)))
print(f"2. killed: {watcher.error}")
print(f"   version {version} is set, nobody was told; the snapshot is {watcher.snapshot.version}")
go.set()
print(f"   connected again, has version {version}: {watcher.wait_for(version)}")
kv.run(flags.set("new-receipt", True)), watcher.wait_for(version + 1)

# %%
proxy.refuse(), proxy.cut()
assert watcher.wait_until(out_of_touch)
try:
    answer = NaiveFlags(far.client, prefix=kv.prefix).get_flag("new-receipt")
except redis.ConnectionError as error:
    answer = type(error).__name__
with FlagWatcher(far, flags) as late, watcher, far, proxy:
    known = {"watcher": watcher.snapshot, "watcher started now": late.snapshot}
rows = [(who, s.version, s.is_enabled("new-receipt")) for who, s in known.items()]
columns = ["the server is gone", "version", "new-receipt is on"]
pd.DataFrame([("naive", "none", answer), *rows], columns=columns).style.hide(axis="index")

# %% [markdown]
# It was turned on; its declared default is off. The page that asked the server has an error to handle. The watcher answers by what it last knew;
# a process that has never reached the server, by the declared default. `stale_since` says how long
# a watcher has been out of touch.
#
# ## What it costs
#
# Round trips of a page with ten checks, counted by a proxy on the wire:

# %%
with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=kv.prefix) as far:
    naive, rows = NaiveFlags(far.client, prefix=kv.prefix), []
    with FlagWatcher(far, flags) as watcher:
        assert watcher.wait_until(in_touch)
        ways = {"naive": lambda: naive.get_flag(PAIR[0]), "hardened": lambda: watcher.snapshot.is_enabled(PAIR[0])}  # fmt: skip
        for checks, (variant, check) in itertools.product((1, 10), ways.items()):
            far.client.ping(), proxy.reset()
            _ = [check() for _ in range(checks)]
            rows.append((f"{checks} check{'s' * (checks > 1)}", variant, proxy.requests))
trips = pd.DataFrame(rows, columns=["checks", "variant", "round_trips"])
trips.pivot(index="checks", columns="variant", values="round_trips")

# %% [markdown]
# Time of a check, **with the violations of the same run**. One reader, closed loop, reads both
# flags of the pair; a writer turns both every 2 ms, for both variants. Turns of the two variants
# alternate: 9 turns after one of warm-up, and the ratio is taken within a turn. A violation is a
# request that saw half a change, in the warm-up too. No seed: nothing is drawn. The watcher's own
# work, in a thread of this process, is part of the hardened time.

# %%
from kvlab.chapters.feature_flags_torn_reads import Pairs, turning
from kvlab.instruments import compare

pairs = Pairs()
turn_both = lambda on: [as_text.set_flag(flag, on) for flag in PAIR]  # noqa: E731
write = lambda on: (turn_both(on), kv.run(flags.set_many(dict.fromkeys(PAIR, on))))  # noqa: E731
write(False)
with FlagWatcher(kv, flags) as watcher, turning(write, pause=0.002):
    cost = compare(
        lambda: pairs.turn("naive", lambda: [as_text.get_flag(flag) for flag in PAIR], 150),
        lambda: pairs.turn("hardened", lambda: both(watcher.snapshot), 20_000),
    )

# %%
from kvlab.instruments import charts

micros = [pd.Series(side).median() * 1e6 for side in (cost.a, cost.b)]
told = [f"{name} {pairs.halves[name]:,} of {asked:,}" for name, asked in pairs.asked.items()]
charts.dots(
    pd.DataFrame({"variant": [*pairs.asked], "µs": micros}),
    x="µs",
    y="variant",
    logx=True,
    form="{:.3g} µs",
    title=f"A check from the snapshot is {cost.ratio:,.0f} times cheaper "
    f"(95 %: {cost.low:,.0f} to {cost.high:,.0f})",
    xlabel="time of one flag check (µs, log scale)",
    remark="requests that saw half a change:    " + "    ".join(told),
)

# %% tags=["finding"]
print(f"orders that mix two flags: naive {mixed.violations} of {mixed.schedules}, hardened {held.violations} of {held.schedules} with faults; a check {cost.ratio:,.0f}x cheaper")  # fmt: skip

# %% [markdown]
# ## How long a change takes to reach everybody
#
# 100 watchers, each a thread with a connection of its own, all in this process. A change: one
# `set`, and the time until each watcher has read the new version, by the trace hook. Two changes of
# warm-up, then 20, each after the last one has arrived everywhere.
#
# **Predict.** The server sends 100 messages and answers 100 readings. A microsecond, a
# millisecond, a second?

# %%
from contextlib import ExitStack

WATCHERS, WARM, CHANGES, reads, delays = 100, 2, 20, [], []
with kvlab.connect(url, prefix=kv.prefix, trace=lambda _: reads.append(time.perf_counter())) as near, ExitStack() as stack:  # fmt: skip
    watching = [stack.enter_context(FlagWatcher(near, flags)) for _ in range(WATCHERS)]
    assert all(watcher.wait_until(in_touch, 30) for watcher in watching)
    for n in range(WARM + CHANGES):
        reads.clear()
        began = time.perf_counter()
        version = kv.run(flags.set("new-checkout", Flag(n)))
        assert all(watcher.wait_for(version) for watcher in watching)
        delays.append([moment - began for moment in reads])

# %%
delays = delays[WARM:]
last = pd.Series([max(one) for one in delays]) * 1e3
rollouts.reach(delays, whole_at=last.median() / 1e3, title=(
    f"A change reaches {WATCHERS} watchers in {last.median():.0f} ms "
    f"(median of {CHANGES}; {last.min():.0f} to {last.max():.0f})"
))  # fmt: skip

# %% [markdown]
# All the threads share one interpreter here and take turns, so part of this time is theirs and not
# the server's. How much is not measured in this chapter.
#
# ## The limits that remain
#
# - **Not the same instant.** Two processes can differ for the time charted above. What must not
#   mix between processes belongs in the data, not in a flag.
# - **A silent network loss** is noticed only at the next resync (30 s unless told otherwise) and
#   its timeout.
# - **A server that lost its data** starts again at version 1, and watchers follow it to the
#   declared defaults. Declare what is safe.
# - **A `set` whose reply was lost** may have run. Setting again costs a version, unless somebody
#   else set the flag in between.
# - **Percent is the only rule.** No lists, no countries; and flags are not secrets.

# %%
as_text.client.close()
print(f"{kv.clear()} keys removed")
kv.close()

# %% [markdown] tags=["exercise"]
# ## Exercise: a careful rollout, with a kill switch
#
# Write `roll_out(kv, flags, flag, steps, healthy)`. It raises the flag from step to step (percent:
# 10, 20, 50 …). After each step it calls `healthy(percent)`. When that says no, the flag is turned
# **off for everybody** and no further step is taken. It returns the version of its last commit.
#
# Nobody who is in may be thrown out by a later step. The stub below throws people out: why? Solve
# it in `exercises/08_feature_flags.ipynb`; the check runs on the real server.

# %% tags=["exercise-setup"]
import itertools

import kvlab
from kvlab import FeatureFlags, Flag, FlagWatcher

kv = kvlab.connect(prefix="kvlab:ex08")
kv.clear()
flags = FeatureFlags("exercise", defaults={"new-search": False})


# %% tags=["stub"]
def roll_out(kv, flags, flag, steps, healthy):
    """Raise the flag step by step while it is healthy; off for everybody when it is not."""
    for percent in steps:
        version = kv.run(flags.set(flag, Flag(percent, salt=f"step-{percent}")))
        healthy(percent)  # your turn: listen to the answer
    return version


# %% tags=["solution"]
def roll_out(kv, flags, flag, steps, healthy):
    """Raise the flag step by step while it is healthy; off for everybody when it is not."""
    for percent in steps:
        version = kv.run(flags.set(flag, Flag(percent)))
        if not healthy(percent):
            return kv.run(flags.set(flag, False))
    return version


# %% tags=["check"]
def who():
    snapshot = kv.run(flags.read_all())
    return {user for user in range(2_000) if snapshot.is_enabled("new-search", user)}


seen = [set()]
roll_out(kv, flags, "new-search", (10, 20, 50), lambda percent: seen.append(who()) or True)
assert len(seen) == 4, f"healthy must be asked after each of 3 steps, not {len(seen) - 1} times"
for before, after in itertools.pairwise(seen):
    out = len(before - after)
    assert not out, f"{out} of {len(before)} users were thrown out: a new salt is a new draw"
print("in after each step:", [len(users) for users in seen[1:]], "and nobody was thrown out")

# %% tags=["check"]
with FlagWatcher(kv, flags) as watcher:
    asked = []
    version = roll_out(
        kv, flags, "new-search", (10, 20, 50, 100), lambda p: asked.append(p) or p < 20
    )
    assert asked == [10, 20], f"stop at the first unhealthy step: it was asked at {asked}"
    assert watcher.wait_for(version), "return the version of the last commit"
    still = sum(watcher.snapshot.is_enabled("new-search", user) for user in range(2_000))
    assert still == 0, f"{still} of 2,000 users still have it: turn the flag off"
kv.clear(), kv.close()
print(f"stopped at {asked[-1]} %, off for everybody, and the watcher knows version {version}")
