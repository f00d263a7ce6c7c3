from __future__ import annotations

import contextlib
import json
import pickle

from workshop.answers.answer import Answers

from kvlab.core.flow import Call, flow

ANSWERS = Answers()


@ANSWERS.right("01-short")
def remember_with_set_ex(kv, key, load):
    found = kv.get(key)
    if found is not None:
        return json.loads(found)
    value = load()
    kv.set(key, json.dumps(value), ex=60)
    return value


@ANSWERS.right("01-short")
def remember_in_a_transaction(kv, key, load):
    with kv.pipeline(transaction=True) as pipe:
        there, found = pipe.exists(key).get(key).execute()
        if there:
            return json.loads(found)
        value = load()
        pipe.set(key, json.dumps(value)).expire(key, 60).execute()
    return value


@ANSWERS.right("01-short")
def remember_in_a_box_by_recursion(kv, key, load):
    box = kv.get(key)
    if box:
        return json.loads(box)[0]
    kv.setex(key, 60, json.dumps([load()]))
    return remember_in_a_box_by_recursion(kv, key, load)


@ANSWERS.wrong("01-short", "reader raised TypeError: the JSON object must be")
def remember_exists_then_get(kv, key, load):
    """EXISTS, then GET: the TTL ends between the two."""
    if kv.exists(key):
        return json.loads(kv.get(key))
    value = load()
    kv.set(key, json.dumps(value), ex=60)
    return value


@ANSWERS.wrong("01-short", "three reads of None took 3 loads")
def remember_all_but_none(kv, key, load):
    """Cannot tell a cached None from nothing in the cache."""
    raw = kv.get(key)
    value = json.loads(raw) if raw else None
    if value is not None:
        return value
    value = load()
    kv.set(key, json.dumps(value), ex=60)
    return value


@ANSWERS.wrong("01-short", "three reads of 0 took 3 loads")
def remember_only_truths(kv, key, load):
    """`if value:` takes 0, "" and [] for a miss."""
    value = json.loads(kv.get(key) or "null")
    if value:
        return value
    value = load()
    kv.set(key, json.dumps(value), ex=60)
    return value


@ANSWERS.wrong("01-short", "user:7 has no TTL")
def remember_set_then_expire(kv, key, load):
    """SET, then EXPIRE: a crash between the two leaves a key for ever."""
    found = kv.get(key)
    if found is not None:
        return json.loads(found)
    value = load()
    kv.set(key, json.dumps(value))
    kv.expire(key, 60)
    return value


@ANSWERS.wrong("01-short", "three reads of {'name': 'Ada'} gave")
def remember_as_text(kv, key, load):
    """str() of a value is not the value."""
    found = kv.get(key)
    if found is not None:
        return found
    value = load()
    kv.set(key, str(value), ex=60)
    return value


@ANSWERS.wrong("01-short", "load raised LookupError, and the caller got None")
def remember_and_swallow(kv, key, load):
    """Catches everything, and gives the caller None."""
    found = kv.get(key)
    if found is not None:
        return json.loads(found)
    try:
        value = load()
    except Exception:
        return None
    kv.set(key, json.dumps(value), ex=60)
    return value


@ANSWERS.wrong("01-short", "UnicodeDecodeError")
def remember_pickled(kv, key, load):
    """pickle makes bytes, and this client decodes text."""
    found = kv.get(key)
    if found is not None:
        return pickle.loads(found)
    value = load()
    kv.set(key, pickle.dumps(value), ex=60)
    return value


# --- 01 ---


@ANSWERS.right("01")
def cached_as_in_the_solution(kv, cache, key, load):
    found = kv.run(cache.read(key))
    if found.hit:
        return found.value
    if found.lease is None:
        return load()
    try:
        value = load()
    except Exception:
        kv.run(cache.release(key, found.lease))
        raise
    kv.run(cache.fill(key, found.lease, value))
    return value


@ANSWERS.right("01")
def cached_by_the_library(kv, cache, key, load):
    return kv.run(cache.fetch(key, load))


@ANSWERS.right("01")
def cached_in_a_flow(kv, cache, key, load):
    @flow
    def through(key, load):
        found = yield from cache.read(key)
        if found.hit:
            return found.value
        try:
            value = yield from Call(load)
        except BaseException:
            if found.lease:
                yield from cache.release(key, found.lease)
            raise
        if found.lease:
            yield from cache.fill(key, found.lease, value)
        return value

    return kv.run(through(key, load))


@ANSWERS.right("01")
def cached_with_an_exit_stack(kv, cache, key, load):
    found = kv.run(cache.read(key))
    if found.hit:
        return found.value
    with contextlib.ExitStack() as stack:
        if found.lease:
            stack.callback(lambda: kv.run(cache.release(key, found.lease)))
        value = load()
        if found.lease:
            kv.run(cache.fill(key, found.lease, value))
        return value


@ANSWERS.wrong("01", "three reads of 0 took 3 loads")
def cached_only_truths(kv, cache, key, load):
    """`if found.value:` takes 0, "" and None for a miss."""
    found = kv.run(cache.read(key))
    if found.value:
        return found.value
    value = load()
    if found.lease:
        kv.run(cache.fill(key, found.lease, value))
    return value


@ANSWERS.wrong("01", "took 3 loads; one is enough")
def cached_by_nobody(kv, cache, key, load):
    """Reads the cache and never fills it."""
    found = kv.run(cache.read(key))
    return found.value if found.hit else load()


@ANSWERS.wrong("01", "the row changed, and the old row is cached")
def cached_under_a_new_lease(kv, cache, key, load):
    """Takes its lease after the load: an invalidation during the load goes unnoticed."""
    found = kv.run(cache.read(key))
    if found.hit:
        return found.value
    if found.lease:
        kv.run(cache.release(key, found.lease))
    value = load()
    again = kv.run(cache.read(key))
    if again.lease:
        kv.run(cache.fill(key, again.lease, value))
    return value


@ANSWERS.wrong("01", "the lease of the failed load is still held")
def cached_keeps_the_lease(kv, cache, key, load):
    """A load that fails keeps its lease, and everybody waits for its end."""
    found = kv.run(cache.read(key))
    if found.hit:
        return found.value
    value = load()
    if found.lease:
        kv.run(cache.fill(key, found.lease, value))
    return value


@ANSWERS.wrong("01", "cached_fills_without_a_lease")
def cached_fills_without_a_lease(kv, cache, key, load):
    """Does not ask whether it has a lease: the second reader fails."""
    found = kv.run(cache.read(key))
    if found.hit:
        return found.value
    try:
        value = load()
    except Exception:
        kv.run(cache.release(key, found.lease))
        raise
    kv.run(cache.fill(key, found.lease, value))
    return value
