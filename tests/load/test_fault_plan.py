"""Faults as people write them, and what they do to a server."""

from __future__ import annotations

import time

import psutil
import pytest
import redis

from kvlab.errors import InvalidArgument
from kvlab.load.fault_plan import PlannedFault, durable_server


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("pause@5", PlannedFault("pause", 5, 1)),
        ("pause@5s:2s", PlannedFault("pause", 5, 2)),
        ("pause@0:0.25", PlannedFault("pause", 0, 0.25)),
        ("restart@1.5", PlannedFault("restart", 1.5, 1)),
        ("cut@8", PlannedFault("cut", 8, 0)),
        ("flush@10", PlannedFault("flush", 10, 0)),
    ],
)
def test_written_as_people_type(text: str, fault: PlannedFault) -> None:
    assert PlannedFault.parse(text) == fault


@pytest.mark.parametrize("text", ["", "pause", "pause@", "pause@-1", "crash@3", "pause@5:", "@3"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="a fault is written like"):
        PlannedFault.parse(text)


def test_a_moment_has_no_length() -> None:
    with pytest.raises(InvalidArgument, match="a cut has no length"):
        PlannedFault.parse("cut@3:2")


def test_what_each_does() -> None:
    with durable_server() as server, server.client() as client:
        script = client.script_load("return 1")
        client.set("kept", "so")
        PlannedFault("flush", 0).inflict(server)
        assert client.script_exists(script) == [False]

        held = redis.Connection("127.0.0.1", server.port)
        held.connect()
        PlannedFault("cut", 0).inflict(server)
        with pytest.raises(redis.ConnectionError):
            held.send_command("PING")
            held.read_response()

        pids = [server.pid]
        PlannedFault("restart", 0).inflict(server)
        pids.append(server.pid)
        assert pids[0] != pids[1]
        assert client.get("kept") == b"so"

        states = []
        PlannedFault("pause", 0, 1).inflict(server, lambda _: states.append(_state(server.pid)))
        assert states == ["stopped"]
        assert client.ping()


def _state(pid: int) -> str:
    """Of a process; the signal that stops it may be on its way."""
    deadline = time.monotonic() + 10
    while (state := psutil.Process(pid).status()) != "stopped" and time.monotonic() < deadline:
        time.sleep(0.01)
    return state
