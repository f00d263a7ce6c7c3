# %% [markdown]
# # Explore your own code
#
# *About 45 minutes. Before this chapter: 00. This chapter is easier after one of 01 to 08.*
#
# The other chapters test our eight patterns. This chapter is for the function that *you* wrote last
# week. You need no sleep and no luck. Give the function to `explore`, and say what must be true at
# the end. `explore` runs the function on a real server in **every order** of its commands.
#
# This chapter has three examples in plain redis-py: a token that is made on first use, a coupon
# counter, and a queue of jobs. Each of them looks right. The explorer gets only the code and the
# sentence that must be true at the end, and it breaks all three. Then we repair each function,
# until the sentence holds in all orders.
#
# **The guarantee we want:** when `assert explore(...)` passes, no order of the commands of these
# clients, and no fault that you have switched on, breaks your sentence.
#
# ## 1. Get, or create
#
# Each user has a token. The first request that needs the token makes the token. You have probably
# written this code for a cart, a profile or a counter.

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
# `same_token` in the next cell is the sentence for two requests. `world.results` has the values
# that the clients returned. `world.kv` is a client that can read the keys at the end.

# %% tags=["predict"]
from kvlab.workshop import predict

two_tabs = predict(
    "09-two-tabs",
    "Ann opens two tabs. Each tab sends one request of at most two commands. These "
    "can run in 6 orders. In how many of the orders do the tabs have different "
    "tokens?",
)


# %%
def same_token(world):
    """both tabs hold the token that the server knows"""
    return set(world.results) == {world.kv.get("token:ann")}


like_mine = {"decode_responses": True}  # what you give to redis.Redis(...)
token_question = {"invariant": same_token, "client_options": like_mine}
tabs = {"tab 1": get_or_create, "tab 2": get_or_create}
token_story = explore(tabs, **token_question)
token_story

# %% tags=["predict"]
two_tabs.measured(token_story.violations)

# %% [markdown]
# ### How to read a story
#
# `explore` returns a **story**. This is what it shows:
#
# - **Top line:** the verdict over all schedules. A **schedule** is one order of the steps, with its
#   faults if it has some. The picture is the *shortest* schedule that breaks the sentence: the one
#   with the fewest faults, then the fewest steps, then the fewest changes of client.
# - **Time goes down.** A solid arrow is what a client sends. A dashed arrow is the reply. A number
#   on the left is a **step**: one write to the server, and all that the client does before its next
#   write. A pipeline or a MULTI is one step.
# - **Right of the server:** the keys that this step has changed, and their TTL.
# - **Below the picture:** what each client returned, and which sentence is broken.
# - **The last line** is the schedule: `0` is the next step of client 0.
#
# Both tabs look, both tabs find no token, and both tabs make a token. The second `SET` overwrites
# the first token. So the tab that wrote first has a token that the server does not know. There is
# no error and no log line. (`print(token_story)` prints the same as text. `.holds`, `.schedules`,
# `.violations` and `.schedule` are the values in it. `token_story.play()` shows every schedule as a
# game: you choose who moves next, and what fails.)
#
# ### Repair it, explore again
#
# "Look, then act" is two steps, and another client can write between them. So let the server
# decide: `SET NX` writes only if the key does not exist. Then the function reads the key. `replay`
# runs one schedule again:


# %%
def set_then_get(kv):
    """stores a new token if there is none, then reads the token"""
    kv.set("token:ann", secrets.token_hex(4), nx=True, ex=3600)
    return kv.get("token:ann")


tabs = {"tab 1": set_then_get, "tab 2": set_then_get}
again = replay(token_story.schedule, tabs, **token_question)
print("the schedule that broke get_or_create:", again.summary)
print("every schedule:", explore(tabs, **token_question).summary)

# %% [markdown]
# Is the function right now? The key has a TTL, and a TTL can end between any two steps. With
# **`expiries=True`** the explorer ends the TTL. A token that has ended may be replaced. So the
# sentence now asks for less: every tab gets *a* token.

# %% tags=["predict"]
ended = predict(
    "09-none",
    "Can `set_then_get` return `None`?",
    ["no", "yes"],
)


# %%
def all_have_a_token(world):
    """every tab got a token"""
    return None not in world.results


in_time = {"invariant": all_have_a_token, "client_options": like_mine}
ended_story = explore(tabs, expiries=True, **in_time)
ended_story

# %% tags=["predict"]
ended.measured("no" if ended_story.holds else "yes")

# %% [markdown]
# Yes: the TTL ends between the `SET` and the `GET`. With **one command** this cannot happen: `SET
# NX GET` (Redis 7.0, every Valkey) stores the token and returns the old value.
#
# The next cells add faults: clients crash, requests are lost, replies are lost. When no reply
# comes, redis-py retries a command up to ten times and does not report the retries. The result of a
# client that crashed is a `ClientCrashed`, and such a client has no token. **When you switch on a
# fault, the sentence must also say what you want of a client that failed:** `never_two_tokens` asks
# only the clients that have a token.


# %%
def one_command(kv):
    """stores a new token if there is none, and gets what was there before"""
    new = secrets.token_hex(4)
    old = kv.set("token:ann", new, nx=True, get=True, ex=3600)
    return new if old is None else old


def never_two_tokens(world):
    """every client that has a token has the token that the server knows"""
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
# With one command the sentences hold in every schedule, also with two faults in one schedule.
#
# ### In your test suite
#
# `assert` on a broken story raises `Violated`, and the message of the error is the timeline.
# `assert` on a story that is not complete raises `Violated` too. So a test is one line. A `replay`
# of a schedule that was broken before is a regression test that takes milliseconds. But a `replay`
# works **only while the code sends the same commands**. After a repair that sends fewer commands,
# `replay` says that the schedule does not fit. `explore` always finds the schedules of the present
# code.


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
# The first two asserts pass and print nothing. The third assert fails, as a test would.
#
# ## 2. The last coupon
#
# `stock` is the number of coupons that are left. There are two customers and one coupon. `setup`
# writes the 1 before each schedule.

# %% tags=["predict"]
coupon = predict(
    "09-coupon",
    "`sell` has two commands, and the second command, `DECR`, is atomic. Can both "
    "customers get the coupon?",
    ["no", "yes"],
)


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

# %% tags=["predict"]
coupon.measured("no" if coupon_story.holds else "yes")

# %% [markdown]
# Both customers see the same coupon. The usual repair has another order: take the coupon first,
# look at the answer, and **give the coupon back** if there was none. `DECR` is one command, so no
# two customers get the same number.

# %% tags=["predict"]
returned = predict(
    "09-give-back",
    "First no process is killed. Then a process may be killed between two steps. In "
    "which case does the sentence hold in every order?",
    ["in both", "only in the first", "in neither"],
)


# %%
def give_back(kv):
    if kv.decr("stock") >= 0:
        return "sold"
    kv.incr("stock")
    return "sold out"


customers = {"ann": give_back, "bob": give_back}
alive_story = explore(customers, **coupons)
print("every schedule without a fault:", alive_story.summary)
killed_story = explore(customers, crashes=True, **coupons)
killed_story

# %% tags=["predict"]
in_some = "only in the first" if alive_story.holds else "in neither"
returned.measured("in both" if killed_story.holds else in_some)

# %% [markdown]
# No order breaks the sentence, but a crash does. Between `DECR` and `INCR` the stock is too low by
# one. If the client crashes there, no client corrects the stock. When the shop later adds one
# coupon, the stock is 0, and no customer can buy this coupon.
#
# Commands that must happen together belong in one step: a script. The server runs the whole script
# or nothing of it.


# %%
SELL = """
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 'sold out' end
redis.call('DECR', KEYS[1])
return 'sold'"""


def in_a_script(kv):
    return kv.eval(SELL, 1, "stock")


script_story = explore([in_a_script] * 2, crashes=True, lost_requests=True, **coupons)
print("a crash or a lost request at every step:", script_story.summary)

# %% [markdown]
# ### A stricter question
#
# `not_oversold` is also true when a coupon is lost. The next cell asks a stricter question, and
# lets the explorer lose a reply (`r0` in the schedule). When an `assert` in the invariant fails,
# the verdict shows its message:


# %%
def none_missing(world):
    sold = world.results.count("sold")
    left = int(world.kv.get("stock"))
    assert sold + left == 1, f"{sold} sold, {left} left, 1 at first"
    return True


stricter = coupons | {"invariant": none_missing}
explore({"ann": in_a_script}, lost_replies=True, **stricter)

# %% [markdown]
# Ann's script ran, and its reply was lost. redis-py retried, and the second run answered "sold
# out". **An exploration finds only mistakes that your sentence forbids.** The repair is the
# exercise at the end of this chapter.
#
# ## 3. A queue of jobs, and a server that is not Redis
#
# A worker takes a job and sends a mail. All workers share the mail service, and the explorer cannot
# see the mail service. Call **`step(label, what)`** before you use such a shared thing (a row of
# your database, a file, an API). The code after the call is then a separate step, and the explorer
# runs this step before or after the steps of other clients. Outside an exploration `step` does
# nothing, so the call may stay in your code. Here the mail service is a list, and `setup` empties
# the list: **`explore` resets its server, and it resets nothing else.**

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
print("two workers without a fault:", explore([pop] * 2, **queue).summary)
popped_story = explore({"worker 1": pop, "worker 2": pop}, crashes=True, **queue)
popped_story

# %% [markdown]
# `RPOP` gives the only copy of the job to a process. If the process crashes, the job is lost. The
# usual repair uses `LMOVE` (or `BLMOVE`, which waits). `LMOVE` moves the job to a second list,
# `working`, in one step. The worker removes the job from `working` after its work. The job of a
# crashed worker stays in `working`, so a second program, the *reaper*, moves the jobs in `working`
# back to `jobs`. The next cells try a crash without a reaper, and then a reaper without a crash.

# %% tags=["predict"]
reaping = predict(
    "09-reaper",
    "There is a reaper, and no process crashes. What can happen to the mail?",
    ["it is sent once, always", "it is sent twice", "it is not sent"],
)


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


both = {"worker": move, "reaper": reap_all}
reaped_story = explore(both, **queue)
reaped_story

# %% tags=["predict"]
replay(reaped_story.schedule, both, **queue)
outcomes = ["it is not sent", "it is sent once, always", "it is sent twice"]
reaping.measured(outcomes[len(mails)])

# %% [markdown]
# The worker was alive, and it had not finished its work. **A reaper must know which worker is
# dead.** So each worker gets a separate list. Before a worker takes a job, the worker sets a key
# with a TTL. The reaper takes a job from the list of a worker only if the key of this worker does
# not exist. The reaper looks and takes in one script. With two commands, `EXISTS` and then `LMOVE`,
# this would be "look, then act" again.
#
# The sentence "no job is lost" is about a later moment: after the TTL has ended, after the reaper
# has run once more, and after another worker has done the remaining jobs. So the invariant first
# does these three things. The invariant also reads `world.trace`, the steps of the schedule:
# without a fault, no mail may be sent twice.


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
# The worker crashes after the mail and before `LREM`. No order of commands can repair this, because
# Redis and the mail service are two servers, and two servers have no common step. **A queue can
# promise "at least once". For "exactly once" the mail service must help:** send the job's id with
# the mail, and let the mail service ignore an id that it already knows.
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
# | `failovers` | a replica without the last writes replaces the server | must not lose a write that was answered |
#
# `faults=ALL_FAULTS` switches on all faults except clock jumps and failovers. At most one fault
# happens in a schedule, unless `max_faults` allows more.
#
# ## How large may a program be?
#
# Two clients of n commands each have (2n)! / (n! n!) orders. Each order runs on a real server, so
# count the orders before you explore. Most races need only two clients and a few commands.
#
# With **`reduce=True`** the explorer treats some schedules as equal: schedules that differ only in
# the order of commands on different keys, or in the order of two reads. The explorer runs one of
# them. *There are two conditions.* The clients share only the server, or they call `step` before
# they use another shared thing. And the invariant asks for results and data, and not for the order
# in `world.trace`.

# %%
from kvlab.chapters.explore_your_own_code.sizes import runs_by_size, runs_chart

sizes = runs_by_size((2, 3, 4, 5))
every, reduced = sizes["runs"].tail(2)
title = f"2 clients of 5 commands: {every} orders, {reduced} that differ"
runs_chart(sizes, title=title)

# %% [markdown]
# The clients use the same key only in their last command. So only two orders differ, and this
# number does not grow with the number of commands.
#
# ## The limits that remain
#
# - **A story is about these clients, this start and this invariant.** Another start may have
#   another race. Choose the smallest start that can go wrong: one coupon, one job, two customers.
# - **A step is one write.** The explorer does not explore the orders inside a pipeline without
#   MULTI, replicas, pub/sub, and the order of the tasks in one asyncio client.
# - **The explorer sees only the server and the calls of `step`.** When two clients change the same
#   dict without `step`, the explorer does not try the orders of these changes.
# - **A client must be repeatable:** it sends the same commands after the same replies, and it keeps
#   no state from one schedule to the next. The explorer refuses a client that is not repeatable.
# - **A library that connects by itself** needs `own_connections=True`. The library must use
#   redis-py, and no thread of the library may use the server.
# - **Clocks.** The clocks of a client (`time`, `datetime`) stand still unless the client sleeps. The
#   server's own clock continues. When the explorer ends a TTL, a script that uses `TIME` still gets
#   the real time.
# - **A search can end too early** (after `max_schedules`, by default 100,000, or after
#   `max_seconds`). The verdict is then "undecided", the summary says "of at least", and `assert`
#   fails. The explorer runs the schedules with few faults and few switches first.
#
# ## Your turn
#
# **Put your own function in the place of `visit`, and change three things:** the keys at the start
# (`setup`), the clients (the list), and the sentence that must be true at the end (`invariant`).
# Then switch on the faults, one after the other. An `async def` gets a client of `redis.asyncio`.


# %%
def visit(kv):  # your own function
    return kv.incr("visits:home")


def one_and_two(world):
    """the two visitors get the numbers 1 and 2"""
    return sorted(world.results) == [1, 2]


explore([visit] * 2, setup=lambda kv: kv.set("visits:home", 0), invariant=one_and_two)

# %% tags=["finding"]
broken = (token_story, coupon_story, popped_story)
shares = [f"{story.violations} of {story.schedules}" for story in broken]
repaired = (held_story, script_story, safe)
violations = sum(story.violations for story in repaired)
schedules = sum(story.schedules for story in repaired)
print(
    f"a token, a coupon, a queue broken in {', '.join(shares)} schedules; "
    f"repaired, with faults, in {violations} of {schedules}"
)

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `exercises/09_explore_your_own_code.ipynb` has a short exercise (10 minutes) and a longer one. You write one function
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
# If you need help, run `hint("09-short")`: three hints, then a solution.


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
# 1. no more coupons are sold than there were, and no coupon is lost;
# 2. an order that comes twice gets one coupon.
#
# If you need help, run `hint("09")`: three hints, then a solution.

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
