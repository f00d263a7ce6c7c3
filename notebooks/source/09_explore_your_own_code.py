# %% [markdown]
# # Explore your own code
#
# The other chapters break our eight patterns. This one is for the function that *you* wrote last
# week. You need no trick, no sleep and no luck: give the function to `explore`, say what must be
# true in the end, and it runs the function on a real server in **every order** of its commands.
#
# Three functions of the kind people write, all plain redis-py: a token that is made on first use,
# a coupon counter, a queue of jobs. Each reads well. The explorer, which is told nothing but what
# the function is for, breaks each of them. Each is repaired, and then holds in all orders.
#
# **The guarantee we want:** when `assert explore(...)` passes, no order of the commands of these
# clients, and no fault that you have switched on, breaks what you said.
#
# ## 1. Get, or create
#
# Each user has a token, made when it is first asked for. You have written this, with a cart, a
# profile or a counter in place of the token. `same_token` is what we want of two requests:
# `world.results` are the values that the clients returned, `world.kv` is a client to look with.

# %%
import secrets
from math import comb

import pandas as pd

from kvlab.instruments import Violated, charts, explore, replay, step
from kvlab.server import engines

like_mine = {"decode_responses": True}  # what you give to redis.Redis(...)
print(f"each exploration starts a private server: Valkey {engines.find('valkey').version}")


# %%
def get_or_create(kv):
    token = kv.get("token:ann")
    if token is None:
        token = secrets.token_hex(4)
        kv.set("token:ann", token, ex=3600)
    return token


def same_token(world):
    first, second = world.results
    return first == second == world.kv.get("token:ann")


# %% [markdown]
# **Predict.** Ann opens two tabs: two requests, each of two commands at most. How many orders are
# there? In how many do the tabs hold different tokens?

# %%
token = explore([get_or_create] * 2, invariant=same_token, client_options=like_mine)
token

# %% [markdown]
# ### How to read a story
#
# - **Top line:** the verdict over all orders that were run. The picture is the *shortest* run that
#   is wrong: fewest faults, then fewest steps, then fewest changes of client.
# - **Time goes down.** A solid arrow is what a client sends, the dashed one its reply. A number on
#   the left is a **step**: one write to the server, with all that the client does up to its next
#   one. A pipeline or a MULTI is one step.
# - **Right of the server:** the keys that this step has changed, and their TTL.
# - **Below:** what each client returned, and why that is wrong.
# - **The last line** is the order itself: `0` is the next step of client 0.
#
# Both tabs look, both find nothing, both make a token, and the second `SET` wins. The tab that
# wrote first holds a token that no server knows. No error, no log line. (`print(token)` says the
# same in text; `token.holds`, `.schedules`, `.violations`, `.schedule` are its numbers.)
#
# ### Repair it, explore again
#
# "Look, then act" is two steps, and anything fits between them. So let the server decide:
# `SET NX` writes only where nothing is. Then read what is there. `replay` runs one order:


# %%
def set_then_get(kv):
    kv.set("token:ann", secrets.token_hex(4), nx=True, ex=3600)
    return kv.get("token:ann")


again = replay(token.schedule, [set_then_get] * 2, invariant=same_token, client_options=like_mine)
everything = explore([set_then_get] * 2, invariant=same_token, client_options=like_mine)
print(f"the order that broke it: {again.summary}\nevery order:             {everything.summary}")

# %% [markdown]
# Done? The key has a TTL, and a TTL can end between any two steps. **`expiries=True`** lets it. A
# token that has ended may be replaced, so we ask for less: whoever asks gets *a* token.
#
# **Predict.** Can `set_then_get` return `None`?


# %%
def some_token(world):
    return None not in world.results


ended = explore([set_then_get] * 2, invariant=some_token, client_options=like_mine, expiries=True)
ended

# %% [markdown]
# Nothing can come between when there is **one command**: `SET NX GET` (Redis 7.0, every Valkey)
# answers what was there. Now let more happen: clients crash, requests are lost, replies are lost.
# redis-py sends a command again when no reply comes, ten times, and does not tell you.
#
# A client that crashed has a `ClientCrashed` for a result, and holds no token. **With a fault on, say
# what you want of those who did not come to their end:** `never_two` asks only who has a token.


# %%
def one_command(kv):
    mine = secrets.token_hex(4)
    return kv.set("token:ann", mine, nx=True, get=True, ex=3600) or mine


never_two = lambda world: {r for r in world.results if isinstance(r, str)} <= {world.kv.get("token:ann")}  # fmt: skip # noqa: E731
held = explore([one_command] * 2, invariant=never_two, client_options=like_mine,
               crashes=True, lost_replies=True, lost_requests=True, max_faults=2)  # fmt: skip
ends = explore([one_command] * 2, invariant=some_token, client_options=like_mine, expiries=True)
print(f"two faults of any kind: {held.summary}\nTTLs that end:          {ends.summary}")

# %% [markdown]
# ### In your test suite
#
# `assert` on a story that is broken raises `Violated`, whose message is the timeline; so it does on
# one that is not complete. A test is one line. And a `replay` of the order that broke last year is a
# regression test of milliseconds, **as long as the code sends the same commands**: after a repair that
# sends fewer, `replay` says that the order does not fit. `explore` always fits.


# %%
def test_two_tabs_one_token(program=one_command):  # noqa: PT028
    assert explore([program] * 2, invariant=same_token, client_options=like_mine)


test_two_tabs_one_token()
assert replay("0 1 1 0", [set_then_get] * 2, invariant=same_token, client_options=like_mine)
try:
    test_two_tabs_one_token(get_or_create)
except Violated as failure:
    print("FAILED", *str(failure).splitlines()[:4], "…", sep="\n    ")

# %% [markdown]
# ## 2. The last coupon
#
# `stock` counts down; two customers, one coupon left. `setup` puts it there before each run. A
# mapping gives the clients names.
#
# **Predict.** Two commands again, and the second is atomic: `DECR`. Can both customers get it?


# %%
def sell(kv):
    if int(kv.get("stock")) > 0:
        kv.decr("stock")
        return "sold"
    return "sold out"


one_left = lambda kv: kv.set("stock", 1)  # noqa: E731
not_oversold = lambda world: world.results.count("sold") <= 1 and int(world.kv.get("stock")) >= 0  # fmt: skip # noqa: E731
coupons = {"setup": one_left, "invariant": not_oversold, "client_options": like_mine}
coupon = explore({"ann": sell, "bob": sell}, **coupons)
coupon

# %% [markdown]
# The usual repair: take first, look at the answer, and **give back** what was too much. `DECR` is
# one command, so no two customers see the same number.
#
# **Predict.** Does it hold in every order? And when a process may be killed between two steps?


# %%
def give_back(kv):
    if kv.decr("stock") >= 0:
        return "sold"
    kv.incr("stock")
    return "sold out"


print("every order:", explore([give_back] * 2, **coupons).summary)
crash = explore({"ann": give_back, "bob": give_back}, crashes=True, **coupons)
crash

# %% [markdown]
# No order breaks it, and a crash does: between `DECR` and `INCR` the stock is one too low. Who dies
# there leaves it so for ever: put one coupon back on sale, and nobody can buy it.
#
# What must happen together goes into one step: a script. The server runs it whole or not at all.
# Below it are knobs: which version survives what?


# %%
SELL = """
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 'sold out' end
redis.call('DECR', KEYS[1])
return 'sold'"""


def in_a_script(kv):
    return kv.eval(SELL, 1, "stock")


script = explore([in_a_script] * 2, crashes=True, lost_requests=True, **coupons)
print("every order, a crash or a lost request at every step:", script.summary)

# %%
from ipywidgets import interact


def look(program, crashes=False, lost_replies=False):
    clients = {"ann": programs[program], "bob": programs[program]}
    return explore(clients, crashes=crashes, lost_replies=lost_replies, progress=False, **coupons)


programs = {"get, then decr": sell, "give back": give_back, "script": in_a_script}
_ = interact(look, program=list(programs), crashes=True, lost_replies=False)

# %% [markdown]
# ### Ask for more, find more
#
# `not_oversold` does not mind a coupon that is lost. Ask the stricter question, and lose a reply
# (`r0` in the schedule):


# %%
def none_missing(world):
    sold, left = world.results.count("sold"), int(world.kv.get("stock"))
    assert sold + left == 1, f"{sold} sold, {left} left, 1 at first"
    return True


print(explore({"ann": in_a_script}, lost_replies=True, **coupons | {"invariant": none_missing}))

# %% [markdown]
# Ann's script ran, its reply was lost, redis-py sent it again, and the second run told her "sold
# out". **An exploration finds only what you ask for.** (An `assert` in the invariant gives the
# verdict its words.) The repair is the exercise at the end of this chapter.
#
# ## 3. A queue of jobs, and a server that is not Redis
#
# A worker takes a job and sends a mail. All workers share the mail service, and the explorer cannot
# see it. Call **`step(label, what)`** before you touch such a thing (a row of your database, a file,
# an API): from there on it is a step of its own, before or after anybody else's. Outside an exploration
# `step` does nothing, so it may stay in your code. Here the mail service is a list, and `setup`
# empties it: **`explore` resets its server and nothing else.**

# %%
mails = []


def send(job):
    step(f"mail {job}", "mail service")
    mails.append(job)


def pop(kv):
    if job := kv.rpop("jobs"):
        send(job)


# %%
one_job = lambda kv: (mails.clear(), kv.lpush("jobs", "a"))  # noqa: E731
sent_once = lambda world: mails == ["a"]  # noqa: E731
queue = {"setup": one_job, "invariant": sent_once, "client_options": like_mine, "progress": False}
print("two workers, every order:", explore([pop] * 2, **queue).summary)
popped = explore([pop] * 2, crashes=True, **queue)
popped

# %% [markdown]
# `RPOP` gives the only copy of the job to a process, and it dies with it. The usual repair: `LMOVE`
# (or `BLMOVE`, which waits) puts the job on a second list in the same step; it is removed from there
# when the work is done. And since the job of a crashed worker would stay in `working` for ever, a
# *reaper* comes by and moves what it finds there back to `jobs`.
#
# **Predict.** What does a crash do without the reaper? What can go wrong with it, without a crash?


# %%
def move(kv):
    if job := kv.lmove("jobs", "working", "RIGHT", "LEFT"):
        send(job)
        kv.lrem("working", 1, job)


print(explore([move] * 2, crashes=True, **queue))


# %%
def reap_all(kv):
    kv.lmove("working", "jobs", "RIGHT", "RIGHT")
    move(kv)


reaped = explore({"worker": move, "reaper": reap_all}, **queue)
reaped

# %% [markdown]
# The worker was alive, only not done. **A reaper must know who is dead.** So each worker gets a list
# of its own, and says "I live" in a key that ends by itself before it takes a job. The reaper takes
# from a list whose worker has no such key, looking and taking in one script: `EXISTS`, then `LMOVE`,
# would be "look, then act" again.
#
# That no job is lost is about the end of all things, so `in_the_end` goes there: the TTL ends, the
# reaper comes once more, another worker does what is left. And it reads `world.trace`, the steps of
# the run: where no fault was, nothing may be sent twice.


# %%
def worker(kv, me="w1"):
    kv.set(f"alive:{me}", 1, ex=30)
    if job := kv.lmove("jobs", f"working:{me}", "RIGHT", "LEFT"):
        send(job)
        kv.lrem(f"working:{me}", 1, job)


REAP = "if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('LMOVE', KEYS[2], KEYS[3], 'RIGHT', 'RIGHT') end"  # fmt: skip


def reaper(kv):
    kv.eval(REAP, 3, "alive:w1", "working:w1", "jobs")


# %%
def in_the_end(world):
    world.kv.delete("alive:w1")
    reaper(world.kv)
    worker(world.kv, "w2")
    faulty = any(event.kind != "go" for event in world.trace)
    return set(mails) == {"a"} and (len(mails) == 1 or faulty)


queue |= {"invariant": in_the_end}
both = {"worker": worker, "reaper": reaper}
safe = explore(both, crashes=True, expiries=True, max_faults=2, **queue)
print("a crash, a TTL that ends too early, or both, at every step:", safe.summary)

# %%
once = {"invariant": lambda world: in_the_end(world) and len(mails) == 1}  # whatever happens?
print(explore({"worker": worker}, crashes=True, **queue | once))

# %% [markdown]
# The worker dies after the mail and before `LREM`. No order of commands repairs that: two servers
# have no common step. **A queue can promise "at least once"; "once" needs the other side:** send
# the job's id with the mail, and let the mail service ignore an id that it has seen.
#
# ## Which faults to switch on
#
# | | what happens | switch it on when your code … |
# | --- | --- | --- |
# | *(none)* | every order of the steps | is run by two clients at once: always |
# | `crashes` | a client stops for good after a step: a deploy, a kill | writes more than once |
# | `lost_replies` | it ran, the client gets an error; redis-py sends it again | adds, pops, pushes |
# | `lost_requests` | it did not run; the client gets the same error | has its own `retry` or `except` |
# | `expiries` | any TTL ends; a blocking command times out | uses a key with a TTL twice |
# | `script_flushes` | the server forgets its scripts | uses `EVALSHA` |
# | `clock_jumps=[60]` | `time.time()` jumps by so many seconds | writes its own time into keys |
#
# One fault in a run, unless `max_faults=` says more. `faults=ALL_FAULTS` allows all but clock jumps.
#
# ## How large may a program be?
#
# Two clients of n commands each have (2n)! / (n! n!) orders. Each is a run on a real server, so
# count before you explore: two clients find nearly every race, and the fewest commands do too.
#
# **`reduce=True`** makes one run of all those that differ only in the order of commands on different
# keys, or of two reads. *Its condition:* the clients share nothing but the server, or say so by
# `step`; and the invariant asks for results and data, not for the order in `world.trace`.


# %%
def program(kv, me, n):
    return [kv.incr(f"own:{me}") for _ in range(n - 1)], kv.incr("shared")


rows = []
for n in (2, 3, 4, 5):
    two = [lambda kv, me=me: program(kv, me, n) for me in "ab"]  # noqa: B023
    every, reduced = explore(two, progress=False), explore(two, reduce=True, progress=False)
    rows += [(n, "every order", every.schedules, comb(2 * n, n))]
    rows += [(n, "reduce=True", reduced.schedules, 2)]

# %%
sizes = pd.DataFrame(rows, columns=["commands", "how", "runs", "theory"])
chart = charts.lines(
    sizes, x="commands", y="runs", by="how", theory="theory", logy=True,
    title=f"2 clients of {n} commands: {every.schedules} orders, {reduced.schedules} that differ",
    xlabel="commands of each client, the last one on a key that both use", ylabel="runs (log scale)",
    remark="lines: runs made    dashes: (2n)! / (n! n!), and the 2 orders of the last commands",
)  # fmt: skip
chart.axes[0].set_xticks(sizes["commands"].unique())
chart

# %% [markdown]
# ## The limits that remain
#
# - **These clients, this start, this invariant.** Another start may have another race. Choose the
#   smallest that can go wrong: one coupon, one job, two customers.
# - **A step is one write.** Not explored: orders inside a pipeline that is no MULTI, replicas,
#   pub/sub, the tasks of one asyncio client among themselves.
# - **What `step` does not name is not seen:** two clients that change the same dict never meet there.
# - **Clients must repeat themselves:** the same commands after the same replies, no threads, nothing
#   kept from one run to the next.
# - **Clocks.** `time.time()` stands still unless a client sleeps. The server's own clock goes on, so a
#   script that works with `TIME` does not notice that a TTL was made to end.
# - **A search that was cut** (`max_schedules`, 100,000 unless told) says "of at least", and `assert`
#   fails; `story.holds` is content with the runs that were made.
#
# ## Your turn
#
# **Paste your own function in place of `visit`, and change three things:** what is there before
# (`setup`), who runs it (the list), what must be true in the end (`invariant`). Then switch on
# faults, one after the other. An `async def` gets a client of `redis.asyncio`.

# %%
# ---- paste your own code here ----


def visit(kv):
    return kv.incr("visits:home")


explore([visit] * 2, setup=lambda kv: kv.set("visits:home", 0),
        invariant=lambda world: sorted(world.results) == [1, 2], lost_replies=False)  # fmt: skip

# %% tags=["finding"]
bad = " ".join(f"{story.violations}/{story.schedules}" for story in (token, coupon, popped))
fixed = (held, script, safe)
print(f"orders that break a token, a coupon, a queue: {bad}; repaired, with faults: "
      f"{sum(story.violations for story in fixed)}/{sum(story.schedules for story in fixed)}")  # fmt: skip

# %% [markdown] tags=["exercise"]
# ## Exercise: the coupon that is asked for twice
#
# Open `exercises/09_explore_your_own_code.ipynb` and write `sell(kv, order)`. It answers "sold" or
# "sold out", and holds when replies get lost (redis-py sends again, you are not asked), when
# customers crash, and when a customer clicks twice:
#
# 1. never more coupons sold than there were, and none missing;
# 2. the same order asked for again gets the same coupon, not another one.
#
# The check explores every order. When it fails it shows you the shortest run that is wrong.

# %% tags=["exercise-setup"]
from kvlab.instruments import explore

like_mine = {"decode_responses": True}
print("ready: explore starts its own server")


# %% tags=["stub"]
SELL = """
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 'sold out' end
redis.call('DECR', KEYS[1])
return 'sold'
"""


def sell(kv, order):
    return kv.eval(SELL, 1, "stock")  # your turn: who has bought?


# %% tags=["solution"]
SELL = """
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 'sold' end
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 'sold out' end
redis.call('DECR', KEYS[1])
redis.call('SADD', KEYS[2], ARGV[1])
return 'sold'
"""


def sell(kv, order):
    return kv.eval(SELL, 2, "stock", "buyers", order)


# %% tags=["check"]
def none_missing(world):
    answers, left = world.results, int(world.kv.get("stock"))
    came_back = all(isinstance(answer, str) for answer in answers)
    sold = answers.count("sold")
    right = sold + left == 1 if came_back else sold + left <= 1  # who crashed may have bought
    assert left >= 0, f"{-left} too many were sold"
    assert right, f"{sold} sold, {left} left, 1 at first"
    return True


explored = {"setup": lambda kv: kv.set("stock", 1), "client_options": like_mine}
two = {"ann": lambda kv: sell(kv, "ann's"), "bob": lambda kv: sell(kv, "bob's")}
for fault in ("no fault", "crashes", "lost_requests", "lost_replies"):
    switched_on = {} if fault == "no fault" else {fault: True}
    story = explore(two, invariant=none_missing, **explored, **switched_on)
    assert story.holds, f"with {fault}:\n{story}"
    print(f"{fault}: {story.summary}")


# %% tags=["check"]
def one_coupon(world):
    left = int(world.kv.get("stock"))
    assert world.results == ["sold", "sold"], f"one order, two answers: {world.results}"
    assert left == 1, f"one order, {2 - left} coupons"
    return True


explored["setup"] = lambda kv: kv.set("stock", 2)
twice = {"ann": lambda kv: sell(kv, "ann's"), "ann, again": lambda kv: sell(kv, "ann's")}
story = explore(twice, invariant=one_coupon, lost_replies=True, **explored)
assert story.holds, f"a customer clicks twice:\n{story}"
print(f"a double click: {story.summary}")
print("all checks pass")
