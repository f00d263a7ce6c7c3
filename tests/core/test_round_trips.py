"""Round trips counted where they happen: at a proxy and by the server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kvlab import Key, Op, Script, aconnect, connect
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server import engines

SCRIPT = Script("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])")
THREE = (Op(SCRIPT, Key("n"), 2), Op("HGETALL", Key("h")), Op("SET", Key("k"), "v"))


Run = Callable[..., tuple[Any, int]]


@contextmanager
def sync_runs(url: str) -> Iterator[Run]:
    with connect(url, timeout=10) as kv:
        yield lambda *ops, **how: (kv.run(*ops, **how), kv.round_trips)


@contextmanager
def async_runs(url: str) -> Iterator[Run]:
    with asyncio.Runner() as runner:
        akv = runner.run(aconnect(url, timeout=10))
        yield lambda *ops, **how: (runner.run(akv.run(*ops, **how)), akv.round_trips)
        runner.run(akv.close())


@pytest.mark.parametrize("make", [sync_runs, async_runs])
def test_on_the_wire(make: Callable[[str], AbstractContextManager[Run]]) -> None:
    with (
        engines.start("valkey") as own,
        Proxy(own.url) as proxy,
        own.client() as admin,
        make(proxy.url) as run,
    ):
        run(*THREE)  # connected, and the script loaded

        def cost(*ops: Any, **how: Any) -> tuple[int, int, int]:
            """Round trips by our own count, by the proxy's, and commands by the server's."""
            _, ours = run()
            proxy.reset()
            commands = admin.info("stats")["total_commands_processed"]
            _, after = run(*ops, **how)
            ran = admin.info("stats")["total_commands_processed"] - commands - 1
            return after - ours, proxy.requests, ran

        # A script's own redis.call is counted by the server, too.
        assert cost(*THREE) == (1, 1, 4)
        assert cost(Op("GET", Key("k"))) == (1, 1, 1)
        assert cost(*THREE, atomic=True) == (1, 1, 6)
        assert cost([Op("GET", Key("k"))] * 1200)[0] == 3
        assert proxy.commands.count("GET") == 1200
        assert cost([Op("GET", Key("k"))] * 1200, atomic=True) == (1, 1, 1202)
        assert cost([]) == (0, 0, 0)


def test_a_connection_says_hello_once() -> None:
    with engines.start("valkey") as own, Proxy(own.url) as proxy, connect(proxy.url) as kv:
        for _ in range(5):
            kv.run(Op("PING"))
        assert proxy.commands == ["CLIENT", "CLIENT"] + ["PING"] * 5


def test_the_types_hold() -> None:
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/typing_cases.py"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout
