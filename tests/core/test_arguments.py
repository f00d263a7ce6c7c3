"""Every public argument of another kind is refused where it is given, whatever the store holds.

``test_every_argument_is_in_a_table`` walks the public names: an argument is in a table here or in
``test_checks``, or stands in ``FREE`` with its reason.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import test_checks as numbers
from test_checks import ACLIENT, AKV, BOARD, CACHE, CLIENT, DAILY, KV, LIMITERS, LOCK, NOBODY

import kvlab
from kvlab import (
    AsyncFlagWatcher,
    AsyncKv,
    AutoBatch,
    CacheAside,
    Call,
    FeatureFlags,
    Flag,
    FlagSnapshot,
    FlagWatcher,
    Flow,
    Key,
    Kv,
    Leaderboard,
    Lock,
    Op,
    Script,
    SessionCookie,
    SessionStore,
    WriteThrough,
    aconnect,
    connect,
    fenced_get,
    fenced_set,
    segment,
)
from kvlab.errors import InvalidArgument
from kvlab.feature_flags import bucket
from kvlab.pipeline import add_to_counters, dashboard
from kvlab.rate_limiting import client_address

Calls = dict[str, Callable[[Any], object]]
WATCHER = AsyncFlagWatcher(AKV, FeatureFlags())  # not started
STORE, FLAGS, WRITER = SessionStore(), FeatureFlags(), WriteThrough(CACHE)
OP = Op("PING")


def done() -> None:
    """A loader, a writer, a trace hook."""


def flagged(percent: float) -> Callable[[Any], object]:
    return lambda bad: FlagSnapshot(2, {"x": Flag(percent)}).is_enabled("x", bad)


IDS: Calls = {
    "segment text": segment,
    "CacheAside.key key": lambda bad: CACHE.key(bad, "entry"),
    "CacheAside.read key": CACHE.read,
    "CacheAside.fill key": lambda bad: CACHE.fill(bad, "lease", 1),
    "CacheAside.release key": lambda bad: CACHE.release(bad, "lease"),
    "CacheAside.invalidate key": CACHE.invalidate,
    "CacheAside.fetch key": lambda bad: CACHE.fetch(bad, done),
    "CacheAside.fetching key": lambda bad: CACHE.fetching(bad, done, done),  # type: ignore[arg-type]
    "WriteThrough.save key": lambda bad: WRITER.save(bad, done),  # type: ignore[arg-type]
    "WriteThrough.remove key": lambda bad: WRITER.remove(bad, done),
    "WriteThrough.fetch key": lambda bad: WRITER.fetch(bad, done),  # type: ignore[arg-type]
    "Leaderboard.submit member": lambda bad: BOARD.submit(bad, 1),
    "Leaderboard.remove member": BOARD.remove,
    "Leaderboard.rank member": BOARD.rank,
    "Leaderboard.around member": lambda bad: BOARD.around(bad, 1),
    "Leaderboard.load rows": lambda bad: next(iter(BOARD.load([(bad, 1)]))),
    "SessionStore.list user": STORE.list,
    "SessionStore.destroy_all user": STORE.destroy_all,
    "SessionStore.destroy_listed user": lambda bad: STORE.destroy_listed(bad, "a" * 64),
    "fenced_set key": lambda bad: fenced_set(bad, "v", 1),
    "fenced_get key": fenced_get,
    "dashboard user": dashboard,
    "add_to_counters increments": lambda bad: add_to_counters("g", {bad: 1}),
    "bucket user": lambda bad: bucket("salt", bad),
}
IDS_OR_NONE: Calls = {
    "SessionStore.create user": STORE.create,
    "FlagSnapshot.is_enabled user": flagged(50),
    "FlagSnapshot.is_enabled user at 0 %": flagged(0),
    "FlagSnapshot.is_enabled user at 100 %": flagged(100),
    "Flag.includes user": lambda bad: Flag(100).includes("x", bad),
}
FILLED_IDS: Calls = {"Lock name": lambda bad: Lock(bad, 10)}
FILLED_IDS_OR_NONE: Calls = {
    "Leaderboard.submit op_id": lambda bad: BOARD.submit("ann", 1, op_id=bad)
}
ALL_IDS = IDS | IDS_OR_NONE | FILLED_IDS | FILLED_IDS_OR_NONE
NAMES: Calls = {
    "CacheAside name": lambda bad: CacheAside(bad, 60),
    "Leaderboard name": Leaderboard,
    "SessionStore name": SessionStore,
    "FeatureFlags name": FeatureFlags,
    "FeatureFlags defaults": lambda bad: FeatureFlags(defaults={bad: True}),
    "FeatureFlags.set flag": lambda bad: FLAGS.set(bad, True),
    "FeatureFlags.remove flag": FLAGS.remove,
    "FeatureFlags.set_many values": lambda bad: FLAGS.set_many({bad: True}),
    "FlagSnapshot.is_enabled flag": lambda bad: FLAGS.declared.is_enabled(bad),
    "Flag.includes name": lambda bad: Flag(100, salt="x").includes(bad, 7),
    "bucket salt": lambda bad: bucket(bad, 7),
    "add_to_counters group": lambda bad: add_to_counters(bad, {"home": 1}),
    "Script name": lambda bad: Script(bad, "return 1"),
}
NAMES_OR_NONE: Calls = {"Flag salt": lambda bad: Flag(50, salt=bad)}
BOOLEANS: Calls = {
    "Kv.hold renew": lambda bad: KV.hold(LOCK, renew=bad),
    "AsyncKv.hold renew": lambda bad: AKV.hold(LOCK, renew=bad),
    "Kv.run atomic": lambda bad: KV.run(OP, atomic=bad),
    "Kv.run return_exceptions": lambda bad: KV.run([OP], return_exceptions=bad),
    "AsyncKv.run atomic": lambda bad: asyncio.run(AKV.run(OP, atomic=bad)),
    "AsyncKv.run return_exceptions": lambda bad: asyncio.run(AKV.run(return_exceptions=bad)),
    "AutoBatch.run atomic": lambda bad: asyncio.run(AutoBatch(AKV).run(OP, atomic=bad)),
    "AutoBatch.run return_exceptions": lambda bad: asyncio.run(
        AutoBatch(AKV).run(OP, return_exceptions=bad)  # type: ignore[call-overload]
    ),
    "FeatureFlags.read_all strict": lambda bad: FLAGS.read_all(strict=bad),
    "SessionStore.read strict": lambda bad: STORE.read("x", strict=bad),
    "Op idempotent": lambda bad: Op("GET", Key("k"), idempotent=bad),
}
BOOLEANS_OR_NONE: Calls = {
    "connect allow_remote": lambda bad: connect(NOBODY, allow_remote=bad),
    "aconnect allow_remote": lambda bad: asyncio.run(aconnect(NOBODY, allow_remote=bad)),
}
CALLABLES: Calls = {
    "CacheAside.fetch load": lambda bad: CACHE.fetch("k", bad),
    "CacheAside.fetching load": lambda bad: CACHE.fetching("k", bad, done),  # type: ignore[arg-type]
    "CacheAside random": lambda bad: CacheAside("c", 60, random=bad),
    "WriteThrough.save write": lambda bad: WRITER.save("k", bad),
    "WriteThrough.remove delete": lambda bad: WRITER.remove("k", bad),
    "WriteThrough.fetch load": lambda bad: WRITER.fetch("k", bad),
    "Kv clock": lambda bad: Kv(CLIENT, clock=bad),
    "Kv sleep": lambda bad: Kv(CLIENT, sleep=bad),
    "AsyncKv clock": lambda bad: AsyncKv(ACLIENT, clock=bad),
    "AsyncKv sleep": lambda bad: AsyncKv(ACLIENT, sleep=bad),
    "Op decode": lambda bad: Op("GET", Key("k"), decode=bad),
    "AsyncFlagWatcher wait": lambda bad: AsyncFlagWatcher(AKV, FLAGS, wait=bad),
    "AsyncFlagWatcher jitter": lambda bad: AsyncFlagWatcher(AKV, FLAGS, jitter=bad),
    "AsyncFlagWatcher.wait_until met": lambda bad: asyncio.run(WATCHER.wait_until(bad)),
    "FlagWatcher jitter": lambda bad: FlagWatcher(KV, FLAGS, jitter=bad),
    "FlagWatcher.wait_until met": lambda bad: FlagWatcher.wait_until(WATCHER, bad),  # type: ignore[arg-type]
    "Call function": Call,
    "Flow function": Flow,
    "flow function": kvlab.flow,
}
CALLABLES_OR_NONE: Calls = {
    "Kv trace": lambda bad: Kv(CLIENT, trace=bad),
    "Kv on_close": lambda bad: Kv(CLIENT, on_close=bad),
    "AsyncKv trace": lambda bad: AsyncKv(ACLIENT, trace=bad),
    "AsyncKv on_close": lambda bad: AsyncKv(ACLIENT, on_close=bad),
    "connect trace": lambda bad: connect(NOBODY, trace=bad),
    "aconnect trace": lambda bad: asyncio.run(aconnect(NOBODY, trace=bad)),
    "Leaderboard.load progress": lambda bad: BOARD.load([], progress=bad),
    "FlagWatcher wait": lambda bad: FlagWatcher(KV, FLAGS, wait=bad),
    "Op fallback": lambda bad: Op("GET", Key("k"), fallback=bad),
}
MAPPINGS: Calls = {
    "FeatureFlags defaults, all": lambda bad: FeatureFlags(defaults=bad),
    "FeatureFlags.set_many values, all": FLAGS.set_many,
    "FlagSnapshot flags": lambda bad: FlagSnapshot(1, bad),
    "FlagSnapshot defaults": lambda bad: FlagSnapshot(1, {}, bad),
    "FlagSnapshot unreadable": lambda bad: FlagSnapshot(1, {}, {}, bad),
    "add_to_counters increments, all": lambda bad: add_to_counters("g", bad),
}
MAPPINGS_OR_NONE: Calls = {
    "SessionStore.create data": lambda bad: STORE.create("ann", bad),
    "SessionStore.update changes": lambda bad: STORE.update("x", bad),
}
ITERABLES: Calls = {
    "Kv.run ops": KV.run,
    "AsyncKv.run ops": lambda bad: asyncio.run(AKV.run(bad)),
    "AutoBatch.run ops": lambda bad: asyncio.run(AutoBatch(AKV).run(bad)),
    "Leaderboard.load rows, all": BOARD.load,
    "SessionStore old_peppers": lambda bad: SessionStore(old_peppers=bad),
    "client_address trusted_proxies": lambda bad: client_address("::1", None, bad),
}
CHOICES: Calls = {
    "Leaderboard order": lambda bad: Leaderboard("b", order=bad),
    "Leaderboard ties": lambda bad: Leaderboard("b", ties=bad),
    "Leaderboard.submit mode": lambda bad: BOARD.submit("ann", 1, bad),
    "SessionCookie same_site": lambda bad: SessionCookie(same_site=bad),
}
CHOICES_OR_NONE: Calls = {"Leaderboard period": lambda bad: Leaderboard("b", period=bad)}
INSTANCES: Calls = {
    "Kv client": Kv,
    "AsyncKv client": AsyncKv,
    "AutoBatch akv": AutoBatch,
    "FlagWatcher kv": lambda bad: FlagWatcher(bad, FLAGS),
    "FlagWatcher flags": lambda bad: FlagWatcher(KV, bad),
    "FlagWatcher.wait_for version": lambda bad: FlagWatcher.wait_for(WATCHER, bad),  # type: ignore[arg-type]
    "AsyncFlagWatcher akv": lambda bad: AsyncFlagWatcher(bad, FLAGS),
    "AsyncFlagWatcher flags": lambda bad: AsyncFlagWatcher(AKV, bad),
    "AsyncFlagWatcher.wait_for version": lambda bad: asyncio.run(WATCHER.wait_for(bad)),
    "Kv.hold lock": KV.hold,
    "AsyncKv.hold lock": AKV.hold,
    "Kv.name key": KV.name,
    "AsyncKv.name key": AKV.name,
    "Lock.renew held": LOCK.renew,
    "Lock.release held": LOCK.release,
    "WriteThrough cache": WriteThrough,
    "SessionCookie name": SessionCookie,
    "SessionCookie.header session": SessionCookie().header,
    "SessionStore pepper": lambda bad: SessionStore(pepper=bad),
    "SessionStore.destroy_listed handle": lambda bad: STORE.destroy_listed("ann", bad),
    "Leaderboard tz": lambda bad: Leaderboard("b", tz=bad),
    "Op command": Op,
    "Script source": lambda bad: Script("x", bad),
    "Kv.within part": KV.within,
    "AsyncKv.within part": AKV.within,
    "fenced_set value": lambda bad: fenced_set("k", bad, 1),
    "CacheAside.fill lease": lambda bad: CACHE.fill("k", bad, 1),
    "CacheAside.release lease": lambda bad: CACHE.release("k", bad),
    "client_address peer": lambda bad: client_address(bad, None, []),
    "Leaderboard.load rows, each": lambda bad: next(iter(BOARD.load([bad]))),
    "Op args": lambda bad: Op("SET", Key("k"), bad),
    "Key name": Key,
}
INSTANCES_OR_NONE: Calls = {
    "connect url": connect,
    "connect token": lambda bad: connect("http://127.0.0.1:9", token=bad),
    "aconnect token": lambda bad: asyncio.run(aconnect("http://127.0.0.1:9", token=bad)),
    "connect prefix": lambda bad: connect(NOBODY, prefix=bad),
    "aconnect url": lambda bad: asyncio.run(aconnect(bad)),
    "aconnect prefix": lambda bad: asyncio.run(aconnect(NOBODY, prefix=bad)),
    "Kv prefix": lambda bad: Kv(CLIENT, prefix=bad),
    "AsyncKv prefix": lambda bad: AsyncKv(ACLIENT, prefix=bad),
    "CacheAside.read unreadable": lambda bad: CACHE.read("k", unreadable=bad),
    "SessionCookie.parse header": SessionCookie().parse,
    "client_address forwarded_for": lambda bad: client_address("::1", bad, []),
    "Leaderboard.submit at": lambda bad: DAILY.submit("ann", 1, at=bad),
    "Leaderboard.load at": lambda bad: DAILY.load([], at=bad),
    "Leaderboard.remove at": lambda bad: DAILY.remove("ann", at=bad),
    "Leaderboard.rank at": lambda bad: DAILY.rank("ann", at=bad),
    "Leaderboard.around at": lambda bad: DAILY.around("ann", 1, at=bad),
    "Leaderboard.top at": lambda bad: DAILY.top(1, at=bad),
    "Leaderboard.page at": lambda bad: DAILY.page(1, 1, at=bad),
}
for kind in LIMITERS:
    name, limiter = kind.__name__, kind("api", 10, 60)
    NAMES[f"{name} name"] = lambda bad, kind=kind: kind(bad, 10, 60)  # type: ignore[misc]
    CHOICES[f"{name} outage"] = lambda bad, kind=kind: kind("api", 10, 60, outage=bad)  # type: ignore[misc]
    IDS |= {
        f"{name}.hit key": limiter.hit,
        f"{name}.peek key": limiter.peek,
        f"{name}.forget key": limiter.forget,
    }
    FILLED_IDS_OR_NONE[f"{name}.hit op_id"] = lambda bad, hit=limiter.hit: hit("k", op_id=bad)  # type: ignore[misc]


class Plain(enum.Enum):
    A = "a"


class Word(str, enum.Enum):  # noqa: UP042  (its str() is 'Word.A', its format() depends on Python)
    A = "word"


class Number(enum.IntEnum):
    A = 7


NO_IDS: list[Any] = [
    True, np.True_, 1.5, 7.0, np.float64(7), b"7", Decimal(7), Fraction(7), Plain.A, object(),
    ("7",), 10**700,
]  # fmt: skip
NO_NAMES: list[Any] = [
    "", "a\n", "\0", "x" * 201, "x" * 5000, "\ud800", 5, b"x", True, UUID(int=5), Plain.A,
]  # fmt: skip
NO_BOOLEANS: list[Any] = ["no", "", 0, 1, 0.0, np.True_, []]
NO_CALLABLES: list[Any] = [5, "print", [print], True]
NO_MAPPINGS: list[Any] = [3, 0, "text", "", [("a", 1)], [], {"a"}]
NO_ITERABLES: list[Any] = [3, 0, "text", b"text", {"ann": 3}, {}, True]
NO_CHOICES: list[Any] = ["up", "", 5, True, [], b"desc", np.array(["desc"])]
NO_INSTANCES: list[Any] = [object(), True, Decimal(5), [object()], Plain.A]


def cases() -> list[Any]:
    tables: list[tuple[Calls, Calls, list[Any]]] = [
        (IDS, IDS_OR_NONE, NO_IDS),
        (FILLED_IDS, FILLED_IDS_OR_NONE, [*NO_IDS, ""]),
        (NAMES, NAMES_OR_NONE, NO_NAMES),
        (BOOLEANS, BOOLEANS_OR_NONE, NO_BOOLEANS),
        (CALLABLES, CALLABLES_OR_NONE, NO_CALLABLES),
        (MAPPINGS, MAPPINGS_OR_NONE, NO_MAPPINGS),
        (ITERABLES, {}, NO_ITERABLES),
        (CHOICES, CHOICES_OR_NONE, NO_CHOICES),
        (INSTANCES, INSTANCES_OR_NONE, NO_INSTANCES),
    ]
    made = []
    for calls, optional, bad in tables:
        made += [pytest.param(call, [*bad, None], id=name) for name, call in calls.items()]
        made += [pytest.param(call, bad, id=name) for name, call in optional.items()]
    return made


@pytest.mark.parametrize(("call", "wrong"), cases())
def test_another_kind_is_refused_at_once(call: Callable[[Any], object], wrong: list[Any]) -> None:
    for bad in wrong:
        with pytest.raises(InvalidArgument, match="must") as refused:
            call(bad)
        assert len(str(refused.value)) < 300


# --- what is taken ----------------------------------------------------------------------------

U = UUID("12345678-1234-5678-1234-567812345678")
ONE_ID: list[tuple[str, list[Any]]] = [
    ("7", [7, np.int64(7), np.uint8(7), Number.A, np.str_("7")]),
    ("word", [Word.A, np.str_("word")]),
    (str(U), [U]),
]


def seen(made: object) -> object:
    """What an op or a flow sends of an id; else the value."""
    if isinstance(made, Op):
        texts = [str(arg).strip('"') for arg in made.args]  # a session's user is JSON
        return made.keys, [text for text in texts if text in ("7", "word", str(U))]
    if isinstance(made, Flow):
        return made.args[1]
    return [seen(op) for op in made] if isinstance(made, list | tuple) else made


@pytest.mark.parametrize("argument", ALL_IDS)
def test_an_id_has_one_text_whatever_its_kind(argument: str) -> None:
    call = ALL_IDS[argument]
    for text, kinds in ONE_ID:
        for kind in kinds:
            assert seen(call(kind)) == seen(call(text))
            assert Word.A is not kind or "Word" not in repr(seen(call(kind)))


def test_an_enum_that_is_text_counts_by_its_value(kv: Kv) -> None:
    class Order(str, enum.Enum):  # noqa: UP042
        DESC = "desc"
        PREFIX = "p:"

    assert Kv(CLIENT, prefix=Order.PREFIX).within("x").prefix == "p:x:"
    assert type(Kv(CLIENT, prefix=Order.PREFIX).prefix) is str
    board = Leaderboard(Word.A, order=Order.DESC)  # type: ignore[arg-type]
    assert board == Leaderboard("word")
    assert board.top(1).keys == Leaderboard("word").top(1).keys
    assert kv.run(board.submit(Word.A, 1)).entry.member == "word"
    assert CacheAside(Word.A, 60).key("k", "entry").name == "cache:word:{k}:entry"
    assert str(kvlab.FixedWindow(Word.A, 1, 1).hit("k").args[0]).startswith("ratelimit:word:")
    assert kv.run(STORE.create(Word.A)).user == "word"
    assert kv.run(STORE.create(U)).user == str(U)
    assert type(kv.run(STORE.create(Number.A)).user) is int
    assert Lock(U, 10).name == str(U)  # type: ignore[arg-type]


def test_a_watcher_takes_an_executor_of_its_kind() -> None:
    with pytest.raises(InvalidArgument, match="kv must be a Kv, not"):
        FlagWatcher(AKV, FLAGS)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="akv must be an AsyncKv, not"):
        AsyncFlagWatcher(KV, FLAGS)  # type: ignore[arg-type]


def test_a_percentage_of_numpy_is_stored(kv: Kv) -> None:
    for percent in (np.float32(12.5), np.int64(12)):
        kv.run(FLAGS.set("x", Flag(percent)))  # type: ignore[arg-type]
        assert kv.run(FLAGS.read_all()).flags["x"] == Flag(float(percent))


# --- the walk ---------------------------------------------------------------------------------

ANSWERS = {
    "Decision", "Entry", "Fill", "Held", "Holding", "ListedSession", "Lookup", "Page", "Removed",
    "Saved", "Session", "Submission",
}  # fmt: skip
FREE = {
    "SessionStore.read sid": "any other value is the id of no session",
    "SessionStore.update sid": "the same",
    "SessionStore.rotate sid": "the same",
    "SessionStore.destroy sid": "the same",
    "SessionStore.update fields": "JSON; test_sessions",
    "CacheAside.fill value": "JSON; test_cache_aside",
    "CacheAside.life value": "None, or any other value",
    "CacheAside.fetching split": "for write-through",
    "CacheAside.key what": "for write-through",
    "segment name": "stands in the error",
    "Call args": "of the user's own function",
    "Call name": "for the cache",
    "Call join": "for the cache",
    "Call then": "for the cache",
    "Flow args": "of the user's own function",
    "Flow kwargs": "of the user's own function",
    "together ops": "refused where the flow runs, as by run",
    "Script.load name": "a file of the package",
    "AsyncKv.finish flow": "for hold",
    "Op blocking": "test_checks",
    "FlagWatcher.wait_for timeout": "test_checks",
    "FlagWatcher.wait_until timeout": "the same check",
    "AsyncFlagWatcher.wait_for timeout": "test_checks",
    "AsyncFlagWatcher.wait_until timeout": "the same check",
    "FeatureFlags.set value": "test_feature_flags",
}


def arguments() -> Iterator[str]:
    public = {name: getattr(kvlab, name) for name in kvlab.__all__}
    public |= {f.__name__: f for f in (add_to_counters, dashboard, client_address, bucket)}
    for name, thing in public.items():
        if name.startswith("Naive") or name in ANSWERS or thing is kvlab.REMOVE:
            continue
        calls = {name: thing}
        if inspect.isclass(thing):
            own = inspect.getmembers(thing, callable)
            calls |= {f"{name}.{what}": call for what, call in own if not what.startswith("_")}
        for where, call in calls.items():
            if where == "AutoBatch.run" or not where.startswith("AutoBatch."):  # those of AsyncKv
                yield from (f"{where} {name}" for name in inspect.signature(call).parameters)


def test_every_argument_is_in_a_table() -> None:
    names = [*vars(numbers).items(), *globals().items()]
    tables = [table for name, table in names if name.isupper() and isinstance(table, dict)]
    known = {name.split(",")[0] for name in itertools.chain(*tables)}
    walked = {name for name in arguments() if not name.endswith(" self")}
    assert len(walked) > 150
    assert sorted(walked - known) == [], "neither in a table nor in FREE"
    assert FREE.keys() <= walked, "there is no such argument any more"
