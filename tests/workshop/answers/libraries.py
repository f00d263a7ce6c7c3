from __future__ import annotations

from workshop.answers.answer import Answers

ANSWERS = Answers()

# --- 11-short ---


def _all_end(world):
    return all(world.kv.ttl(key) > 0 for key in world.kv.keys("*"))


@ANSWERS.right("11-short")
def three_sentences(world):
    admitted = world.results.count(True)
    nobody_failed = all(isinstance(result, bool) for result in world.results)
    if nobody_failed and admitted == 0:
        return False
    return admitted <= 1 and _all_end(world)


@ANSWERS.right("11-short")
def three_sentences_with_asserts(world):
    admitted = [result for result in world.results if result is True]
    failed = [result for result in world.results if not isinstance(result, bool)]
    assert len(admitted) <= 1, "over the limit"
    assert admitted or failed, "denied within the limit"
    assert -1 not in [world.kv.ttl(key) for key in world.kv.keys("*")], "for ever"
    return True


@ANSWERS.right("11-short")
def three_sentences_of_one_key(world):
    if world.results.count(True) > 1:
        return False
    if world.results.count(False) == len(world.results):
        return False
    return world.kv.ttl("hits") != -1


@ANSWERS.wrong("11-short", "a crash left a counter that never ends, and keeps_its_promise said")
def counts_the_admitted_only(world):
    """Counts who is admitted, and does not look at the keys."""
    failed = any(not isinstance(result, bool) for result in world.results)
    return world.results.count(True) == 1 or (failed and True not in world.results)


@ANSWERS.wrong("11-short", "nobody was admitted, though nobody failed, and keeps_its_promise said")
def asks_for_no_admission(world):
    """Never over, never for ever: a limiter that denies everybody passes."""
    return world.results.count(True) <= 1 and _all_end(world)


@ANSWERS.wrong("11-short", "two hits were admitted where one is allowed, and keeps_its_promise")
def asks_for_one_at_least(world):
    """Never denied within, never for ever: a limiter that admits everybody passes."""
    failed = any(not isinstance(result, bool) for result in world.results)
    return (failed or True in world.results) and _all_end(world)


@ANSWERS.wrong("11-short", "the limiter is right, and keeps_its_promise said False")
def blames_a_crash(world):
    """Exactly one is admitted: when a client crashes, the right limiter is rejected."""
    return world.results.count(True) == 1 and _all_end(world)


@ANSWERS.wrong("11-short", "answer True or False, not None")
def forgets_to_answer(world):
    """Computes the answer and does not return it."""
    world.results.count(True)


# --- 11 ---

TAKE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', 30) then return 1 end
return redis.call('GET', KEYS[1]) == ARGV[1]"""


@ANSWERS.right("11")
def take_and_see_what_stood_there(kv, token):
    return kv.set("door", token, nx=True, get=True, ex=30) in (None, token)


@ANSWERS.right("11")
def take_and_look_again(kv, token):
    if kv.set("door", token, nx=True, ex=30):
        return True
    return kv.get("door") == token


@ANSWERS.right("11")
def take_in_a_script(kv, token):
    return kv.eval(TAKE, 1, "door", token) == 1


@ANSWERS.right("11")
def take_with_the_lock_of_redis_py(kv, token):
    lock = kv.lock("door", timeout=30, blocking=False)
    return lock.acquire(token=token) or kv.get("door") == token


@ANSWERS.wrong("11", "Ann was refused, and the door has Ann's token")
def take_with_one_set(kv, token):
    """SET NX with a TTL, and its answer: the retry finds the own token and says no."""
    return bool(kv.set("door", token, nx=True, ex=30))


@ANSWERS.wrong("11", "Ann was refused, and the door has Ann's token")
def take_as_redis_py_does(kv, token):
    """The lock of redis-py as it is: its retry finds the own token and says no."""
    return kv.lock("door", timeout=30, blocking=False).acquire(token=token)


@ANSWERS.wrong("11", "the door has no TTL: it is locked for ever")
def take_then_end(kv, token):
    """SETNX, then EXPIRE: a lost reply or a crash between them locks the door for ever."""
    if kv.setnx("door", token):
        kv.expire("door", 30)
        return True
    return kv.get("door") == token


@ANSWERS.wrong("11", "Bob was let in without the door")
def take_after_a_look(kv, token):
    """Looks, then writes: both see an open door."""
    if kv.get("door") in (None, token):
        kv.set("door", token, ex=30)
        return True
    return False


@ANSWERS.wrong("11", "Ann was let in without the door")
def take_by_giving_up_first(kv, token):
    """Deletes the door after a refusal and tries once more: the other's lock is gone."""
    if kv.set("door", token, nx=True, ex=30):
        return True
    kv.delete("door")
    return bool(kv.set("door", token, nx=True, ex=30))
