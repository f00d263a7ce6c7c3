"""What an exploration refuses, and that it leaves nothing behind however it ends."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
import redis

from kvlab.errors import InvalidArgument, KvlabError, ServerUnavailable
from kvlab.instruments import World, explore, replay, step
from kvlab.instruments.explorer.clients import client_thread
from kvlab.instruments.explorer.clients.leftovers import Refused
from kvlab.instruments.explorer.search import Nondeterministic
from kvlab.server.running_server import RunningServer

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")


def two(kv: Any) -> None:
    kv.incr("n")
    kv.incr("n")


# --- programs that cannot be explored ---


def test_a_client_that_waits_for_another_raises_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_thread, "HANG_SECONDS", 0.2)
    others_turn = threading.Event()
    ended = threading.Event()

    def waits(kv: Any) -> None:
        try:
            kv.get("a")
            others_turn.wait()
            kv.get("b")
        finally:
            ended.set()

    with pytest.raises(client_thread.Hung, match=r"client 0 has neither .* in 0\.2 s"):
        explore([waits, lambda kv: (kv.get("a"), others_turn.set())])
    others_turn.set()  # it goes on, and dies at its next command
    assert ended.wait(10)
    for thread in threading.enumerate():
        if thread.name == "client 0":
            thread.join(10)
    gc.collect()  # its sockets


def test_a_thread_of_a_client_is_refused_even_where_it_fails_unseen() -> None:
    def starts_one(kv: Any) -> None:
        def fails() -> None:
            with pytest.raises(KvlabError, match="started a thread"):
                kv.incr("n")

        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()

    with pytest.raises(KvlabError, match="client 0 started a thread"):
        explore([starts_one], crashes=True)


def test_what_a_client_gives_to_a_pool_of_threads_is_done_at_once() -> None:
    def pooled(kv: Any) -> list[Any]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(kv.incr, "nn"))

    async def in_a_thread(kv: Any) -> None:
        await asyncio.to_thread(step, "row")
        await kv.incr("n")

    story = explore([two, pooled, in_a_thread], invariant=lambda w: w.kv.get("n") == b"5")
    assert story
    assert story.schedules == 90  # 6! / 2!³: two steps each


def test_a_client_that_uses_the_connections_of_another_is_refused() -> None:
    def keeps(kv: Any) -> None:
        nonlocal another
        another = kv

    another: Any = None
    with pytest.raises(Refused, match="client 1 uses the connections of client 0"):
        explore([keeps, lambda kv: (kv.incr("n"), another.incr("n"))])


def test_a_client_that_does_not_repeat_itself_raises_nondeterministic() -> None:
    lengths = itertools.chain([2], itertools.repeat(1))

    def shorter_then(kv: Any) -> None:
        for _ in range(next(lengths)):
            kv.incr("n")

    said = r"client 0 .* its step 1 \('INCRBY n 1'\) was not its last in one run and is now"
    with pytest.raises(Nondeterministic, match=said):
        explore([shorter_then, two])


def test_the_error_of_an_async_lambda_says_what_to_give() -> None:
    async def client(kv: Any) -> None:
        await kv.get("a")

    story = explore([lambda kv: client(kv)])
    assert "give the async function itself" in next(iter(story.broken))


def own_pool(kv: Any) -> None:
    """As a library does that takes connection arguments."""
    address = {"path": kv.connection_pool.connection_kwargs["path"]}
    pool = redis.ConnectionPool(redis.UnixDomainSocketConnection, **address)
    with redis.Redis(connection_pool=pool) as own:
        own.set("n", int(kv.get("n") or 0) + 1)
    pool.disconnect()


def given_pool(kv: Any) -> None:
    redis.Redis(connection_pool=kv.connection_pool).set("n", int(kv.get("n") or 0) + 1)


@pytest.mark.parametrize("options", [{}, {"reduce": True}, {"processes": 2}], ids=str)
def test_a_connection_that_the_explorer_did_not_make_is_noticed(options: dict[str, Any]) -> None:
    def kept(world: World) -> bool:
        return world.kv.get("n") == b"2"

    with pytest.raises(Refused, match=r"give a library its connections, as redis\.Redis\(conn"):
        explore([own_pool, own_pool], invariant=kept, **options)
    assert explore([given_pool, given_pool], invariant=kept, **options).violations


# --- arguments ---


@pytest.mark.parametrize("clients", [[], {}, [1], ["two"]])
def test_clients_must_be_functions(clients: Any) -> None:
    with pytest.raises(InvalidArgument, match="clients"):
        explore(clients)


@pytest.mark.parametrize(
    "wrong",
    [
        {"faults": 2},
        {"faults": {"crashes": True}},
        {"max_faults": -1},
        {"max_schedules": 0},
        {"max_seconds": 0},
        {"max_steps": 0},
        {"clock_jumps": "soon"},
        {"clock_jumps": [float("nan")]},
        {"engine": "memcached"},
    ],
    ids=str,
)
def test_bad_arguments_name_themselves(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        explore([two], **wrong)


def test_a_database_that_is_not_empty_is_refused_untouched(url: str, direct: redis.Redis) -> None:
    direct.set("mine", 1)
    with pytest.raises(InvalidArgument, match="the database has 1 keys"):
        explore([two], url=url)
    assert direct.get("mine") == "1"
    assert direct.dbsize() == 1


def test_an_empty_database_is_used_and_left_empty(url: str, direct: redis.Redis) -> None:
    story = explore([two, two], url=url, invariant=lambda w: w.kv.get("n") == b"4")
    assert story.schedules == 6
    assert direct.dbsize() == 0


def test_another_exploration_at_the_same_time_is_refused() -> None:
    def explores(kv: Any) -> None:
        kv.get("a")
        with pytest.raises(KvlabError, match="another exploration runs in this process"):
            explore([two])

    story = explore([explores])
    assert story


def test_a_step_outside_of_an_exploration_does_nothing() -> None:
    step("UPDATE users", "users", reads=True)


# --- ends ---


class _Stop(BaseException):
    """As KeyboardInterrupt, which pytest would take for its own."""


@pytest.mark.parametrize("problem", [KeyboardInterrupt, _Stop])
def test_what_the_invariant_raises_ends_it(problem: type[BaseException]) -> None:
    seen = 0

    def invariant(_: Any) -> bool:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise problem
        return True

    with pytest.raises(problem):
        explore([two, two], invariant=invariant)
    assert seen == 3


def test_an_error_in_the_invariant_breaks_the_story() -> None:
    def invariant(world: Any) -> bool:
        return int(world.kv.get("absent")) > 0

    story = explore([two], invariant=invariant)
    (said,) = story.broken
    assert said.startswith("the invariant raised TypeError")
    assert said.endswith(f"(in invariant, line {invariant.__code__.co_firstlineno + 1})")


@pytest.mark.parametrize("where", ["setup", "invariant"])
def test_an_async_function_where_none_is_awaited_is_refused(where: str) -> None:
    async def never(_: Any) -> bool:
        return False

    with pytest.raises(InvalidArgument, match=f"{where} must be a plain function"):
        explore([two], **{where: never})


def test_pubsub_is_refused_at_once() -> None:
    with pytest.raises(KvlabError, match="SUBSCRIBE cannot be explored"):
        explore([lambda kv: kv.pubsub().subscribe("news"), two])


def test_where_the_server_is_cannot_be_said_twice(server: RunningServer) -> None:
    with pytest.raises(InvalidArgument, match="client_options says db"):
        explore([two], url=f"{server.url.rpartition('/')[0]}/9", client_options={"db": 3})


@pytest.mark.parametrize("clients", [two, [], [1]])
def test_clients_are_functions(clients: Any) -> None:
    with pytest.raises(InvalidArgument, match="clients must be"):
        explore(clients)


def test_what_setup_raises_ends_it() -> None:
    with pytest.raises(ZeroDivisionError):
        explore([two], setup=lambda kv: 1 / 0)


@pytest.mark.parametrize("problem", [KeyboardInterrupt, SystemExit, _Stop, ValueError])
def test_what_a_client_raises_breaks_the_story(problem: type[BaseException]) -> None:
    def raises(kv: Any) -> None:
        kv.get("a")
        raise problem("so")

    story = explore([two, raises])
    line = raises.__code__.co_firstlineno + 2
    assert story.broken == {f"client 1 raised {problem.__name__}: so (in raises, line {line})": 3}
    assert story.schedules == 3


def test_a_wait_of_the_explorer_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted = iter([KeyboardInterrupt])
    wait = client_thread.ClientThread._wait

    def once(lane: client_thread.ClientThread, seconds: float) -> None:
        if lane.number == 1 and (problem := next(interrupted, None)):
            raise problem
        wait(lane, seconds)

    monkeypatch.setattr(client_thread.ClientThread, "_wait", once)
    with pytest.raises(KeyboardInterrupt):
        explore([two, two])


def test_a_wait_can_be_interrupted_as_the_stop_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client stands, the wait for it has not noticed: the next order must not be taken for
    carried out by a stop that came before it."""
    interrupted = iter([KeyboardInterrupt])
    wait = client_thread.ClientThread._wait

    def late(lane: client_thread.ClientThread, seconds: float) -> None:
        if lane.number == 1 and (problem := next(interrupted, None)):
            lane._parked.acquire()
            lane._parked.release()
            raise problem
        wait(lane, seconds)

    monkeypatch.setattr(client_thread.ClientThread, "_wait", late)
    with pytest.raises(KeyboardInterrupt):
        explore([two, two])


@pytest.mark.parametrize("where", ["between", "at the end"])
def test_a_server_that_dies_ends_it(where: str) -> None:
    def kills(kv: Any) -> None:
        process = psutil.Process(kv.info("server")["process_id"])
        process.kill()
        if where == "between":
            kv.get("a")

    with pytest.raises(ServerUnavailable, match="the server of the exploration"):
        explore([kills, two], expiries=True)


# --- replay ---


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("2", "step 1 of the schedule is '2'; possible: 0 1 r0 q0 r1 q1 f"),
        ("x0", "step 1 .* 'x0'"),  # a crash before the first command is no run of its own
        ("0 zero", "step 2 .* 'zero'; possible: 0 1 x0 r0 q0 r1 q1 f"),
        ("0 0 1 1 1", "the run was over before '1'"),
        ("0 0 0", "step 3 .* '0'; possible: 1"),
        ("e:n", "step 1"),
        ("t0", "step 1"),
        ("j0", "step 1"),
    ],
)
def test_a_schedule_that_is_none_is_refused(schedule: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        replay(schedule, [two, two])
