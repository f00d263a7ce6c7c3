from __future__ import annotations

import time

from workshop.answers.answer import Answers

from kvlab import Wait, flow
from kvlab.core.flow import Now

ANSWERS = Answers()
COUNT = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('EXPIRE', KEYS[1], 60) end
return count"""


@ANSWERS.right("03-short")
def hit_in_a_script(kv, key, limit):
    return kv.eval(COUNT, 1, key) <= limit


@ANSWERS.right("03-short")
def hit_in_a_transaction(kv, key, limit):
    with kv.pipeline() as pipe:
        pipe.set(key, 0, ex=60, nx=True)
        pipe.incr(key)
        _, count = pipe.execute()
    return count <= limit


@ANSWERS.right("03-short")
def hit_in_a_window_of_the_clock(kv, key, limit):
    window = f"{key}:{int(time.time()) // 60}"
    with kv.pipeline() as pipe:
        pipe.incr(window)
        pipe.expire(window, 60)
        return pipe.execute()[0] <= limit


@ANSWERS.right("03-short")
def hit_expire_nx(kv, key, limit):
    pipe = kv.pipeline(transaction=True)
    return pipe.incr(key).expire(key, 60, nx=True).execute()[0] <= limit


@ANSWERS.wrong("03-short", "ann has no TTL")
def hit_incr_then_expire(kv, key, limit):
    """INCR, then EXPIRE: a crash between the two leaves a counter without a TTL."""
    count = kv.incr(key)
    if count == 1:
        kv.expire(key, 60)
    return count <= limit


@ANSWERS.wrong("03-short", "ann has no TTL")
def hit_set_then_incr(kv, key, limit):
    """SET NX EX, then INCR: when the TTL ends between the two, INCR makes a key for ever."""
    kv.set(key, 0, ex=60, nx=True)
    return kv.incr(key) <= limit


@ANSWERS.wrong("03-short", "the limit is 2, and 3 of three clients got in")
def hit_looks_first(kv, key, limit):
    """Looks, then counts: everybody looks before anybody counts."""
    if int(kv.get(key) or 0) >= limit:
        return False
    kv.eval(COUNT, 1, key)
    return True


@ANSWERS.wrong("03-short", "denied for 70 s")
def hit_moves_the_window(kv, key, limit):
    """EXPIRE with each hit: the window of a client that tries again and again never ends."""
    with kv.pipeline() as pipe:
        pipe.incr(key)
        pipe.expire(key, 60)
        return pipe.execute()[0] <= limit


@ANSWERS.wrong("03-short", "five hits at a limit of 3 were answered [True, True, False")
def hit_one_too_few(kv, key, limit):
    """`<` where `<=` is right."""
    return kv.eval(COUNT, 1, key) < limit


@ANSWERS.wrong("03-short", "ann has no TTL")
def hit_for_ever(kv, key, limit):
    """Counts without a TTL."""
    return kv.incr(key) <= limit


@ANSWERS.wrong("03-short", "the first hit was refused: is the count on the server")
def hit_counts_in_python(kv, key, limit):
    """Counts in a variable of the process."""
    kv.ping()
    _COUNTS[key] = _COUNTS.get(key, 0) + 1
    return _COUNTS[key] <= limit


_COUNTS: dict[str, int] = {}


# --- 03 ---


@ANSWERS.right("03")
@flow
def patient_as_in_the_solution(limiter, key, cost, give_up):
    waited = 0.0
    decision = yield from limiter.hit(key, cost)
    while not decision.allowed and waited + decision.retry_after <= give_up:
        yield from Wait(decision.retry_after)
        waited += decision.retry_after
        decision = yield from limiter.hit(key, cost)
    return decision


@ANSWERS.right("03")
@flow
def patient_by_recursion(limiter, key, cost, give_up):
    decision = yield from limiter.hit(key, cost)
    if decision.allowed or decision.retry_after > give_up:
        return decision
    yield from Wait(decision.retry_after)
    rest = give_up - decision.retry_after
    return (yield from patient_by_recursion(limiter, key, cost, rest))


@ANSWERS.right("03")
@flow
def patient_by_the_clock(limiter, key, cost, give_up):
    began = yield from Now()
    while True:
        decision = yield from limiter.hit(key, cost)
        now = yield from Now()
        if decision.allowed or now - began + decision.retry_after > give_up:
            return decision
        yield from Wait(decision.retry_after)


@ANSWERS.wrong("03", "with 300 s of patience, request 6 was refused")
@flow
def patient_once(limiter, key, cost, give_up):
    """Hits once."""
    return (yield from limiter.hit(key, cost))


@ANSWERS.wrong("03", "no end after 60 steps")
@flow
def patient_every_second(limiter, key, cost, give_up):
    """Asks every second, although the decision says when."""
    waited = 0.0
    decision = yield from limiter.hit(key, cost)
    while not decision.allowed and waited + 1 <= give_up:
        yield from Wait(1)
        waited += 1
        decision = yield from limiter.hit(key, cost)
    return decision


@ANSWERS.wrong("03", "give_up is 70 s, and it waited 90 s in all")
@flow
def patient_each_wait_alone(limiter, key, cost, give_up):
    """Compares each wait with give_up, and never the sum."""
    decision = yield from limiter.hit(key, cost)
    while not decision.allowed and decision.retry_after <= give_up:
        yield from Wait(decision.retry_after)
        decision = yield from limiter.hit(key, cost)
    return decision


@ANSWERS.wrong("03", "give_up is 10 s, the wait is 60 s, and it waited 60 s")
@flow
def patient_waits_then_looks(limiter, key, cost, give_up):
    """Waits first, and then sees that the wait is longer than give_up."""
    waited = 0.0
    decision = yield from limiter.hit(key, cost)
    while not decision.allowed and waited <= give_up and decision.retry_after < 1e9:
        yield from Wait(decision.retry_after)
        waited += decision.retry_after
        decision = yield from limiter.hit(key, cost)
    return decision


@ANSWERS.wrong("03", "a cost of 6 never fits a limit of 5: is the cost passed on?")
@flow
def patient_without_the_cost(limiter, key, cost, give_up):
    """Forgets the cost."""
    waited = 0.0
    decision = yield from limiter.hit(key)
    while not decision.allowed and waited + decision.retry_after <= give_up:
        yield from Wait(decision.retry_after)
        waited += decision.retry_after
        decision = yield from limiter.hit(key)
    return decision
