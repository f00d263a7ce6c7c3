# %% [markdown]
# # Beyond one server
#
# *About 40 minutes. Before this chapter: 00, 05 and 09.*
#
# Production runs on more than one server. A **replica** follows the primary, and takes its place when
# the primary fails: that is a **failover**. All eight patterns say "not promised: a failover". This
# chapter shows what a failover does to each pattern, as its shortest run, and what helps.
#
# **The guarantee we want:** what the server has answered stays, or the program notices that it is
# lost. Replication alone does not give this guarantee.
#
# ## 1. A replica may lack the last writes
#
# Replication is **asynchronous**: the primary answers a client first, and sends the write to the
# replica later. So a replica has all writes up to some moment, and none after that moment. The next
# cells start a real primary and a real replica behind one address. `part()` cuts the replica off.
# `promote()` puts the replica in the primary's place.

# %%
import redis

from kvlab.instruments import Failover

pair = Failover()
kv = redis.Redis.from_url(pair.url, decode_responses=True)
kv.set("a", "written before the cut")
pair.part()
print("SET b:", kv.set("b", "written after the cut"))

# %% tags=["predict"]
from kvlab.workshop import predict

answered = predict(
    "14-answered",
    "The primary has answered True for `b`. Now the replica takes its place. What "
    "does a client read for `b`?",
    ["the value", "None", "an error"],
)

# %%
pair.promote()
value = kv.get("b")
print("a:", kv.get("a"))
print("b:", value)
pair.rejoin()
print("b, when the old primary is back:", kv.get("b"))
pair.close()

# %% tags=["predict"]
answered.measured("None" if value is None else "the value")

# %% [markdown]
# The write of `b` was answered, and it is lost. No client gets an error. A replica gets a MULTI or
# a script whole, so a failover never cuts one in two. It may cut a pipeline. When the old primary
# comes back (`rejoin`), it follows the new one, and drops what it alone had.
#
# ## 2. A failover as a step
#
# A real failover comes at one moment. The explorer tries every moment. With `failovers=True` the
# server loses its last write, its last two writes, and so on, before any step of a client. All
# connections break. `p1` in a schedule is a failover that loses one write.
#
# The next cell is the lock of chapter 05 in one command. It is right on one server.

# %%
from kvlab.instruments import explore, step


def holder(kv):
    if kv.set("door", "held", nx=True, ex=10):
        step("enters", "the room")
        step("leaves", "the room")


# %%
def one_inside(world):
    """at most one client is in the room"""
    return world.most_inside("enters", "leaves") <= 1


people = {"ann": holder, "bob": holder}
print("one server:", explore(people, invariant=one_inside).summary)

# %% tags=["predict"]
steps = predict(
    "14-two-holders",
    "How many writes must a failover lose, so that two clients are in the room?",
)

# %%
lock_story = explore(people, invariant=one_inside, failovers=True)
lock_story

# %% tags=["predict"]
lost = [token for token in lock_story.schedule.split() if token.startswith("p")]
steps.measured(int(lost[0][1:]))

# %% [markdown]
# One write is enough. Ann has the lock, the new server does not know it, and Bob gets the lock too.
# **No lock in the store can prevent this**, since the store itself has forgotten.
#
# ### A fence
#
# Let both in, and let the guarded thing (here a database) refuse the older one. A **fence** is a
# number that rises with each holder. Here is a fence that many programs have: a counter beside the
# lock.

# %%
TAKE = """
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', 10) then return false end
return redis.call('INCR', KEYS[2])"""
fences = []


def counted(kv):
    fence = kv.eval(TAKE, 2, "door", "fence")
    if fence:
        fences.append(fence)
        step("writes the row", "the database")


# %%
def no_fence(kv):
    fences.clear()


def fences_rise(world):
    """each holder has a higher fence than the holder before"""
    return fences == sorted(set(fences))


fence_question = {"setup": no_fence, "invariant": fences_rise, "failovers": True}

# %% tags=["predict"]
counter = predict(
    "14-counter",
    "Does the counter rise from holder to holder, also through a failover?",
    ["yes", "no"],
)

# %%
counter_story = explore({"ann": counted, "bob": counted}, **fence_question)
counter_story

# %% tags=["predict"]
counter.measured("yes" if counter_story.holds else "no")

# %% [markdown]
# The failover takes the counter back too, so two holders have the fence 1. The lock of kvlab computes
# its fence from the time of the server as well: max(last + 1, microseconds). This number rises when
# the counter is lost, as long as the clock of the new server is not behind.

# %%
from kvlab import Lock


def fenced(kv):
    held = kv.run(Lock("door", ttl=10).try_acquire())
    if held:
        fences.append(held.fence)
        step("writes the row", "the database")


# %%
from IPython.display import display

fence_story = explore({"ann": fenced, "bob": fenced}, **fence_question)
print("the fence of kvlab:", fence_story.summary)
display(lock_story.play(title="The lock and a failover"))
display(fence_story.play(title="The fence and a failover"))

# %% [markdown]
# Two holders still exist in these runs. The database refuses a late write of the older one.
#
# **Play the scheduler** in the two frames: choose who moves next, and when the server fails over. The
# first frame can be broken, and the second cannot.
#
# ## 3. WAIT, and what WAIT says
#
# A log-out that a failover takes back is worse than an error. Redis has a command for this: `WAIT 1
# 100` waits until one replica has the writes, for at most 100 ms, and answers how many replicas have
# them.


# %%
def log_out(kv):
    kv.delete("session")
    kv.wait(1, 100)
    return kv.exists("session")


def logged_in(kv):
    kv.set("session", "ann", ex=3600)


# %% tags=["predict"]
waiting = predict(
    "14-wait",
    "`log_out` asks for one replica, and goes on when WAIT has answered. Is the "
    "session gone in every run with a failover?",
    ["yes", "no"],
)


# %%
def is_out(world):
    """after the log-out the session does not exist"""
    return 1 not in world.results


question = {"setup": logged_in, "invariant": is_out, "failovers": True}
wait_story = explore([log_out], **question)
wait_story

# %% tags=["predict"]
waiting.measured("yes" if wait_story.holds else "no")

# %% [markdown]
# WAIT speaks of **what its own connection wrote**. The failover closed the connection, so WAIT
# travels on a new one, which has written nothing: the answer is 1 immediately. A real pair does the
# same.
#
# So write and WAIT must travel together, in one pipeline. And WAIT can be **in vain**: when the
# replica does not answer, WAIT answers 0 and raises no error. The explorer counts that as a
# separate fault (`w0` in a schedule), so the next cell allows two faults.


# %%
def in_a_pipeline(kv):
    kv.pipeline(transaction=False).delete("session").wait(1, 100).execute()
    return kv.exists("session")


vain_story = explore([in_a_pipeline], max_faults=2, **question)
vain_story

# %% [markdown]
# This program does not look at the answer. The next one does, and says "unknown" if no replica has
# the write. Then the user is told to try again.


# %%
def looks_at_the_answer(kv):
    pipe = kv.pipeline(transaction=False).delete("session").wait(1, 100)
    if pipe.execute()[1] < 1:
        return "unknown"
    return kv.exists("session")


# %%
def visits(kv):
    kv.incr("visits")


users = {"ann": looks_at_the_answer, "bob": visits}
sure_story = explore(users, max_faults=2, **question)
print("write and WAIT in one pipeline, and a look:", sure_story.summary)

# %% [markdown]
# ## 4. The eight patterns
#
# The next cell asks each pattern of kvlab the same question. The column `broken` says in how many
# runs a failover breaks the promise. `the way out` names a repair, and `then broken` says in how
# many runs the repair breaks.

# %%
from kvlab.chapters.beyond_one_server.failovers import explored_cases

table = explored_cases()
table.style.hide(axis="index")

# %% [markdown]
# - **A fence** protects what is outside of the store.
# - **mark, WAIT, look again**: after the op, one pipeline sets a mark and sends WAIT; then the
#   program reads whether the op is still done, and begins again if not. The mark is a write, so WAIT
#   has something to wait for. The look is needed because a failover may come between the op and the
#   mark.
# - **The same `op_id`, the same version**: an op that is sent again counts once.
# - **A limiter** forgets its window. One more limit is the price of a failover. WAIT after each hit
#   would cost more than the hits that it saves.
#
# Each row was also made on a real primary and replica, cut and promoted between every two round
# trips (the half batch: inside of one). Nothing happened there that the explorer had not listed.
#
# ## 5. Five nodes: the Redlock argument
#
# If one server can forget, take five, and let the majority decide: this is **Redlock**. The client
# sets the lock on five nodes that know nothing of each other. It holds the lock if at least three
# agree in time. Martin Kleppmann and Salvatore Sanfilippo argued about it in 2016. Two timelines are
# the core of the argument, and both can be run.
#
# *What is simulated:* one server stands for the five nodes, with a key for each. A node whose clock
# jumps ahead, or that restarts without its data, is a key whose TTL ends early. `holder` makes a
# client that acquires the lock, sleeps for its pause, enters the room and leaves the room.

# %%
import inspect

from kvlab.chapters.beyond_one_server import redlock

print(inspect.getsource(redlock.acquire))

# %%
awake = {"ann": redlock.holder("ann"), "bob": redlock.holder("bob")}
five_story = explore(awake, invariant=one_inside, reduce=True)
print("five nodes, no fault:", five_story.summary)

# %% [markdown]
# Without a fault the majority is right in every order. Now the first timeline: **the clock of one
# node jumps** after three nodes have given the lock to Ann.

# %% tags=["predict"]
jump = predict(
    "14-jump",
    "Ann has A, B and C. Then the TTL of A ends early. Five nodes, one fault: can "
    "Bob hold the lock too?",
    ["no", "yes"],
)

# %%
from kvlab.instruments import replay

schedule = "0 0 0 0 e:A:door 1 1 1 1 1 1 1 0 0 0 1"
jump_story = replay(schedule, awake, invariant=one_inside)
jump_story

# %% tags=["predict"]
jump.measured("no" if jump_story.holds else "yes")

# %% [markdown]
# Bob has A, D and E: a majority too. One node of five is enough. Sanfilippo's answer was: a node must
# not jump its clock, and must stay away for a TTL after a restart. That is a rule for the people who
# run the nodes, and no client can check it.
#
# The second timeline: **the client stops** (a garbage collection, a laptop that sleeps) after it has
# the lock. `acquire` looks at the clock after the last answer, so a pause *inside* of `acquire` is
# noticed. A pause after that look is not:

# %%
sleepy = {"ann": redlock.holder("ann", pause=11), "bob": redlock.holder("bob")}
pause_story = replay("0 0 0 0 0 0 0 1 1 1 1 1 1 1 0 0", sleepy, invariant=one_inside)
pause_story

# %% [markdown]
# This is true for every lock with a TTL, on one node or on five. So both were right about something:
#
# - Sanfilippo: the check of the elapsed time closes the pause inside of `acquire`.
# - Kleppmann: the lock alone is not safe, and more nodes do not help. **The guarded thing must refuse
#   the older holder**, and Redlock has no number that rises.
#
# **What fencing changes:** with a fence, section 2 held in every run, with one server and a failover.
# If a double holder only costs time, one server and a TTL are enough. If a double holder costs data,
# you need a fence, and then five nodes add little.
#
# ## 6. Many primaries: a cluster
#
# With replicas a store survives the loss of a server. With a **cluster** a store becomes larger
# than one server. A cluster has several primaries, here three. Each key belongs to one of 16,384
# *slots*, and each slot to one primary. An op is data, so the patterns do not change. **One line is
# different:** the address.

# %%
from kvlab import FixedWindow, Key, Op, SessionStore
from kvlab.chapters.opening import open_chapter
from kvlab.errors import InvalidArgument

one = open_chapter("ch14")
many = open_chapter("ch14", "cluster:")  # three primaries, three replicas
stores = {"one server": one, "cluster": many}
sessions = SessionStore(idle=1800, absolute=86_400)
limiter = FixedWindow("api", limit=2, window=60)

# %%
for name, store in stores.items():
    session = store.run(sessions.create("ann"))
    user = store.run(sessions.read(session.id)).user
    hits = [store.run(limiter.hit("ann")).allowed for _ in range(3)]
    print(name, user, hits)

# %% tags=["predict"]
nodes = predict(
    "14-nodes",
    "The next cell sends 100 ops on 100 keys in one `run`. How many round trips does "
    "the cluster need?",
)

# %%
hundred = [Op("SET", Key(f"key:{number}"), number, "EX", 60) for number in range(100)]
trips = {}
for name, store in stores.items():
    before = store.round_trips
    store.run(hundred)
    trips[name] = store.round_trips - before
trips

# %% tags=["predict"]
nodes.measured(trips["cluster"])

# %% [markdown]
# One round trip for each primary, and all three at the same time.
#
# **Why an op has one slot:** a script or a MULTI runs on one primary. So the keys of one op must lie
# together. A **hash tag** does that: of `{team}:ann` only `team` chooses the slot. Each pattern of
# kvlab has such a tag in its keys. A MULTI over two slots is refused before anything is sent:

# %%
for tag in ("", "{team}:"):
    pays = [Op("INCRBY", Key(f"{tag}ann"), -5), Op("INCRBY", Key(f"{tag}bob"), 5)]
    try:
        print(many.run(*pays, atomic=True))
    except InvalidArgument as problem:
        print(str(problem).split(" and ")[0], "…")

# %% [markdown]
# Each primary has a replica of its own, and each failover is the one of sections 1 to 4. All keys
# of one tag lie on one primary: a cluster does not divide the load of one busy key.
#
# ## The limits that remain
#
# - **The replica that is promoted has all writes up to some moment.** With two primaries that both
#   take writes at the same time, more is lost.
# - **WAIT lowers the risk, and is no consensus.** A failover may promote a replica that WAIT did not
#   count. With one replica, as here, it is the same one.
# - **A failover in the middle of a command** is two faults for the explorer: the failover, and a lost
#   reply. Allow two.
# - **Power loss and full disks** are not here: a server that answers before it has written to its disk
#   can lose writes without any failover.

# %% tags=["finding"]
broken = sum(int(share.split()[0]) > 0 for share in table["broken"])
kept = sum(share.startswith("0 ") for share in table["then broken"])
print(
    f"one lost write breaks {broken} of {len(table)} promises; {kept} ways out hold in "
    "every run; Redlock's five nodes: two holders after one clock that jumps"
)

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `exercises/14_beyond_one_server.ipynb` has a short exercise (10 minutes) and a longer one. `check`
# tries a failover at each moment, and draws the shortest run in which your own code is wrong.
#
# 1. `take`: a fence that rises through a failover.
# 2. `add`: points that stay.

# %% tags=["exercise-setup"]
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: a fence that rises through a failover
#
# Write `take(kv)`. The function takes a lock for ten seconds, and returns a **fence**: a whole number. When
# the lock is taken, the function returns `None`. `kv` is a redis-py client.
#
# 1. Each fence is higher than every fence before.
# 2. This is also true after a failover: the new server has forgotten the lock, and whatever else it had
#    not got in time.
#
# The clocks of all servers are right. The clocks of the clients are not.
#
# If you need help, run `hint("14-short")`: three hints, then a solution.


# %% tags=["stub"]
TAKE = """
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', 10) then return false end
return redis.call('INCR', KEYS[2])"""


def take(kv):
    return kv.eval(TAKE, 2, "door", "fence")  # and if the counter is lost?


# %% tags=["solution"]
TAKE = """
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', 10) then return false end
local now = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or 0)
local fence = math.max(last + 1, now[1] * 1000000 + now[2])
redis.call('SET', KEYS[2], string.format('%.0f', fence))
return fence"""


def take(kv):
    return kv.eval(TAKE, 2, "door", "fence")


# %% tags=["check"]
check("14-short", take)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: points that stay
#
# Write `add(kv, op_id, points)`. The function adds `points` to the counter `score`. When the function
# returns, a replica has the points, and no failover can take them back. `kv` is a redis-py client whose
# replies are text. When a connection breaks, the client sends its command or pipeline again, by itself.
#
# 1. The same `op_id` counts once, and another `op_id` counts too.
# 2. The points stay and count once, whatever happens: a failover, a lost reply, a WAIT in vain, and any
#    two of them in one run.
# 3. Each key except `score` has a TTL.
#
# The script `ADD_ONCE` adds once for each `op_id`. Each server has one replica, so `WAIT 1 100` is right.
#
# If you need help, run `hint("14")`: three hints, then a solution.

# %% tags=["exercise-setup"]
ADD_ONCE = """
if redis.call('SET', KEYS[2], 1, 'NX', 'EX', 600) then
  redis.call('INCRBY', KEYS[1], ARGV[1])
end"""


# %% tags=["stub"]
def add(kv, op_id, points):
    kv.eval(ADD_ONCE, 2, "score", f"op:{op_id}", points)
    kv.wait(1, 100)  # of whose writes does WAIT speak, and what does it answer?


# %% tags=["solution"]
def add(kv, op_id, points):
    replicas = 0
    while replicas < 1:
        pipe = kv.pipeline(transaction=False)
        pipe.eval(ADD_ONCE, 2, "score", f"op:{op_id}", points)
        pipe.set("mark", 1, ex=60)
        pipe.wait(1, 100)
        replicas = pipe.execute()[-1]


# %% tags=["check"]
check("14", add)
