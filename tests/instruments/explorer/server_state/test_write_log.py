"""The log of a run's writes, line by line: what a promoted replica has, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from kvlab.instruments.explorer.server_state.write_log import OPTIONS, WriteLog
from kvlab.server import engines

AT_RISK = 1
"""The number of a connection."""


@pytest.fixture(scope="module")
def logged() -> Iterator[redis.Redis]:
    with (
        engines.start("valkey", options=OPTIONS) as server,
        server.client(decode_responses=True) as client,
    ):
        yield client


@pytest.fixture
def log(logged: redis.Redis) -> Iterator[WriteLog]:
    made = WriteLog(logged)
    logged.flushall()
    made.begin()
    yield made
    made.close()


def test_what_was_before_the_run_is_no_write_of_it(logged: redis.Redis, log: WriteLog) -> None:
    logged.set("noted", 1)
    log.note(AT_RISK)
    logged.set("not noted", 1)
    log.begin()
    assert (log.at_risk, log.note(AT_RISK)) == (0, False)
    logged.get("before")
    assert not log.note(AT_RISK)
    logged.set("k", 1)
    assert log.note(AT_RISK)
    assert log.at_risk == 1
    log.lose(0)
    assert logged.keys() == ["k"]
    assert not log.note(AT_RISK)  # what put the server there is no write of the run
    log.lose(1)
    assert logged.keys() == []
    assert log.at_risk == 0


def test_a_transaction_is_one_write_and_its_neighbours_are_writes_of_their_own(
    logged: redis.Redis, log: WriteLog
) -> None:
    with logged.pipeline() as both:
        both.set("a", 1).set("b", 1).execute()
    logged.set("c", 1)
    logged.set("d", 1)
    with logged.pipeline() as both:
        both.set("e", 1).set("f", 1).execute()
    log.note(AT_RISK)
    left = []
    for _ in range(4):
        log.lose(1)
        left.append("".join(sorted(logged.keys())))
    assert left == ["abcd", "abc", "ab", ""]


def test_what_no_client_wrote_is_not_lost(logged: redis.Redis, log: WriteLog) -> None:
    logged.set("server's", 1)
    log.note()
    logged.set("k", 1)
    log.note(AT_RISK)
    log.lose(5)
    assert logged.keys() == ["server's"]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_ttl_that_ended_ends_only_where_it_is_known(
    logged: redis.Redis, log: WriteLog, lost: int
) -> None:
    logged.set("k", 1)
    log.note(AT_RISK)
    logged.pexpire("k", 60_000)
    log.note(AT_RISK)
    logged.unlink("k")
    log.ttl_ended(b"k")
    log.lose(lost)
    assert logged.exists("k") == lost


def test_time_passes_for_every_ttl_but_those_that_are_kept(
    logged: redis.Redis, log: WriteLog
) -> None:
    for key in ("a", "b", "c"):
        logged.set(key, 1, ex=600)
    logged.set("for ever", 1)
    log.note(AT_RISK)
    log.time_passed(300_000, [b"a", b"b"])
    log.lose(0)
    left = {key: logged.ttl(key) for key in ("a", "b", "c", "for ever")}
    assert left.pop("for ever") == -1
    assert {key: ttl > 450 for key, ttl in left.items()} == {"a": True, "b": True, "c": False}
    assert left["c"] > 200
