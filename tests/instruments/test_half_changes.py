"""The change lands between, the writer ends with its block, and halves are counted."""

from __future__ import annotations

import threading

import pytest

from kvlab import Kv
from kvlab.engines import RunningServer
from kvlab.instruments.gate import GateTimeout
from kvlab.instruments.half_changes import Pairs, midway, turning


def test_the_change_lands_while_the_work_is_held(kv: Kv, server: RunningServer) -> None:
    key = kv.prefix + "n"
    for gate, seen in (
        ({"before": "GET"}, [b"2", b"2"]),
        ({"before": "GET", "nth": 2}, [b"1", b"2"]),
        ({"after": "GET", "nth": 2}, [b"1", b"1"]),
    ):
        kv.client.set(key, 1)
        got = midway(
            server.url,
            lambda client: [client.get(key), client.get(key)],
            lambda: kv.client.set(key, 2),
            **gate,
        )
        assert got == seen


def test_work_that_never_gets_there_or_fails_says_so(server: RunningServer) -> None:
    changes: list[int] = []
    with pytest.raises(GateTimeout, match="GETDEL"):
        midway(server.url, lambda c: c.ping(), lambda: changes.append(1), before="GETDEL")
    with pytest.raises(ZeroDivisionError):
        midway(server.url, lambda c: 1 / 0, lambda: changes.append(1), before="GET")
    assert changes == []


def test_a_writer_turns_and_ends_with_its_block() -> None:
    written: list[bool] = []
    enough, before = threading.Event(), threading.active_count()

    def write(on: bool) -> None:
        written.append(on)
        if len(written) == 4:
            enough.set()

    with turning(write, pause=0):
        assert enough.wait(10)
    assert written[:4] == [True, False, True, False]
    assert threading.active_count() == before


def test_a_writer_that_fails_is_heard() -> None:
    def write(on: bool) -> None:
        failed.set()
        raise RuntimeError("no")

    failed = threading.Event()
    with pytest.raises(RuntimeError, match="no"), turning(write, pause=0):
        assert failed.wait(10)


def test_halves_are_counted_by_variant() -> None:
    pairs, answers = Pairs(), iter([(True, False), (True, True), (False, True), (False, False)])
    assert pairs.turn("naive", lambda: next(answers), 4) > 0
    pairs.turn("hardened", lambda: (True, True), 3)
    assert dict(pairs.asked) == {"naive": 4, "hardened": 3}
    assert (pairs.halves["naive"], pairs.halves["hardened"]) == (2, 0)
