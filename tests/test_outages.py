"""Every pattern in every outage, on real servers in real states, by every executor.

The declared answers are the table in ``contracts/outages.py``.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import hiredis
import pytest
import redis.asyncio
from contracts.outages import CACHE, DECLARED, FLAGS, PLAIN, ROWS, WRITE, word

from kvlab import AsyncKv, AutoBatch, FlagWatcher, Kv
from kvlab.server import engines
from kvlab.server.running_server import RunningServer

HEALTHY, NO_WRITES, NO_MEMORY, NOTHING = range(4)
SILENT = {"frozen", "dead"}


@pytest.fixture(scope="module", params=["valkey", "redis-6.2", "redis"])
def own(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    if missing := engines.find(request.param).missing:
        pytest.skip(f"engine {request.param} is absent: {missing}")
    with engines.start(request.param, options={"lua-time-limit": "1"}) as server:
        yield server


# --- states: each yields the URL of a server in that state -----------------------------------


@contextmanager
def healthy(server: RunningServer) -> Iterator[str]:
    yield server.url


@contextmanager
def read_only(server: RunningServer) -> Iterator[str]:
    with server.client() as admin:
        admin.replicaof("127.0.0.1", 1)
        yield server.url
        admin.replicaof("NO", "ONE")


@contextmanager
def without_its_primary(server: RunningServer) -> Iterator[str]:
    with configured("replica-serve-stale-data", "no", "yes")(server), read_only(server) as url:
        yield url


def configured(name: str, value: str, normal: str) -> State:
    @contextmanager
    def state(server: RunningServer) -> Iterator[str]:
        with server.client() as admin:
            admin.config_set(name, value)
            yield server.url
            admin.config_set(name, normal)

    return state


@contextmanager
def without_its_disk(server: RunningServer) -> Iterator[str]:
    with server.client() as admin:
        (folder,) = admin.config_get("dir").values()
        os.mkdir(f"{folder}/dump.rdb")  # so that no snapshot can be stored under this name
        admin.config_set("save", "3600 1")
        admin.bgsave()
        while admin.info("persistence")["rdb_bgsave_in_progress"]:
            pass
        yield server.url
        admin.config_set("save", "")
        os.rmdir(f"{folder}/dump.rdb")


@contextmanager
def busy(server: RunningServer) -> Iterator[str]:
    with (
        server.client() as admin,
        socket.create_connection((server.host, server.port)) as loops,
    ):
        loops.sendall(b"EVAL 'while true do end' 0\r\n")
        while not _is_busy(admin):
            pass
        yield server.url
        admin.script_kill()
        assert b"killed" in loops.recv(1000)


def _is_busy(admin: redis.Redis) -> bool:
    try:
        return not admin.ping()
    except redis.ResponseError:
        return True


@contextmanager
def without_slots(server: RunningServer) -> Iterator[str]:
    with engines.start(server.name, options={"cluster-enabled": "yes"}) as node:
        yield node.url


@contextmanager
def frozen(server: RunningServer) -> Iterator[str]:
    server.pause()
    yield server.url
    server.resume()


@contextmanager
def dead(server: RunningServer) -> Iterator[str]:
    server.kill()
    with socket.socket() as holds_the_port:  # so that no other server gets it meanwhile
        holds_the_port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holds_the_port.bind((server.host, server.port))
        yield server.url
    server.restart()


def refusing(reply: str, database: int = 0) -> State:
    """A server that gives this answer to every command; to a connection's SELECT too, but of 0."""

    class Refusing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            requests = hiredis.Reader()
            while data := self.request.recv(1 << 16):
                requests.feed(data)
                while requests.gets() is not False:
                    self.request.sendall(f"-{reply}\r\n".encode())

    @contextmanager
    def state(_: RunningServer) -> Iterator[str]:
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusing) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield f"redis://127.0.0.1:{server.server_address[1]}/{database}"
            server.shutdown()
            thread.join()

    return state


State = Callable[[RunningServer], AbstractContextManager[str]]
STATES: dict[str, tuple[int, State]] = {
    "healthy": (HEALTHY, healthy),
    "READONLY": (NO_WRITES, read_only),
    "MISCONF": (NO_WRITES, without_its_disk),
    "NOREPLICAS": (NO_WRITES, configured("min-replicas-to-write", "1", "0")),
    "OOM": (NO_MEMORY, configured("maxmemory", "1", "0")),
    "MASTERDOWN": (NOTHING, without_its_primary),
    "BUSY": (NOTHING, busy),
    "CLUSTERDOWN": (NOTHING, without_slots),
    "LOADING": (NOTHING, refusing("LOADING Redis is loading the dataset in memory", 1)),
    "TRYAGAIN": (NOTHING, refusing("TRYAGAIN Multiple keys request during rehashing of slot")),
    "frozen": (NOTHING, frozen),
    "dead": (NOTHING, dead),
}


def expected(engine: str, state: str) -> dict[str, str]:
    column, _ = STATES[state]
    answers = {row: words[column] for row, words in DECLARED.items()}
    if (engine, state) == ("redis-6.2", "NOREPLICAS"):  # its scripts write without replicas
        answers |= {row: words[HEALTHY] for row, words in DECLARED.items() if row not in PLAIN}
    if state == "OOM" and engine != "valkey":  # they queue no script without memory
        answers["a transaction"] = "open+None"
    if state == "MASTERDOWN":  # a command that writes is refused for an earlier reason
        answers |= {row: f"{answers[row]} READONLY" for row in PLAIN}
    return answers


def patience(state: str) -> dict[str, float]:
    return {"timeout": 0.02, "deadline": 0.02} if state in SILENT else {}


# --- executors -------------------------------------------------------------------------------


def by_threads(url: str, prefix: str, rows: dict[str, Any], settings: dict[str, Any]) -> Any:
    def result(kv: Kv, row: str) -> Any:
        what = rows[row]
        try:
            if isinstance(what, tuple):
                return kv.run(*what, atomic="transaction" in row, return_exceptions=True)
            return kv.run(what)
        except Exception as problem:
            return problem

    client = redis.Redis.from_url(url)
    with client, Kv(client, prefix=prefix, **settings) as kv:
        return {row: result(kv, row) for row in rows}


def by_tasks(auto: bool) -> Callable[..., Any]:
    async def result(kv: AsyncKv, row: str, what: Any) -> Any:
        try:
            if isinstance(what, tuple):
                return await kv.run(*what, atomic="transaction" in row, return_exceptions=True)
            return await kv.run(what)
        except Exception as problem:
            return problem

    async def all_of(url: str, prefix: str, rows: Any, settings: dict[str, Any]) -> Any:
        async with redis.asyncio.Redis.from_url(url) as client:
            akv = AsyncKv(client, prefix=prefix, **settings)
            async with akv, AutoBatch(akv) if auto else akv as way:
                return {row: await result(way, row, what) for row, what in rows.items()}

    return lambda *given: asyncio.run(all_of(*given))


EXECUTORS = {"sync": by_threads, "async": by_tasks(auto=False), "auto": by_tasks(auto=True)}


@pytest.mark.parametrize("state", STATES)
def test_every_pattern_answers_as_declared(own: RunningServer, state: str) -> None:
    code = None if state in SILENT else state
    with own.client() as client, Kv(client, prefix="t") as kv:
        rows = {way: {row: make(kv) for row, make in ROWS.items()} for way in EXECUTORS}
    _, enter = STATES[state]
    with enter(own) as url:
        results = {way: run(url, "t", rows[way], patience(state)) for way, run in EXECUTORS.items()}
    for way, found in results.items():
        answers = {row: word(result, code) for row, result in found.items()}
        assert answers == expected(own.name, state), way


# --- what is under way when a state begins ---------------------------------------------------

ELSEWHERE = {"CLUSTERDOWN", "LOADING", "TRYAGAIN"}  # the state of another server
BEGINNING = [state for state in STATES if state not in {"healthy", *ELSEWHERE}]


@pytest.mark.parametrize("state", BEGINNING)
def test_a_load_under_way_reaches_its_caller(own: RunningServer, state: str) -> None:
    with own.client() as client, Kv(client, prefix="t", **patience(state)) as kv:
        for way in (CACHE.fetch, WRITE.fetch):
            with ExitStack() as ended:

                def load(row: Any, ended: ExitStack = ended) -> Any:
                    ended.enter_context(STATES[state][1](own))
                    return row

                row = "row" if way == CACHE.fetch else ("row", 1)
                assert kv.run(way(f"{state} {way}"[:50], functools.partial(load, row))) == "row"
        if state == "OOM":  # to give the lease back needs no memory: the next caller loads at once
            assert kv.run(CACHE.read(f"{state} {way}"[:50])).lease is not None


@pytest.mark.parametrize("state", BEGINNING)
def test_a_watcher_keeps_its_last_snapshot(
    own: RunningServer, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    column, enter = STATES[state]
    with own.client() as client, Kv(client, prefix="t", **patience(state)) as kv:
        version = kv.run(FLAGS.set("x", True))
        with FlagWatcher(kv, FLAGS, resync=0.02) as watcher:
            assert watcher.wait_for(version)
            with enter(own):
                trips = kv.round_trips
                if column == NOTHING:
                    assert watcher.wait_until(lambda w: w.error is not None)
                else:  # it reads on, whatever the server says to PING between two readings
                    assert watcher.wait_until(lambda _: kv.round_trips > trips + 3)
                    assert "cannot follow" not in caplog.text
                assert watcher.snapshot.version == version
                assert watcher.snapshot.is_enabled("x")
            assert watcher.wait_until(lambda w: w.stale_since is None)
