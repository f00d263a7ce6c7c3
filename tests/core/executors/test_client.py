"""Kv against real servers: results, scripts, faults, flows, blocking, threads, namespaces."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from support import ENGINES

from kvlab import Call, Key, Kv, Now, Op, Script, Wait, flow, together
from kvlab.core.executors.connect import connect
from kvlab.errors import (
    BatchFailed,
    CannotServe,
    Closed,
    InvalidArgument,
    OutcomeUnknown,
    ServerRefused,
    ServerUnavailable,
)
from kvlab.instruments.faults.paused import paused
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server import engines
from kvlab.server.running_server import RunningServer

COUNT = Script("count", "return redis.call('INCR', KEYS[1])")
BROKEN = Script("broken", "redis.call('SET', KEYS[1], 1) return redis.call('NONSENSE')")


def incr(name: str = "n", **how: Any) -> Op[int]:
    return Op("INCR", Key(name), decode=int, **how)


def get(name: str = "n") -> Op[bytes | None]:
    return Op("GET", Key(name), idempotent=True)


@pytest.fixture
def proxy(server: RunningServer) -> Iterator[Proxy]:
    with Proxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: Proxy, kv: Kv) -> Iterator[Kv]:
    """An executor behind the proxy, in the namespace of ``kv``."""
    with connect(proxy.url, prefix=kv.prefix, timeout=10) as far:
        far.run(Op("PING"))
        proxy.reset()
        far.round_trips = 0
        yield far


@pytest.fixture
def own() -> Iterator[RunningServer]:
    """A server that the test may freeze, kill or configure."""
    with engines.start("valkey") as own:
        yield own


# --- results, on every engine --------------------------------------------------------------


def test_a_batch_on_every_engine(any_kv: Kv) -> None:
    kv = any_kv
    kv.run(Op("SET", Key("text"), "x"))
    assert kv.run(incr(), incr(), incr("m")) == (1, 2, 1)
    with pytest.raises(BatchFailed) as failed:
        kv.run(incr(), incr("text"), get("text"))
    first, second, third = failed.value.results
    assert (first, type(second), third) == (3, ServerRefused, b"x")
    assert kv.run([incr("many") for _ in range(1200)]) == list(range(1, 1201))


def test_a_transaction_on_every_engine(any_kv: Kv) -> None:
    kv = any_kv
    kv.run(Op("SET", Key("text"), "x"))
    assert kv.run(incr(), incr(), atomic=True) == (1, 2)
    with pytest.raises(BatchFailed) as failed:
        kv.run(incr(), Op("LPUSH", Key("text"), 1), incr(), atomic=True)
    assert [type(r) for r in failed.value.results] == [int, ServerRefused, int]
    assert "WRONGTYPE" in str(failed.value.results[1])
    with pytest.raises(BatchFailed) as failed:
        kv.run(incr(), Op("NONSENSE"), atomic=True)
    assert [r.code for r in failed.value.results] == ["EXECABORT", "ERR"]
    assert kv.run(get()) == b"4"  # the aborted one did not run
    assert kv.run(Op("ECHO", "clean")) == b"clean"


def test_scripts_on_every_engine(any_kv: Kv) -> None:
    kv = any_kv
    kv.run(Op(COUNT, Key("n")))
    before = kv.round_trips
    assert kv.run(Op(COUNT, Key("n")), incr(), Op(COUNT, Key("n"))) == (2, 3, 4)
    assert kv.round_trips == before + 1
    kv.run(Op("SCRIPT", "FLUSH"))
    before = kv.round_trips
    results = kv.run(incr("other"), Op(COUNT, Key("n")), incr("other"))
    assert results == (1, 5, 2)
    assert (kv.run(get("other")), kv.run(get("n"))) == (b"2", b"5")  # nothing ran twice
    assert kv.round_trips == before + 2 + 2
    kv.run(Op("SCRIPT", "FLUSH"))
    before = kv.round_trips
    assert kv.run(incr("other"), Op(COUNT, Key("n")), atomic=True) == (3, 6)
    assert kv.round_trips == before + 1  # no part of it was missing and came later


def test_a_script_that_fails_is_refused(any_kv: Kv) -> None:
    any_kv.run(Op("SET", Key("text"), "x"))
    for script, name in ((BROKEN, "k"), (COUNT, "text")):
        with pytest.raises(ServerRefused):
            any_kv.run(Op(script, Key(name)))
    assert any_kv.run(incr()) == 1


# --- faults --------------------------------------------------------------------------------


def test_a_lost_reply_is_unknown_and_ran_once(far: Kv, proxy: Proxy, kv: Kv) -> None:
    proxy.swallow_replies(1)
    with pytest.raises(OutcomeUnknown, match="no answer came"):
        far.run(incr())
    assert (kv.run(get()), proxy.commands.count("INCR")) == (b"1", 1)
    proxy.swallow_requests(1, only="INCR")
    with pytest.raises(OutcomeUnknown):
        far.run(incr())
    assert kv.run(get()) == b"1"


@pytest.mark.parametrize("losses", [1, 3])
def test_an_idempotent_op_is_sent_again(far: Kv, proxy: Proxy, losses: int) -> None:
    far.settings = replace(far.settings, sleep=lambda seconds: None)
    proxy.swallow_replies(losses, only="GET")
    assert far.run(get()) is None
    assert proxy.commands.count("GET") == losses + 1
    assert far.round_trips == losses + 1


def test_the_answered_part_of_a_cut_batch_is_known(far: Kv, proxy: Proxy, kv: Kv) -> None:
    marker = Op("APPEND", Key("log"), "x", decode=int)
    proxy.swallow_replies(1, only="APPEND")
    results = far.run(*[incr()] * 154, marker, *[incr()] * 845, return_exceptions=True)
    assert results[:154] == tuple(range(1, 155))
    assert {type(r) for r in results[154:]} == {OutcomeUnknown}
    assert proxy.commands.count("INCR") == 999


def test_a_cut_transaction_is_unknown_as_a_whole(far: Kv, proxy: Proxy) -> None:
    proxy.swallow_replies(1, only="EXEC")
    results = far.run(incr(), incr(), atomic=True, return_exceptions=True)
    assert [type(r) for r in results] == [OutcomeUnknown] * 2


def test_a_fallback_answers_when_the_server_is_gone() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}"
        with connect(url) as kv:
            with pytest.raises(ServerUnavailable, match="nothing was sent"):
                kv.run(incr())
            assert kv.run(Op("GET", Key("n"), fallback=lambda _: "default")) == "default"
            with pytest.raises(InvalidArgument):
                kv.run(Op("GET", None))  # type: ignore[arg-type]
            assert kv.round_trips == 0


def test_a_killed_server_is_noticed_before_anything_is_sent(own: RunningServer) -> None:
    with connect(own.url) as kv:
        assert kv.run(incr()) == 1
        own.restart()
        assert kv.run(incr()) == 1  # a new server, and no OutcomeUnknown
        own.kill()
        with pytest.raises(ServerUnavailable):
            kv.run(incr())
        own.restart()
        assert kv.run(incr()) == 1


def test_a_frozen_server_is_unknown_within_the_timeout(own: RunningServer) -> None:
    with connect(own.url, timeout=0.2) as kv:
        kv.run(incr())
        with paused(own.pid):
            with pytest.raises(OutcomeUnknown):
                kv.run(incr())
            with pytest.raises(ServerUnavailable, match="the last try: TimeoutError"):
                kv.run(incr())
        with own.client() as direct:
            direct.ping()
            direct.ping()  # by now all that had come before is answered
        assert kv.run(get()) == b"2"  # it ran when the server went on


def test_a_wrong_password_is_tried_once() -> None:
    with engines.start("valkey", options={"requirepass": "right"}) as own, Proxy(own.url) as proxy:
        wrong = f"redis://:wrong-secret@127.0.0.1:{proxy.port}"
        with connect(wrong) as kv:
            with pytest.raises(ServerRefused) as refused:
                kv.run(get())
            assert refused.value.code == "WRONGPASS"
            assert proxy.commands.count("AUTH") == 1
            assert "wrong-secret" not in f"{refused.value!r} {refused.value} {kv!r} {kv.client!r}"
        with connect(f"redis://127.0.0.1:{proxy.port}") as kv:
            with pytest.raises(BatchFailed) as failed:
                kv.run(get(), incr())
            assert [r.code for r in failed.value.results] == ["NOAUTH"] * 2
        with connect(f"redis://:right@127.0.0.1:{proxy.port}") as kv:
            assert kv.run(get()) is None


def test_a_user_confined_to_a_prefix(own: RunningServer) -> None:
    with own.client() as admin:
        rules = ["on", ">pw", "~mine:*", "&mine:*", "+@all", "-multi"]
        admin.execute_command("ACL SETUSER", "guest", *rules)
    url = f"redis://guest:pw@127.0.0.1:{own.port}"
    with connect(url, prefix="mine") as mine, connect(url, prefix="other") as other:
        assert mine.run(incr()) == 1
        with pytest.raises(ServerRefused) as refused:
            other.run(incr())
        assert refused.value.code == "NOPERM"
        results = mine.run(incr(), incr(), atomic=True, return_exceptions=True)
        assert {type(r) for r in results} == {OutcomeUnknown}  # MULTI refused: they ran singly
        assert mine.run(get()) == b"3"
        assert mine.clear() == 1


def test_errors_of_a_server_in_distress(own: RunningServer) -> None:
    with own.client() as admin, connect(own.url) as kv:
        admin.config_set("maxmemory", 1)
        with pytest.raises(ServerRefused) as refused:
            kv.run(incr())
        assert refused.value.code == "OOM"
        admin.config_set("maxmemory", 0)
        admin.replicaof("127.0.0.1", 1)
        with pytest.raises(ServerRefused) as refused:
            kv.run(incr())
        assert refused.value.code == "READONLY"
        admin.replicaof("NO", "ONE")
        admin.config_set("maxclients", 2)  # admin's and the idle one of kv
        with connect(own.url) as late, pytest.raises(ServerUnavailable, match="max number"):
            late.run(incr())
        # A client that sends nothing at first hears it in place of the first answer.
        quiet = own.client(driver_info=None)
        with quiet, Kv(quiet) as late, pytest.raises(CannotServe, match="max number"):
            late.run(incr())
        assert kv.run(incr()) == 1


def test_a_busy_server_is_refused_not_unknown(own: RunningServer) -> None:
    endless = Op("EVAL", "while true do end", 0)
    with own.client() as admin, connect(own.url) as kv, connect(own.url, timeout=30) as other:
        admin.config_set("lua-time-limit", 1)
        kv.run(incr())
        ended: list[BaseException] = []

        def spin() -> None:
            try:
                other.run(endless)
            except ServerRefused as problem:
                ended.append(problem)

        thread = threading.Thread(target=spin)
        thread.start()
        while True:  # until the script has begun
            try:
                kv.run(incr())
            except ServerRefused as refused:
                busy = refused.code
                break
        admin.script_kill()
        thread.join()
        assert busy == "BUSY"
        assert len(ended) == 1


class Scripted:
    """A server that says +OK to the handshake and then only what it is told to."""

    def __init__(self, *replies: bytes) -> None:
        self.replies = list(replies)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            while data := connection.recv(65536):
                handshake = data.count(b"SETINFO")
                connection.sendall(b"+OK\r\n" * handshake)
                if not handshake:
                    connection.sendall(self.replies.pop(0))

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        self.thread.join()


def test_a_loading_server_cannot_serve_and_its_connection_clean() -> None:
    loading = b"-LOADING Valkey is loading the dataset in memory\r\n"
    with Scripted(loading * 2, b":7\r\n") as server, connect(server.url) as kv:
        with pytest.raises(CannotServe, match="LOADING"):
            kv.run(incr(), incr())
        assert kv.run(incr()) == 7


def test_an_answer_that_is_no_redis_is_unknown() -> None:
    with (
        Scripted(b"HTTP/1.1 400 Bad Request\r\n\r\n") as server,
        connect(server.url) as kv,
        pytest.raises(OutcomeUnknown),
    ):
        kv.run(incr())


def test_a_connection_refusal_between_replies_keeps_the_others() -> None:
    denied = b":1\r\n-NOAUTH Authentication required.\r\n:3\r\n"
    with Scripted(denied, b":4\r\n") as server, connect(server.url) as kv:
        first, second, third = kv.run(incr(), incr(), incr(), return_exceptions=True)
        assert (first, second.code, third) == (1, "NOAUTH", 3)
        assert kv.run(incr()) == 4


# --- whose answer is it --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a __del__
def test_an_interrupted_read_never_leaves_its_answer_to_the_next(kv: Kv) -> None:
    class Interrupt(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    kv.run(Op("PING"))
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for i in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + i * 0.000004)
                for _ in range(100):  # bounded: raised inside a __del__ it is swallowed
                    kv.run(Op("ECHO", "old"), Op("ECHO", "old"))
            except Interrupt:
                interrupted += 1
            assert kv.run(Op("ECHO", i)) == str(i).encode()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 100


def test_threads_get_their_own_replies(kv: Kv) -> None:
    start = threading.Barrier(32)
    before = kv.round_trips
    wrong: list[Any] = []

    def work(number: int) -> None:
        start.wait()
        mine = Op("INCR", Key(f"n{number}"), decode=lambda raw: (number, raw))
        for i in range(1, 301):
            if (answer := kv.run(mine)) != (number, i):
                wrong.append(answer)

    _threads(32, work)
    assert wrong == []
    assert kv.round_trips == before + 32 * 300


def _threads(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


FORK = """
import os, sys
from kvlab import Key, Op, connect
kv = connect(sys.argv[1], prefix="fork")
mine = [kv.run(Op("CLIENT", "ID"))]
if os.fork() == 0:
    child = kv.run(Op("CLIENT", "ID"))
    kv.run([Op("INCR", Key("n"))] * 10)
    kv.close()
    os._exit(0 if child != mine[0] else 3)
_, status = os.wait()
assert os.waitstatus_to_exitcode(status) == 0
assert kv.run(Op("CLIENT", "ID")) == mine[0], "the parent's connection did not survive"
assert kv.run(Op("GET", Key("n"))) == b"10"
kv.clear()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_has_sockets_of_its_own(server: RunningServer) -> None:
    subprocess.run([sys.executable, "-c", FORK, server.url], check=True, timeout=20)


FORK_IN_A_SHARED_CALL = """
import os, signal, sys, threading
from kvlab import Call, Flow, connect
def shared(answer):
    return (yield from Call(answer, name="a load", join=True))
kv = connect(sys.argv[1], prefix="fork")
begun, over = threading.Event(), threading.Event()
def load():
    begun.set()
    over.wait()
loading = threading.Thread(target=lambda: kv.run(Flow(shared, (load,))))
loading.start()
begun.wait()
if (child := os.fork()) == 0:
    signal.alarm(10)  # ends a child that waits for its parent's thread
    os._exit(kv.run(Flow(shared, (lambda: 7,))))
_, status = os.waitpid(child, 0)
over.set()
loading.join()
assert os.waitstatus_to_exitcode(status) == 7, status
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_does_not_wait_for_a_call_of_its_parents(server: RunningServer) -> None:
    command = [sys.executable, "-c", FORK_IN_A_SHARED_CALL, server.url]
    subprocess.run(command, check=True, timeout=30)


# --- flows ---------------------------------------------------------------------------------


@flow
def twice(name: str) -> Generator[Any, Any, tuple[int, int]]:
    first = yield from incr(name)
    second = yield from incr(name)
    return first, second


@flow
def nested(name: str) -> Generator[Any, Any, list[Any]]:
    pair = yield from twice(name)
    both = yield from together(incr(name), incr(name))
    single = yield from together(incr(name))
    written = yield (incr(name), incr(name))
    none = yield from together()
    return [pair, both, single, written, none]


def test_a_flow_runs_again_and_flows_nest(kv: Kv) -> None:
    once = twice("n")
    assert (kv.run(once), kv.run(once)) == ((1, 2), (3, 4))
    before = kv.round_trips
    assert kv.run(nested("m")) == [(1, 2), (3, 4), (5,), (6, 7), ()]
    assert kv.round_trips == before + 5


def test_errors_reach_the_flow_and_it_may_go_on(kv: Kv) -> None:
    kv.run(Op("SET", Key("text"), "x"))

    @flow
    def catching(name: str) -> Generator[Any, Any, list[str]]:
        caught = []
        for step in (
            incr(name),
            (incr(name), incr("n")),
            Call(lambda: 1 // 0),
            Op("BLPOP", Key("q"), 1, blocking=1),
            "nonsense",
            (Op("BLPOP", Key("q"), 1, blocking=1), incr("n")),
        ):
            try:
                yield step
            except Exception as problem:
                caught.append(type(problem).__name__)
        return caught

    kv.run(Op("RPUSH", Key("q"), 1))
    assert kv.run(catching("text")) == [
        "ServerRefused",
        "BatchFailed",
        "ZeroDivisionError",
        "InvalidArgument",
        "InvalidArgument",
    ]


def test_what_a_flow_does_not_catch_reaches_the_caller_after_its_cleanup(kv: Kv) -> None:
    @flow
    def cleaning(problem: BaseException) -> Generator[Any, Any, None]:
        def fail() -> None:
            raise problem

        try:
            yield Call(fail)
        finally:
            yield from incr("cleaned")

    pythons = (StopIteration, GeneratorExit)  # a generator would take them for its own end
    for problem in (ValueError("x"), KeyboardInterrupt(), SystemExit(1), *(p() for p in pythons)):
        expected = RuntimeError if isinstance(problem, pythons) else type(problem)
        with pytest.raises(expected):
            kv.run(cleaning(problem))
    assert kv.run(get("cleaned")) == b"5"


@pytest.mark.parametrize("error", [StopIteration, GeneratorExit])
def test_a_decode_ends_no_generator(kv: Kv, error: type[BaseException]) -> None:
    def decode(_: object) -> None:
        raise error

    with pytest.raises(RuntimeError, match=f"decode.* raised {error.__name__}"):
        list(map(kv.run, [Op("PING", decode=decode), Op("PING")]))


def test_time_and_waiting_come_from_the_driver(kv: Kv) -> None:
    @flow
    def patient(seconds: float) -> Generator[Any, Any, tuple[float, float]]:
        began = yield from Now()
        yield from Wait(seconds)
        return began, (yield from Now())

    class Clock:
        now = 1000.0

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    with Kv(kv.client, prefix=kv.prefix, clock=lambda: clock.now, sleep=clock.sleep) as timed:
        assert timed.run(patient(3600)) == (1000.0, 4600.0)


def test_generators_are_closed(kv: Kv) -> None:
    ended = []

    @flow
    def stubborn(problem: str) -> Generator[Any, Any, None]:
        try:
            yield Call(lambda: None)
            raise ValueError(problem)
        finally:
            ended.append(problem)

    with pytest.raises(ValueError):
        kv.run(stubborn("x"))
    assert ended == ["x"]


@flow
def loaded(load: Callable[[], Any]) -> Generator[Any, Any, Any]:
    return (yield from Call(load, name="key", join=True))


def test_share_makes_one_call_of_many(kv: Kv) -> None:
    calls, going, release = [], threading.Event(), threading.Event()
    results: list[Any] = []

    def load() -> int:
        calls.append(1)
        going.set()
        release.wait()
        return 42

    def work(number: int) -> None:
        if number:
            going.wait()
        results.append(kv.run(loaded(load)))

    waiting = _count_waiters(kv, 15, release)
    _threads(16, work)
    waiting.join()
    assert (len(calls), results) == (1, [42] * 16)
    assert kv.run(loaded(lambda: 43)) == 43  # nothing is kept


def _count_waiters(kv: Kv, count: int, release: threading.Event) -> threading.Thread:
    """Let the leader go on once ``count`` callers wait for it; counts waiters, does not sleep."""
    from concurrent.futures import Future

    arrived = threading.Semaphore(0)
    real = Future.result

    def counted(self: Any, timeout: Any = None) -> Any:
        if threading.current_thread() is not threading.main_thread():
            arrived.release()
        return real(self, timeout)

    def watch() -> None:
        for _ in range(count):
            arrived.acquire()
        Future.result = real  # type: ignore[method-assign]
        release.set()

    Future.result = counted  # type: ignore[method-assign]
    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize("problem", [ValueError("no"), KeyboardInterrupt()])
def test_a_shared_failure_is_shared_but_an_interrupt_is_not(kv: Kv, problem: BaseException) -> None:
    calls, going, release = [], threading.Event(), threading.Event()
    outcomes: dict[int, Any] = {}

    def load() -> int:
        calls.append(1)
        if len(calls) > 1:
            return 42
        going.set()
        release.wait()
        raise problem

    def work(number: int) -> None:
        if number:
            going.wait()
        try:
            outcomes[number] = kv.run(loaded(load))
        except BaseException as raised:
            outcomes[number] = type(raised)

    waiting = _count_waiters(kv, 3, release)
    _threads(4, work)
    waiting.join()
    shared = isinstance(problem, Exception)
    assert outcomes[0] is type(problem)
    followers = [outcomes[i] for i in (1, 2, 3)]
    assert followers == ([ValueError] * 3 if shared else [42] * 3)
    assert len(calls) == 1 if shared else 2 <= len(calls) <= 4


def test_an_async_loader_is_refused_by_the_sync_executor(kv: Kv) -> None:
    async def load() -> int:
        return 1

    for name in (None, "key"):

        @flow
        def asking(how: str | None) -> Generator[Any, Any, Any]:
            return (yield from Call(load, name=how, join=True))

        gc.collect()  # what other tests left behind warns now
        with warnings.catch_warnings(record=True) as never_awaited:
            warnings.simplefilter("always")
            with pytest.raises(InvalidArgument, match="AsyncKv"):
                kv.run(asking(name))
            gc.collect()
        assert never_awaited == []


# --- blocking ops --------------------------------------------------------------------------


def pop(name: str, seconds: float, **how: Any) -> Op[Any]:
    return Op("BLPOP", Key(name), seconds, **how)


def test_a_blocking_op_has_a_connection_beyond_the_pool(server: RunningServer) -> None:
    client = server.client(max_connections=1)
    with client, Kv(client, prefix="blocking") as kv:
        popped: list[Any] = []
        wait = pop("q", 0, blocking=float("inf"))
        thread = threading.Thread(target=lambda: popped.append(kv.run(wait)))
        thread.start()
        while not any(c["cmd"] == "blpop" for c in client.client_list()):
            kv.run(Op("PING"))  # the pool's one connection is free
        assert kv.run(Op("RPUSH", Key("q"), "x")) == 1
        thread.join()
        assert popped == [[b"blocking:q", b"x"]]
        assert len(kv._connections._idle) == 1


def test_a_blocking_op_may_take_longer_than_the_timeout(server: RunningServer) -> None:
    with connect(server.url, prefix="blocking", timeout=0.5) as kv:
        assert kv.run(pop("none", 0.6, blocking=0.6)) is None
        assert kv.run(pop("none", 0.01, blocking=1e12)) is None  # no socket takes such a timeout
        with pytest.raises(OutcomeUnknown):  # the control: it did not say so
            kv.run(pop("none", 0))


def test_a_blocking_op_that_outstays_its_word_is_unknown(server: RunningServer) -> None:
    kv = connect(server.url, prefix="blocking", timeout=0.05)
    with kv, pytest.raises(OutcomeUnknown):
        kv.run(pop("none", 0, blocking=0.05))


# --- the namespace -------------------------------------------------------------------------


def test_clear_removes_its_own_keys_and_no_other(server: RunningServer) -> None:
    with server.client() as client, Kv(client, prefix="p1") as kv:
        client.flushall()
        foreign = ["p10:a", "p1", "p1a:b", "xp1:c", "P1:d", "p1x:", "{p1:}e"]
        client.mset(dict.fromkeys(foreign, 1))
        kv.run([Op("SET", Key(f"k{i}"), i) for i in range(10_000)])
        kv.run(Op("SET", Key("[a]*?\\{x}"), 1), Op("SADD", Key("s"), 1), Op("SET", Key(""), 1))
        kv.within("inner").run(Op("SET", Key("k"), 1))
        assert kv.within("inner").clear() == 1
        assert kv.clear() == 10_003
        assert sorted(k.decode() for k in client.scan_iter()) == sorted(foreign)
        assert kv.clear() == 0
        client.flushall()


def test_names_and_namespaces_inside_namespaces(kv: Kv) -> None:
    inner = kv.within("run7")
    assert inner.prefix == f"{kv.prefix}run7:"
    assert inner.name(Key("a")) == f"{kv.prefix}run7:a"
    assert replace(inner.settings, prefix=kv.prefix) == kv.settings
    for wrong in ("", ":", "a*", "{a}"):
        with pytest.raises(InvalidArgument, match="prefix"):
            kv.within(wrong)


def test_channels_carry_the_prefix(kv: Kv) -> None:
    with kv.client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(kv.name(Key("news")))
        while not kv.run(Op("PUBLISH", Key("news"), "hi")):
            pass
        message = listener.get_message(timeout=5) or listener.get_message(timeout=5)
        assert message is not None
        assert (message["channel"], message["data"]) == (f"{kv.prefix}news".encode(), b"hi")


# --- the executor itself -------------------------------------------------------------------


def test_a_closed_executor_says_so(server: RunningServer) -> None:
    kv = connect(server.url)
    kv.run(Op("PING"))
    kv.close()
    kv.close()
    for op in (Op("PING"), pop("q", 1, blocking=1), Op("PING", fallback=lambda _: "hidden")):
        with pytest.raises(Closed):
            kv.run(op)


def test_what_is_still_out_at_close_is_closed_when_it_comes_back(server: RunningServer) -> None:
    kv = connect(server.url)

    @flow
    def closing(executor: Kv) -> Generator[Any, Any, Any]:
        return (yield from Call(executor.close))

    connection = kv._connections.get()
    kv.run(closing(kv))
    kv._connections.put(connection, complete=True)
    assert not connection.is_connected


@pytest.mark.parametrize("setting", ["timeout", "deadline"])
@pytest.mark.parametrize("wrong", [0, -1, float("inf"), float("nan"), "2", None])
def test_settings_are_checked(server: RunningServer, setting: str, wrong: Any) -> None:
    with server.client() as client, pytest.raises(InvalidArgument, match=setting):
        Kv(client, **{setting: wrong})


def test_every_engine_of_the_matrix_is_known() -> None:
    assert set(ENGINES) == set(engines.engines())
