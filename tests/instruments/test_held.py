"""Another client acts while one is held."""

from __future__ import annotations

import pytest

from kvlab import Kv
from kvlab.engines import RunningServer
from kvlab.errors import InvalidArgument
from kvlab.instruments.held import held


def test_the_world_moves_on_while_one_is_held(kv: Kv, server: RunningServer) -> None:
    key = kv.prefix + "n"
    for _ in range(20):
        kv.client.set(key, 1)
        go_on = held(server.url, "SET", lambda client: client.set(key, int(client.get(key)) + 1))
        kv.client.set(key, 10)
        assert kv.client.get(key) == b"10"
        assert go_on() is True
        assert kv.client.get(key) == b"2"


def test_work_that_never_comes_there_or_fails_says_so(kv: Kv, server: RunningServer) -> None:
    with pytest.raises(InvalidArgument, match="never sent SETEX"):
        held(server.url, "SETEX", lambda client: client.ping())
    with pytest.raises(ZeroDivisionError):
        held(server.url, "SETEX", lambda client: 1 / 0)
    go_on = held(server.url, "PING", lambda client: client.ping() and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        go_on()
