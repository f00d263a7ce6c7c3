# %% [markdown]
# # Feature flags
#
# *About 40 minutes. Before this chapter: 00.*
#
# A flag turns code on without a deploy: for everybody, for nobody, or for some of the users. A page
# asks for ten flags, a thousand pages a second ask, and somebody changes a flag meanwhile.
#
# **The guarantee we want:**
#
# - a check costs no round trip, and answers when the server is gone;
# - flags that change together are seen together: all of a change or none of it;
# - a user who is in stays in while the percentage grows;
# - who is in for one flag says nothing about another flag;
# - a change reaches every process at once, and no lost message keeps an old answer alive.

# %%
import logging

import pandas as pd
import redis

from kvlab.chapters.opening import open_chapter
from kvlab.core.server_url import server_url
from kvlab.instruments import ALL_FAULTS, environment, explore

url = server_url()  # the embedded Valkey, or KVLAB_URL
kv = open_chapter("ch08", url)
pd.Series(environment(kv), name="the numbers below were measured on").to_frame()

# %% [markdown]
# ## The simple version: a hash of "1" and "0"
#
# **Predict.** We turn a flag on and ask whether it is on. What is the answer? The first client is
# redis-py as it comes, the second decodes replies into text.

# %%
import inspect

from kvlab import NaiveFlags

print(inspect.getsource(NaiveFlags.set_flag), inspect.getsource(NaiveFlags.get_flag))
text_client = redis.Redis.from_url(url, decode_responses=True)
for client in (kv.client, text_client):
    naive = NaiveFlags(client, prefix=kv.prefix)
    naive.set_flag("new-checkout", True)
    stored = client.hget(naive.key, "new-checkout")
    print(f"stored {stored!r:5} get_flag: {naive.get_flag('new-checkout')}")

# %% [markdown]
# The flag is on, and the first answer is `False`, always: redis-py answers bytes, and `b"1" == "1"` is
# false in Python. No error and no log line: the new checkout never appears. From here on the naive
# version gets a client that answers text.
#
# ### Half a change
#
# Two flags belong together: the new checkout writes orders that only the new receipt can print. A
# page reads both flags, and a release turns both on. Two commands each, so there are six orders.
#
# **Predict.** In how many of the six orders does the page see one flag on and one off? And when the
# release may be killed after its first command: when does the mixed page end?

# %%
PAIR = ("new-checkout", "new-receipt")


def naive_page(client):
    return [NaiveFlags(client).get_flag(flag) for flag in PAIR]


def naive_release(client):
    """the release turns both flags on"""
    for flag in PAIR:
        NaiveFlags(client).set_flag(flag, True)


# %%
WHOLE = ([False, False], [True, True])


def page_sees_one_release(world):
    """the page sees both flags of the release, or neither"""
    return world.results[0] in WHOLE


TEXT = {"decode_responses": True}
clients = {"page": naive_page, "release": naive_release}
mixed = explore(clients, invariant=page_sees_one_release, client_options=TEXT)
mixed


# %%
def both_or_none_is_stored(world):
    """both flags are stored, or neither"""
    return len(NaiveFlags(world.kv).get_all_flags()) in (0, 2)


killed = explore(
    clients, invariant=both_or_none_is_stored, crashes=True, client_options=TEXT
)
killed

# %% [markdown]
# The mixed page does not end: every page from now on is mixed, and nothing says that a flag is missing.
#
# ## The fix: one commit, one snapshot
#
# - `set_many` is one Lua script. The script counts the version up, writes all the flags, and publishes
#   the version on a channel. One step, one round trip.
# - `read_all` is one `HGETALL`. Its reply is a `FlagSnapshot`: all flags as of one version. A check
#   looks into the snapshot and asks no server.
# - Values are JSON, read as bytes: `true`, `false`, or a percentage.
# - Defaults are declared in the code. A flag that is neither stored nor declared raises `UnknownFlag`.

# %%
from kvlab import FeatureFlags, Flag, FlagWatcher
from kvlab.errors import UnknownFlag

flags = FeatureFlags("shop", defaults={"new-checkout": False, "new-receipt": False})
print(flags.set_many({"new-checkout": True, "new-receipt": True}))
print(flags.read_all())
try:
    kv.run(flags.read_all()).is_enabled("new-chekout")
except UnknownFlag as error:
    print(error)

# %% [markdown]
# The misspelt flag is an error, not "off".
#
# ### Every order again
#
# The same page and the same release, now of one command each. And two faults may happen in one run:
# a crash, a request or a reply that is lost, a server that forgets its scripts.


# %%
def page(kv):
    snapshot = kv.run(flags.read_all())
    return [snapshot.is_enabled(flag) for flag in PAIR]


def release(kv):
    kv.run(flags.set_many(dict.fromkeys(PAIR, True)))


clients = {"page": page, "release": release}


# %%
def pages_are_whole(world):
    """the page and a later page see both flags of the release, or neither"""
    pages = [world.results[0], page(world.kv)]
    return all(seen in WHOLE or isinstance(seen, BaseException) for seen in pages)


held = explore(
    clients, invariant=pages_are_whole, faults=ALL_FAULTS, max_faults=2, progress=False
)

# %%
rows = [
    ("naive", "none", "the page", mixed.violations, mixed.schedules),
    ("naive", "a crash", "what is stored", killed.violations, killed.schedules),
    ("hardened", "two of any kind", "both", held.violations, held.schedules),
]
columns = ["variant", "faults in a run", "looked at", "mixed in", "of schedules"]
pd.DataFrame(rows, columns=columns).style.hide(axis="index")

# %% [markdown]
# A page that has its snapshot may be one version behind: whole, and old. That is the promise. Take
# **one snapshot per request** and keep it: two snapshots in a request are two versions.
#
# **Do two values of yours belong together?** Replace `change` and `read` by your own code, and say in
# `PLANS` what may be seen. (Try `hset` twice instead of once.)

# %%
PLANS = ([None, None], [b"pro", b"20"])


def change(kv):
    kv.hset("plan", mapping={"name": "pro", "price": 20})


def read(kv):
    return kv.hmget("plan", "name", "price")


explore([read, change], invariant=lambda w: w.results[0] in PLANS, crashes=True)

# %% [markdown]
# One `hset` of two fields is one step, so no schedule tears it.
#
# ## Who is in: a percentage
#
# `Flag(10)` is on for 10 % of the users. No list is stored: a user is in when
# `hash(salt, user) mod 10,000` is below 1,000. The salt is the flag's name.
#
# **Predict.** 100,000 users, a rollout of 10 %. How far from 10,000 may the count be, if the hash
# is as good as a fair draw?

# %%
from kvlab.chapters.feature_flags import charts as feature_flags_charts
from kvlab.chapters.feature_flags.rollout import users_in
from kvlab.feature_flags import bucket

USERS = range(100_000)
places = [bucket("new-checkout", user) / 10_000 for user in USERS]
inside = users_in("new-checkout", 10, USERS)
feature_flags_charts.evenness(places, 10, len(inside))

# %% [markdown]
# Every part of the scale holds about as many users as every other part.
#
# **Sticky and growing.** The bucket of a user does not change. Only the line moves, below which a user
# is in. So a user who was in at a lower percentage is in at a higher one. The last two columns are the
# version that many write first: draw again at each step (`random() < percent`).

# %%
from kvlab.chapters.feature_flags.rollout import independence, rollout_by_steps

PERCENTS = (1, 5, 10, 20, 50, 100)
rollout_by_steps("new-checkout", USERS[:20_000], PERCENTS, seed=8)

# %% [markdown]
# Nobody is thrown out by a flag that grows. The rollout that draws again throws users out at nearly
# every step.
#
# **Independent.** If two flags chose the same tenth of the users, this tenth would meet every
# experiment, and no effect could be told from another. Two flags at 10 %, beside what independence
# expects:

# %%
independence(*PAIR, 10, USERS).style.format(thousands=",", precision=0)

# %% [markdown]
# All four counts are within the bound of chance. Two flags that belong together get the same `salt`,
# and then the same users.
#
# Move the knobs below. Raise `now`: users join, nobody leaves. Lower `now` below `was`: those who joined
# last leave first. Another salt is a new draw, and many are thrown out.

# %%
from ipywidgets import interact


def step(was=10, now=20, new_salt=False):
    salt = "another" if new_salt else None
    before = [Flag(was).includes("new-checkout", user) for user in range(400)]
    after = [Flag(now, salt).includes("new-checkout", user) for user in range(400)]
    return feature_flags_charts.who_is_in(before, after, f"{was} % to {now} %")


_ = interact(step, was=(0, 100), now=(0, 100))
step()

# %% [markdown]
# ## Informed of each change: the watcher
#
# A snapshot gets old. A `FlagWatcher` subscribes to the channel, waits until the server has confirmed
# the subscription, and only then reads, so no change falls between. Each message makes the watcher
# read everything again: a lost message costs time, never truth.
#
# Now things break, in three steps. First, a change arrives.

# %%
from kvlab.chapters.feature_flags.outage import WatcherBehindProxy

logging.getLogger("kvlab.flags").setLevel("ERROR")  # the error is printed below
outage = WatcherBehindProxy(url, kv.prefix, flags)
watcher = outage.watcher
version = kv.run(flags.set("new-checkout", Flag(10)))
print(f"version {version} is set; the watcher has it: {watcher.wait_for(version)}")

# %% [markdown]
# Second, the server ends the subscription (`CLIENT KILL`), and the next change is made while nobody
# listens. **Predict** which version the watcher has when it is connected again.

# %%
outage.kill_subscription()
version = kv.run(flags.set("new-checkout", Flag(20)))
print(f"killed: {watcher.error}")
print(f"version {version} is set; the snapshot is {watcher.snapshot.version}")
outage.reconnect()
print(f"connected again, has version {version}: {watcher.wait_for(version)}")
version = kv.run(flags.set("new-receipt", True))
print(f"version {version} turns new-receipt on: {watcher.wait_for(version)}")

# %% [markdown]
# The message was lost, and the reading after the new subscription found the change.
#
# Third, the server is gone. `new-receipt` was turned on before, and its declared default is off.

# %%
outage.lose_server()
with outage, FlagWatcher(outage.kv, flags) as new_watcher:
    try:
        NaiveFlags(outage.kv.client, prefix=kv.prefix).get_flag("new-receipt")
    except redis.ConnectionError as error:
        print("naive:", type(error).__name__)
    for name, one in (("watcher", watcher), ("watcher started now", new_watcher)):
        snapshot = one.snapshot
        print(
            f"{name}: {snapshot.is_enabled('new-receipt')}, version {snapshot.version}"
        )

# %% [markdown]
# The page that asked the server has an error to handle. The watcher answers by what it last knew. A
# process that has never reached the server answers by the declared default. `stale_since` says how
# long a watcher has been out of touch.
#
# ## What it costs
#
# **Predict.** How many round trips does a page make for one check, and for ten checks? A proxy counts.

# %%
from kvlab.chapters.feature_flags.round_trips import count_round_trips

count_round_trips(url, kv.prefix, flags, "new-checkout", checks=(1, 10))

# %% [markdown]
# A check in a snapshot makes no round trip.
#
# And the time of a check, **with the torn requests of the same run**. One reader, closed loop, reads
# both flags of the pair. A writer turns both flags every 2 ms, for both variants. The variants take
# turns: 9 turns after one of warm-up, and the ratio is taken within a turn. A torn request saw half a
# change. No seed, since nothing is drawn. The watcher's own work, in a thread of this process, is part
# of the hardened time.


# %%
def read_snapshot():
    snapshot = watcher.snapshot  # one snapshot per request
    return [snapshot.is_enabled(flag) for flag in PAIR]


def turn_both(on):
    naive.set_flag(PAIR[0], on)
    naive.set_flag(PAIR[1], on)
    kv.run(flags.set_many(dict.fromkeys(PAIR, on)))


# %%
from kvlab.chapters.feature_flags.torn_reads import torn_reads


def read_one_by_one():
    return [naive.get_flag(flag) for flag in PAIR]


turn_both(False)
readers = {"naive": read_one_by_one, "hardened": read_snapshot}
with FlagWatcher(kv, flags) as watcher:
    reads = torn_reads(readers, turn_both, requests={"naive": 150, "hardened": 20_000})
feature_flags_charts.time_of_a_check(reads)

# %% tags=["finding"]
print(
    f"orders that mix two flags: naive {mixed.violations} of {mixed.schedules}, "
    f"hardened {held.violations} of {held.schedules} with faults; a check "
    f"{reads.cost.ratio:,.0f}x cheaper"
)

# %% [markdown]
# The hardened reader never saw half a change, and its check needs no server.
#
# ## How long a change takes to reach everybody
#
# 100 watchers, each a thread with a connection of its own, all in this process. One `set`, and the time
# until each watcher has read the new version. Two changes of warm-up, then 20 changes; each begins when
# the one before has arrived everywhere.
#
# **Predict.** The server sends 100 messages and answers 100 readings. A microsecond, a
# millisecond, a second?

# %%
from kvlab.chapters.feature_flags.reach import delays_of_changes

pair = {"watchers": 100, "changes": 20}
delays = delays_of_changes(url, kv, flags, "new-checkout", **pair)
feature_flags_charts.reach(delays)

# %% [markdown]
# Here all the threads share one interpreter and take turns, so a part of this time is theirs and not
# the server's. This chapter does not measure how much.
#
# ## The limits that remain
#
# - **Not the same instant.** Two processes can differ for the time in the chart above. What must not
#   mix between processes belongs in the data, not in a flag.
# - **A silent network loss** is noticed only at the next resync (30 s unless you say otherwise) and
#   its timeout.
# - **A server that lost its data** starts again at version 1, and watchers follow it to the
#   declared defaults. Declare what is safe.
# - **A `set` whose reply was lost** may have run. Setting the flag again costs a version, unless somebody
#   else has set the flag in between.
# - **Percent is the only rule.** No lists, no countries; and flags are not secrets.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Open `exercises/08_feature_flags.ipynb`: a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `in_rollout`: who is in, without a server.
# 2. `roll_out`: a careful rollout with a kill switch.

# %% tags=["exercise-setup"]
import zlib

from kvlab import Flag
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: who is in
#
# Write `in_rollout(flag, user, percent)`. It answers whether a user is in a rollout. There is no server: the
# answer comes from the three arguments alone.
#
# 1. The same user gets the same answer in each call and in each process.
# 2. About `percent` of the users are in: nobody at 0, everybody at 100. Who is in stays in when the percent
#    rises.
# 3. Another flag draws other users.
#
# Stuck? Run `hint("08-short")`: three hints, then a solution.


# %% tags=["stub"]
def in_rollout(flag, user, percent):
    return hash(user) % 100 < percent  # in another process too?


# %% tags=["solution"]
def in_rollout(flag, user, percent):
    return zlib.crc32(f"{flag}:{user}".encode()) % 10_000 < percent * 100


# %% tags=["check"]
check("08-short", in_rollout)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: a careful rollout, with a kill switch
#
# Write `roll_out(kv, flags, flag, steps, healthy)`. It raises the flag from step to step (percent:
# 10, 20, 50 …) with `kv.run(flags.set(flag, Flag(percent)))`. After each step it calls `healthy(percent)`. It
# returns the version of its last commit.
#
# 1. No later step throws a user out who is in. The stub below throws users out: why?
# 2. When `healthy` says no, the flag is turned **off for everybody**, and no further step is taken.
# 3. When `healthy` raises, the flag is off for everybody too, and the caller gets the error.
#
# Stuck? Run `hint("08")`: three hints, then a solution.


# %% tags=["stub"]
def roll_out(kv, flags, flag, steps, healthy):
    """Raise the flag step by step while it is healthy; off for everybody when not."""
    for percent in steps:
        version = kv.run(flags.set(flag, Flag(percent, salt=f"step-{percent}")))
        healthy(percent)  # your turn: listen to the answer
    return version


# %% tags=["solution"]
def is_healthy(kv, flags, flag, healthy, percent):
    try:
        return healthy(percent)
    except Exception:
        kv.run(flags.set(flag, False))
        raise


# %% tags=["solution"]
def roll_out(kv, flags, flag, steps, healthy):
    """Raise the flag step by step while it is healthy; off for everybody when not."""
    for percent in steps:
        version = kv.run(flags.set(flag, Flag(percent)))
        if not is_healthy(kv, flags, flag, healthy, percent):
            return kv.run(flags.set(flag, False))
    return version


# %% tags=["check"]
check("08", roll_out)
