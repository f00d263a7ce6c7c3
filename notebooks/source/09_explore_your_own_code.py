# %% [markdown]
# # Explore your own code
#
# *45 minutes. Before it: chapter 0. It is easier after one of the chapters 1 to 8.*
#
# The other chapters break our eight patterns. This chapter is for the function that *you* wrote last
# week. You need no trick, no sleep and no luck: give the function to `explore`, and say what must be
# true at the end. `explore` runs the function on a real server in **every order** of its commands.
#
# Here are three functions of the kind that people write, all plain redis-py: a token that is made on
# first use, a coupon counter, a queue of jobs. Each of them reads well. The explorer knows nothing
# about them but the sentence that must be true at the end, and it breaks all three. Each function is
# then repaired, and holds in all orders.
#
# **The guarantee we want:** when `assert explore(...)` passes, no order of the commands of these
# clients, and no fault that you have switched on, breaks your sentence.
#
# ## 1. Get, or create
#
# Each user has a token, which is made when it is first asked for. You have written this with a cart,
# a profile or a counter in the place of the token.

# %%
import secrets

from kvlab.instruments import Faults, Violated, explore, replay, step


def get_or_create(kv):
    token = kv.get("token:ann")
    if token is None:
        token = secrets.token_hex(4)
        kv.set("token:ann", token, ex=3600)
    return token


# %% [markdown]
# `same_token` in the next cell is what we want of two requests: `world.results` are the values that
# the clients returned, and `world.kv` is a client to look with.
#
# **Predict.** Ann opens two tabs: two requests, each of at most two commands. How many orders are
# there? In how many of the orders do the tabs hold different tokens?


# %%
def same_token(world):
    """both tabs hold the token that the server knows"""
    return set(world.results) == {world.kv.get("token:ann")}


like_mine = {"decode_responses": True}  # what you give to redis.Redis(...)
token_question = {"invariant": same_token, "client_options": like_mine}
tabs = {"tab 1": get_or_create, "tab 2": get_or_create}
token_story = explore(tabs, **token_question)
token_story

# %% [markdown]
# ### How to read a story
#
# - **Top line:** the verdict over all orders that were run. The picture is the *shortest* run that
#   breaks the sentence: fewest faults, then fewest steps, then fewest changes of client.
# - **Time goes down.** A solid arrow is what a client sends, the dashed arrow is its reply. A number
#   on the left is a **step**: one write to the server, and all that the client does until its next
#   write. A pipeline or a MULTI is one step.
# - **Right of the server:** the keys that this step has changed, and their TTL.
# - **Below:** what each client returned, and which sentence is broken.
# - **The last line** is the order itself: `0` is the next step of client 0.
#
# Both tabs look, both find nothing, both make a token, and the second `SET` wins. The tab that wrote
# first holds a token that no server knows. There is no error and no log line. (`print(token_story)`
# gives the same as text; `.holds`, `.schedules`, `.violations` and `.schedule` are its numbers.)
#
# ### Repair it, explore again
#
# "Look, then act" is two steps, and anything fits between them. So let the server decide: `SET NX`
# writes only where nothing is. Then read what is there. `replay` runs one order:


# %%
def set_then_get(kv):
    """stores a new token if there is none, then reads the token"""
    kv.set("token:ann", secrets.token_hex(4), nx=True, ex=3600)
    return kv.get("token:ann")


tabs = {"tab 1": set_then_get, "tab 2": set_then_get}
again = replay(token_story.schedule, tabs, **token_question)
print("the order that broke it:", again.summary)
print("every order:", explore(tabs, **token_question).summary)

# %% [markdown]
# Is it done? The key has a TTL, and a TTL can end between any two steps. **`expiries=True`** lets it
# end. A token that has ended may be replaced, so we ask for less: every tab gets *a* token.
#
# **Predict.** Can `set_then_get` return `None`?


# %%
def all_have_a_token(world):
    """every tab got a token"""
    return None not in world.results


explore(tabs, invariant=all_have_a_token, client_options=like_mine, expiries=True)

# %% [markdown]
# Yes: the TTL ends between the `SET` and the `GET`. Nothing can come between when there is **one
# command**: `SET NX GET` (Redis 7.0, every Valkey) answers what was there.
#
# Now let more happen: clients crash, requests are lost, replies are lost. redis-py retries a command
# ten times when no reply comes, and does not tell you. A client that crashed has a `ClientCrashed`
# for a result, and holds no token. **With a fault on, say what you want of the clients that did not
# reach their end:** `never_two_tokens` asks only those that have a token.


# %%
def one_command(kv):
    """stores a new token if there is none, and gets what was there before"""
    new = secrets.token_hex(4)
    old = kv.set("token:ann", new, nx=True, get=True, ex=3600)
    return new if old is None else old


def never_two_tokens(world):
    """who holds a token holds the one that the server knows"""
    held = {result for result in world.results if isinstance(result, str)}
    return held <= {world.kv.get("token:ann")}


# %%
never_two = {"invariant": never_two_tokens, "client_options": like_mine}
faults = Faults(crashes=True, lost_replies=True, lost_requests=True)
held_story = explore([one_command] * 2, faults=faults, max_faults=2, **never_two)
print("two faults of any kind:", held_story.summary)

all_have = {"invariant": all_have_a_token, "client_options": like_mine}
ended_story = explore([one_command] * 2, expiries=True, **all_have)
print("TTLs that end:", ended_story.summary)

# %% [markdown]
# One command holds in every order, with two faults in one run too.
#
# ### In your test suite
#
# `assert` on a broken story raises `Violated`, whose message is the timeline. `assert` on a story that
# is not complete raises it too. So a test is one line. And a `replay` of the order that broke last
# year is a regression test of milliseconds, **as long as the code sends the same commands**: after a
# repair that sends fewer commands, `replay` says that the order does not fit. `explore` always fits.


# %%
def test_two_tabs_one_token():
    assert explore([one_command] * 2, **token_question)


test_two_tabs_one_token()
assert replay("0 1 1 0", [set_then_get] * 2, **token_question)
try:
    assert explore([get_or_create] * 2, **token_question)
except Violated as failure:
    print(*str(failure).splitlines()[:4], "…", sep="\n")

# %% [markdown]
# The first two lines pass and print nothing. The third one fails as a test would.
#
# ## 2. The last coupon
#
# `stock` counts down; there are two customers, and one coupon is left. `setup` puts the coupon there
# before each run.
#
# **Predict.** Two commands again, and the second one is atomic: `DECR`. Can both customers get the
# coupon?


# %%
def sell(kv):
    if int(kv.get("stock")) > 0:
        kv.decr("stock")
        return "sold"
    return "sold out"


def one_coupon(kv):
    kv.set("stock", 1)


# %%
def not_oversold(world):
    """one customer at most gets the coupon, and the stock is not below 0"""
    sold = world.results.count("sold")
    return sold <= 1 and int(world.kv.get("stock")) >= 0


coupons = {"setup": one_coupon, "invariant": not_oversold, "client_options": like_mine}
coupon_story = explore({"ann": sell, "bob": sell}, **coupons)
coupon_story

# %% [markdown]
# Both look at the same coupon. The usual repair: take first, look at the answer, and **give back**
# what was too much. `DECR` is one command, so no two customers see the same number.
#
# **Predict.** Does the repair hold in every order? And when a process may be killed between two steps?


# %%
def give_back(kv):
    if kv.decr("stock") >= 0:
        return "sold"
    kv.incr("stock")
    return "sold out"


customers = {"ann": give_back, "bob": give_back}
print("every order:", explore(customers, **coupons).summary)
explore(customers, crashes=True, **coupons)

# %% [markdown]
# No order breaks it, and a crash does: between `DECR` and `INCR` the stock is one too low. If the
# client crashes there, the stock stays too low for ever: put one coupon back on sale, and nobody can
# buy it.
#
# What must happen together goes into one step: a script. The server runs a script whole or not at
# all.


# %%
SELL = """
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 'sold out' end
redis.call('DECR', KEYS[1])
return 'sold'"""


def in_a_script(kv):
    return kv.eval(SELL, 1, "stock")


script_story = explore([in_a_script] * 2, crashes=True, lost_requests=True, **coupons)
print("every order, a crash or a lost request at every step:", script_story.summary)

# %% [markdown]
# ### Ask for more, find more
#
# `not_oversold` accepts a coupon that is lost. Ask the stricter question, and lose a reply (`r0` in
# the schedule). An `assert` in the invariant gives the verdict its words:


# %%
def none_missing(world):
    sold = world.results.count("sold")
    left = int(world.kv.get("stock"))
    assert sold + left == 1, f"{sold} sold, {left} left, 1 at first"
    return True


stricter = coupons | {"invariant": none_missing}
explore({"ann": in_a_script}, lost_replies=True, **stricter)

# %% [markdown]
# Ann's script ran, and its reply was lost. redis-py retried, and the second run answered "sold out".
# **An exploration finds only what you ask for.** The repair is the exercise at the end of this
# chapter.
#
# ## 3. A queue of jobs, and a server that is not Redis
#
# A worker takes a job and sends a mail. All workers share the mail service, and the explorer cannot
# see it. Call **`step(label, what)`** before you touch such a thing (a row of your database, a file,
# an API): what follows is then a step of its own, before or after the steps of other clients. Outside
# an exploration `step` does nothing, so it may stay in your code. Here the mail service is a list,
# and `setup` empties the list: **`explore` resets its server and nothing else.**

# %%
mails = []


def send(job):
    step(f"mail {job}", "mail service")
    mails.append(job)


def pop(kv):
    job = kv.rpop("jobs")
    if job:
        send(job)


# %%
def one_job(kv):
    mails.clear()
    kv.lpush("jobs", "a")


def sent_once(world):
    """the mail is sent once"""
    return mails == ["a"]


queue = {"setup": one_job, "invariant": sent_once, "client_options": like_mine}

# %%
print("two workers, every order:", explore([pop] * 2, **queue).summary)
popped_story = explore({"worker 1": pop, "worker 2": pop}, crashes=True, **queue)
popped_story

# %% [markdown]
# `RPOP` gives the only copy of the job to a process, and the job dies with the process. The usual
# repair: `LMOVE` (or `BLMOVE`, which waits) puts the job on a second list in the same step, and the
# worker removes it from there after its work. The job of a crashed worker would stay in `working` for
# ever, so a *reaper* moves what it finds there back to `jobs`.
#
# **Predict.** What does a crash do without the reaper? What can go wrong with the reaper, without a
# crash?


# %%
def move(kv):
    job = kv.lmove("jobs", "working", "RIGHT", "LEFT")
    if job:
        send(job)
        kv.lrem("working", 1, job)


print("a crash, no reaper:", explore([move] * 2, crashes=True, **queue).summary)


# %%
def reap_all(kv):
    """moves a job from working back to jobs, then works"""
    kv.lmove("working", "jobs", "RIGHT", "RIGHT")
    move(kv)


explore({"worker": move, "reaper": reap_all}, **queue)

# %% [markdown]
# The worker was alive, and had not finished. **A reaper must know who is dead.** So each worker gets a
# list of its own, and sets a key that ends by itself before it takes a job. The reaper takes from a
# list only when the worker has no such key. It looks and takes in one script: `EXISTS`, then `LMOVE`,
# would be "look, then act" again.
#
# "No job is lost" is a sentence about the end of all things, so the invariant goes there: the TTL
# ends, the reaper comes once more, and another worker does what is left. The invariant also reads
# `world.trace`, the steps of the run: without a fault, nothing may be sent twice.


# %%
def worker(kv, name="w1"):
    """says that it is alive, takes the job, sends the mail, removes the job"""
    kv.set(f"alive:{name}", 1, ex=30)
    job = kv.lmove("jobs", f"working:{name}", "RIGHT", "LEFT")
    if job:
        send(job)
        kv.lrem(f"working:{name}", 1, job)


# %%
REAP = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('LMOVE', KEYS[2], KEYS[3], 'RIGHT', 'RIGHT')
end"""


def reaper(kv):
    """puts the job of a dead worker back"""
    kv.eval(REAP, 3, "alive:w1", "working:w1", "jobs")


# %%
def no_job_is_lost(world):
    """in the end the mail is sent, and without a fault only once"""
    world.kv.delete("alive:w1")
    reaper(world.kv)
    worker(world.kv, "w2")
    faulty = any(event.kind != "go" for event in world.trace)
    return set(mails) == {"a"} and (faulty or len(mails) == 1)


queue["invariant"] = no_job_is_lost
safe = explore([worker, reaper], crashes=True, expiries=True, max_faults=2, **queue)
print("a crash, a TTL that ends, or both, at every step:", safe.summary)


# %%
def sent_once_in_the_end(world):
    """in the end the mail is sent exactly once, whatever happens"""
    return no_job_is_lost(world) and len(mails) == 1


queue["invariant"] = sent_once_in_the_end
explore({"worker": worker}, crashes=True, **queue)

# %% [markdown]
# The worker crashes after the mail and before `LREM`. No order of commands repairs that: two servers
# have no common step. **A queue can promise "at least once"; "once" needs the other side:** send the
# job's id with the mail, and let the mail service ignore an id that it has seen.
#
# ## Which faults to switch on
#
# | | what happens | switch it on when your code … |
# | --- | --- | --- |
# | *(none)* | every order of the steps | is run by two clients at once: always |
# | `crashes` | a client stops for good after a step: a deploy, a kill | writes more than once |
# | `lost_replies` | the command ran, the client gets an error; redis-py retries | adds, pops, pushes |
# | `lost_requests` | the command did not run; the client gets the same error | has its own `retry` or `except` |
# | `expiries` | any TTL ends; a blocking command times out | uses a key with a TTL twice |
# | `script_flushes` | the server forgets its scripts | uses `EVALSHA` |
# | `clock_jumps=[60]` | `time.time()` jumps by so many seconds | writes its own time into keys |
#
# `faults=ALL_FAULTS` switches on all of them but the clock jumps. At most one fault happens in a run,
# unless `max_faults` allows more.
#
# ## How large may a program be?
#
# Two clients of n commands each have (2n)! / (n! n!) orders. Each order is a run on a real server, so
# count before you explore: two clients find nearly every race, and so do few commands.
#
# **`reduce=True`** makes one run of all those that differ only in the order of commands on different
# keys, or of two reads. *Its condition:* the clients share nothing but the server, or say so by
# `step`; and the invariant asks for results and data, not for the order in `world.trace`.

# %%
from kvlab.chapters.explore_your_own_code.sizes import runs_by_size, runs_chart

sizes = runs_by_size((2, 3, 4, 5))
every, reduced = sizes["runs"].tail(2)
title = f"2 clients of 5 commands: {every} orders, {reduced} that differ"
runs_chart(sizes, title=title)

# %% [markdown]
# The clients meet at their last command only, so two orders differ, however long the clients are.
#
# ## The limits that remain
#
# - **These clients, this start, this invariant.** Another start may have another race. Choose the
#   smallest that can go wrong: one coupon, one job, two customers.
# - **A step is one write.** Not explored: orders inside a pipeline that is no MULTI, replicas, pub/sub,
#   the tasks of one asyncio client among themselves.
# - **What `step` does not name is not seen:** two clients that change the same dict never meet there.
# - **Clients must repeat themselves:** the same commands after the same replies, no threads, nothing
#   that is kept from one run to the next.
# - **Clocks.** `time.time()` stands still unless a client sleeps. The server's own clock goes on, so a
#   script that works with `TIME` does not notice that a TTL was made to end.
# - **A search that was cut** (`max_schedules`, by default 100,000) says "of at least", and `assert`
#   fails; `story.holds` looks only at the runs that were made.
#
# ## Your turn
#
# **Paste your own function in the place of `visit`, and change three things:** what is there before
# (`setup`), who runs it (the list), what must be true at the end (`invariant`). Then switch on the
# faults, one after the other. An `async def` gets a client of `redis.asyncio`.


# %%
def visit(kv):  # your own function
    return kv.incr("visits:home")


def one_and_two(world):
    """the two visitors get the numbers 1 and 2"""
    return sorted(world.results) == [1, 2]


explore([visit] * 2, setup=lambda kv: kv.set("visits:home", 0), invariant=one_and_two)

# %% tags=["finding"]
broken = (token_story, coupon_story, popped_story)
shares = [f"{story.violations}/{story.schedules}" for story in broken]
repaired = (held_story, script_story, safe)
violations = sum(story.violations for story in repaired)
schedules = sum(story.schedules for story in repaired)
print(
    f"orders that break a token, a coupon, a queue: {' '.join(shares)}; "
    f"repaired, with faults: {violations}/{schedules}"
)

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Open `exercises/09_explore_your_own_code.ipynb`: a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `enqueue_once`: a job that waits once.
# 2. `sell`: the coupon that is asked for twice.

# %% tags=["exercise-setup"]
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: a job that waits once
#
# Write `enqueue_once(kv, job)`. It puts the job into the list `jobs` unless the job waits there already. `kv`
# is a redis-py client whose replies are text.
#
# 1. A job waits once, also when two clients put it at the same moment, and after a crash and a second try.
# 2. A job that a worker has taken (`RPOP`) may be put again.
#
# Stuck? Run `hint("09-short")`: three hints, then a solution.


# %% tags=["stub"]
def enqueue_once(kv, job):
    if kv.lpos("jobs", job) is None:
        kv.lpush("jobs", job)  # who else has looked?


# %% tags=["solution"]
PUSH = """
if not redis.call('LPOS', KEYS[1], ARGV[1]) then
  redis.call('LPUSH', KEYS[1], ARGV[1])
end"""


def enqueue_once(kv, job):
    kv.eval(PUSH, 1, "jobs", job)


# %% tags=["check"]
check("09-short", enqueue_once)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: the coupon that is asked for twice
#
# Write `sell(kv, order)`. It answers "sold" or "sold out". The key `stock` holds the number of coupons. The
# promise holds when replies are lost (redis-py retries and does not ask you), when customers crash, and when
# a customer clicks twice:
#
# 1. never more coupons sold than there were, and none missing;
# 2. the same order gets the same coupon when it is asked for again, and not another one.
#
# Stuck? Run `hint("09")`: three hints, then a solution.

# %% tags=["stub"]
SELL = """
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 'sold out' end
redis.call('DECR', KEYS[1])
return 'sold'"""


def sell(kv, order):
    return kv.eval(SELL, 1, "stock")  # your turn: who has bought?


# %% tags=["solution"]
SELL = """
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 'sold' end
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 'sold out' end
redis.call('DECR', KEYS[1])
redis.call('SADD', KEYS[2], ARGV[1])
return 'sold'"""


def sell(kv, order):
    return kv.eval(SELL, 2, "stock", "buyers", order)


# %% tags=["check"]
check("09", sell)
