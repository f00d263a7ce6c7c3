# %% [markdown]
# # Feature flags
#
# *About 40 minutes. Before this chapter: 00.*
#
# A flag turns code on without a deploy: for all users, for no user, or for some of the users. Each
# page asks for ten flags, and there are a thousand pages a second. At the same time an engineer
# changes a flag.
#
# **The guarantee we want:**
#
# - a check costs no round trip, and the check answers also when the server is down;
# - flags that change together are seen together: all of a change or none of it;
# - a user who has the feature keeps the feature while the percentage grows;
# - one flag chooses its users independently of every other flag;
# - a change reaches every process immediately, and a lost message does not leave a process with the
#   old answer.

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
# We turn a flag on and ask whether it is on, with two clients. The first client is redis-py with its
# defaults. The second client decodes replies into text.

# %% tags=["predict"]
from kvlab.workshop import predict

first_answer = predict(
    "08-is-it-on",
    "The flag is on. What does the first client answer?",
    ["True", "False", "an error"],
)

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

# %% tags=["predict"]
with_defaults = NaiveFlags(kv.client, prefix=kv.prefix)
first_answer.measured(str(with_defaults.get_flag("new-checkout")))

# %% [markdown]
# The flag is on, and the first answer is always `False`: redis-py returns bytes, and `b"1" == "1"`
# is false in Python. There is no error and no log line, and the new checkout never appears. From
# here on the naive version gets the client that returns text.
#
# ### Half a change
#
# Two flags belong together: the new checkout writes orders that only the new receipt can print. A
# page reads both flags, and a release turns both flags on. Each needs two commands, so there are
# six orders. One order, with its faults if it has some, is a **schedule**. `client_options` are the
# arguments of each client: here, that it returns text.

# %% tags=["predict"]
mixture = predict(
    "08-mixed",
    "In how many of the six orders does the page see one flag on and one flag off?",
)

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

# %% tags=["predict"]
mixture.measured(mixed.violations)


# %%
def both_or_none_is_stored(world):
    """both flags are stored, or neither"""
    return len(NaiveFlags(world.kv).get_all_flags()) in (0, 2)


killed = explore(
    clients, invariant=both_or_none_is_stored, crashes=True, client_options=TEXT
)
killed

# %% [markdown]
# The mixed state stays: from now on every page sees one flag on and one flag off. No error says
# that a flag is missing.
#
# ## The fix: one commit, one snapshot
#
# - `set_many` is one Lua script. The script adds 1 to the version, writes all the flags, and
#   publishes the version on a channel. This is one step and one round trip.
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
# A misspelt flag raises an error. The answer is not "off".
#
# ### Every order again
#
# The page and the release do the same as before, each with one command. Two faults may happen in
# one schedule: a crash, a lost request, a lost reply, a server that forgets its scripts.
#
# **Play the scheduler** in the two frames below: choose who moves next, and what fails. The first frame can
# be broken, and the second cannot.


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
from IPython.display import display

rows = [
    ("naive", "no fault", "the page", mixed.violations, mixed.schedules),
    ("naive", "one crash", "what is stored", killed.violations, killed.schedules),
    ("hardened", "two of any kind", "both", held.violations, held.schedules),
]
columns = ["variant", "faults", "looked at", "mixed in", "of schedules"]
display(pd.DataFrame(rows, columns=columns).style.hide(axis="index"))
display(mixed.play(title="The naive flags"))
held.play(title="The hardened flags")

# %% [markdown]
# A page may have an old snapshot, but every snapshot has all flags of one version. That is the
# promise. Take **one snapshot per request** and use this snapshot for the whole request: two
# snapshots can have two versions.
#
# ### Your own code
#
# **Do two of your values belong together?** Replace `change` and `read` by your own code, and list
# in `PLANS` what a reader may see. (Try `hset` twice instead of once.)

# %%
PLANS = ([None, None], [b"pro", b"20"])


def change(kv):
    kv.hset("plan", mapping={"name": "pro", "price": 20})


def read(kv):
    return kv.hmget("plan", "name", "price")


explore([read, change], invariant=lambda w: w.results[0] in PLANS, crashes=True)

# %% [markdown]
# One `hset` of two fields is one step, so no schedule shows half of the change.
#
# ## A percentage of the users
#
# `Flag(10)` is on for 10 % of the users. There is no stored list of users. A user gets the feature
# when `hash(salt, user) mod 10,000` is below 1,000. The salt is the flag's name.

# %% tags=["predict"]
share = predict(
    "08-share",
    "The rollout is 10 % of 100,000 users. The hash should be as good as a fair "
    "draw. How far from 10,000 is the count?",
    ["at most 10 users", "11 to 300 users", "more than 300 users"],
)

# %%
from kvlab.chapters.feature_flags import charts as feature_flags_charts
from kvlab.chapters.feature_flags.rollout import users_in
from kvlab.feature_flags import bucket

USERS = range(100_000)
places = [bucket("new-checkout", user) / 10_000 for user in USERS]
inside = users_in("new-checkout", 10, USERS)
feature_flags_charts.evenness(places, 10, len(inside))

# %% tags=["predict"]
off = abs(len(inside) - 10_000)
far = "11 to 300 users" if off <= 300 else "more than 300 users"
share.measured("at most 10 users" if off <= 10 else far)

# %% [markdown]
# Each part of the scale has about the same number of users.
#
# **Sticky and growing.** The bucket of a user does not change. A higher percentage only raises the
# limit for the bucket. So a user who has the feature at a lower percentage also has the feature at
# a higher percentage. The last two columns show a version that many people write first. It draws
# again at each step (`random() < percent`).

# %%
from kvlab.chapters.feature_flags.rollout import independence, rollout_by_steps

PERCENTS = (1, 5, 10, 20, 50, 100)
rollout_by_steps("new-checkout", USERS[:20_000], PERCENTS, seed=8)

# %% [markdown]
# With the hash no user loses the feature while the flag grows. With a new draw many users lose the
# feature.
#
# **Independent.** If two flags chose the same tenth of the users, the same users would be in both
# experiments. Then we could not separate the effects of the two flags. The table has the counts for
# two flags at 10 %, and the counts that independence predicts:

# %%
independence(*PAIR, 10, USERS).style.format(thousands=",", precision=0)

# %% [markdown]
# Compare each count with its bound of chance. Two flags that belong together get the same `salt`,
# and so the same users.
#
# Move the knobs below. Raise `now`: users get the feature, and no user loses it. Lower `now` below
# `was`: the users who got the feature last lose it first. Another salt is a new draw, and many
# users lose the feature.

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
# A snapshot gets old. A `FlagWatcher` subscribes to the channel and waits until the server has
# confirmed the subscription. Only then the watcher reads the flags, so the watcher misses no change
# between the two steps. After each message, and every 30 s (the **resync**), the watcher reads all
# flags again. So after a lost message a watcher is late: it gets the change with the next message
# or the next resync.
#
# The next three cells show three situations. First, a change arrives.

# %%
from kvlab.chapters.feature_flags.outage import WatcherBehindProxy

logging.getLogger("kvlab.flags").setLevel("ERROR")  # the error is printed below
outage = WatcherBehindProxy(url, kv.prefix, flags)
watcher = outage.watcher
version = kv.run(flags.set("new-checkout", Flag(10)))
print(f"version {version} is set; the watcher has it: {watcher.wait_for(version)}")

# %% [markdown]
# Second, the server ends the subscription (`CLIENT KILL`), and the next change happens while the
# watcher has no subscription.

# %% tags=["predict"]
missed = predict(
    "08-missed-message",
    "Nobody sends the message again. Does the watcher have the new version after it "
    "has connected again?",
    ["yes", "no"],
)

# %%
outage.kill_subscription()
version = kv.run(flags.set("new-checkout", Flag(20)))
print(f"killed: {watcher.error}")
print(f"version {version} is set; the snapshot is {watcher.snapshot.version}")
outage.reconnect()
caught_up = watcher.wait_for(version)
print(f"connected again, has version {version}: {caught_up}")
version = kv.run(flags.set("new-receipt", True))
print(f"version {version} turns new-receipt on: {watcher.wait_for(version)}")

# %% tags=["predict"]
missed.measured("yes" if caught_up else "no")

# %% [markdown]
# The message was lost. The watcher read the flags after its new subscription, and so it found the
# change.
#
# Third, the server goes down. `new-receipt` is on, and its declared default is off.

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
# The naive page gets an error. The watcher answers from its last snapshot. A watcher that has never
# reached the server answers with the declared default. `stale_since` says since when a watcher has
# had no connection.
#
# ## What it costs
#
# A page makes one check, and another page makes ten checks. A proxy counts the round trips.

# %% tags=["predict"]
trips_guess = predict(
    "08-trips",
    "How many round trips do ten checks make: naive, and with a watcher?",
    ["10 and 10", "10 and 1", "10 and 0", "1 and 0"],
)

# %%
from kvlab.chapters.feature_flags.round_trips import count_round_trips

trips = count_round_trips(url, kv.prefix, flags, "new-checkout", checks=(1, 10))
trips

# %% tags=["predict"]
trips_guess.measured(" and ".join(map(str, trips.loc["10 checks"])))

# %% [markdown]
# A check in a snapshot makes no round trip.
#
# The next cells measure the time of a check, **with the torn requests of the same run**. A torn
# request saw half of a change. One reader in a closed loop reads both flags of the pair. A writer
# changes both flags every 2 ms, for both variants. The variants take turns: one turn of warm-up,
# and then 9 turns. The ratio compares the two times of a turn. There is no seed, because nothing is
# random. The watcher works in a thread of this process, and its work is part of the hardened time.
# This compares a read in local memory with a read over the network: that is the design, and not
# faster code.


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
from kvlab.instruments.charts.ratios import in_words

print(
    f"a page mixes two flags: naive in {mixed.violations} of {mixed.schedules} "
    f"schedules, hardened, with faults, in {held.violations} of {held.schedules}; "
    f"{in_words(reads.cost, 'a hardened check is {} times as fast')}"
)

# %% [markdown]
# The chart has the torn requests of both readers. A hardened check needs no server.
#
# ## How long a change takes to reach everybody
#
# There are 100 watchers in this process. Each watcher is a thread with its own connection. We
# measure the time from one `set` until each watcher has read the new version. There are two changes
# of warm-up and then 20 changes. A change begins when every watcher has the change before.

# %% tags=["predict"]
to_all = predict(
    "08-reach",
    "The server sends 100 messages and answers 100 reads. How long does a change "
    "take until the last watcher has it?",
    ["microseconds", "milliseconds", "seconds"],
)

# %%
from kvlab.chapters.feature_flags.reach import delays_of_changes

pair = {"watchers": 100, "changes": 20}
delays = delays_of_changes(url, kv, flags, "new-checkout", **pair)
feature_flags_charts.reach(delays)

# %% tags=["predict"]
slowest = pd.Series([max(change) for change in delays]).median()
unit = "milliseconds" if slowest < 1 else "seconds"
to_all.measured(unit if slowest >= 0.001 else "microseconds")

# %% [markdown]
# All the threads share one interpreter and take turns. So a part of this time is the work of the
# threads and not of the server. This chapter does not measure the size of that part.
#
# ## The limits that remain
#
# - **Not the same instant.** Two processes can differ for the time in the chart above. If two
#   processes must never differ, store the value in the data and not in a flag.
# - **A connection can break without a sign.** The watcher notices this at its next resync, when the
#   resync gets no answer in time.
# - **A server that lost its data** starts again at version 1, and the watchers then use the
#   declared defaults. So declare safe defaults.
# - **A `set` whose reply was lost** may have run. You may set the flag again: this adds one
#   version. But the second `set` also replaces a change that another client made in between.
# - **A percentage is the only rule.** There are no lists of users and no countries. And a flag is
#   no place for a secret.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `exercises/08_feature_flags.ipynb` has a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `in_rollout`: which users are in, without a server.
# 2. `roll_out`: a careful rollout with a kill switch.

# %% tags=["exercise-setup"]
import zlib

from kvlab import Flag
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: which users are in
#
# Write `in_rollout(flag, user, percent)`. It answers whether a user is in a rollout. There is no server: the
# answer comes from the three arguments alone.
#
# 1. The same user gets the same answer in each call and in each process.
# 2. About `percent` of the users are in: nobody at 0, everybody at 100. A user who is in stays in when the
#    percent rises.
# 3. Another flag has other users.
#
# If you need help, run `hint("08-short")`: three hints, then a solution.


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
# 1. A user who is in stays in at every later step. With the stub below, users leave: why?
# 2. When `healthy` says no, the flag is turned **off for everybody**, and no further step is taken.
# 3. When `healthy` raises, the flag is off for everybody too, and the caller gets the error.
#
# If you need help, run `hint("08")`: three hints, then a solution.


# %% tags=["stub"]
def roll_out(kv, flags, flag, steps, healthy):
    """Raise the flag step by step while it is healthy; off for everybody when not."""
    for percent in steps:
        version = kv.run(flags.set(flag, Flag(percent, salt=f"step-{percent}")))
        healthy(percent)  # your turn: use the answer
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
