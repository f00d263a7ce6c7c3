"""Forced cuts, and replies that the server holds back."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from kvlab import Key, Kv, Op
from kvlab.chapters.pipeline.lost_connection import NotObserved, cut_and_repeated, cut_midway
from kvlab.chapters.pipeline.unread_replies import bytes_held
from kvlab.server.engines import RunningServer


def ten(executor: Kv, *, atomic: bool, batch: str = "t") -> list[Any]:
    return executor.run([Op("INCRBY", Key(f"{batch}:{i}"), 1) for i in range(10)], atomic=atomic)


@pytest.mark.parametrize(("atomic", "applied"), [(False, 3), (True, 0)])
def test_a_cut_is_where_it_is_wanted(
    kv: Kv, server: RunningServer, atomic: bool, applied: int
) -> None:
    def work(client: redis.Redis) -> None:
        ten(Kv(client, prefix=kv.prefix), atomic=atomic)

    cut = cut_and_repeated(kv, server.url, "INCRBY", 4, work, "t:*")
    assert cut.applied == applied
    assert cut.steps[-1] == f"server: {10 - applied} counters are 1, {applied} are 2"
    assert str(cut).splitlines()[3] == f"4. {cut.steps[-1]}"


def test_a_cut_that_never_comes_is_an_error(kv: Kv, server: RunningServer) -> None:
    with pytest.raises(NotObserved, match="INCRBY number 11"):
        cut_midway(server.url, "INCRBY", 11, lambda c: ten(Kv(c, prefix=kv.prefix), atomic=False))


def test_the_server_holds_what_is_not_read(kv: Kv, server: RunningServer) -> None:
    kv.run(Op("SET", Key("big"), "x" * 100_000))

    def ask(n: int) -> int:
        get = Op("GET", Key("big"))
        return bytes_held(server.url, "GET", lambda c: Kv(c, prefix=kv.prefix).run([get] * n))

    assert ask(400) > 10_000_000  # 40 MB, less what the sockets take
    assert ask(1) == 0
