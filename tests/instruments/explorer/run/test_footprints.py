"""Which keys a command reads and writes: asked from each engine, and never too few."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from support import ENGINES

from kvlab.instruments.explorer.run.footprints import (
    EVERYTHING,
    SCRIPT_CACHE,
    Footprint,
    Footprints,
)
from kvlab.server.running_server import RunningServer


def read(*keys: bytes | str) -> Footprint:
    return Footprint(reads=frozenset(keys))


def written(*keys: bytes | str) -> Footprint:
    return Footprint(writes=frozenset(keys))


EXPECTED = {
    "GET a": read(b"a"),
    "get a": read(b"a"),
    "MGET a b": read(b"a", b"b"),
    "SET a 1": written(b"a"),
    "MSET a 1 b 2": written(b"a", b"b"),
    "RENAME a b": written(b"a", b"b"),
    "BLPOP a b 0": written(b"a", b"b"),
    "ZUNIONSTORE c 2 a b": written(b"a", b"b", b"c"),
    "XREAD COUNT 1 STREAMS a b 0 0": read(b"a", b"b"),
    "PING": Footprint(),
    "TIME": Footprint(),
    "MULTI": Footprint(),
    "EVALSHA abc 2 a b c": written(b"a", b"b") | read(SCRIPT_CACHE),
    "EVAL text 1 a b": written(b"a", SCRIPT_CACHE),
    "EVAL text 0": EVERYTHING,  # it may not say which
    "SORT l BY w_*": EVERYTHING,
    "SCRIPT FLUSH": written(SCRIPT_CACHE),
    "DBSIZE": EVERYTHING,
    "KEYS *": EVERYTHING,
    "FLUSHDB": EVERYTHING,
    "RANDOMKEY": EVERYTHING,
    "NOSUCHCOMMAND a": EVERYTHING,
}


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_command_touches(engine: str, running: Callable[[str], RunningServer]) -> None:
    with running(engine).client() as client:
        footprints = Footprints(client)
        for line, expected in EXPECTED.items():
            found = footprints.of([tuple(word.encode() for word in line.split())])
            if engine == "fakeredis" and found.everything:
                continue  # it does not describe its commands
            assert found == expected, line


def test_a_transaction_touches_what_its_commands_do(server: RunningServer) -> None:
    with server.client() as client:
        commands = [(b"MULTI",), (b"SET", b"a", b"1"), (b"GET", b"b"), (b"EXEC",)]
        assert Footprints(client).of(commands) == written(b"a") | read(b"b")


def test_who_may_change_places() -> None:
    a_read, a_written, b_written = read(b"a"), written(b"a"), written(b"b")
    assert not a_read.meets(a_read)
    assert not a_written.meets(b_written)
    assert not Footprint().meets(a_written)
    for one, other in [(a_read, a_written), (a_written, a_written), (EVERYTHING, Footprint())]:
        assert one.meets(other)
        assert other.meets(one)


def test_a_change_is_noticed_and_a_read_is_none(server: RunningServer, url: str) -> None:
    with redis.Redis.from_url(url) as client:
        footprints = Footprints(client)
        counts = []
        for act in (
            lambda: client.get("a"),
            lambda: client.set("a", 1),
            lambda: client.setnx("a", 2),
            lambda: client.delete("b"),
            lambda: client.delete("a"),
        ):
            before = footprints.changes()
            act()
            counts.append(before != footprints.changes())
        assert counts == [False, True, False, False, True]
    assert written(b"a", SCRIPT_CACHE).without_change() == read(b"a") | written(SCRIPT_CACHE)
