"""``reduce``: fewer runs, and every result and every final database that the full search finds.

The control for each is the full search of the same program.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from kvlab.instruments import World, explore, step
from kvlab.instruments.faults.client_gate import ClientCrashed

Program = Callable[[Any], Any]
End = tuple[Any, ...]


def ended(world: World) -> End:
    """Everything that can be told apart at the end of a run, but its order and exact TTLs."""
    kv, keys = world.kv, []
    for name in sorted(kv.keys("*")):
        keys.append((name, kv.dump(name), round(kv.pttl(name) / 1000)))
    results = [
        type(r).__name__ if isinstance(r, redis.RedisError | ClientCrashed) else repr(r)
        for r in world.results
    ]
    return (*keys, *results)


def ends(clients: Sequence[Program], **options: Any) -> tuple[set[End], int]:
    """All the ends of a program, and how many runs it took to find them."""
    found: set[End] = set()
    story = explore(clients, invariant=lambda world: found.add(ended(world)) or True, **options)
    assert story.holds, story
    assert story.complete
    return found, story.schedules


def same(clients: Sequence[Program], **options: Any) -> tuple[int, int]:
    """Runs in full, and reduced; both must find the same."""
    full, runs = ends(clients, **options)
    reduced, fewer = ends(clients, reduce=True, **options)
    assert reduced == full
    assert fewer <= runs
    return runs, fewer


def sends(*commands: str) -> Program:
    """A client that sends these in turn and returns the answers."""

    def client(kv: Any) -> list[Any]:
        return [kv.execute_command(*command.split()) for command in commands]

    return client


# --- counts by arithmetic ---

INCR = "return(redis.call('INCR',KEYS[1]))"


def test_a_ttl_can_end_before_the_last_step_only() -> None:
    """So the last step does not change places with it, though it touches another key."""
    kept = {"setup": lambda kv: kv.set("a", 1, ex=100), "expiries": True}
    for reduce in (False, True):
        story = explore(
            [sends("INCR n")], invariant=lambda w: w.kv.exists("a"), reduce=reduce, **kept
        )
        assert (story.violations, story.schedules) == (1, 2)


@pytest.mark.parametrize(
    ("clients", "full", "reduced"),
    [
        pytest.param([sends("INCR a"), sends("INCR b")], 2, 1, id="two keys"),
        pytest.param([sends("INCR a", "INCR a"), sends("INCR b", "INCR b")], 6, 1, id="two, twice"),
        pytest.param([sends(f"INCR {k}", f"INCR {k}") for k in "abc"], 90, 1, id="three keys"),
        pytest.param([sends("GET a", "GET a")] * 2, 6, 1, id="reads of one key"),
        pytest.param([sends("GET a"), sends("SET a 1")], 2, 2, id="a read and a write"),
        pytest.param([sends("INCR a")] * 3, 6, 6, id="writes of one key"),
        pytest.param([sends("PING"), sends("SET a 1")], 2, 1, id="no key"),
        pytest.param([sends("DBSIZE"), sends("SET a 1")], 2, 2, id="all keys"),
        pytest.param([sends("MSET a 1 b 1"), sends("GET b")], 2, 2, id="every key of a command"),
        pytest.param([sends("COPY a b"), sends("SET b 1")], 2, 2, id="destination"),
        pytest.param(
            [sends("ZUNIONSTORE c 2 a b"), sends("ZADD b 1 x")], 2, 2, id="keys that move"
        ),
        pytest.param([sends(f"EVAL {INCR} 1 a"), sends("GET b")], 2, 1, id="keys of a script"),
        pytest.param([sends(f"EVAL {INCR} 1 a"), sends("GET a")], 2, 2, id="a script's key"),
        pytest.param([sends("EVAL return(1) 1 a"), sends("GET a")], 2, 1, id="an idle script"),
        pytest.param([sends("DEL a")] * 2, 2, 1, id="writes that change nothing"),
    ],
)
def test_only_the_order_that_matters_is_made(
    clients: list[Program], full: int, reduced: int
) -> None:
    assert same(clients) == (full, reduced)


def test_the_last_write_wins_either_way() -> None:
    # GET a, SET a of each: what matters is where each SET stands between the other's two commands.
    clients = [sends("GET a", "SET a 0"), sends("GET a", "SET a 1")]
    assert same(clients) == (6, 4)


# --- what must not be reduced away ---


def test_a_watched_key_is_read_by_its_exec() -> None:
    def adds(kv: Any) -> str:
        with kv.pipeline() as pipe:
            pipe.watch("n")
            found = int(pipe.get("n") or 0)
            pipe.multi()
            pipe.set("seen", found)  # and neither reads nor writes n itself
            try:
                pipe.execute()
            except redis.WatchError:
                return "aborted"
            return "done"

    full, _ = ends([adds, sends("SET n 5")])
    assert {end[-2] for end in full} == {"'done'", "'aborted'"}
    assert same([adds, sends("SET n 5")]) == (4, 4)  # before WATCH, GET, EXEC, and after all
    assert same([adds, sends("SET m 5")]) == (4, 1)


def test_a_local_step_is_ordered_by_what_it_touches() -> None:
    rows: dict[str, int] = {}

    def reset(_: Any) -> None:
        rows.clear()

    def writes(value: int) -> Program:
        def client(kv: Any) -> tuple[int | None, int]:
            step("SELECT", "users", reads=True)
            before = rows.get("users")
            step("UPDATE", "users")
            rows["users"] = value
            return before, value

        return client

    def elsewhere(kv: Any) -> None:
        step("UPDATE orders")
        rows["orders"] = 1

    assert same([writes(1), writes(2)], setup=reset) == (6, 4)
    assert same([writes(1), elsewhere], setup=reset) == (3, 1)


def test_a_time_out_ages_the_keys_of_everybody() -> None:
    clients = [sends("BLPOP q 5"), sends("SET b 1 EX 3")]
    assert len(ends(clients, expiries=True)[0]) == 2  # before: b is gone; after: it is there
    same(clients, expiries=True)


def test_a_sleep_ages_the_keys_of_everybody() -> None:
    def sleeps(kv: Any) -> None:
        kv.get("a")
        time.sleep(5)

    assert len(ends([sleeps, sends("SET b 1 EX 3", "GET c")])[0]) == 2
    same([sleeps, sends("SET b 1 EX 3", "GET c")])


def test_a_crash_of_a_waiter_matters_to_who_would_serve_it() -> None:
    runs, fewer = same([sends("BLPOP q 0"), sends("RPUSH q e")], crashes=True)
    assert (runs, fewer) == (4, 4)  # pushed first; served; served and crashed; crashed unserved


def test_who_waits_first_matters_though_it_changes_no_data() -> None:
    pops = sends("BLPOP q 0")
    found, _ = ends([pops, pops, sends("RPUSH q 1 2")])
    assert len(found) == 2
    same([pops, pops, sends("RPUSH q 1 2")])


def test_a_push_writes_what_it_lets_a_waiter_write() -> None:
    moves = sends("BLMOVE q to LEFT RIGHT 0")
    assert len(ends([moves, sends("RPUSH q e"), sends("LLEN to")])[0]) == 2
    same([moves, sends("RPUSH q e"), sends("LLEN to")])


# --- a family of programs ---

WRITES = ("SET {} 1", "SET {} 2 EX 100", "INCR {}", "DEL {}", "SETNX {} 7", "APPEND {} 3")
READS = ("GET {}", "EXISTS {}", "STRLEN {}")
BOTH = ("MGET a b", "COPY a b REPLACE", "MSET a 4 b 4", "RENAMENX a b")


def drawn(seed: int) -> tuple[list[Program], list[list[str]]]:
    """Two or three clients with up to three commands each, on two keys."""
    rng = random.Random(seed)
    sizes = rng.choice([(2, 2), (3, 2), (3, 3), (1, 1, 2), (2, 2, 1)])

    def command() -> str:
        kind = rng.choices([WRITES, READS, BOTH], [5, 4, 1])[0]
        return rng.choice(kind).format(rng.choice("ab"))

    texts = [[command() for _ in range(size)] for size in sizes]
    return [sends(*text) for text in texts], texts


def set_up(kv: Any) -> None:
    kv.set("a", 1)


@pytest.mark.parametrize("seed", range(6))
def test_random_programs_end_alike(seed: int) -> None:
    clients, texts = drawn(seed)
    runs, fewer = same(clients, setup=set_up)
    print(texts, runs, fewer)


@pytest.mark.parametrize("seed", range(100, 102))
@pytest.mark.parametrize(
    "faults",
    [
        {"crashes": True},
        {"lost_replies": True, "lost_requests": True},
        {"expiries": True},
        {"crashes": True, "expiries": True, "max_faults": 2},
    ],
    ids=lambda faults: "+".join(faults),
)
def test_random_programs_with_faults_end_alike(seed: int, faults: dict[str, Any]) -> None:
    rng = random.Random(seed)
    texts = [
        [rng.choice([*WRITES, *READS]).format(rng.choice("ab")) for _ in range(2)] for _ in range(2)
    ]
    same([sends(*text) for text in texts], setup=set_up, **faults)
