"""Batches in every order of their writes: what a batch is not, and what ``atomic=True`` is.

A connection that is cut inside one write is no order of writes: see ``test_pipeline.py``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from redis.exceptions import NoScriptError

from kvlab import Key, NaivePipeline, Op
from kvlab.errors import BatchFailed, OutcomeUnknown
from kvlab.instruments import Story, World, explore, replay
from kvlab.instruments.explorer.connections.redis_clients import KvRedis
from kvlab.pipeline import add_to_counters

FAULTS: dict[str, Any] = {
    "crashes": True,
    "lost_replies": True,
    "lost_requests": True,
    "script_flushes": True,
}
PAIR = {"a": 1, "b": 1}  # counted together


def why(story: Story) -> Counter[str]:
    """How it was broken, without what pytest adds to an assertion's message."""
    return Counter({words.split("\n")[0]: n for words, n in story.broken.items()})


def read(kv: KvRedis, names: Any = PAIR) -> list[int]:
    ops = add_to_counters("g", dict.fromkeys(names, 0))
    return kv.run([Op("GET", op.keys[0], decode=lambda reply: int(reply or 0)) for op in ops])


def together(kv: KvRedis) -> list[int]:
    return kv.run(add_to_counters("g", PAIR), atomic=True)


def one_by_one(kv: KvRedis) -> list[int]:
    return [kv.run(op) for op in add_to_counters("g", PAIR)]


def nobody_sees_half(world: World) -> bool:
    seen = world.results[1]
    assert not isinstance(seen, list) or len(set(seen)) == 1, f"the reader saw {seen}"
    left = read(world.kv)
    assert len(set(left)) == 1, f"{left} is left"
    return True


def test_one_by_one_is_seen_half_done() -> None:
    story = explore([one_by_one, read], invariant=nobody_sees_half)
    assert why(story) == {"the reader saw [1, 0]": 1}
    assert not replay(story.schedule or "", [one_by_one, read], invariant=nobody_sees_half).holds


def test_one_by_one_is_left_half_done_by_a_crash() -> None:
    story = explore([one_by_one, read], invariant=nobody_sees_half, crashes=True)
    assert "[1, 0] is left" in why(story)


def test_together_is_seen_and_left_whole() -> None:
    assert explore([together, read], invariant=nobody_sees_half, max_faults=2, **FAULTS)


def counted_once(world: World) -> bool:
    """Two clients count: what each was told is so, and nothing is counted that nobody asked for."""
    told = sum(isinstance(result, list) for result in world.results)
    unknown = len(world.results) - told
    a, b = read(world.kv)
    assert a == b, f"a is {a}, b is {b}"
    assert told <= a <= told + unknown, (
        f"{told} were told that they counted, {unknown} were not: {a}"
    )
    return True


def test_naive_counts_twice_when_a_reply_is_lost() -> None:
    def naive(kv: KvRedis) -> list[Any]:
        names = {str(op.keys[0]): 1 for op in add_to_counters("g", PAIR)}
        return NaivePipeline(kv, prefix="kv:").batch_update_counters(names)

    assert explore([naive] * 2, invariant=counted_once)
    story = explore([naive] * 2, invariant=counted_once, lost_replies=True)
    assert why(story) == {
        "2 were told that they counted, 0 were not: 3": 6
    }  # of 8; in 2 nothing is lost


def test_together_counts_once_or_says_that_it_does_not_know() -> None:
    assert explore([together] * 2, invariant=counted_once, max_faults=2, **FAULTS)
    story = explore(
        [together], lost_replies=True, invariant=lambda world: world.results == [[1, 1]]
    )
    assert story.shortest is not None
    (result,) = story.shortest.results
    assert isinstance(result, BatchFailed)
    assert [type(unknown) for unknown in result.results] == [OutcomeUnknown] * 2


# --- a list travels in chunks ---

MANY = {f"c{i}": 1 for i in range(501)}


def whole_or_nothing(world: World) -> bool:
    for seen in (world.results[1], read(world.kv, MANY)):
        assert not isinstance(seen, list) or len(set(seen)) == 1, f"{sum(seen)} of {len(seen)}"
    return True


def look(kv: KvRedis) -> list[int]:
    """The first and the last of them, in one step."""
    return read(kv, ("c0", "c500"))


def test_a_list_of_two_chunks_is_seen_and_left_half_done() -> None:
    def in_chunks(kv: KvRedis) -> list[int]:
        return kv.run(add_to_counters("g", MANY))

    story = explore([in_chunks, look], invariant=whole_or_nothing, crashes=True)
    assert set(why(story)) == {"1 of 2", "500 of 501"}


def test_an_atomic_list_is_one_chunk() -> None:
    def at_once(kv: KvRedis) -> list[int]:
        return kv.run(add_to_counters("g", MANY), atomic=True)

    assert explore([at_once, look], invariant=whole_or_nothing, **FAULTS)


# --- the server forgets its scripts ---

(COUNT,) = add_to_counters("g", {"a": 1})
MARK = Op("SET", Key("counters:{g}:b"), 1)


def both_or_none(world: World) -> bool:
    a, b = read(world.kv)
    assert a == b, f"a is {a}, b is {b}"
    return True


def test_a_forgotten_script_in_multi_leaves_the_rest_applied() -> None:
    def by_hash(kv: KvRedis) -> None:
        sha = kv.script_load(COUNT.command.source)
        with kv.pipeline() as pipeline:
            pipeline.evalsha(sha, 1, f"kv:{COUNT.keys[0]}", 1, 60_000)
            pipeline.set("kv:counters:{g}:b", 1)
            pipeline.execute()

    assert explore([by_hash], invariant=both_or_none)
    story = explore([by_hash], invariant=both_or_none, script_flushes=True, expected=NoScriptError)
    assert why(story) == {"a is 0, b is 1": 1}


def test_atomic_survives_a_forgotten_script() -> None:
    assert explore(
        [lambda kv: kv.run(COUNT, MARK, atomic=True)],
        invariant=both_or_none,
        max_faults=2,
        **FAULTS,
    )


def test_a_plain_batch_sends_a_forgotten_script_again_and_nothing_else() -> None:
    def batch(kv: KvRedis) -> Any:
        return kv.run(COUNT, Op("INCR", Key("counters:{g}:b"), decode=int))

    assert explore([batch] * 2, invariant=counted_in_batch, script_flushes=True, max_faults=2)


def counted_in_batch(world: World) -> bool:
    counted = [sorted(values) for values in zip(*world.results, strict=True)]
    return read(world.kv) == [2, 2] and counted == [[1, 2], [1, 2]]
