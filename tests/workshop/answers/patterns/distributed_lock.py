from __future__ import annotations

import redis
from workshop.answers.answer import Answers

from kvlab import fenced_set
from kvlab.errors import LockLost, LockNotAcquired

ANSWERS = Answers()
COMPARE_AND_DELETE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0"""


@ANSWERS.right("05-short")
def release_in_a_script(kv, token):
    return kv.eval(COMPARE_AND_DELETE, 1, "lock", token) == 1


@ANSWERS.right("05-short")
def release_with_watch(kv, token):
    with kv.pipeline() as pipe:
        try:
            pipe.watch("lock")
            if pipe.get("lock") != token:
                return False
            pipe.multi()
            pipe.delete("lock")
            return pipe.execute() == [1]
        except redis.WatchError:
            return False


@ANSWERS.right("05-short")
def release_by_recursion_after_a_change(kv, token):
    def attempt(pipe):
        if pipe.get("lock") == token:
            pipe.multi()
            pipe.delete("lock")
        else:
            pipe.multi()
            pipe.exists("nothing")

    return kv.transaction(attempt, "lock") == [1]


@ANSWERS.wrong("05-short", "the lock was B's, and A's release deleted it")
def release_without_asking(kv, token):
    """DEL without asking whose lock it is."""
    return kv.delete("lock") == 1


@ANSWERS.wrong("05-short", "B had taken the lock, and A's release deleted it")
def release_get_then_del(kv, token):
    """GET, then DEL: the TTL ends between the two."""
    if kv.get("lock") == token:
        return kv.delete("lock") == 1
    return False


@ANSWERS.wrong("05-short", "B had taken the lock, and A's release deleted it")
def release_get_then_pipeline(kv, token):
    """GET, then DEL in a MULTI: nobody watches the key."""
    if kv.get("lock") != token:
        return False
    with kv.pipeline(transaction=True) as pipe:
        pipe.delete("lock")
        return bool(pipe.execute()[0])


@ANSWERS.wrong("05-short", "B's lock has lost its TTL")
def release_takes_and_puts_back(kv, token):
    """GETDEL, and put back what was not ours: without its TTL."""
    found = kv.getdel("lock")
    if found == token:
        return True
    if found is not None:
        kv.set("lock", found)
    return False


@ANSWERS.wrong("05-short", "release deleted the lock and answered None")
def release_says_nothing(kv, token):
    """The script is right, and its answer is not returned."""
    kv.eval(COMPARE_AND_DELETE, 1, "lock", token)


@ANSWERS.wrong("05-short", "the lock was A's, and release left it there")
def release_compares_bytes(kv, token):
    """Compares the text with bytes: never equal."""
    if kv.get("lock") == token.encode():
        kv.delete("lock")
        return True
    return False


# --- 05 ---


@ANSWERS.right("05")
def job_as_in_the_solution(kv, lock, rows, work):
    with kv.hold(lock, wait=0) as held:
        for row in rows:
            value = work(row)
            held.check()
            if not kv.run(fenced_set(row, value, held.fence)):
                raise held.lost("a higher fence has written")


@ANSWERS.right("05")
def job_with_acquire_and_release(kv, lock, rows, work):
    held = kv.run(lock.acquire(0))
    if held is None:
        raise LockNotAcquired(lock.name, 0)
    try:
        for row in rows:
            value = work(row)
            if kv.clock() >= held.since + lock.ttl:
                raise LockLost(lock.name, held.fence, "too slow")
            if not kv.run(fenced_set(row, value, held.fence)):
                raise LockLost(lock.name, held.fence, "refused")
    finally:
        kv.run(lock.release(held))


@ANSWERS.right("05")
def job_that_asks_by_renewal(kv, lock, rows, work):
    held = kv.run(lock.try_acquire())
    if not held:
        raise LockNotAcquired(lock.name, 0)
    try:
        for row in rows:
            value = work(row)
            still_mine = kv.run(lock.renew(held))
            if not (still_mine and kv.run(fenced_set(row, value, held.fence))):
                raise LockLost(lock.name, held.fence, "gone")
    finally:
        kv.run(lock.release(held))


@ANSWERS.right("05")
def job_by_recursion(kv, lock, rows, work):
    def rest(held, left):
        if left:
            value = work(left[0])
            held.check()
            if not kv.run(fenced_set(left[0], value, fence=held.fence)):
                raise held.lost("overtaken")
            rest(held, left[1:])

    with kv.hold(lock, wait=0) as held:
        rest(held, list(rows))


@ANSWERS.wrong("05", "somebody else holds the lock, and the job began its work")
def job_that_does_not_ask(kv, lock, rows, work):
    """Works also when it did not get the lock."""
    held = kv.run(lock.try_acquire())
    for row in rows:
        value = work(row)
        kv.run(fenced_set(row, value, held.fence if held else 1))
    if held:
        kv.run(lock.release(held))


@ANSWERS.wrong("05", "the lock is taken: the caller must get LockNotAcquired, and got nothing")
def job_that_returns_silently(kv, lock, rows, work):
    """Without the lock it returns, and the caller thinks that the work is done."""
    held = kv.run(lock.try_acquire())
    if held is None:
        return
    try:
        for row in rows:
            kv.run(fenced_set(row, work(row), held.fence))
    finally:
        kv.run(lock.release(held))


@ANSWERS.wrong("05", "work raised, and the lock stays taken for its whole TTL")
def job_that_keeps_the_lock(kv, lock, rows, work):
    """No finally: an error in work keeps the lock for its whole TTL."""
    held = kv.run(lock.acquire(0))
    if held is None:
        raise LockNotAcquired(lock.name, 0)
    for row in rows:
        value = work(row)
        if kv.clock() >= held.since + lock.ttl or not kv.run(fenced_set(row, value, held.fence)):
            raise LockLost(lock.name, held.fence, "gone")
    kv.run(lock.release(held))


@ANSWERS.wrong("05", "the TTL ended during work('e'), and e was written")
def job_without_check(kv, lock, rows, work):
    """Never asks whether it still has the lock."""
    with kv.hold(lock, wait=0) as held:
        for row in rows:
            if not kv.run(fenced_set(row, work(row), held.fence)):
                raise held.lost("refused")


@ANSWERS.wrong("05", "the TTL ended during work('e'), and e was written")
def job_that_checks_too_early(kv, lock, rows, work):
    """Checks before the slow work, and not before the write."""
    with kv.hold(lock, wait=0) as held:
        for row in rows:
            held.check()
            value = work(row)
            if not kv.run(fenced_set(row, value, held.fence)):
                raise held.lost("refused")


@ANSWERS.wrong("05", "B took the lock after A, and A's write is the last")
def job_with_a_plain_fence(kv, lock, rows, work):
    """A fence that it makes up itself: higher than every other."""
    with kv.hold(lock, wait=0) as held:
        for row in rows:
            value = work(row)
            held.check()
            kv.run(fenced_set(row, value, 2**53 - 1))


@ANSWERS.wrong("05", "A's write was refused, and A raised nothing")
def job_that_ignores_the_answer(kv, lock, rows, work):
    """Does not look at the answer of fenced_set, and returns before the release can tell."""
    held = kv.run(lock.acquire(0))
    if held is None:
        raise LockNotAcquired(lock.name, 0)
    try:
        for row in rows:
            value = work(row)
            if kv.clock() >= held.since + lock.ttl:
                raise LockLost(lock.name, held.fence, "too slow")
            kv.run(fenced_set(row, value, held.fence))
    finally:
        kv.run(lock.release(held))
