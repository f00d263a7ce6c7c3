"""A soak in small, and beside it an app and a server that break each promise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis.asyncio
from support import twin

from kvlab import AsyncKv, Key, Kv, Lock, Op
from kvlab.core.hold import Held, Holding
from kvlab.instruments import Proxy
from kvlab.instruments.judges.server_clock import ServerClock
from kvlab.load.soak import callers
from kvlab.load.soak.__main__ import report
from kvlab.load.soak.callers import COUNTS, ERRORS, FENCES, FREE, LOCKS, Callers
from kvlab.load.soak.cold import CUT_OFF, DEMOTED, failures
from kvlab.load.soak.diary import Counted, Diary, FaultSeen
from kvlab.load.soak.faults import FAULTS, OPTIONS
from kvlab.load.soak.run import SoakSettings, soak
from kvlab.load.soak.verdict import Residue, judged
from kvlab.load.soak.visitors import LOG_OUTS, NO_500, PROFILES, SCORES, SESSIONS, Visitor
from kvlab.server import engines
from kvlab.server.running_server import RunningServer

CLOCK = ServerClock(ahead=0.0, unsure=0.0)


def test_five_seconds_with_every_fault() -> None:
    soaked = soak(SoakSettings(5, seed=1, visitors=6, longest=0.1))
    assert soaked.holds, report(soaked)
    diary = soaked.diary
    assert {fault.kind for fault in diary.faults} == {*FAULTS}
    assert {200, 429, 503} == {status for _, status in diary.statuses}


def test_an_app_that_breaks_every_promise_is_seen_through() -> None:
    """It says that everybody is somebody else, and takes scores and profiles as they come."""
    versions = iter(range(1000, 0, -1))
    bodies: dict[str, Callable[[], dict[str, Any]]] = {
        "/api/me": lambda: {"user": "somebody else"},
        "/api/profiles/1": lambda: {"version": next(versions), "cached": True},
        "/api/board/scores": lambda: {"entry": {"score": 7}},
        "/api/board/rank": lambda: {"score": 7},
    }

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(10_000):
            path = head.decode().split()[1].partition("?")[0]
            status = "500 Mistake" if path == "/api/work" else "200 OK"
            body = json.dumps(bodies.get(path, dict)())
            said = f"HTTP/1.1 {status}\r\nSet-Cookie: s=1\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write((said + body).encode())

    async def main() -> Diary:
        diary, over = Diary(), asyncio.Event()
        server = await asyncio.start_server(app, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        visitor = Visitor(1, f"http://{host}:{port}", 1, diary, lambda: 0.0)
        living = asyncio.create_task(visitor.live(over))
        while len(diary.wrong) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0)
        over.set()
        await living
        await visitor.look_back()
        server.close()
        return diary

    assert set(asyncio.run(main()).wrong) == {NO_500, LOG_OUTS, SESSIONS, PROFILES, SCORES}


def test_locks_and_counters_that_are_wrong_are_seen(
    kv: Kv, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Lock("soak", ttl=0.05)
    monkeypatch.setattr(callers, "LOCKS", (stuck,))
    kv.run(Lock("soak", ttl=100).try_acquire())
    kv.run(Op("SET", Key("count0"), 3))

    async def main() -> Diary:
        diary = Diary()
        async with twin(kv) as akv:
            seen = Callers(akv, akv, 1, diary)  # type: ignore[arg-type]
            holds = [Holding(LOCKS[0], Held("token", fence), lambda: 0.0) for fence in (2, 1)]
            seen._fences[LOCKS[0]], seen._inside[LOCKS[0]] = 0, {*holds}
            for hold in holds:
                seen._check(LOCKS[0], hold)
            diary.counters["count0"] = Counted(certain=4, unknown=2)
            await seen.look_back()
        return diary

    diary = asyncio.run(main())
    assert [len(diary.wrong[promise]) for promise in (FENCES, FREE, COUNTS)] == [3, 1, 1]


def test_the_verdict_names_what_is_left_and_what_was_never_tried() -> None:
    names = {finding.name: finding.holds for finding in judged(Diary(), Residue(), 4, 2.0, CLOCK)}
    untried = {NO_500, LOG_OUTS, SESSIONS, PROFILES, SCORES, ERRORS, FENCES, FREE, COUNTS}
    untried |= {"the limit holds", "each server time lies inside its request"}
    assert {name for name, holds in names.items() if not holds} == untried
    diary = Diary(memory=[100] * 40 + [150] * 40)
    diary.admitted["10.0.0.1"] = [(100.0 + i / 10, 90.0, 95.0) for i in range(5)]
    left = ["one"]
    residue = Residue(1, 0, 41, 0, 1, left, left, left, "Traceback (most recent call last)")
    assert not any(finding.holds for finding in judged(diary, residue, 4, 2.0, CLOCK))


def test_a_fault_knows_how_many_calls_failed_and_when_one_went_well_again() -> None:
    diary, fault = Diary(), FaultSeen("frozen")
    diary.answered("me", 503, 0.0, 0.1)  # before every fault
    diary.faults.append(fault)
    diary.answered("me", 503, 1.0, 1.1)
    diary.answered("flags", 200, 1.2, 1.3)  # has an answer without the store
    fault.ended = 2.0
    for began, status in ((1.9, 200), (2.1, 503), (2.2, 200), (2.4, 503)):
        diary.answered("work", status, began, began + 0.1)
    assert (fault.failed, fault.after, fault.recovered) == (1, 1, pytest.approx(0.3))


@pytest.mark.parametrize(
    ("kind", "client", "failed"),
    [(CUT_OFF, "kvlab", 1), (DEMOTED, "kvlab", 0), (DEMOTED, "redis-py", 20)],
)
def test_cold_figures(kind: str, client: str, failed: int, server: RunningServer) -> None:
    with engines.start("valkey", options=OPTIONS, unix_socket=True) as own:
        assert failures(kind, client, own, server) == failed


def test_an_error_that_is_no_outage_is_noted(kv: Kv) -> None:
    async def main() -> Diary:
        diary, over = Diary(), asyncio.Event()
        async with twin(kv) as akv:
            seen = Callers(akv, akv, 1, diary)  # type: ignore[arg-type]

            async def fail() -> None:
                over.set()
                raise LookupError

            seen._hold = seen._hold_renewed = seen._count = fail  # type: ignore
            await seen.live(over)
        return diary

    assert asyncio.run(main()).wrong == {ERRORS: ["LookupError()"]}


def test_an_addition_whose_answer_is_lost_has_an_unknown_outcome(kv: Kv, url: str) -> None:
    async def main(proxy: Proxy) -> Counted:
        diary, add = Diary(), Op("INCR", Key("count0"), decode=int)
        async with AsyncKv(redis.asyncio.Redis(port=proxy.port), prefix=kv.prefix) as akv:
            seen = Callers(akv, akv, 1, diary)  # type: ignore[arg-type]
            await seen._add("count0", add)
            proxy.swallow_replies(1, only="INCR")
            await seen._add("count0", add)
            await akv.client.aclose()
        return diary.counters["count0"]

    with Proxy(url) as proxy:
        assert asyncio.run(main(proxy)) == Counted(certain=1, unknown=1)
    assert int(kv.run(Op("GET", Key("count0")))) == 2
