# %% [markdown]
# # Sessions
#
# *About 45 minutes. Before this chapter: 00.*
#
# HTTP does not say which browser sends a request. So the server gives each browser an id in a
# cookie, and stores the browser's data under that id.
#
# **The guarantee we want:**
#
# 1. An id is accepted only if the server made it. Nothing that the server stores is an id.
# 2. A session ends after `idle` seconds without use. A session that is used all the time ends after
#    `absolute` seconds.
# 3. A session that has ended stays ended. When two requests write different fields, both fields are
#    stored.
# 4. A login gives a new id. From this moment the old id is refused.
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
# `NaiveSessions` is what many tutorials show: a JSON text under a random id. Its time to live (TTL)
# is a week, and each read renews the TTL. The next cell lists the commands of each call, for the
# simple version and for the hardened version that this chapter builds. Each command is one round
# trip.

# %%
from kvlab.chapters.sessions import costs

commands = costs.commands(url, kv.prefix)
table = commands.pivot(index="op", columns="variant", values="commands")
table.loc[list(costs.CALLS), ["naive", "hardened"]]

# %% [markdown]
# See the rows `read` and `update`: the simple version looks with one command and writes with a
# later command.

# %% tags=["predict"]
from kvlab.workshop import predict

thief = predict(
    "04-thief",
    "A thief steals the cookie. A script of the thief opens the page with this "
    "cookie once a week, one minute before the TTL ends. After how many weeks is "
    "the cookie refused?",
    ["after one week", "after some weeks", "after a year: it still works"],
)

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

# %% tags=["predict"]
thief.measured("after a year: it still works" if session else "after some weeks")

# %% [markdown]
# See the first line: the cookie is still accepted. The TTL counts from the last read, and each read
# starts the TTL again. The session does not store a last moment.
#
# ## A second timeout
#
# **The fix** is a second timeout that a read does not extend. `SessionStore` writes both ends into
# the session. Each read moves `expires` to a later time. No read moves `deadline`, and `expires` is
# never later than `deadline`. One Lua script reads the server's clock, decides, and moves
# `expires`. The next cell uses short timeouts, and reads the session again and again:

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
print(f"{reads} reads; last seen {age:.2f} s after its creation (absolute: 0.8 s)")

# %% [markdown]
# See the age: the session was never unused for `idle` seconds. The session ended at `absolute`.
#
# ## A log-out that does not last
#
# A slow request reads the session, works for some time, and writes the session back. While the
# request works, the user clicks "log out".
#
# `explore` runs the two requests on a private server, in every order of their commands. One order,
# with its faults if it has some, is a **schedule**. The picture is the shortest schedule after
# which the user is still logged in.

# %% tags=["predict"]
out = predict(
    "04-log-out",
    "The log-out has finished. Later the slow request finishes too. Is the user "
    "logged out then?",
    ["in every order", "not in every order"],
)

# %%
sids = []  # the last id belongs to the schedule that runs now


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
    """the user is logged out"""
    return NaiveSessions(world.kv).read(sids[-1]) is None


# %%
requests = {"write": slow_write, "log out": log_out}
log_out_story = explore(requests, setup=log_in, invariant=user_is_out)
log_out_story

# %% tags=["predict"]
out.measured("in every order" if log_out_story.holds else "not in every order")

# %% [markdown]
# See the last command: `SETEX` does not check whether the session exists, so the write creates the
# session again.
#
# **The fix**: send only the changed fields. `update` is one script. The script looks for the
# session and stops if the session does not exist. Otherwise the script merges the fields and writes
# the session. No other command runs between these steps.
#
# The next cell runs *the same two requests* on both stores, now also with one fault at each point: a lost
# reply, a lost request, a server that has forgotten its scripts. The cell also tests a second pair of
# requests: one request writes the field `a`, the other request writes the field `b`.

# %% tags=["predict"]
fields = predict(
    "04-two-writers",
    "Both writers of the second pair have finished. Which store has lost one of the "
    "two fields in some schedule?",
    ["naive", "hardened", "naive and hardened", "neither"],
)

# %% tags=["finding"]
from kvlab.chapters.sessions import races

LOSSES = Faults(lost_replies=True, lost_requests=True, script_flushes=True)
broken = {}
for name, sessions in (("naive", NaiveSessions), ("hardened", races.HardenedSessions)):
    log_outs = races.log_out_beside_slow_write(sessions, LOSSES)
    display(log_outs.play(title=f"The {name} sessions"))
    writers = races.two_writers(sessions, LOSSES)
    broken[name] = [f"{s.violations} of {s.schedules}" for s in (log_outs, writers)]
counts = [f"{name} in {found[0]} schedules" for name, found in broken.items()]
print("A slow write undoes a log-out:", ", ".join(counts))
pd.DataFrame(broken, index=["logged out, and in again", "a field is lost"])

# %% tags=["predict"]
losing = [name for name, found in broken.items() if not found[1].startswith("0 ")]
fields.measured(" and ".join(losing) or "neither")

# %% [markdown]
# See the two columns. The simple version breaks in many schedules. The hardened version breaks in
# no schedule.
#
# **Play the scheduler** in the two frames: choose who moves next, and what fails. The first frame can
# be broken, and the second cannot.
#
# ## Your own session code
#
# **Put your code in place of the two functions.** The functions get a redis-py client. The session
# is the hash `s`. The hash exists at the beginning and must not exist at the end. The first version
# in the cell checks whether the session exists, and writes only its own field. Is that enough?


# %%
# YOUR CODE instead of these two functions
def add_to_cart(kv):
    if kv.exists("s"):
        kv.hset("s", "tea", 1)


def leave(kv):
    kv.delete("s")


races.write_beside_leave(add_to_cart, leave)

# %% [markdown]
# See the order: `DEL` comes between the check and the write.
#
# ## An id from before the login
#
# This is *session fixation*. The fix is a rule: **a login ends the session that the browser came
# with and begins another.** Both steps are one transaction. So at any moment exactly one of the two
# sessions is alive.

# %% tags=["predict"]
fixation = predict(
    "04-fixation",
    "A shop gives every visitor an anonymous session for the cart. An attacker "
    "visits the shop, gets a session, and puts the id of this session into your "
    "browser (by a link or from a subdomain). You log in. The site writes your user "
    "id into the session that your browser sent. Who else is logged in now?",
    ["nobody", "the attacker"],
)

# %%
planted = naive.create(user=None)
naive.update(planted, userId=7)  # the victim logs in
print("naive: the planted id belongs to user", naive.read(planted)["userId"])
store = SessionStore()


def log_in_hardened(kv, old_id):
    return kv.run(store.destroy(old_id), store.create(7), atomic=True)


print("hardened:", races.login_beside_look(store, log_in_hardened, LOSSES).summary)

# %% tags=["predict"]
user = naive.read(planted)["userId"]
fixation.measured("nobody" if user is None else "the attacker")

# %% [markdown]
# See both lines. In the simple version the attacker is user 7. In the hardened version no schedule
# shows both sessions alive, and no schedule shows both sessions ended.
#
# ## A copy of the database
#
# A stranger reads a backup of the database, or runs `MONITOR`, which shows every command that the
# server gets. What does the stranger see? The next cell prints one session of each store. The naive
# key *is* the cookie. The hardened store keeps a SHA-256 hash of the id. The field `m:…` has the
# times and the user. The field `d:…` has the data. The id has 256 random bits, so nobody can guess
# it from its hash.

# %%
from kvlab.chapters.sessions import forgery

kv.clear()
naive_sid = naive.create(user=7)
session = kv.run(store.create(user=7, data={"theme": "dark"}))
dump = forgery.dump(kv)
for text in dump:
    print("| ", " ".join(text.split()))

# %% [markdown]
# See the first line: the text after `session:` is a working cookie.
#
# The next cell tries every piece of the dump as a cookie, alone and after the user's tag (the part
# of the id before the dot). There is a control too: the store must accept the browser's own cookie.

# %%
tag = session.id.split(".")[0]
cookies = forgery.cookies_made_of(dump, tag)
in_naive = sum(naive.read(cookie) is not None for cookie in cookies)
found = kv.run([store.read(cookie) for cookie in cookies])
in_hardened = sum(one is not None for one in found)
own = kv.run(store.read(session.id))
print(f"{len(cookies)} cookies: naive accepts {in_naive}, hardened {in_hardened}")
print("control, the browser's own cookie:", "refused" if own is None else "accepted")

# %% [markdown]
# See the counts: with the dump a stranger can log in to the naive store, and cannot log in to the
# hardened store.
#
# ## Ids that no server made
#
# The next cell forges ids: ids that are cut off, have a NUL byte inside, or are too long, the right
# user's tag with a guessed secret, another user's tag, the hash of a good id. The control is that
# the store accepts the good ids.

# %%
good = [kv.run(store.create(user)).id for user in range(10)]
forged = forgery.forged_ids(good, times=50)
let_in = sum(one is not None for one in kv.run([store.read(sid) for sid in forged]))
control = sum(one is not None for one in kv.run([store.read(sid) for sid in good]))
print(
    f"{len(forged):,} forged ids: {let_in} accepted. "
    f"{len(good)} good ids: {control} accepted."
)
print("the op for an id of ten million letters:", store.read("x" * 10_000_000))

# %% [markdown]
# See the counts, and then the last line. The store never sends an id of the wrong form. It reads
# the key `{nobody}` instead, and this key never has a session.
#
# ## Change the id, see all devices, log out everywhere
#
# `rotate` gives the same session a new id, for a change of rights (a new password, admin mode).
# `list` shows a user's sessions by *handle*: a handle names a session, and the store does not
# accept a handle as an id. All sessions of a user are in one hash, so "log out everywhere" is one
# command that ends every session.

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
# See the two lines of the laptop: the new id has the data, and the old id is refused.
#
# **The cookie.** `__Host-` and `Secure`: the browser sends the cookie only over TLS and only to
# this host, and a subdomain cannot set the cookie. `HttpOnly`: no script reads the cookie.
# `SameSite=Lax`: forms of other sites do not send the cookie. `Max-Age`: the seconds until the
# session ends.

# %%
cookie = SessionCookie()
session = kv.run(store.create("ann"))
header = cookie.header(session)
print("Set-Cookie:", header.replace(session.id, "<tag>.<secret>"))
print("after a log-out:", cookie.expired())
print("two values in one request:", cookie.parse("__Host-session=a; __Host-session=b"))

# %% [markdown]
# See the last line: when a request has two cookies of this name, the store trusts neither of them.
#
# ## How many users are still logged in?
#
# Many users open pages at random moments (a Poisson process, seed 4, open loop), with the same
# habits in both stores. The idle timeout is 1 s and the absolute timeout is 3 s. They stand for 10
# minutes and half an hour. A session ends at its first pause longer than `idle`. The formula
# (dashes) says which share of the sessions is alive. The points are counted on the server.

# %%
from kvlab.chapters.sessions.charts import alive_chart, logged_in_chart
from kvlab.chapters.sessions.lifetimes import Habit, watch_both

habit = Habit(mean_gap=0.4, idle=1, absolute=3)
alive = watch_both(kv, habit, users=80, seconds=4.4, every=0.25, seed=4)
left = alive.groupby("store")["alive"].last()
when = "At 4.4 s, after the absolute timeout"
title = f"{when}: logged in are naive {left.naive:.0%}, hardened {left.hardened:.0%}"
alive_chart(alive, habit, title=title)

# %% [markdown]
# See the step at 3 s: only the hardened store has this step. Eighty users are few, so the points
# lie some percent away from the formula.
#
# Turn the knobs. How long does a user stay logged in with your two timeouts? One user opens a page
# every ten minutes and should stay logged in during lunch. Another user forgot to log out in a
# library, and that session should end soon. Find two timeouts for both users.

# %%
from ipywidgets import interact

display(logged_in_chart(idle=30, absolute=480, gap=10))
_ = interact(logged_in_chart, idle=(5, 120, 5), absolute=(30, 720, 30), gap=(1, 60))

# %% [markdown]
# See the two numbers in the title. The session of a browser without a user ends after `idle`.
#
# ## What it costs
#
# - **Round trips** of each call, from the same list of commands as at the beginning.
# - **Memory.** A hardened session stores a hash of the id, its times, and the data.
# - **Latency** of the reads, beside the log-outs of the same run. The load is four clients in a
#   closed loop with four users, and a random mix of requests (seed 4). Most requests read, some
#   requests write, and sometimes a user logs out and in again. Each store gets 5 turns of 500
#   requests, and each turn has a warm-up of 50 requests. At the end of a turn we try every id that
#   was logged out. An id that still works is a **violation**.

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
# See the difference between the two bars of each pair: it is a hash and four times. The difference
# does not grow with the data.

# %%
print("read, one client, hardened / naive:", costs.compare_reads(kv))
runs = costs.latency_with_log_outs(kv, users=4, turns=5, count=500, seed=4)
reads = {name: run.reads for name, run in runs.items()}
undone = [f"{r.reads.violations} of {r.logged_out} {n}" for n, r in runs.items()]
charts.latency_percentiles(reads, title=f"Log-outs undone: {' and '.join(undone)}")

# %% [markdown]
# See the counts beside the curves first: only the naive store undoes log-outs. The ratio above the
# chart compares one read alone in the two stores.
#
# ## The limits that remain
#
# - **A thief who has the cookie is logged in**, until the absolute timeout or a log-out everywhere.
# - The server stores data and user ids in plain text, as the dump showed. The tag is a hash of the
#   user id. So a stranger with a dump can test guesses of user ids, unless the store has a
#   `pepper`: a secret of the application that is part of the hash.
# - `SameSite=Lax` lets links of other sites through: a GET must change nothing.
# - A failover can lose the last writes, and one of them may be a log-out. If somebody changes the
#   server's clock, all timeouts are wrong.
# - The data of a session that timed out stays in memory for some time: until the next `create` or
#   `list` of that user, or until the user's last session ends.
# - When the server is down, `read` returns None, so nobody is logged in. That is the safe choice.
#   Before you remove a cookie, call `read` with `strict=True`: then None means "the session has
#   ended", and an outage is raised as an error.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `exercises/04_sessions.ipynb` has a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `login`: the id from before the login does not work after the login.
# 2. `change_password`: every other device is logged out, and this browser stays logged in.

# %% tags=["exercise-setup"]
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: a login
#
# Write `login(kv, store, cookie_id, user)`. `store` is a `SessionStore`, and `kv` an executor: `kv.run(op)`.
# The browser comes with `cookie_id`: the id of an anonymous session, or a text that is no session's id, or
# None. The function returns the new session.
#
# 1. The old id no longer works, also when an attacker has given it to the browser. With a text that is no id,
#    and with None, the login succeeds too.
# 2. Wherever you crash, exactly one of the two sessions works. The cart (the data) of the old session is not
#    kept here.
#
# If you need help, run `hint("04-short")`: three hints, then a solution.


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
# 1. This browser stays logged in, under a **new** id, with its user and its data.
# 2. Every other device of the user is logged out. No other user is logged out.
# 3. Wherever you crash, everything is as before, or everything is done. The data are never lost.
#
# If you need help, run `hint("04")`: three hints, then a solution.


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
