"""What an executor can do, found out by doing it; and what a pattern does where it cannot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import pandas as pd

from kvlab import FeatureFlags, FlagWatcher, Key, Kv, Lock, Op, Script
from kvlab.errors import KvlabError, NotOverHttp

BINARY = b"\xff\x00"
_ADD = Script("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


def capabilities(executors: Mapping[str, Kv]) -> pd.DataFrame:
    """For each ability and each executor "yes", or "no" and the error. Every cell is tried now."""
    columns = {
        name: {what: _tried(ability, kv) for what, (ability, _) in ABILITIES.items()}
        for name, kv in executors.items()
    }
    frame = pd.DataFrame(columns)
    instead = {what: text for what, (_, text) in ABILITIES.items()}
    missing = (frame != "yes").any(axis=1)
    frame["instead"] = [instead[what] if missing[what] else "" for what in frame.index]
    return frame


def _tried(ability: Callable[[Kv], object], kv: Kv) -> str:
    try:
        return "yes" if ability(kv) else "no"
    except NotOverHttp:
        return "no: NotOverHttp"
    except KvlabError as problem:
        return f"no: {type(problem).__name__}"


def _one_round_trip(kv: Kv) -> bool:
    before = kv.round_trips
    kv.run(*[Op("INCR", Key(f"n:{i}")) for i in range(50)])
    return kv.round_trips - before == 1


def _atomic(kv: Kv) -> bool:
    kv.run(Op("DEL", Key("{a}:1"), Key("{a}:2")))
    wrong: Op[object] = Op("INCR")
    kv.run(Op("INCR", Key("{a}:1")), wrong, atomic=True, return_exceptions=True)
    return kv.run(Op("EXISTS", Key("{a}:1"))) == 0


def _script(kv: Kv) -> bool:
    kv.client.script_flush()
    return isinstance(kv.run(Op(_ADD, Key("n"), 1)), int)


def _binary_reply(kv: Kv) -> bool:
    return bool(kv.run(Op("EVAL", "return '\\255\\0'", 0)) == BINARY)


def _binary_argument(kv: Kv) -> bool:
    return bool(kv.run(Op("SET", Key("binary"), BINARY, "EX", 60)) == b"OK")


def _blocks(kv: Kv) -> bool:
    kv.run(Op("RPUSH", Key("queue"), "job"))
    wait: Op[list[bytes]] = Op("BLPOP", Key("queue"), 1, blocking=1)
    return kv.run(wait)[1] == b"job"


def _listens(kv: Kv) -> bool:
    with kv.client.pubsub(ignore_subscribe_messages=True) as listening:
        listening.subscribe(kv.name(Key("news")))
        listening.get_message(timeout=1)
        kv.run(Op("PUBLISH", Key("news"), "now"))
        return listening.get_message(timeout=1) is not None


def _lock(kv: Kv) -> bool:
    return wake_up(kv) < 5


def _watcher(kv: Kv) -> bool:
    flags = FeatureFlags("capabilities", {})
    with FlagWatcher(kv, flags) as watcher:
        return watcher.wait_for(kv.run(flags.set("new", True)))


ABILITIES: dict[str, tuple[Callable[[Kv], bool], str]] = {
    "50 ops are one round trip": (_one_round_trip, ""),
    "atomic=True applies all ops or none": (_atomic, ""),
    "a script, after SCRIPT FLUSH too": (_script, ""),
    "a reply of any bytes": (_binary_reply, ""),
    "an argument of any bytes": (_binary_argument, "encode the value, by base64 for instance"),
    "a command that waits (BLPOP)": (_blocks, "ask again: a lock does so every 0.1 s"),
    "a channel (SUBSCRIBE)": (_listens, "read again: a flag watcher does so every 2 s"),
    "a lock waits for its holder": (_lock, ""),
    "a flag watcher learns of a change": (_watcher, ""),
}
"""The ability, how it is tried, and what to do where it is missing."""


def wake_up(kv: Kv) -> float:
    """Seconds from the release of a lock until a caller that waited for the lock has it."""
    lock = Lock("wake-up", 30)
    held = kv.run(lock.acquire(5))
    assert held is not None, "another run uses this namespace"
    taken: list[float] = []

    def wait() -> None:
        mine = kv.run(lock.acquire(5))
        taken.append(time.perf_counter())
        if mine is not None:
            kv.run(lock.release(mine))

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.02)  # so that the waiter has asked once
    released = time.perf_counter()
    kv.run(lock.release(held))
    waiter.join()
    return taken[0] - released
