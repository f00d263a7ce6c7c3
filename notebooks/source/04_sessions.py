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
import json
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

import kvlab
from kvlab import Kv, NaiveSessions, Op, SessionCookie, SessionStore
from kvlab.instruments import charts, environment, gated, plots

# %%
kv = kvlab.connect(prefix="kvlab:ch04")
kv.clear()
url = kvlab.connections.resolve(None, None)
pd.Series(environment(kv), name="where the numbers below were measured").to_frame()

# %% [markdown]
# ## The simple version
#
# `NaiveSessions` is what many tutorials show: a JSON text under a random id, its time to live (TTL) a week,
# renewed at each read. Here is what it sends:

# %%
with gated(url, before="nothing") as spy:  # a client that lists what it sends
    naive = NaiveSessions(spy, prefix=kv.prefix)
    for step in ("create", "read", "update", "destroy"):
        sent = len(spy.gate.commands)
        if step == "create":
            sid = naive.create(user=7)
        else:
            getattr(naive, step)(sid)
        print(f"{step:8}{' -> '.join(spy.gate.commands[sent:])}")

# %% [markdown]
# ## A session that never ends
#
# **Predict.** Somebody steals the cookie, and a script reads the page with it once a week, a
# minute before the TTL runs out. The TTL is seven days. After how many weeks is the thief out?
#
# We do not wait a year. `EXPIRE` sets the key to its last minute, as if the week had passed.

# %%
naive = NaiveSessions(kv.client, prefix=kv.prefix)
sid = naive.create(user=7)
for _week in range(52):
    kv.client.expire(f"{kv.prefix}session:{sid}", 60)
    still = naive.read(sid)
days = kv.client.ttl(f"{kv.prefix}session:{sid}") / 86400
print(f"after {_week + 1} weeks: user {still['userId']} is in, and has {days:.0f} days left")
print(
    f"lastActivity - createdAt: {still['lastActivity'] - still['createdAt']} ms (it is never written)"
)

# %% [markdown]
# The TTL counts from the last read, and each read starts it again. Nothing remembers the first one.
#
# **The fix** is a second timeout that no use prolongs. `SessionStore` writes both ends into the
# session: `expires` slides with each read, `deadline` does not, and `expires` never passes it. One Lua script
# looks at the server's clock, decides, and slides. Here with short times, read all the time:

# %%
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
# We do not hope for bad luck: `held` runs a client that stops before a named command, until we say go on.

# %%
pool = ThreadPoolExecutor(1)


def held(before, work):
    """Run work(client) up to the command; what comes back lets it go on and gives its result."""
    client = gated(url, before)
    running = pool.submit(work, client)
    assert client.gate.reached.wait(10)
    return lambda: (client.gate.open(), running.result(10), client.close())[1]


# %%
def revive_naive(say=print):
    sid = naive.create(user=7)
    slow = held(
        "SETEX", lambda client: NaiveSessions(client, prefix=kv.prefix).update(sid, theme="dark")
    )
    say("1. slow request  GET, EXPIRE; it now stands before its SETEX")
    naive.destroy(sid)
    say(f"2. log out       DEL; a read gives {naive.read(sid)}")
    slow()
    say("3. slow request  SETEX")
    say(f"4. read          user {(naive.read(sid) or {}).get('userId')}")
    return naive.read(sid) is not None


revived = revive_naive()

# %% [markdown]
# The write made a session out of nothing: `SETEX` does not ask whether one is there.
#
# **The fix**: do not send the session back, send the change. `update` is one script. It looks for the
# session, stops if there is none, merges the fields, writes. Nobody gets between its steps.

# %%
store = SessionStore()
session = kv.run(store.create(user=7))
print(store.update(session.id, theme="dark"))


# %%
def revive_hardened(say=print):
    session = kv.run(store.create(user=7))
    change = store.update(session.id, theme="dark")
    slow = held("EVALSHA", lambda client: Kv(client, prefix=kv.prefix).run(change))
    say("1. slow request  has read the session; it now stands before its update")
    say(
        f"2. log out       {kv.run(store.destroy(session.id))}; a read gives {kv.run(store.read(session.id))}"
    )
    say(f"3. slow request  the update answers {slow()}")
    say(f"4. read          {kv.run(store.read(session.id))}")
    return kv.run(store.read(session.id)) is not None


came_back = revive_hardened()

# %% [markdown]
# One schedule is an anecdote. The same one, many times, for both, and beside it a second race: while
# the slow request (field `a`) is held, another one writes field `b`. How many fields are left?


# %%
def fields_left():
    sid, session = naive.create(user=7), kv.run(store.create(user=7))
    slow = held("SETEX", lambda client: NaiveSessions(client, prefix=kv.prefix).update(sid, a=1))
    naive.update(sid, b=2)
    slow()
    change = store.update(session.id, a=1)
    slow = held("EVALSHA", lambda client: Kv(client, prefix=kv.prefix).run(change))
    kv.run(store.update(session.id, b=2))
    slow()
    return len({"a", "b"} & set(naive.read(sid))), len(kv.run(store.read(session.id)).data)


# %%
runs = 50
quiet = [(revive_naive(say=len), revive_hardened(say=len), *fields_left()) for _ in range(runs)]
naive_back, hardened_back, naive_kept, hardened_kept = map(sum, zip(*quiet, strict=True))
pd.DataFrame(
    [("logged-out sessions that came back", f"{runs}", naive_back, hardened_back),
     ("fields kept of two writers", f"{2 * runs}", naive_kept, hardened_kept)],
    columns=["the same schedule", "of", "naive", "hardened"],
).style.hide(axis="index")  # fmt: skip

# %% tags=["finding"]
print(
    f"{runs} log-outs during a slow write: naive {naive_back} came back to life, hardened {hardened_back}"
)

# %% [markdown]
# ## An id from before the login
#
# **Predict.** A shop gives everybody an anonymous session, for the cart. An attacker takes one and plants its
# id in your browser (a link, a subdomain). You log in, and the site writes your user id into the
# session you came with. Who else is logged in now?
#
# This is *session fixation*. The fix is a rule: **a login ends the session you came with and starts
# another.** Both steps travel together, as one transaction.

# %%
taken = {"naive": 0, "hardened": 0}
for user in range(runs):
    planted = naive.create(user=None)
    naive.update(planted, userId=user)  # the victim logs in
    taken["naive"] += naive.read(planted)["userId"] == user
    planted = kv.run(store.create(user=None)).id
    ended, session = kv.run(store.destroy(planted), store.create(user), atomic=True)
    assert session.user == user
    taken["hardened"] += kv.run(store.read(planted)) is not None
print(
    f"of {runs} victims the attacker is logged in as: naive {taken['naive']}, hardened {taken['hardened']}"
)

# %% [markdown]
# ## A copy of the database
#
# A backup lies in the wrong bucket; somebody runs `MONITOR`. What do they see? One session of each kind:

# %%
kv.clear()
sid, session = naive.create(user=7), kv.run(store.create(user=7, data={"theme": "dark"}))


def dump():
    """Every text under our prefix: key names, strings, fields and values of hashes."""
    for key in kv.client.scan_iter(kv.prefix + "*"):
        text = kv.client.type(key) == b"string"
        parts = [kv.client.get(key)] if text else sum(kv.client.hgetall(key).items(), ())
        yield from (part.decode() for part in (key, *parts))


print(*("|  " + text.replace("\n", " ") for text in dump()), sep="\n")

# %% [markdown]
# The naive key *is* the cookie. The hardened store keeps a SHA-256 of the id: `m:…` the times and the
# user, `d:…` the data. The id has 256 random bits, so its hash cannot be turned back by guessing.
#
# We try every piece of the dump as a cookie, alone and behind the user's tag (the part of the id before the dot).

# %%
pieces = {piece for text in dump() for piece in re.split(r"[^A-Za-z0-9_.-]+", text) if piece}
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
# Cut off, one letter changed, too long, a NUL byte inside, another user's tag, the hash of a good id.
# A control beside the zero: the good ids must be let in.


# %%
def damaged(sid):
    """Ids that look like a good one and are none."""
    tag, secret = sid.split(".")
    at = secrets.randbelow(len(sid) - 1)
    yield sid[:at]  # cut off
    yield sid[:at] + "\0" + sid[at:]  # a NUL byte
    yield sid + secrets.token_urlsafe(200)  # too long
    yield f"{tag}.{secrets.token_urlsafe(32)}"  # the right user, a guessed secret
    yield f"{secrets.token_urlsafe(16)}.{secret}"  # another user
    yield sid[:-1] + ("A" if sid[-1] != "A" else "B")  # one letter off
    yield kvlab.session_values.handle_of(sid)  # what the server keeps


# %%
good = [kv.run(store.create(user)).id for user in range(10)]
forged = [bad for sid in good for _ in range(50) for bad in damaged(sid)]
let_in = sum(found is not None for found in kv.run([store.read(bad) for bad in forged]))
control = sum(found is not None for found in kv.run([store.read(sid) for sid in good]))
print(f"{len(forged):,} forged ids: {let_in} let in. {len(good)} good ones: {control} let in.\n")
print("What an id of ten million letters sends to the server:")
print(store.read("x" * 10_000_000))

# %% [markdown]
# ## Change the id, see all devices, log out everywhere
#
# `rotate` gives the same session a new id, for a change of rights (a new password, admin mode).
# `list` shows a user's sessions by *handle*, which names a session and lets nobody in.
# They are all in one hash, so "log out everywhere" is one command and misses none.

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

# %% [markdown]
# **The cookie.** `__Host-` and `Secure`: TLS only, this host only, so no subdomain plants one. `HttpOnly`: no
# script reads it. `SameSite`: other sites' forms do not carry it. `Max-Age`: what the session has left.

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
from kvlab.instruments.lifetimes import Users, lifetimes, still_in, watch

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
off = max(abs(r["alive"] - still_in(r["age"], **habit, absolute=3 if n == "hardened" else np.inf)).max()
          for n, r in alive.groupby("store"))  # fmt: skip
lifetimes(curves, measured=alive, title=f"After the absolute timeout {end['naive']:.0%} of the naive sessions live, "
          f"{end['hardened']:.0%} of the hardened",
          remark=f"{len(crowd)} users, a page every {habit['mean_gap']} s on average; dashes: formula; largest distance {off:.0%}; "
          f"latest page {alive.attrs['late'] * 1e3:.0f} ms")  # fmt: skip

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
interact(logged_in, idle=(5, 120, 5), absolute=(30, 720, 30), gap=(1, 60, 1))

# %% [markdown]
# ## What it costs
#
# Four clients in a closed loop, four users, a seeded mix: most requests read, some write, and at times a user logs out
# and logs in anew. At the end we look at every id that was logged out. One that still works is a **violation**.


# %%
class Hardened:
    """The hardened store behind the calls of the naive one."""

    def __init__(self, kv):
        self.kv = kv
        self.create = lambda user: kv.run(store.create(user)).id
        self.read = lambda sid: kv.run(store.read(sid))
        self.update = lambda sid, **fields: kv.run(store.update(sid, **fields))
        self.destroy = lambda sid: kv.run(store.destroy(sid))


# %%
def traffic(store, dice, ended):
    ids = [store.create(user) for user in range(4)]

    def request(user):
        sid, kind = ids[user], dice.choices(("read", "write", "log out"), (70, 27, 3))[0]
        if kind == "log out":
            ids[user] = store.create(user)
            store.destroy(sid)
            ended.append(sid)
        else:
            store.update(sid, page=1) if kind == "write" else store.read(sid)
        return kind

    return request


# %%
import random

from kvlab.instruments import ClosedLoop, Uniform
from kvlab.instruments import run as experiment

results, ended = {}, {"naive": [], "hardened": []}
for name, shop in {"naive": naive, "hardened": Hardened(kv)}.items():
    results[name] = experiment(
        traffic(shop, random.Random(4), ended[name]), Uniform(4), seed=4, arrivals=ClosedLoop(4),
        count=2_500, warmup=200, name=name, kv=kv, progress=False,
        check=lambda: sum(shop.read(sid) is not None for sid in ended[name]),
    )  # fmt: skip

# %%
from dataclasses import replace

reads = {name: replace(r, outcomes={"read": r.outcomes["read"]}) for name, r in results.items()}
p50, p99 = ({n: r.latency.percentile(p) * 1e3 for n, r in reads.items()} for p in (50, 99))
ratio = p50["hardened"] / p50["naive"]
charts.latency_percentiles(reads, title=(
    f"A hardened read takes {ratio:.2f} times the naive one's median; of {len(ended['naive'])} log-outs "
    f"{results['naive'].violations} failed naive, of {len(ended['hardened'])} {results['hardened'].violations} hardened"
))  # fmt: skip

# %% [markdown]
# The chart shows the reads of that run, with its violations. Round trips, counted on the wire:

# %%
with gated(url, before="nothing") as spy, Kv(spy, prefix=kv.prefix) as through:
    rows = []
    for name, shop in {
        "naive": NaiveSessions(spy, prefix=kv.prefix),
        "hardened": Hardened(through),
    }.items():
        sid = shop.create(user=7)
        for op in ("create", "read", "update", "destroy"):
            sent = len(spy.gate.commands)
            getattr(shop, op)(7 if op == "create" else sid)
            rows.append((op, name, len(spy.gate.commands) - sent))
trips = pd.DataFrame(rows, columns=["op", "variant", "round_trips"])
charts.round_trips(trips)

# %% [markdown]
# **Memory.** The hardened session keeps a hash, four times, and the data. What does that take
# beside the naive text? `MEMORY USAGE` of a user's only session, by size of the data:

# %%
kv.clear()
rows = []
for size in (0, 100, 1_000, 4_000, 16_000):
    sid = naive.create(user=7)
    naive.update(sid, cart="x" * size)
    op = store.create(f"user{size}", {"cart": "x" * size})
    kv.run(op)
    for name, key in (("naive", kvlab.Key(f"session:{sid}")), ("hardened", op.keys[0])):
        rows.append((size, name, kv.run(Op("MEMORY USAGE", key, "SAMPLES", 0))))
memory = pd.DataFrame(rows, columns=["data", "variant", "bytes"]).pivot(
    index="data", columns="variant", values="bytes"
)
memory["more"] = memory["hardened"] - memory["naive"]

# %%
tidy = (
    memory[["naive", "hardened"]]
    .rename_axis(None, axis="columns")
    .stack()
    .rename_axis(["data", "variant"])
    .rename("bytes")
    .reset_index()
)
low, high = memory["more"].min(), memory["more"].max()
plots.bars(
    tidy, x="data", y="bytes", by="variant", logy=True, form="{:,.0f}", xlabel="data in the session (bytes)",
    ylabel="memory per session (bytes)",
    title=f"A hardened session takes {low:+,} to {high:+,} bytes beside a naive one",
)  # fmt: skip

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
pool.shutdown()
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

# %% tags=["setup"]
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
assert session is not None and session.user == "ann", (
    "login must return a session of the user: store.create(user)"
)
assert kv.run(store.read(planted)) is None, (
    "the id from before the login still works: whoever planted it is in"
)
assert kv.run(store.read(session.id)) is not None, "the new session does not work"
assert trips == 1, f"login took {trips} round trips; kv.run(a, b, atomic=True) is one"
assert login(kv, store, "rubbish", "bob").user == "bob", (
    "an unknown id is no reason to refuse a login"
)
print("login: the planted id is worth nothing, in one round trip")

# %% tags=["check"]
mine = kv.run(store.update(session.id, cart=["tea"]))
others = [login(kv, store, None, "ann").id for _ in range(3)]
before = kv.round_trips
renewed = change_password(kv, store, mine)
trips = kv.round_trips - before
assert renewed.id != mine.id and kv.run(store.read(mine.id)) is None, (
    "this browser must get a new id, and the old one must be dead"
)
assert kv.run(store.read(renewed.id)).data == {"cart": ["tea"]}, (
    "this browser must stay in, with its data"
)
left = sum(found is not None for found in kv.run([store.read(sid) for sid in others]))
assert left == 0, f"{left} of {len(others)} other devices are still in: store.destroy_all(user)"
assert trips == 1, f"change_password took {trips} round trips; kv.run(a, b, atomic=True) is one"
print(
    f"change of password: {len(others)} other devices out, this one in under a new id\n{kv.clear()} keys removed"
)
