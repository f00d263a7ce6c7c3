"""Op, Key, Script and Flow: data that refuses to be mistaken for a result. No server."""

from __future__ import annotations

import copy
import enum
import pickle
import shlex
import shutil
import string
import time
from collections.abc import Generator
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from kvlab import Flow, Key, Op, Script, flow, segment
from kvlab.core.key import MAX_SEGMENT
from kvlab.core.op import with_key
from kvlab.errors import (
    InvalidArgument,
    NotRunYet,
)
from kvlab.server.running_server import RunningServer

any_text = st.text(st.characters(), max_size=300)  # surrogates too
awkward = st.text("ab~%{}:.- \x00/ü\ud800\ud83d\ude00😀", max_size=80)
texts = any_text | awkward


# --- segment -------------------------------------------------------------------------------

ALPHABET = set(string.ascii_letters + string.digits + "_.-~%")


@given(texts, texts)
@example("~", "")
@example("%7E", "~")
@example("\ud83d\ude00", "😀")
@example("a" * 201, "~" + "0" * 64)
@example("ü" * 100, "%C3%BC" * 100)
def test_two_texts_never_share_a_segment(a: str, b: str) -> None:
    assert (segment(a) == segment(b)) == (a == b)


@given(texts)
@example("x" * 200)
@example("x" * 201)
@example("{" * 67)
def test_a_segment_is_short_plain_and_never_empty(text: str) -> None:
    piece = segment(text)
    assert 1 <= len(piece) <= MAX_SEGMENT
    assert set(piece) <= ALPHABET


@given(texts, texts)
def test_braces_in_user_text_do_not_move_the_hash_slot(a: str, b: str) -> None:
    key = f"kvlab:{segment(a)}:{{tag}}:{segment(b)}"
    assert key_slot(key.encode()) == key_slot(b"tag")


def test_an_int_stands_for_its_digits_and_an_enum_for_its_value() -> None:
    class Name(str, enum.Enum):  # noqa: UP042  (its str() is 'Name.A')
        A = "x"

    class Number(int, enum.Enum):
        A = 7

    assert (segment(5), segment(-5), segment("5")) == ("5", "-5", "5")
    assert (f"{segment(Name.A)}", f"{segment(Number.A)}") == ("x", "7")


@pytest.mark.parametrize("wrong", [None, True, 1.5, b"x", object()])
def test_other_key_text_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="key must be an id"):
        segment(wrong)


def test_ten_megabytes_become_a_digest_without_being_quoted() -> None:
    began = time.process_time()
    assert len({segment("x" * 10_000_000), segment("ü" * 5_000_000)}) == 2
    assert time.process_time() - began < 5  # quoting alone takes longer, by far


# --- what may be sent ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [None, True, object(), [], bytearray(b"x"), "\ud800", Key("\ud800"), Decimal(5)]
)
def test_an_argument_that_cannot_be_sent_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(InvalidArgument):
        Op("SET", Key("k"), wrong)


@pytest.mark.parametrize("wrong", [None, 5, b"k", Key("k")])
def test_the_name_of_a_key_is_text(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="name must be text"):
        Key(wrong)


def test_a_subclass_is_sent_as_its_plain_value() -> None:
    class Word(str, enum.Enum):  # noqa: UP042  (its str() is 'Word.A')
        A = "x"

    class Number(int, enum.Enum):
        A = 7

    class Row(Key):
        """A key of a row."""

    uuid = UUID("12345678-1234-5678-1234-567812345678")
    of_numpy = np.int64(5), np.float32(0.5), np.float64(2), np.str_("s")
    args: Any = (Row("r"), Word.A, Number.A, *of_numpy, uuid)
    sent = Op("SET", Key(np.str_("k")), *args).args
    assert sent == (Key("k"), Key("r"), "x", 7, 5, 0.5, 2.0, "s", str(uuid))
    assert {type(arg) for arg in sent} == {Key, str, int, float}
    assert type(sent[0].name) is str  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "wrong",
    [{"decode": 5}, {"fallback": 5}, {"idempotent": "no"}, {"idempotent": 1}, {"decode": None}],
)
def test_what_an_op_does_with_its_reply_is_checked_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="must be"):
        Op("GET", Key("k"), **wrong)


@pytest.mark.parametrize("wide", [1 << 2048, -(1 << 2048), 10**5000], ids=["+", "-", "5000"])
def test_an_int_that_python_would_not_print_is_refused(wide: int) -> None:
    # hiredis dereferences what str() did not return: the process would be gone.
    with pytest.raises(InvalidArgument, match="2048 bits"):
        Op("SET", Key("k"), wide)


def test_what_can_be_sent_is_kept_as_it_is() -> None:
    args = (Key("k"), "ü", b"\xff", -3, 1.5, float("inf"), (1 << 2048) - 1)
    assert Op("SET", *args).args == args


@pytest.mark.parametrize("wrong", ["", "  ", None, b"GET", 1, "GÉT", "GE\ud800T"])
def test_a_command_needs_a_name(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="name or a Script"):
        Op(wrong, "x")


@pytest.mark.parametrize(
    "line",
    [
        "MULTI",
        "exec",
        "WATCH k",
        "SELECT 3",
        "SUBSCRIBE c",
        "ssubscribe c",
        "HELLO 3",
        "AUTH p",
        "CLIENT REPLY OFF",
        "client reply SKIP",
        "CLIENT SETNAME x",
        "CLIENT TRACKING ON",
        "CLIENT CACHING YES",
        "client no-touch ON",
        "CLIENT NO-EVICT ON",
        "CLIENT CAPA redirect",
        "MONITOR",
        "RESET",
        "QUIT",
    ],
)
def test_commands_that_change_a_shared_connection_are_refused(line: str) -> None:
    name, *args = line.split()
    with pytest.raises(InvalidArgument, match="connection"):
        Op(name, *args)
    with pytest.raises(InvalidArgument, match="connection"):
        Op(line)


@pytest.mark.parametrize("command", ["CLIENT", "Client", " cLIENT\t"])
@pytest.mark.parametrize("what", ["REPLY", "Reply", b"reply", "REPLY\0", b"reply\0x"])
def test_no_spelling_of_client_reply_gets_through(command: str, what: Any) -> None:
    with pytest.raises(InvalidArgument, match="connection"):
        Op(command, what, "SKIP")  # each later op of the batch would get its neighbour's answer


def test_their_neighbours_are_not() -> None:
    of_client = "CLIENT ID", "CLIENT UNBLOCK 3", "CLIENT TRACKINGINFO"
    for line in (*of_client, "GETSET k v", "PUBLISH c m", "SELECTED"):
        name, *args = line.split()
        assert Op(name, *args).command == name


def test_the_keys_of_a_script_come_first() -> None:
    script = Script("s", "return 1")
    assert Op(script, Key("a"), Key("b"), 1).keys == (Key("a"), Key("b"))
    with pytest.raises(InvalidArgument, match="before"):
        Op(script, "x", Key("a"))


# --- misuse --------------------------------------------------------------------------------


@flow
def counting(name: str, times: int = 1) -> Generator[Any, Any, list[int]]:
    replies = []
    for _ in range(times):
        replies.append((yield from Op("INCR", Key(name), decode=int)))
    return replies


@pytest.mark.parametrize("unrun", [Op("GET", Key("k")), counting("x")])
def test_an_op_or_a_flow_is_no_truth_value(unrun: Any) -> None:
    with pytest.raises(NotRunYet, match=r"not run yet: kv\.run"):
        bool(unrun)
    with pytest.raises(NotRunYet):
        assert not unrun


def test_only_a_generator_function_makes_a_flow() -> None:
    with pytest.raises(InvalidArgument, match="generator function"):

        @flow
        def nothing(name: str) -> Any:
            return name


def test_a_flow_is_a_value_and_keeps_its_name() -> None:
    assert counting("x", times=2) == counting("x", times=2) != counting("y")
    assert isinstance(counting("x"), Flow)
    assert counting.__name__ == "counting"
    assert str(counting("x")) == "<flow counting>"
    assert str(Flow(partial(counting, "x"))).startswith("<flow functools.partial(")


def test_a_flow_takes_its_arguments_as_its_function_does() -> None:
    @flow
    def pinging() -> Generator[Any, Any, Any]:
        return (yield Op("PING"))

    assert counting(name="x").kwargs == {"name": "x"}
    assert (pinging().args, pinging().kwargs) == ((), {})


def test_an_op_is_a_frozen_value() -> None:
    op = Op("SET", Key("k"), 1)
    assert op == Op("SET", Key("k"), 1) == copy.copy(op) == pickle.loads(pickle.dumps(op))
    assert hash(op) == hash(Op("SET", Key("k"), 1))
    with pytest.raises(AttributeError):
        op.command = "DEL"  # type: ignore[misc]


# --- the redis-cli line --------------------------------------------------------------------


def test_with_another_key_all_else_stays() -> None:
    how: dict[str, Any] = {"decode": bool, "idempotent": True, "blocking": 1.0, "fallback": repr}
    one = Op("GETEX", Key("a"), "PX", 5, **how)
    assert with_key(one, Key("b")) == Op("GETEX", Key("b"), "PX", 5, **how)
    assert one.args[0] == Key("a")
    with pytest.raises(InvalidArgument, match="valid Unicode"):
        with_key(one, Key("\ud800"))


def test_the_line_of_a_script_names_its_file() -> None:
    op = Op(Script("lock/acquire", "return 1"), Key("a b"), Key("c"), 5, "x y")
    line = "redis-cli --eval kvlab/lock/acquire.lua 'a b' c , 5 'x y'"
    assert str(op) == line


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "two words",
        "it's",
        'say "x"',
        "back\\slash",
        "$HOME `id` ; #",
        "ü 😀",
        "",
        "line\n",
        b"\xff\x01\xfe binary",
        b"it's \\ \x7f9a",
        "\x1b[0m",
        -5,
        1.5,
        "{tag}",
        "*",
        "!x",
    ],
)
def test_the_line_runs_when_pasted_into_a_shell(value: Any, server: RunningServer) -> None:
    if shutil.which("redis-cli") is None or shutil.which("bash") is None:
        pytest.skip("no redis-cli or no bash on PATH")
    import subprocess

    line = str(Op("ECHO", value))
    assert line.isprintable()
    here = line.replace("redis-cli", f"redis-cli -p {server.port} --no-raw", 1)
    raw = here.replace("--no-raw", "--raw")
    said = subprocess.run(["bash", "-c", raw], capture_output=True, timeout=10, check=True)
    sent = value if isinstance(value, bytes) else str(value).encode()
    assert said.stdout == sent + b"\n"


def test_a_line_is_split_as_the_op_has_it() -> None:
    op = Op("SET", Key("greeting to you"), "it's", "EX", 5)
    assert shlex.split(str(op)) == ["redis-cli", "SET", "greeting to you", "it's", "EX", "5"]
