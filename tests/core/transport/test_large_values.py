"""Values of the size that a server takes at most, and one byte more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

import kvlab
from kvlab import Key, Kv, Op
from kvlab.core.transport.at_once import stages, together
from kvlab.errors import OutcomeUnknown, ServerRefused
from kvlab.server import engines
from kvlab.server.running_server import RunningServer

LARGEST = 512 * 1024 * 1024
"""Redis's and Valkey's default of proto-max-bulk-len."""
SMALL = 1024 * 1024
"""The least that proto-max-bulk-len can be."""
VALUE = Key("value")
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def small(running: Callable[[str], RunningServer]) -> Iterator[RunningServer]:
    """A server of the module that takes values of a mebibyte."""
    running("valkey")  # skips where there is none
    with engines.start("valkey") as server, server.client() as client:
        client.config_set("proto-max-bulk-len", SMALL)
        yield server


@pytest.fixture(params=["Kv", "AsyncKv"])
def run(request: pytest.FixtureRequest, small: RunningServer) -> Iterator[Run]:
    """``run`` of an executor whose errors stand among the results."""
    if request.param == "Kv":
        with kvlab.connect(small.url) as kv:
            kv.clear()
            yield lambda *ops: kv.run(*ops, return_exceptions=True)
        return
    with asyncio.Runner() as loop:
        akv = loop.run(kvlab.aconnect(small.url))
        loop.run(akv.clear())
        yield lambda *ops: loop.run(akv.run(*ops, return_exceptions=True))
        loop.run(akv.close())


@pytest.mark.parametrize("size", [SMALL + 1, 16 * SMALL], ids=["a byte more", "much more"])
def test_a_value_that_is_too_long_is_refused_and_the_next_op_runs(run: Run, size: int) -> None:
    count = Op("INCR", Key("count"))  # not idempotent: a connection that is closing would show
    fits = bytes(SMALL)
    assert run(Op("SET", VALUE, fits), Op("GET", VALUE)) == (b"OK", fits)
    for number in range(1, 4):
        (refused,) = run(Op("SET", VALUE, bytes(size)))
        assert type(refused) is ServerRefused
        assert "invalid bulk length" in str(refused)
        assert run(count) == (number,)
    before, refused, behind = run(count, Op("SET", VALUE, bytes(size)), count)
    assert before == 4
    assert type(refused) is ServerRefused
    assert type(behind) is OutcomeUnknown
    assert run(Op("STRLEN", VALUE), Op("GET", Key("count"))) == (SMALL, b"4")


def test_a_node_of_a_cluster_refuses_such_a_value_in_its_own_words(small: RunningServer) -> None:
    with kvlab.connect(small.url) as kv:
        sent = [("SET", "value", bytes(16 * SMALL))]
        ((replies, error),) = together([stages(kv._connections, sent, None)])
    assert "invalid bulk length" in str(replies[0])
    assert type(error) is OutcomeUnknown


@pytest.mark.skipif(
    psutil.virtual_memory().available < 12 * LARGEST,
    reason="a value of 512 MB takes 4 GB of memory, in the client and in the server",
)
def test_the_largest_value_of_a_server() -> None:
    # About 3 s of CPU: the only test of what is larger than every buffer on the way.
    with (
        engines.start("valkey") as server,
        server.client() as client,
        Kv(client, prefix="large", timeout=60) as kv,
    ):
        value = bytes(LARGEST - 1) + b"!"
        assert kv.run(Op("SET", VALUE, value)) == b"OK"
        assert kv.run(Op("GET", VALUE)) == value
        assert kv.round_trips == 2
