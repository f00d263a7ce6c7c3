"""Servers, executors and clocks for every test.

``kv``: the embedded Valkey alone. ``run``: on every engine, and by every way an op can travel.
``stepped``: a Valkey whose clock the test sets.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from kvlab import AsyncKv, Kv, Op, engines
from kvlab.engines import RunningServer

ENGINES = ("valkey", "redis-6.2", "redis", "fakeredis")
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def running() -> Iterator[Callable[[str], RunningServer]]:
    """One server per engine and session, started when first asked for."""
    started: dict[str, Any] = {}

    def get(name: str) -> RunningServer:
        engine = engines.find(name)
        if engine.missing:
            pytest.skip(f"engine {name} is absent: {engine.missing}")
        if name not in started:
            started[name] = engines.start(name)
            started[name, "server"] = started[name].__enter__()
        return started[name, "server"]

    yield get
    for name in [n for n in started if isinstance(n, str)]:
        started[name].__exit__(None, None, None)


def fresh_prefix() -> str:
    return f"t{next(_numbers)}"


@pytest.fixture
def server(running: Callable[[str], RunningServer]) -> RunningServer:
    """The embedded engine, a private server of this session."""
    return running("valkey")


@pytest.fixture
def kv(server: RunningServer) -> Iterator[Kv]:
    """An executor on it, in a namespace of the test's own."""
    yield from _executor(server)


@pytest.fixture(params=ENGINES)
def any_kv(request: pytest.FixtureRequest, running: Callable[[str], RunningServer]) -> Iterator[Kv]:
    """An executor on each engine in turn; an absent engine is skipped with its reason."""
    yield from _executor(running(request.param))


def _executor(server: RunningServer) -> Iterator[Kv]:
    client = server.client(max_connections=500)
    with Kv(client, prefix=fresh_prefix()) as kv:
        yield kv
        kv.clear()
    client.close()


@pytest.fixture(params=["sync", "async", "mixed"])
def run(request: pytest.FixtureRequest, any_kv: Kv) -> Iterator[Callable[[Any], Any]]:
    """``run(op)``: by ``Kv``, by ``AsyncKv``, and amid others in one batch; flows travel alone.

    ``run.kv`` is the executor whose namespace it is.
    """
    way = _WAYS[request.param](any_kv)
    yield way
    way.close()


class _Sync:
    def __init__(self, kv: Kv) -> None:
        self.kv = kv

    def __call__(self, what: Any) -> Any:
        return self.kv.run(what)

    def close(self) -> None:
        pass


class _Mixed(_Sync):
    def __call__(self, what: Any) -> Any:
        if not isinstance(what, Op) or what.blocking is not None:
            return self.kv.run(what)
        before, result, after = self.kv.run(Op("ECHO", "before"), what, Op("ECHO", "after"))
        assert (before, after) == (b"before", b"after")
        return result


class _Async(_Sync):
    def __init__(self, kv: Kv) -> None:
        super().__init__(kv)
        self._loop = asyncio.new_event_loop()
        self._akv = twin(kv)

    def __call__(self, what: Any) -> Any:
        return self._loop.run_until_complete(self._akv.run(what))

    def close(self) -> None:
        self._loop.run_until_complete(self._akv.close())
        self._loop.close()


_WAYS: dict[str, Callable[[Kv], _Sync]] = {"sync": _Sync, "async": _Async, "mixed": _Mixed}


def twin(kv: Kv, **settings: Any) -> AsyncKv:
    """An ``AsyncKv`` for the server and the namespace of ``kv``."""
    kwargs = kv.client.connection_pool.connection_kwargs
    client = redis.asyncio.Redis(host=kwargs["host"], port=kwargs["port"], max_connections=500)
    return AsyncKv(client, prefix=kv.prefix, **settings)


class SteppedClock:
    """The clock of one server, set by libfaketime: it stands still, within 2 ms, until stepped."""

    START = 1_800_000_000.0

    def __init__(self, file: Path) -> None:
        self._file = file
        self._client: redis.Redis | None = None
        self._write(self.START)

    def attach(self, client: redis.Redis) -> None:
        self._client = client

    def set(self, now: float) -> None:
        """The server's time from now on, in Unix seconds; earlier than before is allowed."""
        self._write(now)
        assert self._client is not None
        # The server reads its clock once per turn of its event loop: make it turn.
        for _ in range(1000):
            seconds, micros = self._client.time()
            if abs(seconds + micros / 1e6 - now) < 0.002:
                return
        raise AssertionError(f"the server's clock did not follow to {now}")

    def _write(self, now: float) -> None:
        self.now = now
        whole = self._file.with_suffix(".new")
        # "@" would let time run on from there; a bare date freezes it.
        whole.write_text(datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S.%f"))
        whole.replace(self._file)

    def step(self, seconds: float) -> None:
        self.set(self.now + seconds)


def faketime_library() -> str | None:
    return next((str(p) for p in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


@pytest.fixture(scope="session")
def _stepped_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RunningServer, SteppedClock]]:
    library = faketime_library()
    if sys.platform != "linux" or library is None:
        pytest.skip("libfaketime is absent: on Debian, apt-get install libfaketime")
    file = tmp_path_factory.mktemp("clock") / "now"
    clock = SteppedClock(file)
    env = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": "UTC",
    }
    with engines.start("valkey", env=env) as server, server.client() as client:
        clock.attach(client)
        yield server, clock


@pytest.fixture
def stepped(
    _stepped_server: tuple[RunningServer, SteppedClock],
) -> Iterator[tuple[Kv, SteppedClock]]:
    """An executor on a Valkey whose clock stands still, and that clock."""
    server, clock = _stepped_server
    clock.set(clock.START)
    for kv in _executor(server):
        yield kv, clock


def pytest_report_header() -> list[str]:
    """What of the matrix is here, and what is not: said, never hidden."""
    lines = []
    for name, engine in engines.engines().items():
        lines.append(f"engine {name}: {engine.missing or engine.version}")
    library = faketime_library()
    lines.append(f"libfaketime: {'present' if library else 'absent, clock tests are skipped'}")
    lines.append(f"CPU cores: {os.cpu_count()}")
    return lines
