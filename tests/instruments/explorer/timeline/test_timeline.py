"""A run as a person reads it: what each line says, and that the diagram says it too."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis

from kvlab import FixedWindow
from kvlab.errors import OutcomeUnknown
from kvlab.instruments import explore, replay, step
from kvlab.instruments.explorer.shortening import MOST, shortened
from kvlab.instruments.explorer.timeline.names import distinct
from kvlab.instruments.explorer.timeline.rows import HEAD, TAIL
from kvlab.instruments.explorer.timeline.shapes import Text
from kvlab.instruments.explorer.timeline.timeline import Timeline
from kvlab.instruments.explorer.timeline.wording import MAX_KEYS, ending, state_of, word


def shown(schedule: str, *clients: Any, **options: Any) -> Timeline:
    timeline = replay(schedule, clients, **options).shortest
    assert timeline is not None
    return timeline


def words(timeline: Timeline) -> list[str]:
    """The texts of the diagram."""
    shapes = timeline.diagram("a <title> & more").shapes
    return [shape.words for shape in shapes if isinstance(shape, Text)]


def adds(kv: Any) -> None:
    found = int(kv.get("n") or 0)
    kv.set("n", found + 1, ex=100)


def test_the_whole_of_a_short_run() -> None:
    timeline = shown("0 1 0 1", adds, adds, invariant=lambda w: w.kv.get("n") == b"2")
    assert str(timeline).splitlines() == [
        "broken: not true: w.kv.get('n') == b'2'",
        'replay it: "0 1 0 1"',
        "",
        "  1 client 0  GET n → nil",
        "  2 client 1  GET n → nil",
        "  3 client 0  SET n 1 EX 100 → OK",
        "                  n = 1  TTL 100 s",
        "  4 client 1  SET n 1 EX 100 → OK",
        "",
        "client 0 returned None",
        "client 1 returned None",
    ]
    assert len(timeline.states) == len(timeline.trace) + 1


@pytest.mark.parametrize(
    ("schedule", "line"),
    [
        ("0 x0", "2 client 0  crashes before SET n 1 EX 100"),
        ("0 r0", "2 client 0  SET n 1 EX 100 → OK, and the reply is lost"),
        ("0 q0", "2 client 0  SET n 1 EX 100, and the request is lost"),
        ("f 0", "1 server    forgets its scripts"),
        ("0 0 e:n", "3 server    the TTL of n ends"),
    ],
)
def test_each_fault_has_its_line(schedule: str, line: str) -> None:
    timeline = shown(schedule, adds, lambda kv: kv.get("other"))
    assert line in str(timeline)
    assert words(timeline)


def test_waits_sleeps_jumps_and_steps_have_theirs() -> None:
    def client(kv: Any) -> None:
        time.time()
        step("UPDATE users")
        time.sleep(2)
        kv.blpop("q", 7)

    timeline = shown("j0 0 0 0 t0", client, clock_jumps=[-60])
    assert [line.partition("client 0  ")[2] for line in str(timeline).splitlines()[3:8]] == [
        "clock jumps -60 s",
        "UPDATE users",
        "sleeps 2 s",
        "BLPOP q 7 … waits",
        "BLPOP q 7 times out → nil",
    ]
    assert "UPDATE users" in words(timeline)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("lock:5250be6c-bc00-4672-9ef4-61df5757fe1c:held", "lock:5250be…:held"),
        ("5250be6cbc00c6721ef461df5757fe1c-1795892973506070", "5250be…-…506070"),
        ("ZADD ann 1795893026072 1795893026072:0.7579544029", "ZADD ann …026072 …026072:0.7579…"),
        ("hEpZcdQ3mS7-vT_k2yBqXw0aRfLuNj8oPg1iD5eHs4Y", "hEpZcd…"),
        ("9007199254740993 604800000 12345678.12345678", None),  # numbers that say something
        ("a_name_that_is_long_but_no_token deadbeef v0.25", None),
    ],
)
def test_tokens_and_times_are_shortened(text: str, short: str | None) -> None:
    assert shortened(text) == (short or text)


def test_of_a_long_text_both_ends_are_read_and_what_differs_stays_different() -> None:
    token = "5250be6c-bc00-4672-9ef4-61df5757fe1c "
    text = token * 100_000
    assert len(shortened(text)) < 2 * MOST
    assert shortened(text).startswith("5250be… 5250be… ")
    assert word(text) == word(text[len(token) :])
    long = [f"{'x' * 20_000}{middle}{'y' * 20_000}" for middle in "ab"]
    assert shortened(long[0]) == shortened(long[1])
    assert len({*distinct(long).values()}) == 2


def test_transactions_scripts_and_errors() -> None:
    limiter = FixedWindow("api", limit=1, window=60)

    def client(kv: Any) -> None:
        kv.pipeline().incr("a").incr("b").execute()
        kv.run(limiter.hit("ann"))
        try:
            kv.lpush("a", 1)
        except redis.ResponseError:
            kv.eval("return ARGV[1]", 1, "a", "x")

    said = str(shown("0", client))
    assert "MULTI INCRBY a 1; INCRBY b 1 EXEC → [1, 1]" in said
    assert "fixed_window.lua kv:ratelimit:api:{ann}" in said
    assert "LPUSH a 1 → error WRONGTYPE" in said
    assert " | x → x" in said


def test_of_a_long_value_the_part_that_changed_is_shown(direct: redis.Redis) -> None:
    before = json.dumps({"user": "ann", "items": ["A-1", "B-2", "C-3", "D-4"], "total": 0})

    def client(kv: Any) -> None:
        kv.set("cart", before.replace("0}", "7}"))

    assert '"total": 7}' in str(shown("0", client, setup=lambda kv: kv.set("cart", before)))


def test_what_each_type_holds_and_what_changed(direct: redis.Redis) -> None:
    def client(kv: Any) -> None:
        kv.rpush("list", "a", "b c")
        kv.hset("hash", "field", "value")
        kv.sadd("set", "b", "a")
        kv.zadd("zset", {"m": 1.5})
        kv.xadd("stream", {"f": "v"}, id="1-1")
        kv.set("string", "x" * 100)
        kv.set("bytes", b"\xff\x00")
        kv.persist("ttl")
        kv.delete("list")

    said = str(shown("0", client, setup=lambda kv: kv.set("ttl", 1, ex=50)))
    for change in (
        "at first ttl = 1  TTL 50 s",
        'list = [a, "b c"]  no TTL',
        "hash = {field: value}",
        "set = {a, b}",
        "zset = {m: 1.5}",
        "stream = a stream",
        "string = " + "x" * 40,
        r"bytes = \xff\x00",
        "ttl = 1  no TTL",
        "list is gone",
    ):
        assert change in said, change
    assert "x" * 75 not in said

    for number in range(MAX_KEYS + 5):
        direct.set(f"k{number}", 1)
    assert len(state_of(direct)) == MAX_KEYS


def test_names_and_texts_cannot_break_the_diagram() -> None:
    def client(kv: Any) -> None:
        kv.set("<a&b>", '"<script>" \x00\n')

    story = explore({"<who>": client}, invariant=lambda w: 1 > 2)
    assert story.shortest is not None
    found = words(story.shortest)
    assert "<who>" in found
    assert any("<a&b>" in text for text in found)
    assert "a <title> & more" in found
    assert "broken: not true: 1 > 2" in found


def test_of_a_very_long_run_the_middle_is_left_out() -> None:
    def client(kv: Any) -> None:
        for _ in range(100):
            kv.incr("n")

    timeline = shown("0", client)
    assert f"  … {100 - HEAD - TAIL} more steps" in str(timeline)
    assert f"{HEAD:3} client 0" in str(timeline)
    assert f"{HEAD + 1:3} client 0" not in str(timeline)
    assert "100 client 0  INCRBY n 1 → 100" in str(timeline)
    assert f"… {100 - HEAD - TAIL} more steps" in words(timeline)


def test_keys_that_differ_in_the_middle_stay_different() -> None:
    keys = [f"tenant:4711:orders:{state}:by-customer:0815:page:1" for state in ("open", "done")]

    def client(kv: Any) -> None:
        kv.mset(dict.fromkeys(keys, "v"))
        kv.delete(keys[0])

    timeline = shown("0", client)
    for part in ("open", "done"):
        assert any(part in change for change in timeline._rows[0].changes)
    gone = next(line for line in str(timeline).splitlines() if "is gone" in line)
    assert "open" in gone
    assert gone.split()[0] in str(timeline).split("MSET")[1].split("→")[0]  # one name for each


@pytest.mark.parametrize("size", [30, 300])
@pytest.mark.parametrize("transaction", [True, False])
def test_of_a_long_batch_the_command_that_matters_is_shown(size: int, transaction: bool) -> None:
    def sells(kv: Any) -> None:
        pipe = kv.pipeline(transaction)
        for number in range(size):
            pipe.incr(f"counter:{number}")
            if number == size // 2:
                pipe.set("stock", -1)
        pipe.execute()

    timeline = shown("0", sells, lambda kv: kv.get("stock"))
    (request,) = [text for text in str(timeline).splitlines() if "counter:0 1;" in text]
    assert "SET stock -1" in request
    assert ("MORE" in request) is (size > 40)
    assert len(request) < 1500
    if size < MAX_KEYS:
        assert timeline._rows[0].changes[0] == "stock = -1  no TTL"


def test_polls_that_repeat_are_one_line() -> None:
    def polls(kv: Any) -> None:
        while kv.exists("lock"):
            time.sleep(1)
        kv.get("data")

    def setup(kv: Any) -> None:
        kv.set("lock", 1, ex=60)

    timeline = replay("0", [polls], setup=setup).shortest
    assert timeline is not None
    assert len(timeline.trace) == 2 * 60 + 2
    lines = str(timeline).splitlines()
    (at,) = [number for number, line in enumerate(lines) if "times more" in line]
    assert lines[at] == "  … the last 2 steps 58 times more"
    steps = [line for line in lines if "client 0  " in line]
    assert len(steps) == 6  # the last sleep ends the lock
    assert steps[-1].startswith("122 client 0")
    assert lines[at].strip() in words(timeline)


def test_a_step_that_another_client_answers_is_not_folded() -> None:
    def counts(kv: Any) -> None:
        for _ in range(4):
            kv.incr("n")

    timeline = replay("0", [counts]).shortest
    assert timeline is not None
    assert "times more" not in str(timeline)


def test_a_reply_that_the_client_cannot_decode_is_not_a_lost_request() -> None:
    def setup(kv: Any) -> None:
        kv.set("n", b"\x80")

    def reads(kv: Any) -> Any:
        return kv.get("n")

    options = {"client_options": {"decode_responses": True}}
    line = str(shown("0", reads, setup=setup, **options))
    assert "GET n → error 'utf-8' codec" in line
    assert "lost" not in line


def test_no_ending_names_the_socket_of_its_private_server() -> None:
    lost = OutcomeUnknown("sent to /tmp/kvlab-s3/valkey.sock?db=0, but no answer came: cut")
    assert ending(lost) == "raised OutcomeUnknown: sent to the server, but no answer came: cut"
