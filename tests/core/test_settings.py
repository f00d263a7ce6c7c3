"""One frozen value for all settings, and the default prefix that the environment may set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import redis
import redis.asyncio

from kvlab import AsyncKv, AutoBatch, Key, Kv, Op, aconnect, connect
from kvlab.core.settings import Settings
from kvlab.errors import InvalidArgument

NOWHERE = "redis://127.0.0.1:1/0"  # nothing is sent


def aconnected() -> AsyncKv:
    return asyncio.run(aconnect(NOWHERE))


EXECUTORS: dict[str, Callable[[], Kv | AsyncKv]] = {
    "connect": lambda: connect(NOWHERE),
    "aconnect": aconnected,
    "Kv": lambda: Kv(redis.Redis.from_url(NOWHERE)),
    "AsyncKv": lambda: AsyncKv(redis.asyncio.Redis.from_url(NOWHERE)),
    "AutoBatch": lambda: AutoBatch(AsyncKv(redis.asyncio.Redis.from_url(NOWHERE))),
}
everywhere = pytest.mark.parametrize("make", EXECUTORS.values(), ids=EXECUTORS)


@everywhere
def test_the_default_prefix_is_kvlab(
    make: Callable[[], Kv], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KVLAB_PREFIX", raising=False)
    assert make().prefix == "kvlab:"
    monkeypatch.setenv("KVLAB_PREFIX", "")
    assert make().prefix == "kvlab:"


@everywhere
@pytest.mark.parametrize("given", ["team-7", "team-7:", "course:team-7"])
def test_the_environment_sets_the_default_prefix(
    make: Callable[[], Kv], given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVLAB_PREFIX", given)
    made = make()
    assert made.prefix == given.removesuffix(":") + ":"
    assert made.within("ch05").prefix == f"{made.prefix}ch05:"


@pytest.mark.parametrize("name", ["timeout", "deadline"])
def test_no_wait_is_longer_than_a_socket_can_wait(name: str) -> None:
    connect(NOWHERE, **{name: 86_400})
    with pytest.raises(InvalidArgument, match=f"{name} must be .* to 86400"):
        connect(NOWHERE, **{name: 86_401})


@everywhere
@pytest.mark.parametrize("wrong", ["a b", "run*", ":", "{a}"])
def test_a_wrong_prefix_in_the_environment_is_named(
    make: Callable[[], Kv], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVLAB_PREFIX", wrong)
    with pytest.raises(InvalidArgument, match="environment variable KVLAB_PREFIX: prefix must be"):
        make()


def test_an_argument_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVLAB_PREFIX", "not a prefix")
    assert connect(NOWHERE, prefix="mine").prefix == "mine:"
    with pytest.raises(InvalidArgument, match=r"^prefix must be"):
        connect(NOWHERE, prefix="not mine")


def test_the_default_prefix_reaches_the_server(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVLAB_PREFIX", kv.prefix + "room")
    with Kv(kv.client) as mine:
        mine.run(Op("SET", Key("greeting"), "hi"))
    assert kv.run(Op("GET", Key("room:greeting"))) == b"hi"


def test_wrong_settings_start_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def join() -> None:
        raise AssertionError("an embedded server was asked for")

    monkeypatch.setattr("kvlab.server.embedded.join", join)
    for wrong in ({"timeout": 0}, {"deadline": True}, {"prefix": "*"}):
        with pytest.raises(InvalidArgument):
            connect(**wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument):
            asyncio.run(aconnect(**wrong))  # type: ignore[arg-type]


def test_settings_are_handed_on_whole(kv: Kv) -> None:
    given: dict[str, Any] = {
        "prefix": "p:",
        "timeout": 3.0,
        "deadline": 4.0,
        "trace": print,
        "clock": time.perf_counter,
        "sleep": asyncio.sleep,
    }
    settings = Settings(**given)
    assert settings.keywords() == given
    with pytest.raises(FrozenInstanceError):
        settings.timeout = 5.0  # type: ignore[misc]
    client = redis.asyncio.Redis.from_url(NOWHERE)
    akv = AsyncKv(client, **given)
    inner = replace(settings, prefix="p:q:")
    assert (akv.settings, AutoBatch(akv).settings) == (settings, settings)
    assert (akv.within("q").settings, AutoBatch(akv).within("q").settings) == (inner, inner)
    given["sleep"] = time.sleep
    assert Kv(kv.client, **given).within("q").settings == replace(inner, sleep=time.sleep)
