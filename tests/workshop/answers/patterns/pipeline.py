from __future__ import annotations

import redis
from workshop.answers.answer import Answers

from kvlab import Key, Op, Script

ANSWERS = Answers()


def price(name):
    return Op("GET", Key(f"price:{name}"), idempotent=True)


@ANSWERS.right("07-short")
def prices_in_one_run(kv, names):
    replies = kv.run(*[price(name) for name in names], return_exceptions=True)
    found = dict.fromkeys(names)
    for name, reply in zip(names, replies, strict=True):
        if isinstance(reply, bytes):
            found[name] = int(reply)
    return found


@ANSWERS.right("07-short")
def prices_by_mget(kv, names):
    replies = kv.run(Op("MGET", *[Key(f"price:{name}") for name in names]))
    return {n: None if r is None else int(r) for n, r in zip(names, replies, strict=True)}


@ANSWERS.right("07-short")
def prices_with_redis_py_alone(kv, names):
    with kv.client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.get(f"{kv.prefix}price:{name}")
        replies = pipe.execute(raise_on_error=False)
    return {
        name: int(reply) if isinstance(reply, bytes | str) else None
        for name, reply in zip(names, replies, strict=True)
    }


@ANSWERS.wrong("07-short", "20 round trips for 20 prices")
def prices_one_by_one(kv, names):
    """A round trip for each name."""
    return {name: _one(kv, name) for name in names}


def _one(kv, name):
    try:
        reply = kv.run(price(name))
    except Exception:
        return None
    return None if reply is None else int(reply)


@ANSWERS.wrong("07-short", "TypeError: int() argument")
def prices_all_there(kv, names):
    """int(None): forgets that a price can be absent."""
    replies = kv.run(*[price(name) for name in names])
    if not isinstance(replies, tuple):
        replies = (replies,)
    return {name: int(reply) for name, reply in zip(names, replies, strict=True)}


@ANSWERS.wrong("07-short", "BatchFailed")
def prices_all_or_none(kv, names):
    """The error of one op ends them all."""
    replies = kv.run(*[price(name) for name in names])
    if not isinstance(replies, tuple):
        replies = (replies,)
    return {n: None if r is None else int(r) for n, r in zip(names, replies, strict=True)}


@ANSWERS.wrong("07-short", "3 round trips for 1,200 prices")
def prices_in_chunks(kv, names):
    """kv.run([ops]) sends 500 in a round trip."""
    replies = kv.run([price(name) for name in names], return_exceptions=True)
    found = dict.fromkeys(names)
    for name, reply in zip(names, replies, strict=True):
        if isinstance(reply, bytes):
            found[name] = int(reply)
    return found


@ANSWERS.wrong("07-short", "and it returned {'tea': b'3', 'jam': b'5'}")
def prices_as_bytes(kv, names):
    """Returns the server's bytes."""
    replies = kv.run(*[price(name) for name in names], return_exceptions=True)
    return dict(zip(names, replies, strict=True))


# --- 07 ---

MOVE = Script(
    "transfer",
    """
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then return 0 end
redis.call('DECRBY', KEYS[1], ARGV[1])
redis.call('INCRBY', KEYS[2], ARGV[1])
return 1""",
)


def account(name):
    return Key(f"{{bank}}:{name}")


@ANSWERS.right("07")
def transfer_in_a_script(kv, source, target, amount):
    return kv.run(Op(MOVE, account(source), account(target), amount, decode=bool))


@ANSWERS.right("07")
def transfer_with_redis_py_alone(kv, source, target, amount):
    names = [f"{kv.prefix}{{bank}}:{name}" for name in (source, target)]
    return kv.client.eval(MOVE.source, 2, *names, amount) == 1


@ANSWERS.right("07")
def transfer_with_watch(kv, source, target, amount):
    taken, given = (f"{kv.prefix}{{bank}}:{name}" for name in (source, target))
    with kv.client.pipeline() as pipe:
        while True:
            try:
                pipe.watch(taken)
                if int(pipe.get(taken) or 0) < amount:
                    return False
                pipe.multi()
                pipe.decrby(taken, amount).incrby(given, amount).execute()
                return True
            except redis.WatchError:
                continue


@ANSWERS.wrong("07", "Ada has 100, 120 were asked for, and now they have [-20, 120]")
def transfer_without_asking(kv, source, target, amount):
    """One instant, but nobody asks whether there is enough."""
    take, add = Op("DECRBY", account(source), amount), Op("INCRBY", account(target), amount)
    kv.run(take, add, atomic=True)
    return True


@ANSWERS.wrong("07", "two transfers of 60 from 100 end with [-20, 120]")
def transfer_looks_first(kv, source, target, amount):
    """Looks, then moves: two transfers look before either moves."""
    if int(kv.run(Op("GET", account(source))) or 0) < amount:
        return False
    take, add = Op("DECRBY", account(source), amount), Op("INCRBY", account(target), amount)
    kv.run(take, add, atomic=True)
    return True


@ANSWERS.wrong("07", "the client died in the middle, and 70 of 100 are left")
def transfer_in_two_steps(kv, source, target, amount):
    """Takes, then adds: a crash between the two destroys money."""
    if int(kv.run(Op("GET", account(source))) or 0) < amount:
        return False
    kv.run(Op("DECRBY", account(source), amount))
    kv.run(Op("INCRBY", account(target), amount))
    return True


@ANSWERS.wrong("07", "the client died in the middle, and an account has -50")
def transfer_and_give_back(kv, source, target, amount):
    """Moves, looks, and moves back: a crash leaves a debt."""
    take, add = Op("DECRBY", account(source), amount), Op("INCRBY", account(target), amount)
    left, _ = kv.run(take, add, atomic=True)
    if left >= 0:
        return True
    back, off = Op("INCRBY", account(source), amount), Op("DECRBY", account(target), amount)
    kv.run(back, off, atomic=True)
    return False


@ANSWERS.wrong("07", "the money was moved, and transfer answered None")
def transfer_says_nothing(kv, source, target, amount):
    """The script is right, and its answer is not returned."""
    kv.run(Op(MOVE, account(source), account(target), amount))
