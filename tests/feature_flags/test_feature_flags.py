"""Flags: one version per commit, rollouts that do what they say, defaults when there is nothing."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvlab import FeatureFlags, Flag, FlagSnapshot, Kv, NaiveFlags, Op, connect
from kvlab.errors import InvalidArgument, ServerRefused, ServerUnavailable, UnknownFlag
from kvlab.feature_flags import bucket
from kvlab.server.running_server import RunningServer

FLAGS = FeatureFlags(defaults={"off": False, "on": True, "half": Flag(50)})


# --- the seed's fault that is no matter of order; for the others see explored/ ---


def test_naive_is_always_false(kv: Kv) -> None:
    naive = NaiveFlags(kv.client, prefix=kv.prefix)
    naive.set_flag("x", True)
    assert kv.client.hget(naive.key, "x") == b"1"
    assert naive.get_flag("x") is False  # b"1" == "1"
    assert naive.get_all_flags() == {b"x": False}
    # the hardened one on the same client
    kv.run(FLAGS.set("x", True))
    assert kv.run(FLAGS.read_all()).is_enabled("x") is True


# --- one commit, one version ---


def test_set_read_remove(run: Any) -> None:
    assert run(FLAGS.read_all()) == FLAGS.declared
    assert run(FLAGS.set("on", False)) == 1
    assert run(FLAGS.set_many({"x": Flag(12.5, "s"), "y": True, "off": Flag(0.01)})) == 2
    snapshot = run(FLAGS.read_all())
    assert snapshot.version == 2
    assert snapshot.flags == {
        "on": Flag(0),
        "x": Flag(12.5, "s"),
        "y": Flag(100),
        "off": Flag(0.01),
    }
    assert run(FLAGS.remove("on")) == 3
    assert run(FLAGS.set_many({"y": None, "x": False})) == 4
    snapshot = run(FLAGS.read_all())
    assert (snapshot.version, set(snapshot.flags)) == (4, {"x", "off"})
    assert snapshot.is_enabled("on")  # the default again
    assert run(FLAGS.remove("never set")) == 5
    assert run(Op("PTTL", FLAGS.values)) == -1  # flags stay until they are removed
    other = FeatureFlags("other")
    assert run(other.read_all()).flags == {}


def test_one_round_trip_each(kv: Kv) -> None:
    kv.run(FLAGS.set("x", True))
    for op in (FLAGS.set("x", False), FLAGS.set_many({"a": True, "b": None}), FLAGS.remove("x")):
        before = kv.round_trips
        kv.run(op)
        assert kv.round_trips - before == 1
    before = kv.round_trips
    snapshot = kv.run(FLAGS.read_all())
    assert kv.round_trips - before == 1
    assert [snapshot.is_enabled(f, 7) for f in ("a", "on", "half")]
    assert kv.round_trips - before == 1  # a check costs none


def test_two_writers_share_no_version(kv: Kv) -> None:
    flags = FeatureFlags()

    def write(who: int) -> dict[int, int]:
        return {kv.run(flags.set_many({"a": Flag(n), f"w{who}": Flag(n)})): n for n in range(50)}

    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(write, range(4)))
    versions = [version for one in written for version in one]
    assert sorted(versions) == list(range(1, 201))
    last = {version: n for one in written for version, n in one.items()}[200]
    snapshot = kv.run(flags.read_all())
    assert (snapshot.version, snapshot.flags["a"]) == (200, Flag(last))
    assert [snapshot.flags[f"w{who}"] for who in range(4)] == [Flag(49)] * 4


def test_each_commit_is_told_once(kv: Kv) -> None:
    with kv.client.pubsub(ignore_subscribe_messages=False) as pubsub:
        pubsub.subscribe(kv.name(FLAGS.changes))
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"
        kv.run(FLAGS.set("a", True))
        kv.run(Op("SCRIPT", "FLUSH"))
        kv.run(FLAGS.set_many({"a": False, "b": True}), FLAGS.remove("a"), atomic=True)
        told = [pubsub.get_message(timeout=5)["data"] for _ in range(3)]
        kv.run(Op("PUBLISH", FLAGS.changes, "end"))
        assert [*told, pubsub.get_message(timeout=5)["data"]] == [b"1", b"2", b"3", b"end"]


def test_a_user_who_may_not_publish_changes_nothing(kv: Kv, server: RunningServer) -> None:
    """Since Redis 7 a new user may use no channel, whatever commands and keys the user has."""
    kv.client.acl_setuser("mute", enabled=True, passwords=["+x"], keys=["*"], commands=["+@all"])
    try:
        with connect(server.url.replace("//", "//mute:x@"), prefix=kv.prefix) as mute:
            with pytest.raises(ServerRefused, match="channel"):
                mute.run(FLAGS.set("a", True))
            assert mute.run(FLAGS.read_all()) == FLAGS.declared
    finally:
        kv.client.acl_deluser("mute")


class AgainstADict(RuleBasedStateMachine):
    """Any sequence of commits leaves what a dict would hold."""

    kv: Kv
    names = st.sampled_from(["a", "b", "c", "d"])
    percents = st.integers(0, 10_000).map(lambda n: n / 100)
    values = st.none() | st.booleans() | st.builds(Flag, percents, st.none() | st.just("s"))

    @initialize()
    def start(self) -> None:
        self.kv.clear()
        self.model: dict[str, Flag] = {}
        self.version = 0

    @rule(changes=st.dictionaries(names, values, min_size=1))
    def commit(self, changes: dict[str, Any]) -> None:
        self.version += 1
        assert self.kv.run(FLAGS.set_many(changes)) == self.version
        for name, value in changes.items():
            self.model.pop(name, None)
            if value is not None:
                on = Flag(100.0 if value else 0.0) if isinstance(value, bool) else value
                self.model[name] = on

    @invariant()
    def same(self) -> None:
        snapshot = self.kv.run(FLAGS.read_all())
        assert (snapshot.version, snapshot.flags) == (self.version, self.model)


def test_against_a_dict(kv: Kv) -> None:
    AgainstADict.kv = kv
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        AgainstADict,
        settings=settings(
            max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None
        ),
    )


# --- defaults ---


def test_a_stored_flag_wins_over_its_default(any_kv: Kv) -> None:
    any_kv.run(FLAGS.set_many({"off": True, "on": False}))
    snapshot = any_kv.run(FLAGS.read_all())
    assert [snapshot.is_enabled(flag) for flag in ("off", "on")] == [True, False]


def test_a_dead_server_means_the_declared_defaults() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with connect(f"redis://127.0.0.1:{closed.getsockname()[1]}") as kv:
            snapshot = kv.run(FLAGS.read_all())
            assert snapshot == FLAGS.declared
            assert (snapshot.is_enabled("on"), snapshot.is_enabled("off")) == (True, False)
            with pytest.raises(ServerUnavailable):
                kv.run(FLAGS.read_all(strict=True))
            with pytest.raises(ServerUnavailable):
                kv.run(FLAGS.set("on", False))


def test_an_unknown_flag_is_heard() -> None:
    with pytest.raises(UnknownFlag, match="'of' is unknown: neither stored nor declared"):
        FLAGS.declared.is_enabled("of")


def test_what_cannot_be_read_answers_by_its_default(any_kv: Kv) -> None:
    kv = any_kv
    # By a script: another client may have written bytes that are not UTF-8, and JSON has none.
    write = """local value = ARGV[1] == 'no UTF-8' and '\\255' or ARGV[1]
        redis.call('HSET', KEYS[1], 'on', value, 'undeclared', value, '\\255\\254', 'true')"""
    kv.run(FLAGS.set("good", True))
    bad = [
        "", "1", "yes", "[", '{"percent": 101}', '{"percent": NaN}', '{"percent": true}',
        '{"percent": 1.234}', '{"percent": 5, "salt": 7}', '{"salt": "x"}',
        '{"percent": 5, "a": 1}', "[" * 100_000, "no UTF-8",
    ]  # fmt: skip
    for value in bad:
        kv.run(Op("EVAL", write, 1, FLAGS.values, value))
        snapshot = kv.run(FLAGS.read_all())
        assert {"on", "undeclared"} == set(snapshot.unreadable), value
        assert snapshot.is_enabled("good")
        assert snapshot.is_enabled("on")  # the declared default
        with pytest.raises(UnknownFlag, match="cannot be read"):
            snapshot.is_enabled("undeclared")


@pytest.mark.parametrize(
    "version", ["", "x", "-1", "1.5", "1e300", "nan", "inf", "9007199254740991"]
)
def test_a_version_written_by_somebody_else_heals(any_kv: Kv, version: str) -> None:
    any_kv.run(FLAGS.set("a", True))
    any_kv.run(Op("HSET", FLAGS.values, "", version))
    assert any_kv.run(FLAGS.read_all()).is_enabled("a")
    assert any_kv.run(FLAGS.set("a", False)) == 1
    assert any_kv.run(FLAGS.read_all()) == FlagSnapshot(1, {"a": Flag(0)}, FLAGS.defaults)


def test_a_foreign_key_is_refused_and_kept(any_kv: Kv) -> None:
    any_kv.run(Op("SET", FLAGS.values, "text"))
    for op in (FLAGS.set("a", True), FLAGS.remove("a"), FLAGS.read_all()):
        with pytest.raises(ServerRefused, match="WRONGTYPE"):
            any_kv.run(op)
    assert any_kv.run(Op("GET", FLAGS.values)) == b"text"


# --- rollout ---


@pytest.mark.parametrize(
    ("salt", "user", "first_16_hex_digits"),
    [
        ("new-checkout", "alice", "f66993225761d548"),
        ("new-checkout", 7, "53503f241841a3ec"),
        ("a", "", "ffe9aaeaa2a2d504"),
        ("ü", "é", "729cfc0b3b23c2b9"),
    ],
)
def test_the_hash_is_fixed(salt: str, user: str | int, first_16_hex_digits: str) -> None:
    """From a shell: printf 'new-checkout\\0alice' | sha256sum"""
    assert bucket(salt, user) == int(first_16_hex_digits, 16) % 10_000


def users_in(flag: Flag, name: str, n: int = 100_000) -> set[int]:
    return {user for user in range(n) if flag.includes(name, user)}


def test_ten_percent_is_ten_percent_and_flags_are_independent() -> None:
    n, p = 100_000, 0.1
    a, b = users_in(Flag(10), "a"), users_in(Flag(10), "b")
    sigma = math.sqrt(n * p * (1 - p))
    assert abs(len(a) - n * p) < 4 * sigma
    assert abs(len(b) - n * p) < 4 * sigma
    both = p * p
    assert abs(len(a & b) - n * both) < 4 * math.sqrt(n * both * (1 - both))
    assert users_in(Flag(10, salt="same"), "a", 1000) == users_in(Flag(10, salt="same"), "b", 1000)


def test_a_rollout_grows_without_throwing_anybody_out() -> None:
    before: set[int] = set()
    for percent in (0, 0.01, 0.5, 1, 10, 20, 50, 99.99, 100):
        inside = users_in(Flag(percent), "grow", 20_000)
        assert before <= inside
        before = inside
    assert len(before) == 20_000
    assert users_in(Flag(0), "grow", 1000) == set()


def test_every_bucket_is_used_and_the_edge_is_exact() -> None:
    one = next(user for user in range(100_000) if bucket("edge", user) == 1234)
    assert not Flag(12.34).includes("edge", one)
    assert Flag(12.35).includes("edge", one)


def test_nobody_is_only_inside_at_100_percent() -> None:
    assert [Flag(p).includes("x", None) for p in (0, 0.01, 99.99, 100)] == [False] * 3 + [True]


def test_users_are_text_or_numbers() -> None:
    assert bucket("s", 7) == bucket("s", "7")
    assert {type(bucket("s", user)) for user in ("", "a\0b", "\n", "\ud800", "x" * 10**7)} == {int}
    for user in (True, 1.5, b"x"):
        with pytest.raises(InvalidArgument, match="user"):
            bucket("s", user)  # type: ignore[arg-type]


# --- bad input ---


@pytest.mark.parametrize("name", ["", "a\0", "a\n", "x" * 10_000_000, "\ud800", 7, None, b"x"])
def test_names_are_printable_text(name: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: FLAGS.set(name, True),
        lambda: FLAGS.remove(name),
        lambda: FeatureFlags(defaults={name: True}),
        lambda: Flag(5, salt=name) if name is not None else FLAGS.remove(name),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument, match=r"(flag|salt) must be printable") as refused:
            call()
        assert len(str(refused.value)) < 300


def test_names_with_braces_and_spaces_are_names(any_kv: Kv) -> None:
    odd = FeatureFlags("{a}: " + "x" * 190)
    names = ["{x}", "a b", "prüfung", "-", "version", "'", '"', "\\"]
    assert any_kv.run(odd.set_many(dict.fromkeys(names, True))) == 1
    assert set(any_kv.run(odd.read_all()).flags) == set(names)


@pytest.mark.parametrize(
    "percent", [101, -1, -0.01, 100.01, math.nan, math.inf, True, "5", 0.001, 12.5001, 0.00999]
)
def test_percent_is_0_to_100_in_hundredths(percent: Any) -> None:
    with pytest.raises(InvalidArgument, match="percent"):
        Flag(percent)


@pytest.mark.parametrize("value", [1, 0, 10, 10.0, "true", b"1", {}, None])
def test_a_value_is_a_bool_or_a_flag(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="True, False or Flag"):
        FLAGS.set("x", value)
    with pytest.raises(InvalidArgument, match="True, False or Flag"):
        FeatureFlags(defaults={"x": value})


def test_a_commit_has_1_to_1000_flags(kv: Kv) -> None:
    assert kv.run(FLAGS.set_many({f"f{i}": True for i in range(1000)})) == 1
    assert len(kv.run(FLAGS.read_all()).flags) == 1000
    for n in (0, 1001):
        with pytest.raises(InvalidArgument, match="1 to 1000"):
            FLAGS.set_many({f"f{i}": True for i in range(n)})
