from __future__ import annotations

import time

from workshop.answers.answer import Answers

from kvlab import Lock, Op
from kvlab.errors import BatchFailed, Outage

ANSWERS = Answers()

# --- 14-short ---

BY_TIME = """
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', 10) then return false end
local now = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or 0)
local fence = math.max(last + 1, now[1] * 1000000 + now[2])
redis.call('SET', KEYS[2], string.format('%.0f', fence))
return fence"""
BY_COUNTER = """
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', 10) then return false end
return redis.call('INCR', KEYS[2])"""


@ANSWERS.right("14-short")
def take_by_the_servers_time(kv):
    return kv.eval(BY_TIME, 2, "door", "fence")


@ANSWERS.right("14-short")
def take_with_the_lock_of_kvlab(kv):
    held = kv.run(Lock("door", ttl=10).try_acquire())
    return held and held.fence


@ANSWERS.right("14-short")
def take_when_a_replica_has_the_fence(kv):
    """A counter, and no fence that a failover can take back."""
    pipe = kv.pipeline(transaction=False)
    fence, replicas = pipe.eval(BY_COUNTER, 2, "door", "fence").wait(1, 100).execute()
    return fence if replicas >= 1 else None


@ANSWERS.wrong("14-short", "two holders have the same fence")
def take_by_a_counter(kv):
    """A counter on the server: a failover takes the counter back too."""
    return kv.eval(BY_COUNTER, 2, "door", "fence")


@ANSWERS.wrong("14-short", "two holders have the same fence")
def take_and_wait_later(kv):
    """WAIT in a command of its own: on a new connection, after a failover, it says 1 at once."""
    fence = kv.eval(BY_COUNTER, 2, "door", "fence")
    return fence if kv.wait(1, 100) >= 1 else None


@ANSWERS.wrong("14-short", "two holders have the same fence")
def take_and_wait_in_vain(kv):
    """The counter and WAIT in one pipeline, without a look at what WAIT answers."""
    pipe = kv.pipeline(transaction=False)
    return pipe.eval(BY_COUNTER, 2, "door", "fence").wait(1, 100).execute()[0]


@ANSWERS.wrong("14-short", "two holders have the same fence")
def take_by_my_own_clock(kv):
    """The time of the client: two clients have two clocks, and nobody makes them agree."""
    return int(time.time() * 1e6) if kv.set("door", "", nx=True, ex=10) else None


@ANSWERS.wrong("14-short", "the later holder has the lower fence")
def take_asks_the_time_first(kv):
    """The time of the server, asked before the lock: another holder may come between."""
    seconds, micros = kv.time()
    return seconds * 1_000_000 + micros if kv.set("door", "", nx=True, ex=10) else None


@ANSWERS.wrong("14-short", "the lock has ended, and the next fence is not higher")
def take_a_counter_that_ends(kv):
    """A counter with the TTL of the lock: the counter ends with the lock, and begins again at 1."""
    if not kv.set("door", "", nx=True, ex=10):
        return None
    return kv.pipeline().incr("fence").expire("fence", 10).execute()[0]


# --- 14 ---

ADD_ONCE = """
if redis.call('SET', KEYS[2], 1, 'NX', 'EX', 600) then
  redis.call('INCRBY', KEYS[1], ARGV[1])
end"""


def keys_of(op_id):
    return 2, "score", f"op:{op_id}"


@ANSWERS.right("14")
def add_with_a_mark(kv, op_id, points):
    while True:
        pipe = kv.pipeline(transaction=False).eval(ADD_ONCE, *keys_of(op_id), points)
        if pipe.set("mark", 1, ex=60).wait(1, 100).execute()[-1] >= 1:
            return


@ANSWERS.right("14")
def add_by_a_script_that_always_writes(kv, op_id, points):
    """The note is its own mark: a retry writes the note again."""
    script = """
    if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('INCRBY', KEYS[1], ARGV[1]) end
    redis.call('SET', KEYS[2], 1, 'EX', 600)"""
    replicas = 0
    while not replicas:
        pipe = kv.pipeline(transaction=False)
        _, replicas = pipe.eval(script, *keys_of(op_id), points).wait(1, 100).execute()


@ANSWERS.right("14")
def add_and_look_again(kv, op_id, points):
    """As in the chapter: the op, then a mark and WAIT, then a look; and again by recursion."""
    kv.eval(ADD_ONCE, *keys_of(op_id), points)
    _, replicas = kv.pipeline(transaction=False).set("mark", 1, ex=60).wait(1, 100).execute()
    if not (replicas and kv.exists(f"op:{op_id}")):
        add_and_look_again(kv, op_id, points)


@ANSWERS.right("14")
def add_with_ops(kv, op_id, points):
    """By ``kv.run``, which says OutcomeUnknown and does not retry by itself."""
    add = Op("EVAL", ADD_ONCE, *keys_of(op_id), points)
    mark, wait = Op("SET", "mark", 1, "EX", 60), Op("WAIT", 1, 100)
    try:
        if kv.run(add, mark, wait)[-1] >= 1:
            return
    except (Outage, BatchFailed):
        pass
    add_with_ops(kv, op_id, points)


@ANSWERS.wrong("14", "the score is 10")
def add_without_its_op_id(kv, op_id, points):
    """Begins again until WAIT says 1, and adds each time."""
    while not kv.pipeline(transaction=False).incrby("score", points).wait(1, 100).execute()[-1]:
        pass


@ANSWERS.wrong("14", "a failover has taken the points back")
def add_once(kv, op_id, points):
    """The op_id counts once, and nobody asks whether a replica has the points."""
    kv.eval(ADD_ONCE, *keys_of(op_id), points)


@ANSWERS.wrong("14", "a failover has taken the points back")
def add_and_wait_later(kv, op_id, points):
    """WAIT in a command of its own: on a new connection, after a failover, it says 1 at once."""
    kv.eval(ADD_ONCE, *keys_of(op_id), points)
    while kv.wait(1, 100) < 1:
        pass


@ANSWERS.wrong("14", "a failover has taken the points back")
def add_and_wait_in_vain(kv, op_id, points):
    """The script and WAIT in one pipeline, without a look at what WAIT answers."""
    kv.pipeline(transaction=False).eval(ADD_ONCE, *keys_of(op_id), points).wait(1, 100).execute()


@ANSWERS.wrong("14", "a failover has taken the points back")
def add_without_a_mark(kv, op_id, points):
    """Begins again, and writes nothing the second time: on a new connection WAIT says 1 at once."""
    replicas = 0
    while replicas < 1:
        pipe = kv.pipeline(transaction=False).eval(ADD_ONCE, *keys_of(op_id), points)
        replicas = pipe.wait(1, 100).execute()[-1]


@ANSWERS.wrong("14", "add has returned and added nothing")
def add_noted_before(kv, op_id, points):
    """Notes the op_id in a command of its own: a retry finds the note, and stops."""
    if kv.set(f"op:{op_id}", 1, nx=True, ex=600):
        kv.incrby("score", points)
    kv.pipeline(transaction=False).set("mark", 1, ex=60).wait(1, 100).execute()


@ANSWERS.wrong("14", "a WAIT inside a MULTI does not wait")
def add_in_a_multi(kv, op_id, points):
    """``kv.pipeline()`` is a MULTI, and in a MULTI WAIT does not wait."""
    replicas = 0
    while replicas < 1:
        pipe = kv.pipeline().eval(ADD_ONCE, *keys_of(op_id), points)
        replicas = pipe.set("mark", 1, ex=60).wait(1, 100).execute()[-1]


@ANSWERS.wrong("14", "has no TTL: one key more for each op_id")
def add_noted_for_ever(kv, op_id, points):
    """Keeps each op_id without an end."""
    while True:
        pipe = kv.pipeline(transaction=False)
        pipe.eval(ADD_ONCE.replace(", 'EX', 600", ""), *keys_of(op_id), points)
        if pipe.set("mark", 1, ex=60).wait(1, 100).execute()[-1] >= 1:
            return
