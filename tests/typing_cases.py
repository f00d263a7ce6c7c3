"""Checked by mypy, never run: what ``run`` returns for what it is given."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, assert_type

from kvlab import AsyncKv, Call, Flow, Key, Kv, Now, Op, Wait, flow, together

count: Op[int] = Op("INCR", Key("n"), decode=int)
text: Op[str] = Op("GET", Key("k"), decode=bytes.decode)
flag: Op[bool] = Op("EXISTS", Key("k"), decode=bool)
size: Op[float] = Op("GET", Key("x"), decode=float)


class Counter:
    @flow
    def twice(self, name: str, *, step: int = 1) -> Generator[Any, Any, tuple[int, str]]:
        assert_type((yield from count), int)
        both = yield from together(count, text)
        assert_type(both, tuple[int, str])
        three = yield from together(count, text, flag)
        assert_type(three, tuple[int, str, bool])
        assert_type((yield from Now()), float)
        assert_type((yield from Wait(0.1)), None)
        assert_type((yield from Call(len, ("abc",))), int)
        return both


def sync(kv: Kv) -> None:
    assert_type(kv.run(count), int)
    assert_type(kv.run(count, text), tuple[int, str])
    assert_type(kv.run(count, text, flag), tuple[int, str, bool])
    assert_type(kv.run(count, text, flag, size, atomic=True), tuple[int, str, bool, float])
    assert_type(kv.run([count]), list[int])
    assert_type(kv.run([count], return_exceptions=True), list[int | Exception])
    assert_type(Counter().twice("n"), Flow[tuple[int, str]])
    assert_type(kv.run(Counter().twice("n", step=2)), tuple[int, str])
    kv.run("GET")  # type: ignore[arg-type]
    kv.run(None)  # type: ignore[call-overload]
    Counter().twice(5)  # type: ignore[arg-type]
    Op("SET", Key("k"), None)  # type: ignore[arg-type]


async def awaited(akv: AsyncKv) -> None:
    assert_type(await akv.run(count), int)
    assert_type(await akv.run(count, text), tuple[int, str])
    assert_type(await akv.run([text]), list[str])
    assert_type(await akv.run(Counter().twice("n")), tuple[int, str])
