from __future__ import annotations

import redis
from workshop.answers.answer import Answers

ANSWERS = Answers()
PUSH = """
if not redis.call('LPOS', KEYS[1], ARGV[1]) then redis.call('LPUSH', KEYS[1], ARGV[1]) end"""


@ANSWERS.right("09-short")
def enqueue_in_a_script(kv, job):
    kv.eval(PUSH, 1, "jobs", job)


@ANSWERS.right("09-short")
def enqueue_by_removing_first(kv, job):
    kv.pipeline(transaction=True).lrem("jobs", 0, job).lpush("jobs", job).execute()


@ANSWERS.right("09-short")
def enqueue_with_watch(kv, job):
    with kv.pipeline() as pipe:
        try:
            pipe.watch("jobs")
            if pipe.lpos("jobs", job) is None:
                pipe.multi()
                pipe.lpush("jobs", job)
                pipe.execute()
        except redis.WatchError:
            enqueue_with_watch(kv, job)


@ANSWERS.wrong("09-short", "the list has ['b', 'b', 'a']")
def enqueue_each_time(kv, job):
    """Pushes each time."""
    kv.lpush("jobs", job)


@ANSWERS.wrong("09-short", "two clients put the job a, and the list has ['a', 'a']")
def enqueue_looks_first(kv, job):
    """Looks, then pushes: both look before either pushes."""
    if kv.lpos("jobs", job) is None:
        kv.lpush("jobs", job)


@ANSWERS.wrong("09-short", "a was taken and put again, and the list has []")
def enqueue_once_for_ever(kv, job):
    """A set remembers the job for ever: it can never be put again."""
    with kv.pipeline() as pipe:
        pipe.sadd("known", job)
        pipe.exists("jobs")
        new, _ = pipe.execute()
    if new:
        kv.lpush("jobs", job)


@ANSWERS.wrong("09-short", "an attempt crashed, the other ended, and the list has []")
def enqueue_with_a_mark(kv, job):
    """A mark, then the push: a crash between the two leaves a mark without a job."""
    if kv.sadd("waiting", job):
        kv.lpush("jobs", job)


@ANSWERS.wrong("09-short", "two clients put the job a, and the list has ['a', 'a']")
def enqueue_looks_at_everything(kv, job):
    """Reads the whole list in Python: the same race, and slower."""
    if job not in kv.lrange("jobs", 0, -1):
        kv.rpush("jobs", job)


# --- 09 ---

SELL = """
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 'sold' end
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 'sold out' end
redis.call('DECR', KEYS[1])
redis.call('SADD', KEYS[2], ARGV[1])
return 'sold'"""
SELL_ANYBODY = """
if tonumber(redis.call('GET', KEYS[1])) <= 0 then return 'sold out' end
redis.call('DECR', KEYS[1])
return 'sold'"""

SELL_OR_GIVE_BACK = """
if redis.call('SADD', KEYS[2], ARGV[1]) == 1 and redis.call('DECR', KEYS[1]) < 0 then
  redis.call('INCR', KEYS[1])
  redis.call('SREM', KEYS[2], ARGV[1])
  return 'sold out'
end
return 'sold'"""


@ANSWERS.right("09")
def sell_in_a_script(kv, order):
    return kv.eval(SELL, 2, "stock", "buyers", order)


@ANSWERS.right("09")
def sell_with_a_key_for_each_order(kv, order):
    lua = SELL.replace("redis.call('SISMEMBER', KEYS[2], ARGV[1])", "redis.call('EXISTS', KEYS[2])")
    lua = lua.replace("redis.call('SADD', KEYS[2], ARGV[1])", "redis.call('SET', KEYS[2], 1)")
    script = kv.register_script(lua)
    return script(keys=["stock", f"order:{order}"])


@ANSWERS.right("09")
def sell_and_give_back_in_a_script(kv, order):
    return kv.eval(SELL_OR_GIVE_BACK, 2, "stock", "buyers", order)


@ANSWERS.wrong("09", "the stock is -1: more coupons were taken than there are")
def sell_looks_first(kv, order):
    """GET, then DECR: both see the last coupon."""
    if int(kv.get("stock")) > 0:
        kv.decr("stock")
        return "sold"
    return "sold out"


@ANSWERS.wrong("09", "one order took 2 coupons")
def sell_to_anybody(kv, order):
    """Nobody notes who has bought: a retry takes another coupon."""
    return kv.eval(SELL_ANYBODY, 1, "stock")


@ANSWERS.wrong("09", "one order took 2 coupons")
def sell_and_note_afterwards(kv, order):
    """Notes the buyer after the sale: a second click comes between."""
    if kv.sismember("buyers", order):
        return "sold"
    answer = kv.eval(SELL_ANYBODY, 1, "stock")
    if answer == "sold":
        kv.sadd("buyers", order)
    return answer


@ANSWERS.wrong("09", "the order was answered with sold, and it took 0 coupons")
def sell_and_note_before(kv, order):
    """Notes the buyer before the sale: a crash between the two sells nothing."""
    if not kv.sadd("buyers", order):
        return "sold"
    return kv.eval(SELL_ANYBODY, 1, "stock")


@ANSWERS.wrong("09", "the stock is -1: more coupons were taken than there are")
def sell_and_give_back(kv, order):
    """Takes one and gives back what was not there: a crash keeps it."""
    if kv.decr("stock") >= 0:
        return "sold"
    kv.incr("stock")
    return "sold out"
