# %% [markdown]
# # Sessions
#
# *About 45 minutes. Before this chapter: 00.*
#
# Who is this browser? HTTP forgets after each request. So the server gives the browser an id, in a cookie,
# and keeps what belongs to the browser under that id.
#
# **The guarantee that we want:**
#
# 1. An id is accepted only if the server made it. Nothing that the server stores is an id.
# 2. A session ends after `idle` seconds without use, and after `absolute` seconds however much it is used.
# 3. A session that has ended stays ended. Two writers of different fields both keep their field.
# 4. A login gives a new id. The old id is dead at once.
#
# The price for each request: one round trip.

# %%
import pandas as pd
from IPython.display import display

from kvlab import NaiveSessions, SessionCookie, SessionStore
from kvlab.chapters.opening import open_chapter
from kvlab.core.server_url import server_url
from kvlab.instruments import Faults, charts, environment, explore

url = server_url()  # the embedded Valkey, or KVLAB_URL
kv = open_chapter("ch04", url)
pd.Series(environment(kv), name="the numbers below were measured on").to_frame()

# %% [markdown]
# ## The simple version
#
# `NaiveSessions` is what many tutorials show: a JSON text under a random id. Its time to live (TTL) is a
# week, and each read renews the TTL. The next cell lists the commands of each call, for the simple version
# and for the one that this chapter arrives at. Each command is one round trip.

# %%
from kvlab.chapters.sessions import costs

commands = costs.commands(url, kv.prefix)
table = commands.pivot(index="op", columns="variant", values="commands")
table.loc[list(costs.CALLS), ["naive", "hardened"]]

# %% [markdown]
# See the rows `read` and `update`: the simple version looks first and writes later, in commands of their own.
#
# **Predict.** Somebody steals the cookie, and a script opens the page with it once a week, a minute before
# the TTL ends. After how many weeks is the thief out?

# %%
naive = NaiveSessions(kv.client, prefix=kv.prefix)
sid = naive.create(user=7)
key = f"{kv.prefix}session:{sid}"
for _ in range(52):
    kv.client.expire(key, 60)  # as if all of the week but a minute had passed
    session = naive.read(sid)
days = kv.client.ttl(key) / 86400
unused = session["lastActivity"] - session["createdAt"]
print(f"after 52 weeks: user {session['userId']} is in, and has {days:.0f} days left")
print(f"lastActivity - createdAt: {unused} ms (lastActivity is never written)")

# %% [markdown]
# See the first line: never. The TTL counts from the last read, and each read starts the TTL again. Nothing
# remembers the first read.
#
# ## A second timeout
#
# **The fix** is a second timeout that no use prolongs. `SessionStore` writes both ends into the session:
# `expires` slides with each read, `deadline` does not, and `expires` never passes `deadline`. One Lua script
# reads the server's clock, decides, and slides. Here with short times, and read all the time:

# %%
import time

brief = SessionStore("brief", idle=0.3, absolute=0.8)
session = kv.run(brief.create(user=7))
reads = 0
while session is not None:
    last = session
    session = kv.run(brief.read(last.id))
    reads += 1
    time.sleep(0.02)
age = last.last_seen - last.created
print(f"read {reads} times; last seen {age:.2f} s after its begin, absolute is 0.8 s")

# %% [markdown]
# See the age: no pause was as long as `idle`, and the session ended all the same, at `absolute`.
#
# ## Log out, and be logged in again
#
# A request takes long: it reads the session, works, and writes the session back. Meanwhile the user clicks
# "log out".
#
# **Predict.** The log-out is done. Is the user out when the slow request has finished?
#
# We do not hope for bad luck. `explore` runs the two requests again and again on a private server, in every
# order of their commands. It draws the shortest run after which the user is still in.

# %%
sids = []  # the last one is the session of the present run


def log_in(kv):
    sids.append(NaiveSessions(kv).create(user=7))


def slow_write(kv):
    """reads the session, works, and writes it back"""
    return NaiveSessions(kv).update(sids[-1], a=1)


# %%
def log_out(kv):
    """the user logs out"""
    NaiveSessions(kv).destroy(sids[-1])


def user_is_out(world):
    """the user is out"""
    return NaiveSessions(world.kv).read(sids[-1]) is None


requests = {"write": slow_write, "log out": log_out}
explore(requests, setup=log_in, invariant=user_is_out)

# %% [markdown]
# See the last command: `SETEX` does not ask whether a session is there, so the write makes a session out of
# nothing.
#
# **The fix**: send the change and not the session. `update` is one script. The script looks for the session,
# stops if there is none, merges the fields, and writes. No command comes between its steps.
#
# The next cell runs *the same two requests* on both stores, now also with one fault at each point: a lost
# reply, a lost request, a server that has forgotten its scripts.
#
# **Predict.** Beside this race runs a second one: two requests write the fields `a` and `b`. Are both fields
# there at the end?

# %% tags=["finding"]
from kvlab.chapters.sessions import races

LOSSES = Faults(lost_replies=True, lost_requests=True, script_flushes=True)
broken = {}
for name, sessions in (("naive", NaiveSessions), ("hardened", races.HardenedSessions)):
    log_outs = races.log_out_beside_slow_write(sessions, LOSSES)
    writers = races.two_writers(sessions, LOSSES)
    broken[name] = [f"{s.violations} of {s.schedules}" for s in (log_outs, writers)]
counts = f"naive {broken['naive'][0]}, hardened {broken['hardened'][0]}"
print(f"Log-out beside a slow write, each order and loss; logged in again: {counts}")
pd.DataFrame(broken, index=["logged out, and in again", "a field is lost"])

# %% [markdown]
# See the two columns: the simple version breaks in most runs, the hardened one in none.
#
# ## Your own session code
#
# **Put your code in place of the two functions.** They get a redis-py client. The session is the hash `s`,
# which is there at the beginning and must be gone at the end. The code that stands there asks first whether
# the session is still there, and writes only its own field. Is that enough?


# %%
# YOUR CODE instead of these two functions
def add_to_cart(kv):
    if kv.exists("s"):
        kv.hset("s", "tea", 1)


def leave(kv):
    kv.delete("s")


races.write_beside_leave(add_to_cart, leave)

# %% [markdown]
# See the order: `DEL` comes between the question and the write.
#
# ## An id from before the login
#
# **Predict.** A shop gives everybody an anonymous session, for the cart. An attacker takes one and plants its
# id in your browser (a link, a subdomain). You log in, and the site writes your user id into the session that
# you came with. Who else is logged in now?
#
# This is *session fixation*. The fix is a rule: **a login ends the session that the browser came with and
# begins another.** Both steps travel together, as one transaction. Whoever looks, at whatever moment, finds
# exactly one of the two alive.

# %%
planted = naive.create(user=None)
naive.update(planted, userId=7)  # the victim logs in
print("naive: who comes with the planted id is user", naive.read(planted)["userId"])
store = SessionStore()


def log_in_hardened(kv, old_id):
    return kv.run(store.destroy(old_id), store.create(7), atomic=True)


print("hardened:", races.login_beside_look(store, log_in_hardened, LOSSES).summary)

# %% [markdown]
# See both lines: the attacker is user 7 in the simple version. In the hardened version no order and no fault
# shows both sessions alive, or neither.
#
# ## A copy of the database
#
# A backup lies in the wrong bucket, or somebody runs `MONITOR`. What do they see? Here is one session of each
# kind. The naive key *is* the cookie. The hardened store keeps a SHA-256 of the id: `m:…` the times and the
# user, `d:…` the data. The id has 256 random bits, so nobody can guess it from its hash.

# %%
from kvlab.chapters.sessions import forgery

kv.clear()
naive_sid = naive.create(user=7)
session = kv.run(store.create(user=7, data={"theme": "dark"}))
dump = forgery.dump(kv)
for text in dump:
    print("| ", " ".join(text.split()))

# %% [markdown]
# See the first line: what stands behind `session:` is a working cookie.
#
# Now we try every piece of the dump as a cookie, alone and behind the user's tag (the part of the id before
# the dot). The control beside the zero: the browser's own cookie must be let in.

# %%
tag = session.id.split(".")[0]
cookies = forgery.cookies_made_of(dump, tag)
in_naive = sum(naive.read(cookie) is not None for cookie in cookies)
found = kv.run([store.read(cookie) for cookie in cookies])
in_hardened = sum(one is not None for one in found)
own = kv.run(store.read(session.id))
print(f"{len(cookies)} cookies: naive lets {in_naive} in, hardened {in_hardened}")
print("control, the browser's own cookie:", "refused" if own is None else "let in")

# %% [markdown]
# See the counts: the dump opens the naive store, and it does not open the hardened one.
#
# ## Ids that no server made
#
# Cut off, a NUL byte inside, too long, the right user with a guessed secret, another user's tag, the hash of a
# good id. The control: the good ids must be let in.

# %%
good = [kv.run(store.create(user)).id for user in range(10)]
forged = forgery.forged_ids(good, times=50)
let_in = sum(one is not None for one in kv.run([store.read(sid) for sid in forged]))
control = sum(one is not None for one in kv.run([store.read(sid) for sid in good]))
print(
    f"{len(forged):,} forged ids: {let_in} let in. {len(good)} good: {control} let in."
)
print("ten million letters send:", store.read("x" * 10_000_000))

# %% [markdown]
# See the last line too: an id of a wrong shape asks for the session of nobody, however long the id is.
#
# ## Change the id, see all devices, log out everywhere
#
# `rotate` gives the same session a new id, for a change of rights (a new password, admin mode). `list` shows a
# user's sessions by *handle*: a handle names a session and lets nobody in. All sessions of a user are in one
# hash, so "log out everywhere" is one command and misses none.

# %%
devices = ("phone", "laptop", "tablet")
sessions = kv.run([store.create("ann", {"device": device}) for device in devices])
phone = sessions[0]
laptop = sessions[1]
rotated = kv.run(store.rotate(laptop.id))
print("laptop by its old id:", kv.run(store.read(laptop.id)))
print("laptop by its new id:", kv.run(store.read(rotated.id)).data)
for listed in kv.run(store.list("ann")):
    print("  session", listed.handle[:12], "…")
print("phone ended by handle:", kv.run(store.destroy_listed("ann", phone.handle)))
print("log out everywhere:", kv.run(store.destroy_all("ann")), "sessions ended")

# %% [markdown]
# See the two lines of the laptop: the new id carries the data, the old id is dead.
#
# **The cookie.** `__Host-` and `Secure`: TLS only, and this host only, so no subdomain plants one. `HttpOnly`:
# no script reads it. `SameSite=Lax`: forms of other sites do not carry it. `Max-Age`: what the session has left.

# %%
cookie = SessionCookie()
session = kv.run(store.create("ann"))
header = cookie.header(session)
print("Set-Cookie:", header.replace(session.id, "<tag>.<secret>"))
print("after a log-out:", cookie.expired())
print("two values in one request:", cookie.parse("__Host-session=a; __Host-session=b"))

# %% [markdown]
# See the last line: a request with two values of the name comes from nobody.
#
# ## Who is still in?
#
# Many users with the same habits for both stores: pages at random moments (Poisson, seed 4, open loop). The
# idle timeout is 1 s and the absolute timeout 3 s; they stand for 10 minutes and half an hour. A session ends
# at its first pause longer than `idle`. The formula (dashes) says how many are left; the points are counted on the
# server.

# %%
from kvlab.chapters.sessions.charts import alive_chart, logged_in_chart
from kvlab.chapters.sessions.lifetimes import Habit, watch_both

habit = Habit(mean_gap=0.4, idle=1, absolute=3)
alive = watch_both(kv, habit, users=80, seconds=4.4, every=0.25, seed=4)
left = alive.groupby("store")["alive"].last()
when = "At 4.4 s, after the absolute timeout"
title = f"{when}: naive {left.naive:.0%} in, hardened {left.hardened:.0%}"
alive_chart(alive, habit, title=title)

# %% [markdown]
# See the step at 3 s: only the hardened store takes it. Eighty users are few, so the points lie some percent
# beside the formula.
#
# Turn the knobs. How long is a user logged in, by your two timeouts? Find times with which somebody who opens a
# page every ten minutes keeps the cart over lunch, and a forgotten browser in a library is out soon.

# %%
from ipywidgets import interact

display(logged_in_chart(idle=30, absolute=480, gap=10))
_ = interact(logged_in_chart, idle=(5, 120, 5), absolute=(30, 720, 30), gap=(1, 60))

# %% [markdown]
# See the title: both numbers answer the question. A browser that is left alone is out after `idle`.
#
# ## What it costs
#
# - **Round trips** of each call, from the same list of commands as at the beginning.
# - **Memory.** The hardened session keeps a hash, its times, and the data.
# - **Latency** of the reads, beside the log-outs of the same run. Four clients in a closed loop, four users, a
#   seeded mix (seed 4): most requests read, some write, and sometimes a user logs out and in again. The stores
#   take 5 turns of 500 requests, each after 50 requests of warm-up. At the end of a turn we try every id that was
#   logged out. An id that works is a **violation**.

# %%
update = commands[commands.op == "update"].set_index("variant").round_trips
title = f"An update: naive {update.naive} round trips, hardened {update.hardened}"
charts.round_trips(commands, title=title)

# %% [markdown]
# See the blue bars: every call of the hardened store is one round trip.

# %%
memory = costs.memory(kv, sizes=(0, 250, 500, 1_000, 2_000))
sizes = memory.pivot(index="size", columns="variant", values="bytes")
more = (sizes.hardened - sizes.naive).astype(int)
title = f"A session takes {more.min()} to {more.max()} bytes more hardened than naive"
axes = {"x": "size", "xlabel": "data (bytes)", "ylabel": "memory of a session (bytes)"}
charts.bars(memory, y="bytes", by="variant", form="{:,.0f}", title=title, **axes)

# %% [markdown]
# See the distance of each pair: it is a hash and four times, and it does not grow with the data.

# %%
print("read, one client, hardened / naive:", costs.compare_reads(kv))
runs = costs.latency_with_log_outs(kv, users=4, turns=5, count=500, seed=4)
reads = {name: run.reads for name, run in runs.items()}
undone = [f"{r.reads.violations} of {r.logged_out} {n}" for n, r in runs.items()]
charts.latency_percentiles(reads, title=f"Log-outs undone: {' and '.join(undone)}")

# %% [markdown]
# See the ratio above the chart first: one read alone costs about the same in both stores. Then see the counts
# beside the curves: only the naive store undoes log-outs.
#
# ## The limits that remain
#
# - **Whoever steals the cookie is in**, until the absolute timeout or a log-out everywhere.
# - The server stores data and user ids in plain text, as the dump showed. And the tag is a hash of the user id:
#   with a dump, guesses of user ids can be tested, unless the store has a `pepper`.
# - `SameSite=Lax` lets links of other sites through: a GET must change nothing.
# - A failover can lose the last writes, a log-out among them. If somebody sets the server's clock, durations
#   are wrong.
# - The data of a session that timed out leaves memory at that user's next `create` or `list`, or when the
#   user's last session ends.
# - When the server is down, `read` says None, so everybody is out. That is a choice: the safe one. Before a cookie
#   is removed, ask with `strict=True`: then None means "ended", and an outage is raised.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Open `exercises/04_sessions.ipynb`: a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `login`: the id from before the login is worth nothing after it.
# 2. `change_password`: every other device is out, and this browser stays in.

# %% tags=["exercise-setup"]
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: a login
#
# Write `login(kv, store, cookie_id, user)`. `store` is a `SessionStore`, and `kv` an executor: `kv.run(op)`.
# The browser comes with `cookie_id`: an anonymous session, or rubbish, or None. The function returns the new
# session.
#
# 1. The old id is dead, also when somebody else has planted it. Rubbish and None are no obstacle.
# 2. The two are never both alive, and never both dead, wherever you crash. The cart (the data) of the old
#    session is not kept here.
#
# Stuck? Run `hint("04-short")`: three hints, then a solution.


# %% tags=["stub"]
def login(kv, store, cookie_id, user):
    kv.run(store.update(cookie_id, user=user))  # what the naive site does
    return kv.run(store.read(cookie_id))


# %% tags=["solution"]
def login(kv, store, cookie_id, user):
    _, session = kv.run(store.destroy(cookie_id), store.create(user), atomic=True)
    return session


# %% tags=["check"]
check("04-short", login)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: a change of password
#
# Write `change_password(kv, store, session)`. It returns the new session of this browser.
#
# 1. This browser stays in, under a **new** id, with its user and its data.
# 2. Every other device of the user is out, and no other user.
# 3. Wherever you crash: all is as before, or all is done. The data are never lost.
#
# Stuck? Run `hint("04")`: three hints, then a solution.


# %% tags=["stub"]
def change_password(kv, store, session):
    kv.run(store.destroy_all(session.user))  # and if you crash after this line?
    return kv.run(store.create(session.user))


# %% tags=["solution"]
def change_password(kv, store, session):
    again = store.create(session.user, session.data)
    _, session = kv.run(store.destroy_all(session.user), again, atomic=True)
    return session


# %% tags=["check"]
check("04", change_password)
