"""Each run begins clean, and a client that does not begin clean itself is named."""

from __future__ import annotations

import asyncio
import datetime
import functools
import gc
import itertools
import secrets
import sys
import sysconfig
import threading
import time
import types
import uuid
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime as datetime_by_name
from time import monotonic, perf_counter, time_ns
from time import time as time_by_name
from typing import Any, ClassVar

import pytest
import redis

from kvlab import FixedWindow
from kvlab.instruments import explore, step
from kvlab.instruments.explorer.clients.leftovers import Refused
from kvlab.instruments.explorer.search import Nondeterministic

LIBRARY = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
_numbers = itertools.count()
LIMITER = FixedWindow("api", limit=5, window=60)


def two(kv: Any) -> None:
    kv.incr("n")
    kv.incr("n")


# --- what a run can leave ---

FOUND: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "a function": (lambda kv: kv.function_list(), lambda kv: kv.function_load(LIBRARY)),
    "a setting": (
        lambda kv: kv.config_get("notify-keyspace-events"),
        lambda kv: kv.config_set("notify-keyspace-events", "KEA"),
    ),
    "a setting that refuses writes": (
        lambda kv: kv.config_get("min-replicas-to-write"),
        lambda kv: kv.config_set("min-replicas-to-write", 1),
    ),
    "a user": (lambda kv: kv.acl_users(), lambda kv: kv.acl_setuser("bob", enabled=True)),
    "another database": (
        lambda kv: kv.info("keyspace"),
        lambda kv: kv.pipeline().set("k", 1).execute_command("SELECT", 3).set("k", 1).execute(),
    ),
    "the database in use": (lambda kv: kv.client_info()["db"], lambda kv: kv.select(3)),
    "a name": (lambda kv: kv.client_getname(), lambda kv: kv.client_setname("me")),
    "a replica": (lambda kv: kv.role()[0], lambda kv: kv.replicaof("127.0.0.1", 1)),
    "an open WATCH": (
        lambda kv: kv.pipeline().set("w", 1).execute(),
        lambda kv: (kv.execute_command("WATCH", "w"), kv.set("w", 2)),
    ),
    "an open MULTI": (lambda kv: kv.get("k"), lambda kv: kv.execute_command("MULTI")),
    "killed connections": (
        lambda kv: kv.get("k"),
        lambda kv: kv.client_kill_filter(_type="normal", skipme=False),
    ),
    "a reset": (lambda kv: kv.get("k"), lambda kv: kv.execute_command("RESET")),
    "a closed client": (lambda kv: kv.run(LIMITER.peek("x")).allowed, lambda kv: kv.close()),
    "a callback": (
        lambda kv: kv.get("k"),
        lambda kv: kv.set_response_callback("GET", lambda *_, **__: "changed"),
    ),
    "a count": (lambda kv: kv.kv.round_trips, lambda kv: kv.run(LIMITER.peek("x"))),
}


@pytest.mark.parametrize("what", FOUND)
@pytest.mark.parametrize("who", ["client", "setup"])
def test_the_next_run_does_not_find(what: str, who: str) -> None:
    find, leave = FOUND[what]
    found: list[str] = []

    def finds(kv: Any) -> None:
        found.append(repr(find(kv)))

    def client(kv: Any) -> None:
        kv.incr("n")
        if who == "client":
            finds(kv)
            leave(kv)

    def setup(kv: Any) -> None:
        if who == "setup":
            finds(kv)
            leave(kv)

    reads = lambda kv: kv.get("n")  # noqa: E731
    story = explore([client, reads, reads], setup=setup)
    assert story.schedules > 2
    assert len(found) >= story.schedules
    assert len(set(found)) == 1


def test_a_setting_of_a_server_by_url_is_put_back(url: str, direct: redis.Redis) -> None:
    before = direct.config_get("slowlog-max-len")
    story = explore([lambda kv: kv.config_set("slowlog-max-len", 7), two], url=url)
    assert story.schedules == 3
    assert direct.config_get("slowlog-max-len") == before != {"slowlog-max-len": "7"}


REFUSED: dict[str, Callable[[Any], Any]] = {
    "CLIENT PAUSE": lambda kv: kv.client_pause(1),
    "CLIENT REPLY": lambda kv: kv.client_reply("OFF"),
    "SHUTDOWN": lambda kv: kv.shutdown(),
    "MONITOR": lambda kv: kv.execute_command("MONITOR"),
    "SCRIPT DEBUG": lambda kv: kv.execute_command("SCRIPT", "DEBUG", "YES"),
    "ACL SETUSER": lambda kv: kv.execute_command("ACL", "SETUSER", "default", "-@all"),
    "DEBUG": lambda kv: kv.execute_command("DEBUG", "SLEEP", "0"),
    "BLPOP": lambda kv: kv.pipeline(transaction=False).blpop("q", 1).get("q").execute(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_put_back_is_refused(what: str) -> None:
    with pytest.raises(Refused, match=f"{what} cannot be explored: |{what} .* inside a pipeline"):
        explore([REFUSED[what], two])


def test_an_invariant_is_refused_too() -> None:
    with pytest.raises(Refused, match="CLIENT PAUSE cannot be explored"):
        explore([two], invariant=lambda world: world.kv.client_pause(1))


@pytest.mark.parametrize("command", ["SELECT 3", "SWAPDB 0 1", "FLUSHALL", "COPY n m DB 3"])
def test_with_url_other_databases_are_refused(url: str, command: str) -> None:
    words = command.split()
    with pytest.raises(Refused, match=f"{words[0]} cannot be explored: with url"):
        explore([lambda kv: kv.execute_command(words[0], *words[1:]), two], url=url)


# --- clients that keep something ---


def counted(kv: Any, seen: list[int]) -> None:
    seen.append(1)
    kv.set("m", len(seen))


def cached(kv: Any, seen: list[int]) -> None:
    if not seen:
        seen.append(1)
        kv.get("settings")
    kv.set("m", 1)


def ends_sooner(kv: Any, seen: list[int]) -> None:
    kv.set("m", 1)
    if not seen:
        seen.append(1)
        kv.get("m")


def steps(_: Any, seen: list[int]) -> None:
    seen.append(1)
    step(f"row {len(seen)}")


@pytest.mark.parametrize(
    ("keeps", "said"),
    [
        (counted, "its step 1 was 'SET m 1' in one run and is 'SET m 2' now"),
        (cached, "its step 1 was 'GET settings' in one run and is 'SET m 1' now"),
        (ends_sooner, r"its step 1 \('SET m 1'\) was not its last in one run and is now"),
        (steps, "its step 1 was row 1 in one run and is row 2 now"),
    ],
)
def test_a_client_that_keeps_something_is_named(keeps: Any, said: str) -> None:
    keeper = functools.partial(keeps, seen=[])
    with pytest.raises(Nondeterministic, match=f"keeper does not repeat itself: {said}"):
        explore({"other": two, "keeper": keeper})


def test_a_clock_read_by_the_garbage_collector_is_not_the_clients() -> None:
    """What another part of the process left behind may end while a client runs."""

    class LeftBehind:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            time.sleep(time.time() * 0)

    def keeper(kv: Any, seen: list[int]) -> None:
        LeftBehind()
        gc.collect(0)
        steps(kv, seen)

    def measures(_: str, __: object) -> None:  # as Hypothesis does
        time.perf_counter()

    gc.callbacks.append(measures)
    try:
        with pytest.raises(Nondeterministic, match="its step 1 was row 1 in one run and is row 2"):
            explore([two, functools.partial(keeper, seen=[])], clock_jumps=[1.0])
    finally:
        gc.callbacks.remove(measures)


CACHE: dict[str, int] = {}


class Library:
    """Remembers the server's version in the object, and in the class."""

    servers: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        self.version = ""

    def asks_once(self, kv: Any) -> None:
        if not self.version:
            self.version = str(kv.get("version"))
        kv.set("m", 1)

    def asks_once_for_all(self, kv: Any) -> None:
        if not self.servers:
            self.servers.add(str(kv.get("version")))
        kv.set("m", 1)


SHARED = Library()


def load_settings(kv: Any) -> None:
    if not CACHE:
        CACHE["version"] = len(kv.get("version") or "")


def uses_a_global(kv: Any) -> None:
    load_settings(kv)
    kv.set("m", 1)


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (lambda: Library().asks_once, "version"),
        (lambda: lambda kv, library=SHARED: library.asks_once(kv), "library.version"),
        (lambda: Library().asks_once_for_all, "Library.servers"),
        (lambda: uses_a_global, "CACHE"),
        (lambda: functools.partial(ends_sooner, seen=[]), "seen"),
    ],
)
def test_what_was_kept_is_named_with_what_to_do(client: Any, name: str) -> None:
    client, SHARED.version = client(), ""
    CACHE.clear()
    Library.servers.clear()
    said = rf"make a library's object inside the client.*\. Not as .*began: .*\b{name}"
    with pytest.raises(Nondeterministic, match=said):
        explore([client, two])


def test_a_later_step_is_counted_by_its_client() -> None:
    seen: list[int] = []

    def keeper(kv: Any) -> None:
        kv.get("a")
        counted(kv, seen)

    with pytest.raises(Nondeterministic, match=r"client 0 .* its step 2 was 'SET m 1'"):
        explore([keeper, two])


def test_what_the_invariant_reads_may_not_pile_up() -> None:
    admitted: list[int] = []

    def admit(kv: Any) -> None:
        if kv.incr("a") == 1:
            admitted.append(1)

    with pytest.raises(Nondeterministic, match="does not hold when it is made again"):
        explore([admit, admit], invariant=lambda _: len(admitted) <= 1)
    # the control: emptied in setup, it is the same story each time
    assert explore(
        [admit, admit], setup=lambda _: admitted.clear(), invariant=lambda _: len(admitted) <= 1
    )


@pytest.mark.parametrize(
    "value",
    [
        lambda: str(datetime.datetime.now()),
        lambda: uuid.uuid1().hex,
        lambda: time.time() % 7,
        lambda: uuid.uuid1().bytes,
        lambda: f"token {next(_numbers)}",
    ],
    ids=["now", "token", "computed from the time", "binary token", "numbered token"],
)
def test_times_and_tokens_may_differ(value: Callable[[], Any]) -> None:
    def client(kv: Any) -> None:
        kv.get("a")
        kv.set("m", value())

    assert explore([client, two])


@pytest.mark.parametrize("way", ["sync", "async"])
def test_secrets_are_the_same_in_the_first_run_too(way: str) -> None:
    drawn = []

    def client(kv: Any) -> Any:
        drawn.append(secrets.token_hex(4))
        return kv.incr("n")

    async def async_client(kv: Any) -> Any:
        await client(kv)

    assert explore([client if way == "sync" else async_client, two])
    assert len(drawn) > 3
    assert len(set(drawn)) == 1


def test_what_follows_from_an_answer_may_differ() -> None:
    def client(kv: Any) -> None:
        _, micros = kv.time()
        kv.set(f"k{micros % 10}", micros % 10)

    assert explore([client, two])


# --- clocks ---

CLOCKS: dict[str, Callable[[], float]] = {
    "time_ns": lambda: time_ns() / 1e9,
    "monotonic": lambda: monotonic(),
    "perf_counter": lambda: perf_counter(),
    "time": lambda: time_by_name(),
    "datetime": lambda: datetime_by_name.now().timestamp(),
    "datetime.datetime": lambda: datetime.datetime.now(datetime.UTC).timestamp(),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_a_clock_is_held_by_whatever_name(name: str) -> None:
    now = CLOCKS[name]
    seen = []

    def client(kv: Any) -> tuple[float, float, float]:
        began = now()
        kv.incr("n")
        still = now() - began
        time.sleep(60)
        return began, still, now() - began

    story = explore([client, two], invariant=lambda w: seen.append(w.results[0]) or True)
    assert story
    assert {(still, slept) for _, still, slept in seen} == {(0, 60)}
    assert len({began % 2 for began, *_ in seen}) == 1
    assert now() < seen[0][0] + 30, "the real one again"


def test_a_clock_that_an_installed_module_binds_late_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An exploration before has found no clock in the module."""
    late: Any = types.ModuleType("late")
    late.__file__ = f"{sysconfig.get_path('purelib')}/late.py"
    monkeypatch.setitem(sys.modules, "late", late)
    explore([two])
    late.now = time.time

    def client(kv: Any) -> float:
        began: float = late.now()
        time.sleep(60)
        kv.incr("n")
        return late.now() - began

    assert explore([client], invariant=lambda world: world.results == [60])


def test_what_datetime_gives_is_of_the_usual_kind() -> None:
    def client(kv: Any) -> tuple[Any, ...]:
        kv.incr("n")
        now, day = datetime_by_name.now(), datetime.date.today()
        assert isinstance(now, datetime_by_name)
        return type(now), type(day), type(datetime_by_name.strptime("2020", "%Y"))

    kinds = (datetime.datetime, datetime.date, datetime.datetime)
    assert explore([client], invariant=lambda w: w.results == [kinds])


def test_a_clock_that_is_not_held_is_told_in_a_few_lines() -> None:
    def keeps_a_clock(kv: Any, now: Callable[[], int] = time_ns) -> None:
        kv.set("n", now() // 1000 % 1_000_000)

    with pytest.raises(Nondeterministic, match="client 0 does not repeat itself") as caught:
        explore([keeps_a_clock, two])
    assert len(str(caught.value)) < 500


# --- threads of a client ---


def test_a_thread_that_does_not_use_the_server_is_no_matter() -> None:
    def idle() -> None:
        time.sleep(0.001)
        assert time.time() > time.monotonic() > 0

    def starts(kv: Any) -> None:
        thread = threading.Thread(target=copy_context().run, args=(idle,))
        thread.start()
        kv.incr("n")
        thread.join()

    async def sends(kv: Any) -> None:
        await kv.incr("n")
        await asyncio.to_thread(idle)

    assert explore([starts, sends], clock_jumps=[60])
