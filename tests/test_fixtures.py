"""The fixtures themselves: each way of travelling, each engine, and the stepped clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import SteppedClock, absent

from kvlab import Key, Kv, Op, Script


def test_every_way_reaches_every_engine(run: Callable[[Any], Any]) -> None:
    count = Script("count", "return redis.call('INCR', KEYS[1])")
    assert run(Op("SET", Key("greeting"), "hi")) == b"OK"
    assert [run(Op(count, Key("n"))) for _ in range(3)] == [1, 2, 3]


def test_the_stepped_clock_moves_expiry_both_ways(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    kv.run(Op("SET", Key("x"), 1, "PX", 1000))
    clock.step(0.9)
    assert kv.run(Op("GET", Key("x"))) == b"1"
    clock.step(0.2)
    assert kv.run(Op("GET", Key("x"))) is None
    seconds, _ = kv.run(Op("TIME"))
    clock.step(-50)
    assert int(kv.run(Op("TIME"))[0]) == int(seconds) - 50


def test_an_absent_library_skips_a_test_at_home_and_fails_it_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="it is absent"):
        absent("it is absent")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="it is absent"):
        absent("it is absent")
