"""What every op and every flow answers in an outage: one row each, one column a kind of outage.

``ROWS`` makes what is run, on a healthy server. ``TABLE`` has the declared answers. Columns:

* healthy: the control.
* no writes: READONLY, MISCONF, NOREPLICAS. Reads are served.
* no memory: OOM. Reads and removals are served.
* nothing: MASTERDOWN, LOADING, BUSY, CLUSTERDOWN, TRYAGAIN, a frozen and a dead server.

Words: ``raises`` the outage with its own code; ``None`` and ``False`` as they are; ``loaded`` by
the loader, ``cached`` by the cache; ``uncached`` with the outage in ``error``; the limiter's
``open`` and ``closed``; the flags' ``defaults``; otherwise ``answers``.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

from kvlab import (
    CacheAside,
    FeatureFlags,
    FixedWindow,
    FlagSnapshot,
    Key,
    Kv,
    Leaderboard,
    Lock,
    Op,
    SessionStore,
    SlidingWindowCounter,
    SlidingWindowLog,
    TokenBucket,
    WriteThrough,
    fenced_get,
    fenced_set,
)
from kvlab.core.hold import Held, Holding
from kvlab.errors import Outage
from kvlab.pipeline import add_to_counters
from kvlab.rate_limiting import Decision
from kvlab.write_through import Removed, Saved

TABLE = """
row                           healthy         no writes     no memory     nothing
cache fetch, a hit            cached          cached        cached        loaded
cache fetch, a miss           loaded          loaded        loaded        loaded
cache read, a hit             answers         answers       answers       raises
cache read, a miss            answers         raises        raises        raises
cache fill                    answers         raises        raises        raises
cache release                 None            raises        None          raises
cache invalidate              None            raises        None          raises
write save                    cached          uncached      uncached      uncached
write save, no row            absent          uncached      absent        uncached
write remove                  cached          uncached      uncached      uncached
write fetch, a hit            cached          cached        cached        loaded
write fetch, a miss           loaded          loaded        loaded        loaded
limiter peek                  answers         answers       answers       closed
limiter forget                answers         raises        answers       raises
session create                answers         raises        raises        raises
session read                  answers         None          answers       None
session read, strict          answers         raises        answers       raises
session update                answers         raises        raises        raises
session rotate                answers         raises        raises        raises
session destroy               answers         raises        answers       raises
session destroy listed        answers         raises        answers       raises
session destroy all           answers         raises        answers       raises
session list                  answers         answers       answers       raises
lock try_acquire              answers         raises        raises        raises
lock try_acquire, taken       None            None          None          raises
lock acquire                  answers         raises        raises        raises
lock acquire, taken           None            None          None          raises
lock acquire, taken, waiting  None            raises        raises        raises
lock renew                    answers         raises        answers       raises
lock release                  answers         raises        answers       raises
hold, a renewal               answers         answers       answers       answers
hold, its end                 None            raises        None          raises
lock fenced_set               answers         raises        raises        raises
lock fenced_get               answers         answers       answers       raises
board submit                  answers         raises        raises        raises
board load                    answers         raises        raises        raises
board remove                  answers         raises        answers       raises
board top                     answers         answers       answers       raises
board page                    answers         answers       answers       raises
board rank                    answers         answers       answers       raises
board around                  answers         answers       answers       raises
flags set                     answers         raises        raises        raises
flags read                    answers         answers       answers       defaults
flags read, strict            answers         answers       answers       raises
pipeline count                answers         raises        raises        raises
a batch                       answers+answers open+None     open+answers  open+None
a transaction                 answers+answers open+None     open+answers  open+None
a neighbour in a transaction  answers+answers raises+raises raises+raises raises+raises
"""
PLAIN = {"cache invalidate", "write save, no row", "limiter forget", "a neighbour in a transaction"}
"""Rows that write by a command, not by a script."""

CACHE = CacheAside("c", ttl=60, early=0)
WRITE = WriteThrough(CACHE)
SESSIONS = SessionStore("s", pepper=b"p")
BOARD = Leaderboard("b")
FLAGS = FeatureFlags("f", defaults={"x": False})
LIMITERS = (FixedWindow, SlidingWindowLog, SlidingWindowCounter, TokenBucket)
POLICIES = {"raise": "raises", "open": "open", "closed": "closed"}
_numbers = itertools.count(1)


def _key() -> str:
    return f"k{next(_numbers)}"


def _cached(kv: Kv) -> str:
    key = _key()
    assert kv.run(CACHE.fetch(key, lambda: "cached")) == "cached"
    return key


def _leased(kv: Kv) -> tuple[str, str]:
    key = _key()
    return key, kv.run(CACHE.read(key)).lease or ""


def _sid(kv: Kv, user: str | None = None) -> str:
    return kv.run(SESSIONS.create(user or _key())).id


def _listed(kv: Kv) -> tuple[str, str]:
    user = _key()
    _sid(kv, user)
    return user, kv.run(SESSIONS.list(user))[0].handle


def _held(kv: Kv) -> tuple[Lock, Held]:
    lock = Lock(_key(), ttl=60)
    held = kv.run(lock.try_acquire())
    assert held is not None
    return lock, held


def _holding(kv: Kv) -> Holding:
    return Holding(*_held(kv), time.monotonic)


def _used(kv: Kv) -> tuple[FixedWindow, str]:
    limiter, key = FixedWindow("l", 10, 600, outage="closed"), _key()
    kv.run(limiter.hit(key))
    return limiter, key


def _fenced(kv: Kv) -> str:
    key = _key()
    kv.run(fenced_set(key, "v", 1))
    return key


def _member(kv: Kv) -> str:
    member = _key()
    kv.run(BOARD.submit(member, 1))
    return member


def _user(kv: Kv) -> str:
    _sid(kv, user := _key())
    return user


def _pair(kv: Kv) -> tuple[Any, Any]:
    return FixedWindow("l", 10, 60, outage="open").hit(_key()), SESSIONS.read(_sid(kv))


ROWS: dict[str, Callable[[Kv], Any]] = {
    "cache fetch, a hit": lambda kv: CACHE.fetch(_cached(kv), lambda: "loaded"),
    "cache fetch, a miss": lambda kv: CACHE.fetch(_key(), lambda: "loaded"),
    "cache read, a hit": lambda kv: CACHE.read(_cached(kv)),
    "cache read, a miss": lambda kv: CACHE.read(_key()),
    "cache fill": lambda kv: CACHE.fill(*_leased(kv), "v"),
    "cache release": lambda kv: CACHE.release(*_leased(kv)),
    "cache invalidate": lambda kv: CACHE.invalidate(_cached(kv)),
    "write save": lambda kv: WRITE.save(_key(), lambda: ("v", 1)),
    "write save, no row": lambda kv: WRITE.save(_cached(kv), lambda: None),
    "write remove": lambda kv: WRITE.remove(_cached(kv), lambda: 2),
    "write fetch, a hit": lambda kv: WRITE.fetch(_cached(kv), lambda: ("loaded", 1)),
    "write fetch, a miss": lambda kv: WRITE.fetch(_key(), lambda: ("loaded", 1)),
    "limiter peek": lambda kv: FixedWindow.peek(*_used(kv)),
    "limiter forget": lambda kv: FixedWindow.forget(*_used(kv)),
    "session create": lambda _: SESSIONS.create(_key()),
    "session read": lambda kv: SESSIONS.read(_sid(kv)),
    "session read, strict": lambda kv: SESSIONS.read(_sid(kv), strict=True),
    "session update": lambda kv: SESSIONS.update(_sid(kv), a=1),
    "session rotate": lambda kv: SESSIONS.rotate(_sid(kv)),
    "session destroy": lambda kv: SESSIONS.destroy(_sid(kv)),
    "session destroy listed": lambda kv: SESSIONS.destroy_listed(*_listed(kv)),
    "session destroy all": lambda kv: SESSIONS.destroy_all(_user(kv)),
    "session list": lambda kv: SESSIONS.list(_user(kv)),
    "lock try_acquire": lambda _: Lock(_key(), 60).try_acquire(),
    "lock try_acquire, taken": lambda kv: _held(kv)[0].try_acquire(),
    "lock acquire": lambda _: Lock(_key(), 60).acquire(0),
    "lock acquire, taken": lambda kv: _held(kv)[0].acquire(0),
    "lock acquire, taken, waiting": lambda kv: _held(kv)[0].acquire(0.01),
    "lock renew": lambda kv: Lock.renew(*_held(kv)),
    "lock release": lambda kv: Lock.release(*_held(kv)),
    "hold, a renewal": lambda kv: _holding(kv).renewal(),
    "hold, its end": lambda kv: _holding(kv).end(None),
    "lock fenced_set": lambda _: fenced_set(_key(), "v", 1),
    "lock fenced_get": lambda kv: fenced_get(_fenced(kv)),
    "board submit": lambda _: BOARD.submit(_key(), 1),
    "board load": lambda _: BOARD.load([(_key(), 1)]),
    "board remove": lambda kv: BOARD.remove(_member(kv)),
    "board top": lambda kv: BOARD.top(3 if _member(kv) else 0),
    "board page": lambda _: BOARD.page(1, 3),
    "board rank": lambda kv: BOARD.rank(_member(kv)),
    "board around": lambda kv: BOARD.around(_member(kv), 1),
    "flags set": lambda _: FLAGS.set("x", True),
    "flags read": lambda kv: FLAGS.read_all() if kv.run(FLAGS.set("x", True)) else None,
    "flags read, strict": lambda kv: FLAGS.read_all(strict=True),
    "pipeline count": lambda _: add_to_counters("g", {"n": 1})[0],
    "a batch": _pair,
    "a transaction": _pair,
    "a neighbour in a transaction": lambda kv: (fenced_get(_fenced(kv)), Op("SET", Key("n"), 1)),
}


def _limited(kind: Any, policy: Any, op_id: str | None) -> Callable[[Kv], Any]:
    return lambda _: kind("l", 10, 60, outage=policy).hit(_key(), op_id=op_id)


def _denied(kind: Any) -> Callable[[Kv], Any]:
    def make(kv: Kv) -> Any:
        limiter, key = kind("l", 10, 60, outage="open"), _key()
        kv.run(limiter.hit(key, 10))
        return limiter.hit(key)

    return make


def _rows_of_limiters() -> Iterator[tuple[str, list[str]]]:
    for kind in LIMITERS:
        name = f"{kind.__name__} hit, denied"
        ROWS[name] = _denied(kind)
        yield name, ["answers", "answers", "answers", "open"]
    for kind, (policy, word) in itertools.product(LIMITERS, POLICIES.items()):
        for op_id in (None, "once"):
            name = f"{kind.__name__} hit, {policy}, op_id {op_id}"
            ROWS[name] = _limited(kind, policy, op_id)
            yield name, ["answers", word, word, word]


def _rows_of_table() -> Iterator[tuple[str, list[str]]]:
    for line in TABLE.strip().splitlines()[1:]:
        name, rest = line[:30].strip(), line[30:].split()
        yield name, rest


DECLARED: dict[str, list[str]] = dict([*_rows_of_table(), *_rows_of_limiters()])
assert DECLARED.keys() == ROWS.keys()


def word(result: Any, code: str | None) -> str:
    """The result, or the error as a value, in the words of the table.

    ``code``: of the refusal that is due; None when the server is silent.
    """
    match result:
        case Outage():
            came = getattr(result, "code", None)
            return "raises" if came == code else f"raises {came}"
        case Exception():
            return f"raises {type(result).__name__}: {result}"
        case Decision(at=None):
            return "open" if result.allowed else "closed"
        case Saved() | Removed():
            if result.error is None:
                return "cached" if result.cached else "absent"
            return word(result.error, code).replace("raises", "uncached")
        case FlagSnapshot(version=0):
            return "defaults"
        case tuple():
            return "+".join(word(one, code) for one in result)
        case None | False | str():
            return str(result)
    return "answers"
