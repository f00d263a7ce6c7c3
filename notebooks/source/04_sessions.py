# %% [markdown]
# # Sessions
#
# Who is this browser? HTTP forgets after each request, so the server gives the browser an id, in a
# cookie, and keeps what belongs to it under that id.
#
# **The guarantee** we want:
#
# 1. An id is accepted only if the server made it. Nothing that the server stores is an id.
# 2. A session ends after `idle` seconds without use, and after `absolute` seconds however much it is used.
# 3. A session that has ended stays ended. Two writers of different fields both keep their field.
# 4. A login gives a new id. The old one is dead at once.
#
# What each request pays for it: one round trip.

# %%
import pandas as pd

import kvlab
from kvlab import Kv, NaiveSessions, Op, SessionCookie, SessionStore
from kvlab.instruments import charts, environment, explore, gated

kv = kvlab.connect(prefix="kvlab:ch04")
kv.clear()
url = kvlab.core.connections.resolve()
store = SessionStore()
pd.Series(environment(kv), name="where the numbers below were measured").to_frame()

# %% [markdown]
# ## The simple version
#
# `NaiveSessions` is what many tutorials show: a JSON text under a random id, its time to live (TTL) a week,
# renewed at each read. The next cell prints the commands that it sends, each a round trip.
#
# **Predict**, before you run the cell after it: somebody steals the cookie, and a script opens the page
# with it once a week, a minute before the TTL runs out. After how many weeks is the thief out?

# %%
import functools

naive_on = functools.partial(NaiveSessions, prefix=kv.prefix)
with gated(url, before="nothing") as spy:  # a client that lists what it sends
    sid = naive_on(spy).create(user=7)
    for step in ("read", "update", "destroy"):
        getattr(naive_on(spy), step)(sid)
        print(f"{step:8} {' -> '.join(spy.gate.commands[1:])}")
        del spy.gate.commands[1:]

# %%
naive = naive_on(kv.client)
sid, weeks = naive.create(user=7), 52
for _ in range(weeks):
    kv.client.expire(
        f"{kv.prefix}session:{sid}", 60
    )  # as if all but a minute of the week had passed
    still = naive.read(sid)
days = kv.client.ttl(f"{kv.prefix}session:{sid}") / 86400
print(f"after {weeks} weeks: user {still['userId']} is in, and has {days:.0f} days left")
print(
    f"lastActivity - createdAt: {still['lastActivity'] - still['createdAt']} ms (it is never written)"
)

# %% [markdown]
# ## A session that never ends
#
# The TTL counts from the last read, and each read starts it again. Nothing remembers the first one.
#
# **The fix** is a second timeout that no use prolongs. `SessionStore` writes both ends into the
# session: `expires` slides with each read, `deadline` does not, and `expires` never passes it. One Lua script
# looks at the server's clock, decides, and slides. Here with short times, read all the time:

# %%
import time

brief = SessionStore("brief", idle=0.3, absolute=0.8)
session = kv.run(brief.create(user=7))
reads = 0
while found := kv.run(brief.read(session.id)):
    reads, last = reads + 1, found
    time.sleep(0.02)
print(f"read {reads} times; the longest pause allowed is {brief.idle} s")
print(
    f"last seen alive {last.last_seen - last.created:.2f} s after it began, absolute is {brief.absolute} s"
)

# %% [markdown]
# ## Log out, and be logged in again
#
# A request takes long: it reads the session, works, and writes the session back. Meanwhile the
# user clicks "log out".
#
# **Predict.** The logout says done. Is the user out when the slow request has finished?
#
# We do not hope for bad luck. `explore` runs the two requests again and again on a private server, in every
# order of their commands, and draws the shortest run after which the user is still in.


# %%
def race(make, must, *names, **faults):
    """Every order of two requests at one session, new in each run. ``make``: the store on a client."""
    sids = []

    def as_it_must(world):
        found = make(world.kv).read(sids[-1])
        assert must(found), f"a read gives {found}"
        return True

    clients = {name: lambda kv, name=name: REQUESTS[name](make(kv), sids[-1]) for name in names}
    begin = lambda kv: sids.append(make(kv).create(user=7))  # noqa: E731
    return explore(clients, setup=begin, invariant=as_it_must, progress=False, **faults)


# %%
REQUESTS = {
    "slow write": lambda shop, sid: shop.update(sid, a=1),
    "write": lambda shop, sid: shop.update(sid, b=2),
    "log out": lambda shop, sid: shop.destroy(sid),
}
race(NaiveSessions, lambda found: found is None, "slow write", "log out")

# %% [markdown]
# The write made a session out of nothing: `SETEX` does not ask whether one is there.
#
# **The fix**: send the change, not the session. `update` is one script. It looks for the
# session, stops if there is none, merges the fields, writes. Nobody gets between its steps.
#
# The class below puts the hardened store behind the naive one's calls, so that the *same* requests run on it,
# and now with one fault at each point: a lost reply, a lost request, a server that has forgotten its scripts.
#
# **Predict.** A second race beside it: two requests write the fields `a` and `b`. Are both there at the end?


# %%
class Hardened:
    def __init__(self, client):
        on = client if hasattr(client, "run") else Kv(client, prefix=kv.prefix)
        run = kv.run if client is kv.client else on.run
        self.create = lambda user: run(store.create(user)).id
        self.read = lambda sid: (found := run(store.read(sid))) and found.data
        self.update = lambda sid, **fields: (left := run(store.update(sid, **fields))) and left.data
        self.destroy = lambda sid: run(store.destroy(sid))


print(store.update(Hardened(kv.client).create(user=7), a=1))

# %% tags=["finding"]
LOSSES = {"lost_replies": True, "lost_requests": True, "script_flushes": True}
table = {}
for name, make in (("naive", NaiveSessions), ("hardened", Hardened)):
    out = race(make, lambda found: found is None, "slow write", "log out", **LOSSES)
    both = race(make, lambda found: found.keys() >= {"a", "b"}, "slow write", "write", **LOSSES)
    table[name] = [(story.violations, story.schedules) for story in (out, both)]
(naive_in, naive_runs), (hardened_in, hardened_runs) = (counts[0] for counts in table.values())
print(f"Log-out beside a slow write, each order and loss: naive in again in {naive_in} of {naive_runs}, hardened in {hardened_in} of {hardened_runs}")  # fmt: skip
told = {name: ["{} of {}".format(*story) for story in counts] for name, counts in table.items()}
pd.DataFrame(told, index=["logged out, and in again", "a field lost when two write"])

# %% [markdown]
# ## Your own session code
#
# **Put your code in place of the two functions.** They get a redis-py client; the session `s` is there when they begin.
# These ask first whether the session is still there, and write only their own field. Is it enough?


# %%
# YOUR CODE instead of these two functions
def add_to_cart(kv, sid):
    return kv.exists(sid) and kv.hset(sid, "tea", 1)


def leave(kv, sid):
    return kv.delete(sid)


yours = {work.__name__: lambda kv, work=work: work(kv, "s") for work in (add_to_cart, leave)}
begin, gone = lambda kv: kv.hset("s", "user", 7), lambda world: not world.kv.exists("s")
explore(yours, setup=begin, invariant=gone, crashes=True)

# %% [markdown]
# ## An id from before the login
#
# **Predict.** A shop gives everybody an anonymous session, for the cart. An attacker takes one and plants its
# id in your browser (a link, a subdomain). You log in, and the site writes your user id into the
# session you came with. Who else is logged in now?
#
# This is *session fixation*. The fix is a rule: **a login ends the session you came with and starts
# another.** Both steps travel together, as one transaction. Somebody who looks, at whatever moment, finds
# exactly one of the two alive.

# %%
planted = naive.create(user=None)
naive.update(planted, userId=7)  # the victim logs in
print("naive: who comes with the planted id is user", naive.read(planted)["userId"])
ids, anonymous = {}, store.create(user=None)
clients = {
    "login": lambda kv: kv.run(store.destroy(ids["old"]), store.create(7), atomic=True),
    "look": lambda kv: kv.run(store.read(ids["old"]), store.list(7), atomic=True),
}
one_alive = lambda world: (world.results[1][0] is None) == (len(world.results[1][1]) == 1)  # noqa: E731
begin = lambda kv: ids.update(old=kv.run(anonymous).id)  # noqa: E731
print("hardened:", explore(clients, setup=begin, invariant=one_alive, **LOSSES))

# %% [markdown]
# ## A copy of the database
#
# A backup lies in the wrong bucket; somebody runs `MONITOR`. What do they see? Below, one session of each kind.
# The naive key *is* the cookie. The hardened store keeps a SHA-256 of the id: `m:…` the times and the
# user, `d:…` the data. The id has 256 random bits, so its hash cannot be turned back by guessing.
#
# Then we try every piece of the dump as a cookie, alone and behind the user's tag (the id's part before the dot).


# %%
def texts(key):
    """The key's name, and every text in it."""
    if kv.client.type(key) == b"string":
        return [key.decode(), kv.client.get(key).decode()]
    fields = kv.client.hgetall(key)
    return [part.decode() for part in (key, *sum(fields.items(), ()))]


kv.clear()
naive_sid, session = naive.create(user=7), kv.run(store.create(user=7, data={"theme": "dark"}))
dump = [text for key in kv.client.scan_iter(kv.prefix + "*") for text in texts(key)]
print(*("|  " + " ".join(text.split()) for text in dump), sep="\n")

# %%
import re

pieces = {piece for text in dump for piece in re.split(r"[^A-Za-z0-9_.-]+", text) if piece}
tag = session.id.split(".")[0]
guesses = (
    pieces | {f"{tag}.{piece}" for piece in pieces} | {f"{tag}.{piece[:43]}" for piece in pieces}
)
in_naive = sum(naive.read(guess) is not None for guess in guesses)
in_hardened = sum(found is not None for found in kv.run([store.read(guess) for guess in guesses]))
own = kv.run(store.read(session.id)) is not None
print(f"{len(guesses)} cookies made of the dump; let in: naive {in_naive}, hardened {in_hardened}")
print(f"control, the browser's own cookie: {'let in' if own else 'refused'}")

# %% [markdown]
# ## Ids that no server made
#
# Cut off, a NUL byte inside, too long, the right user with a guessed secret, another user's tag, the hash of a
# good id. Beside the zero a control: the good ids must be let in.

# %%
from secrets import randbelow, token_urlsafe

good, forged = [kv.run(store.create(user)).id for user in range(10)], []
for sid in good * 50:
    (tag, secret), at = sid.split("."), randbelow(65)
    forged += [sid[:at], sid[:at] + "\0" + sid[at:], sid + token_urlsafe(200)]
    forged += [f"{tag}.{token_urlsafe(32)}", f"{token_urlsafe(16)}.{secret}"]
    forged += [kvlab.sessions.values.handle_of(sid)]
let_in = sum(found is not None for found in kv.run([store.read(sid) for sid in forged]))
control = sum(found is not None for found in kv.run([store.read(sid) for sid in good]))
print(f"{len(forged):,} forged ids: {let_in} let in. {len(good)} good ones: {control} let in.")
print("ten million letters send:", store.read("x" * 10_000_000))

# %% [markdown]
# ## Change the id, see all devices, log out everywhere
#
# `rotate` gives the same session a new id, for a change of rights (a new password, admin mode).
# `list` shows a user's sessions by *handle*, which names a session and lets nobody in.
# They are all in one hash, so "log out everywhere" is one command and misses none.
#
# **The cookie**, in the second cell. `__Host-` and `Secure`: TLS only, this host only, so no subdomain plants one. `HttpOnly`: no
# script reads it. `SameSite=Lax`: other sites' forms do not carry it. `Max-Age`: what the session has left.

# %%
phone, laptop, tablet = kv.run(
    [store.create("ann", {"device": d}) for d in ("phone", "laptop", "tablet")]
)
rotated = kv.run(store.rotate(laptop.id))
print("laptop by its old id:", kv.run(store.read(laptop.id)))
print("laptop by its new id:", kv.run(store.read(rotated.id)).data)
for listed in kv.run(store.list("ann")):
    print("  session", listed.handle[:12], "…")
print("one ended from the list:", kv.run(store.destroy_listed("ann", phone.handle)))
print("log out everywhere, sessions ended:", kv.run(store.destroy_all("ann")))

# %%
cookie = SessionCookie()
header = cookie.header(kv.run(store.create("ann")))
print("Set-Cookie:", re.sub(r"=[\w-]{22}\.[\w-]{43}", "=<tag>.<secret>", header))
print("Set-Cookie:", cookie.expired(), "  (after a log out)")
print("two values of the name in one request:", cookie.parse("__Host-session=a; __Host-session=b"))

# %% [markdown]
# ## Who is still in?
#
# Many users, the same habits for both stores: pages at random moments (Poisson, seeded, open loop). The idle timeout is
# 1 s and the absolute one 3 s; read "10 minutes" and "half an hour". A session ends at its first
# pause longer than `idle`. The formula (dashes) says how many are left; the points are counted on the server.

# %%
from kvlab.chapters.sessions_lifetimes import Users, lifetimes, still_in, watch

timed, habit = SessionStore("timed", idle=1, absolute=3), {"mean_gap": 0.4, "idle": 1}
old, crowd = NaiveSessions(kv.client, ttl=1, prefix=kv.prefix), range(80)
sids = [old.create(user) for user in crowd]
new = [found.id for found in kv.run([timed.create(user) for user in crowd])]
stay = [Op("EXISTS", kvlab.Key(f"session:{sid}")) for sid in sids]
alive = watch({
    "naive": Users(lambda u: old.read(sids[u]) is not None, lambda: sum(kv.run(stay))),
    "hardened": Users(lambda u: kv.run(timed.read(new[u])) is not None,
                      lambda: sum(map(len, kv.run([timed.list(u) for u in crowd])))),
}, users=len(crowd), mean_gap=habit["mean_gap"], seconds=4.4, every=0.25, seed=4)  # fmt: skip

# %%
import numpy as np

ages = np.linspace(0, 4.4, 800)
curves = {
    "naive": (ages, still_in(ages, **habit)),
    "hardened": (ages, still_in(ages, **habit, absolute=3)),
}
end = alive.groupby("store")["alive"].last()
lifetimes(curves, measured=alive, unit="s",
          title=f"At {ages[-1]} s, after the absolute timeout: naive {end['naive']:.0%} in, hardened {end['hardened']:.0%}",
          remark=f"{len(crowd)} users, a page every {habit['mean_gap']} s on average; points counted, dashes formula; "
          f"latest page {alive.attrs['late'] * 1e3:.0f} ms late")  # fmt: skip

# %% [markdown]
# ## Turn the knobs
#
# How long is a user logged in, by your two timeouts? Find times with which somebody who opens a
# page every ten minutes keeps the cart over lunch, and a forgotten browser in a library is out soon.

# %%
from ipywidgets import interact


def logged_in(idle=30, absolute=480, gap=10):
    """All in minutes; gap: the mean pause between two pages."""
    ages = np.linspace(0, 720, 1441)
    share = still_in(ages, mean_gap=gap, idle=idle, absolute=absolute)
    left = f"A page every {gap} min: in for {np.trapezoid(share, ages):.0f} min on average; left alone: {min(idle, absolute)} min"
    return lifetimes({f"{gap} min": (ages, share)}, title=left, unit="min")


logged_in()

# %%
_ = interact(logged_in, idle=(5, 120, 5), absolute=(30, 720, 30), gap=(1, 60, 1))

# %% [markdown]
# ## What it costs
#
# - **Round trips**, counted on the wire.
# - **Memory**: the hardened session keeps a hash, its times, and the data. `MEMORY USAGE` of a user's only
#   session, by size of the data.
# - **Latency**: four clients in a closed loop, four users, a seeded mix. Most requests read, some write, and at times a user
#   logs out and in again. At the end we try every id that was logged out (warm-up included). One that works is a **violation**.
#   The chart shows the reads of that run. The ratio in its title is measured apart: one client, both stores in turns.

# %%
rows = []
for name, make in {"naive": naive_on, "hardened": Hardened}.items():
    with gated(url, before="nothing") as spy:
        shop = make(spy)
        sid = shop.create(user=7)
        for op in ("create", "read", "update", "destroy"):
            sent = len(spy.gate.commands)
            getattr(shop, op)(7 if op == "create" else sid)
            rows.append((op, name, len(spy.gate.commands) - sent))
charts.round_trips(pd.DataFrame(rows, columns=["op", "variant", "round_trips"]))

# %%
rows = []
for size in (0, 250, 500, 1_000, 2_000):
    for name, shop in {"naive": naive, "hardened": Hardened(kv.client)}.items():
        kv.clear()
        shop.update(shop.create(user=7), cart="x" * size)
        (key,) = kv.client.scan_iter(kv.prefix + "*")
        rows.append((f"{size:,}", name, kv.client.memory_usage(key, samples=0)))
memory = pd.DataFrame(rows, columns=["size", "variant", "bytes"])
more = memory["bytes"].diff()[1::2].astype(int)
charts.bars(memory, x="size", y="bytes", by="variant", form="{:,.0f}", xlabel="data (bytes)", ylabel="memory of a session (bytes)",
           title=f"A session takes {more.min()} to {more.max()} bytes more hardened than naive")  # fmt: skip

# %%
from kvlab.chapters.sessions_lifetimes import logins
from kvlab.instruments import ClosedLoop, Uniform, experiment

shops, results, ended = {"naive": naive, "hardened": Hardened(kv.client)}, {}, {}
for name, shop in shops.items():
    request, ended[name] = logins(shop, users=4, seed=4)
    results[name] = experiment(
        request, Uniform(4), seed=4, arrivals=ClosedLoop(4), count=2_500, warmup=200, progress=False,
        check=lambda shop=shop, ids=ended[name]: sum(shop.read(sid) is not None for sid in ids),
    )  # fmt: skip

# %%
from dataclasses import replace
from timeit import repeat

from kvlab.instruments import compare

mine = {name: shop.create(user=7) for name, shop in shops.items()}
median = lambda name: np.median(repeat(lambda: shops[name].read(mine[name]), number=1, repeat=60))  # noqa: E731
print("hardened / naive read, one client:", alone := compare(lambda: median("hardened"), lambda: median("naive"), turns=15))  # fmt: skip
reads = {name: replace(r, outcomes={"read": r.outcomes["read"]}) for name, r in results.items()}
undone = " and ".join(f"{r.violations} of {len(ended[n])} ({n})" for n, r in results.items())
charts.latency_percentiles(reads, title=f"A read takes {alone.ratio:.2f} ({alone.low:.2f} to {alone.high:.2f}) × as long hardened as naive; log-outs undone: {undone}")  # fmt: skip

# %% [markdown]
# ## The limits that remain
#
# - **Who steals the cookie is in**, until the absolute timeout or a log out everywhere.
# - Data and user ids lie in the server legibly, as the dump showed. And the tag is a hash of the user id: with a
#   dump one can test guesses of user ids, unless the store has a `pepper`.
# - `SameSite=Lax` lets other sites' links through: a GET must change nothing.
# - A failover can lose the last writes, a log out among them. If somebody sets the server's clock, durations are wrong.
# - The data of a session that timed out leaves memory at that user's next `create` or `list`, or when the user's last session ends.
# - Server down: `read` says None, so everybody is out. That is a choice: the safe one.

# %%
print(f"{kv.clear()} keys removed")
kv.close()

# %% [markdown] tags=["exercise"]
# ## Exercise: two moments that decide
#
# Write what a web app does at a login and at a change of password.
#
# 1. `login(kv, store, cookie_id, user)`: the browser comes with `cookie_id` (an anonymous session, or rubbish, or None).
#    Returns the new session. The old id must be dead, and the two never both alive: **one** round trip. The cart (the data) of the old session is not kept here.
# 2. `change_password(kv, store, session)`: every other device is out, this browser stays in, under a **new** id,
#    with its data. Returns the new session. One round trip as well.
#
# Hint: `kv.run(a, b, atomic=True)`.

# %% tags=["exercise-setup"]
import kvlab
from kvlab import SessionStore

kv = kvlab.connect(prefix="kvlab:ex04")
kv.clear()
store = SessionStore("exercise", idle=600, absolute=3600)


# %% tags=["stub"]
def login(kv, store, cookie_id, user):
    kv.run(store.update(cookie_id, user=user))  # what the naive site does
    return kv.run(store.read(cookie_id))


def change_password(kv, store, session):
    return session


# %% tags=["solution"]
def login(kv, store, cookie_id, user):
    _, session = kv.run(store.destroy(cookie_id), store.create(user), atomic=True)
    return session


def change_password(kv, store, session):
    again = store.create(session.user, session.data)
    _, session = kv.run(store.destroy_all(session.user), again, atomic=True)
    return session


# %% tags=["check"]
planted = kv.run(store.create(None)).id
before = kv.round_trips
session = login(kv, store, planted, "ann")
trips = kv.round_trips - before
assert session, "login must return the new session"
assert session.user == "ann", "login must return a session of the user: store.create(user)"
assert kv.run(store.read(planted)) is None, "the id from before the login still works"
assert kv.run(store.read(session.id)) is not None, "the new session does not work"
assert trips == 1, f"login took {trips} round trips; kv.run(a, b, atomic=True) is one"
assert login(kv, store, "rubbish", "bob").user == "bob", "an unknown id must not stop a login"
print("login: the planted id is worth nothing, in one round trip")

# %% tags=["check"]
mine = kv.run(store.update(session.id, cart=["tea"]))
others = [login(kv, store, None, "ann").id for _ in range(3)]
before = kv.round_trips
renewed = change_password(kv, store, mine)
trips = kv.round_trips - before
assert renewed.id != mine.id, "this browser must get a new id"
assert kv.run(store.read(mine.id)) is None, "the id from before still works"
now = kv.run(store.read(renewed.id))
assert now, "this browser must stay in"
assert now.data == {"cart": ["tea"]}, "this browser must keep its data"
left = sum(found is not None for found in kv.run([store.read(sid) for sid in others]))
assert left == 0, f"{left} of {len(others)} other devices are still in: store.destroy_all(user)"
assert trips == 1, f"change_password took {trips} round trips; kv.run(a, b, atomic=True) is one"
print(f"change of password: {len(others)} other devices out, this one in under a new id")
kv.clear()
kv.close()
