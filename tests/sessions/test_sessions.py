"""Sessions: contract, ids, time, a model, the cookie. Orders and losses: ``explored``."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import string
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from support import SteppedClock, on_cluster

from kvlab import REMOVE, Kv, NaiveSessions, Op, Session, SessionCookie, SessionStore
from kvlab.errors import InvalidArgument, ServerRefused, ServerUnavailable, SessionTooLarge
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server.running_server import RunningServer

# The seed's SETEX is what is shown; redis-py would rather have SET EX.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

Run = Callable[[Any], Any]
RUNS = 100
STORE = SessionStore(idle=100.5, absolute=1000.25)


def keys(kv: Kv) -> list[bytes]:
    return sorted(kv.client.scan_iter(kv.prefix + "*"))


# --- the contract, on every engine and by every way an op can travel -----------------------


DATA = {
    "": "empty name",
    "list": [],
    "object": {},
    "nested": {"a": [1, 2.5, None, True, {"b": "x/y"}]},
    "big": 2**70,
    "text": 'é\x00\x7f"\\\ud800 {braces}\n',
    "1": 0,
    "zero": 0.0,
    "none": None,
}


def test_what_was_stored_comes_back_as_it_was(run: Run) -> None:
    made = run(STORE.create(7, DATA))
    assert made.data == DATA
    assert made.user == 7
    found = run(STORE.read(made.id))
    assert json.dumps(found.data, sort_keys=True) == json.dumps(DATA, sort_keys=True)
    assert (found.id, found.user, found.created) == (made.id, 7, made.created)
    assert found.deadline == pytest.approx(made.created + 1000.25)


def test_update_merges_replaces_and_removes_top_level_fields(run: Run) -> None:
    sid = run(STORE.create("ann", {"a": 1, "b": [], "c": {"x": 1}})).id
    after = run(STORE.update(sid, {"a": None, "sid": 3}, b=REMOVE, c={"y": [2]}, gone=REMOVE))
    assert list(after.data.items()) == [("a", None), ("c", {"y": [2]}), ("sid", 3)]
    assert run(STORE.read(sid)).data == after.data
    assert run(STORE.update(sid, a=REMOVE, c=REMOVE, sid=REMOVE)).data == {}
    assert run(STORE.update(sid)).data == {}


def test_the_old_id_is_dead_once_rotated(run: Run) -> None:
    old = run(STORE.create("ann", {"cart": [1]}))
    new = run(STORE.rotate(old.id))
    assert (new.data, new.user) == (old.data, "ann")
    assert (new.created, new.deadline) == (old.created, old.deadline)
    assert new.id != old.id
    for op in (STORE.read(old.id), STORE.update(old.id, a=1), STORE.rotate(old.id)):
        assert run(op) is None
    assert run(STORE.read(new.id)).data == {"cart": [1]}


@pytest.mark.parametrize("by", ["id", "handle"])
def test_a_log_out_by_an_id_just_rotated_ends_the_session(run: Run, by: str) -> None:
    first = run(STORE.create('ann "' + "a" * 64 + " 9999999999999"))
    other = run(STORE.create(first.user))
    second = run(STORE.rotate(first.id))
    third = run(STORE.rotate(second.id))
    assert (third.user, third.data) == (first.user, {})
    assert run(STORE.read(third.id)).user == run(STORE.update(third.id, a=1)).user == first.user
    by_id, by_handle = STORE.destroy(first.id), STORE.destroy_listed(first.user, first.handle)
    end = by_id if by == "id" else by_handle
    assert [run(end), run(end)] == [True, False]
    assert run(STORE.read(third.id)) is None
    assert run(STORE.destroy(third.id)) is False
    forged = first.id[:-43] + "x" * 43
    assert run(STORE.destroy(forged)) is False
    assert run(STORE.destroy_listed(first.user, "a" * 64)) is False  # a user's text is no handle
    assert [s.handle for s in run(STORE.list(first.user))] == [other.handle]


def test_a_rotation_sent_again_after_the_session_timed_out_answers_nobody(kv: Kv) -> None:
    old = kv.run(STORE.create("ann"))
    kv.run(STORE.create("ann"))  # keeps the key
    rotate = STORE.rotate(old.id)
    new = kv.run(rotate)
    seen_earlier(kv, new, 0, over=True)
    assert kv.run(rotate) is None
    assert kv.run(STORE.destroy(old.id)) is False


def test_ending_one_session_or_all_of_a_user(run: Run) -> None:
    mine = [run(STORE.create("ann")) for _ in range(4)]
    other = run(STORE.create("bob"))
    assert [run(STORE.destroy(mine[0].id)) for _ in range(2)] == [True, False]
    assert [run(STORE.destroy_listed("ann", mine[1].handle)) for _ in range(2)] == [True, False]
    assert {s.handle for s in run(STORE.list("ann"))} == {s.handle for s in mine[2:]}
    assert [run(STORE.destroy_all("ann")) for _ in range(2)] == [2, 0]
    assert [run(STORE.read(s.id)) for s in mine] == [None] * 4
    assert run(STORE.list("ann")) == []
    assert run(STORE.read(other.id)).user == "bob"


def test_ids_no_store_made_are_ids_of_no_session(run: Run) -> None:
    made = run(STORE.create("ann"))
    bad: list[Any] = [None, "", "x", 7, b"x", [], "\ud800", "é" * 66, made.id + "\n", made.id[:-1]]
    bad += [made.id.upper(), made.id.encode(), "a" * 10_000_000, "." * 66, "\0" + made.id]
    for sid in bad:
        assert run(STORE.read(sid)) is None
        assert run(STORE.update(sid, a=1)) is None
        assert run(STORE.rotate(sid)) is None
        assert run(STORE.destroy(sid)) is False
    assert len(keys(run.kv)) == 1  # type: ignore[attr-defined]


def test_the_same_op_run_again_is_the_same_session(run: Run) -> None:
    create = STORE.create("ann", {"a": 1})
    first = run(create)
    assert run(create) == first
    rotate = STORE.rotate(first.id)
    second = run(rotate)
    assert run(rotate) == second
    assert len(run(STORE.list("ann"))) == 1
    update = STORE.update(second.id, a=2)
    assert run(update).data == run(update).data == {"a": 2}
    run(STORE.destroy(second.id))
    assert run(rotate) is None
    assert run(update) is None


def test_data_over_the_limit_is_refused_and_nothing_is_written(run: Run) -> None:
    store = SessionStore(max_bytes=100)
    sid = run(store.create("u", {"a": "x" * 50})).id
    with pytest.raises(SessionTooLarge) as refused:
        run.kv.run(store.update(sid, b="y" * 50))  # type: ignore[attr-defined]
    # "u" as JSON 3, names 3 + 3, values 52 + 52
    assert (refused.value.size, refused.value.limit) == (113, 100)
    assert run(store.read(sid)).data == {"a": "x" * 50}
    for _ in range(3):  # what is replaced no longer counts
        assert run(store.update(sid, a=REMOVE, b="y" * 80)).data == {"b": "y" * 80}


def seen_earlier(kv: Kv, session: Session, seconds: int, *, over: bool = False) -> None:
    """Write into the session's record that it was seen earlier, or that its time is over."""
    (key,) = keys(kv)
    created, seen, expires, rest = kv.client.hget(key, f"m:{session.handle}").split(b" ", 3)
    earlier = b"%d" % (int(seen) - seconds * 1000)
    record = b" ".join((created, earlier, created if over else expires, rest))
    kv.client.hset(key, f"m:{session.handle}", record)


def test_the_list_begins_with_the_session_seen_last(kv: Kv) -> None:
    made = [kv.run(STORE.create("ann")) for _ in range(3)]
    for session, seconds in zip(made, (20, 60, 40), strict=True):
        seen_earlier(kv, session, seconds)
    listed = [session.handle for session in kv.run(STORE.list("ann"))]
    assert listed == [made[i].handle for i in (0, 2, 1)]


def test_the_user_with_too_many_sessions_loses_the_one_seen_longest_ago(kv: Kv) -> None:
    store = SessionStore(per_user=3)
    made = [kv.run(store.create("ann")) for _ in range(3)]
    for session, seconds in zip(made, (300, 200, 100), strict=True):
        seen_earlier(kv, session, seconds)
    kv.run(store.read(made[0].id))  # seen just now
    fourth = kv.run(store.create("ann"))
    assert [kv.run(store.read(s.id)) is None for s in made] == [False, True, False]
    assert kv.run(store.read(fourth.id)) is not None


# --- arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"x": float("nan")},
        {"x": float("inf")},
        {"x": {1: 2}},
        {"x": (1, 2)},
        {"x": {1, 2}},
        {"x": b"bytes"},
        {"x": REMOVE},
        {"x": [REMOVE]},
        {"x": 10**5000},
        {1: "x"},
        {None: "x"},
        ["x"],
        "text",
        0,
    ],
)
def test_only_json_values_are_data(bad: Any) -> None:
    with pytest.raises(InvalidArgument):
        STORE.create("ann", bad)
    with pytest.raises(InvalidArgument):
        STORE.update("x", {"deep": [bad]} if bad == {"x": REMOVE} else {"y": 1, "z": object()})


def test_a_cycle_and_a_deep_list_are_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for bad in (cycle, deep):
        with pytest.raises(InvalidArgument):
            STORE.create("ann", {"x": bad})


@pytest.mark.parametrize(
    "settings",
    [
        {"idle": 0},
        {"idle": -1},
        {"idle": float("nan")},
        {"idle": float("inf")},
        {"idle": True},
        {"idle": "60"},
        {"idle": 100, "absolute": 99},
        {"absolute": 10**12},
        {"max_bytes": 0},
        {"max_bytes": 1.5},
        {"per_user": 0},
        {"per_user": 1001},
        {"per_user": True},
        {"pepper": "text"},
        {"name": None},
        {"name": 1.5},
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        SessionStore(**settings)


@pytest.mark.parametrize("user", [True, 1.5, b"ann", ["ann"], float("nan")])
def test_bad_users_are_refused(user: Any) -> None:
    for make in (STORE.create, STORE.list, STORE.destroy_all):
        with pytest.raises(InvalidArgument):
            make(user)


@pytest.mark.parametrize("handle", ["", "x", "m:1", None, "A" * 64, "a" * 64 + "\n"])
def test_bad_handles_are_refused(handle: Any) -> None:
    with pytest.raises(InvalidArgument):
        STORE.destroy_listed("ann", handle)


USERS = ["", " ", "a:b", "a{b}c", "{", "}", "\0", "a\nb", "\ud800", "é", "~", "%7E", "a" * 300]


def test_no_two_users_or_stores_share_a_session(kv: Kv) -> None:
    stores = [SessionStore(), SessionStore("admin"), SessionStore("sessions:x"), SessionStore("x{")]
    stores.append(SessionStore(pepper=b"secret"))
    made = {(s, u): kv.run(s.create(u)) for s in stores for u in USERS}
    assert len(keys(kv)) == len(made)
    for (store, user), session in made.items():
        assert [s.handle for s in kv.run(store.list(user))] == [session.handle]
        assert kv.run(store.read(session.id)).user == user
    admin, plain = stores[1], made[stores[0], "é"]
    assert kv.run(admin.read(plain.id)) is None


def test_a_huge_user_has_a_short_key_and_counts_as_data(kv: Kv) -> None:
    huge = "u" * 10_000_000
    with pytest.raises(SessionTooLarge):
        STORE.create(huge)
    assert kv.run(STORE.list(huge)) == []
    assert len(STORE.list(huge).keys[0].name) < 100


def test_an_int_and_its_digits_are_one_user(kv: Kv) -> None:
    a, b = kv.run(STORE.create(7), STORE.create("7"))
    assert (a.user, b.user) == (7, "7")
    assert {s.handle for s in kv.run(STORE.list(7))} == {a.handle, b.handle}


# --- ids -----------------------------------------------------------------------------------


def forged(good: list[str], n: int, seed: int) -> Iterator[str]:
    """Ids that no store made: random ones, and good ones damaged in each way."""
    draw = random.Random(seed)
    letters = string.ascii_letters + string.digits + "-_"

    def other(s: str, at: int) -> str:
        return s[:at] + draw.choice(letters.replace(s[at], "")) + s[at + 1 :]

    damage: list[Callable[[str], str]] = [
        lambda s: s[:23] + "".join(draw.choices(letters, k=43)),  # the right user, a guess
        lambda s: other(s, draw.randrange(23, 66)),  # one character off
        lambda s: other(s, draw.randrange(0, 22)),  # another user's tag
        lambda s: s[: draw.randrange(66)],
        lambda s: s + "".join(draw.choices(letters, k=draw.randrange(1, 500))),
        lambda s: s[: (at := draw.randrange(66))] + "\0" + s[at:],
        lambda s: s[:65] + "\0",
        lambda s: (
            s[: (at := draw.randrange(66))] + draw.choice("é{}*?\n\r:%/+=\u0661") + s[at + 1 :]
        ),
        lambda s: s.swapcase(),
        lambda s: hashlib.sha256(s.encode()).hexdigest(),  # what a dump of the keys shows
    ]
    for i in range(n):
        yield damage[i % len(damage)](good[i % 7])


def test_of_20_000_forged_ids_none_is_let_in(kv: Kv) -> None:
    good = [kv.run(STORE.create(f"user{i}")).id for i in range(7)]
    ids = list(forged(good, 20_000, seed=4))
    assert not set(ids) & set(good)
    admitted = 0
    for start in range(0, len(ids), 10_000):
        found = kv.run([STORE.read(sid) for sid in ids[start : start + 10_000]])
        admitted += sum(session is not None for session in found)
    assert admitted == 0
    assert all(kv.run([STORE.read(sid) for sid in good]))  # the control: these are let in
    assert len(keys(kv)) == 7


def test_a_dump_of_the_server_lets_nobody_in(kv: Kv) -> None:
    """Every text in the keyspace, tried as an id, with the tag and without."""
    session = kv.run(STORE.create("ann", {"a": 1}))
    (key,) = keys(kv)
    words = {key, *itertools.chain(*kv.client.hgetall(key).items())}
    tag, secret = session.id.split(".")
    assert not any(secret.encode() in word for word in words)
    pieces = {p for word in words for p in word.decode().replace("m:", " ").split()}
    for piece in pieces:
        assert kv.run(STORE.read(piece)) is None
        assert kv.run(STORE.read(f"{tag}.{piece}")) is None
        assert kv.run(STORE.read(f"{tag}.{piece[:43]}")) is None


def test_neither_repr_nor_the_wire_shows_the_id(kv: Kv) -> None:
    create = STORE.create("ann")
    session = kv.run(create)
    secret = session.id.split(".")[1]
    ops = [create, STORE.read(session.id), STORE.update(session.id, a=1)]
    ops += [STORE.rotate(session.id), STORE.destroy(session.id)]
    shown = [repr(session)] + [f"{op!r} {op}" for op in ops]
    with pytest.raises(InvalidArgument) as refused:
        STORE.destroy_listed("ann", session.id)  # for its handle
    shown.append(str(refused.value))
    assert not any(secret in text for text in shown)
    assert f"{session.handle}" in str(STORE.read(session.id))


def test_ids_differ_and_say_whose_they_are_only_to_a_guess() -> None:
    tags = [STORE.create("ann").args[0] for _ in range(3)]
    assert len(set(tags)) == 1
    peppered = SessionStore(idle=100.5, absolute=1000.25, pepper=b"secret")
    assert peppered.create("ann").args[0] != tags[0]
    tag_of = [SessionStore(name).create("ann").keys[0].name.split("{")[1] for name in ("a", "b")]
    assert tag_of[0] != tag_of[1]  # cookies of two stores are not linked
    assert len({STORE.create(None).args[0] for _ in range(100)}) == 100
    assert len({STORE.create("ann").args[1] for _ in range(1000)}) == 1000


# --- the seed's faults, and threads --------------------------------------------------------


def test_read_all_the_time_the_seed_lives_for_ever(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    naive = NaiveSessions(kv.client, ttl=100, prefix=kv.prefix)
    old = [naive.create(user) for user in range(RUNS)]
    new = [s.id for s in kv.run([STORE.create(user) for user in range(RUNS)])]
    for _ in range(19):
        clock.step(50)
        assert sum(naive.read(sid) is not None for sid in old) == RUNS
        assert sum(s is not None for s in kv.run([STORE.read(sid) for sid in new])) == RUNS
    clock.step(51)  # 1001 s, the absolute timeout is 1000.25
    assert sum(naive.read(sid) is not None for sid in old) == RUNS
    assert sum(s is not None for s in kv.run([STORE.read(sid) for sid in new])) == 0
    clock.step(2)
    assert len(keys(kv)) == RUNS  # the seed's; ours have expired by themselves


def test_the_seed_never_notes_when_it_was_seen(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    naive = NaiveSessions(kv.client, prefix=kv.prefix)
    sid, session = naive.create(1), kv.run(STORE.create(1))
    clock.step(10)
    found = naive.read(sid)
    assert found is not None
    assert found["lastActivity"] == found["createdAt"]
    assert kv.run(STORE.read(session.id)).last_seen == pytest.approx(session.created + 10, abs=0.01)


def test_updates_by_forty_threads_all_stay(kv: Kv) -> None:
    sid = kv.run(STORE.create("ann")).id
    barrier = threading.Barrier(40)

    def write(i: int) -> None:
        barrier.wait()
        for j in range(5):
            kv.run(STORE.update(sid, {f"{i}.{j}": i}))

    threads = [threading.Thread(target=write, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"{i}.{j}": i for i in range(40) for j in range(5)}
    assert kv.run(STORE.read(sid)).data == expected


def test_an_id_planted_before_login_is_worth_nothing_after(kv: Kv) -> None:
    naive = NaiveSessions(kv.client, prefix=kv.prefix)
    taken_over = {"naive": 0, "hardened": 0}
    for user in range(RUNS):
        planted = naive.create(None)
        naive.update(planted, userId=user)  # the victim logs in with it
        taken_over["naive"] += (naive.read(planted) or {}).get("userId") == user

        planted = kv.run(STORE.create(None)).id
        before = kv.round_trips
        ended, session = kv.run(STORE.destroy(planted), STORE.create(user), atomic=True)
        assert kv.round_trips - before == 1
        assert (ended, session.user) == (True, user)
        taken_over["hardened"] += kv.run(STORE.read(planted)) is not None
    assert taken_over == {"naive": RUNS, "hardened": 0}


def test_the_id_before_a_rotation_is_worth_nothing_after(kv: Kv) -> None:
    ids = [s.id for s in kv.run([STORE.create(user) for user in range(RUNS)])]
    assert all(kv.run([STORE.rotate(sid) for sid in ids]))
    assert sum(s is not None for s in kv.run([STORE.read(sid) for sid in ids])) == 0


def test_a_log_out_reaches_over_a_rotation_for_a_minute(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    for seconds, ended in ((59.999, True), (60, False)):
        old = kv.run(STORE.create("ann"))
        new = kv.run(STORE.rotate(old.id))
        clock.step(seconds)
        assert kv.run(STORE.destroy(old.id)) is ended
        assert (kv.run(STORE.read(new.id)) is None) is ended


def test_what_a_session_remembers_of_its_rotations_is_bounded(kv: Kv) -> None:
    store = SessionStore(max_bytes=20)
    ids = [kv.run(store.create("ann", {"a": "x" * 10})).id]  # 5 + 3 + 12 bytes
    for _ in range(30):
        ids.append(kv.run(store.rotate(ids[-1])).id)
    (key,) = keys(kv)
    assert sum(map(len, kv.client.hgetall(key).values())) < 1000
    assert kv.run(store.update(ids[-1], a="y" * 10)).data == {"a": "y" * 10}  # no data of the user
    assert kv.run(store.destroy(ids[-12])) is False
    assert kv.run(store.destroy(ids[-11])) is True
    assert keys(kv) == []


# --- a new pepper --------------------------------------------------------------------------

OLD, OTHER = SessionStore(pepper=b"1"), SessionStore()
NEW = SessionStore(pepper=b"2", old_peppers=(b"1", b"", b"2"))


def test_sessions_of_old_peppers_are_seen_and_ended_with_the_others(run: Run) -> None:
    kv: Kv = run.kv  # type: ignore[attr-defined]
    if on_cluster(kv):  # the sessions of one user lie in as many slots as there are peppers
        with pytest.raises(InvalidArgument, match="one hash slot"):
            run(NEW.list("ann"))
        return
    made = [run(store.create("ann")) for store in (OTHER, OLD, NEW)]
    assert len(keys(kv)) == 3
    assert {s.handle for s in run(NEW.list("ann"))} == {s.handle for s in made}
    assert [run(NEW.read(s.id)).id for s in made] == [s.id for s in made]
    assert run(NEW.destroy_listed("ann", made[1].handle)) is True
    rotated = run(NEW.rotate(made[0].id))
    assert rotated.deadline == made[0].deadline
    assert run(NEW.destroy_all("bob")) == 0  # the script is loaded
    before = kv.round_trips
    assert run(NEW.destroy_all("ann")) == 2
    assert kv.round_trips - before in (0, 1)  # AsyncKv counts for itself
    assert [run(NEW.read(s.id)) for s in (*made, rotated)] == [None] * 4
    assert keys(kv) == []


def test_a_pepper_that_is_not_named_hides_its_sessions(kv: Kv) -> None:
    session = kv.run(OLD.create("ann"))
    unnamed = replace(NEW, old_peppers=())
    assert (kv.run(unnamed.list("ann")), kv.run(unnamed.destroy_all("ann"))) == ([], 0)
    assert kv.run(unnamed.read(session.id)).user == "ann"


def test_the_most_sessions_of_a_user_count_under_all_peppers(kv: Kv) -> None:
    one = replace(NEW, per_user=1)
    old = [kv.run(store.create("ann")) for store in (OTHER, OLD)]
    new = kv.run(one.create("ann"))
    assert [s.handle for s in kv.run(one.list("ann"))] == [new.handle]
    assert [kv.run(one.read(s.id)) for s in old] == [None, None]
    anonymous = [kv.run(one.create(None)) for _ in range(2)]
    assert all(kv.run(one.read(s.id)) for s in anonymous)


@pytest.mark.parametrize("by", ["create", "list"])
def test_the_dead_of_an_old_pepper_are_removed(kv: Kv, by: str) -> None:
    seen_earlier(kv, kv.run(OLD.create("ann")), 0, over=True)
    kv.run(getattr(NEW, by)("ann"))
    assert len(keys(kv)) == len(kv.run(NEW.list("ann"))) == (1 if by == "create" else 0)


@pytest.mark.parametrize("bad", [b"1", "1", 5, None, ["1"], [b"1", 2]])
def test_old_peppers_are_bytes_and_no_error_shows_them(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"pepper[s]? must be (bytes|an iterable of bytes)"):
        SessionStore(old_peppers=bad)
    assert "secret" not in repr(SessionStore(pepper=b"secret", old_peppers=[b"old secret"]))


# --- the server's side: time, memory, faults -----------------------------------------------


@pytest.mark.parametrize("touch", ["read", "update", "rotate"])
def test_idle_slides_and_never_past_the_absolute_timeout(
    stepped: tuple[Kv, SteppedClock], touch: str
) -> None:
    kv, clock = stepped
    session = first = kv.run(STORE.create("ann"))
    assert session.max_age == 101
    for _ in range(10):
        clock.step(95)
        session = kv.run(getattr(STORE, touch)(session.id))
        assert session.expires <= session.deadline == first.deadline
    assert session.max_age == 51  # 950 s after it began
    clock.step(50)
    session = kv.run(getattr(STORE, touch)(session.id))
    assert session is not None
    clock.step(0.3)
    assert kv.run(STORE.read(session.id)) is None


@pytest.mark.parametrize("touch", ["read", "update", "rotate"])
def test_each_use_slides_the_idle_timeout_and_listing_does_not(
    stepped: tuple[Kv, SteppedClock], touch: str
) -> None:
    kv, clock = stepped
    used, listed = kv.run(STORE.create("ann")), kv.run(STORE.create("bob"))
    clock.step(60)
    used = kv.run(getattr(STORE, touch)(used.id))
    kv.run(STORE.list("bob"))
    clock.step(60)
    assert kv.run(STORE.read(used.id)) is not None
    assert kv.run(STORE.read(listed.id)) is None


@pytest.mark.parametrize("way", ["read", "update", "rotate", "destroy"])
def test_a_session_that_timed_out_is_over_while_its_neighbour_keeps_the_key(
    stepped: tuple[Kv, SteppedClock], way: str
) -> None:
    kv, clock = stepped
    gone = kv.run(STORE.create("ann"))
    clock.step(60)
    neighbour = kv.run(STORE.create("ann"))
    clock.step(60)
    assert kv.run(getattr(STORE, way)(gone.id)) in (None, False)
    assert kv.run(STORE.read(gone.id)) is None
    assert [s.handle for s in kv.run(STORE.list("ann"))] == [neighbour.handle]
    assert kv.run(STORE.destroy_all("ann")) == 1


def test_destroy_all_counts_the_living(stepped: tuple[Kv, SteppedClock]) -> None:
    kv, clock = stepped
    kv.run(STORE.create("ann"))
    clock.step(60)
    kv.run(STORE.create("ann"))
    clock.step(60)
    assert kv.run(STORE.destroy_all("ann")) == 1


@pytest.mark.parametrize("by", ["create", "list"])
def test_the_dead_are_removed(stepped: tuple[Kv, SteppedClock], by: str) -> None:
    kv, clock = stepped
    for _ in range(5):
        kv.run(STORE.create("ann", {"a": 1}))
    (key,) = keys(kv)
    clock.step(60)
    kv.run(STORE.create("ann"))
    assert kv.client.hlen(key) == 12
    clock.step(60)
    kv.run(getattr(STORE, by)("ann"))
    assert kv.client.hlen(key) == (4 if by == "create" else 2)


def test_every_key_has_a_ttl_that_outlasts_its_sessions(kv: Kv) -> None:
    long, short = STORE, SessionStore(idle=10, absolute=10)
    session = kv.run(long.create("ann"))
    (key,) = keys(kv)

    def expires(session: Session) -> bool:
        return bool(kv.client.pexpiretime(key) == round(session.expires * 1000) + 1000)

    assert expires(session)
    kv.run(short.create("ann"))  # shortens nothing
    assert expires(session)
    for op in (
        long.read(session.id),
        long.update(session.id, a=1),
        long.rotate(session.id),
        long.create("ann"),
    ):
        kv.client.persist(key)
        assert expires(kv.run(op))


def test_a_lost_key_logs_the_user_out_and_nothing_more(kv: Kv) -> None:
    session = kv.run(STORE.create("ann"))
    kv.client.delete(*keys(kv))  # evicted
    assert kv.run(STORE.read(session.id)) is None
    assert kv.run(STORE.update(session.id, a=1)) is None
    assert kv.run(STORE.list("ann")) == []
    again = kv.run(STORE.create("ann"))
    assert [s.handle for s in kv.run(STORE.list("ann"))] == [again.handle]


def test_every_op_is_one_round_trip_on_one_key(kv: Kv) -> None:
    sid = kv.run(STORE.create("ann")).id
    make: list[Callable[[], Op[Any]]] = [
        lambda: STORE.create("ann"),
        lambda: STORE.read(sid),
        lambda: STORE.read("garbage"),
        lambda: STORE.update(sid, a=1),
        lambda: STORE.list("ann"),
        lambda: STORE.rotate(sid),
        lambda: STORE.destroy(sid),
        lambda: STORE.destroy_listed("ann", "0" * 64),
        lambda: STORE.destroy_all("ann"),
    ]
    for warm in make:
        kv.run(warm())
    sid = kv.run(STORE.create("ann")).id
    for op in (each() for each in make):
        before = kv.round_trips
        kv.run(op)
        assert kv.round_trips - before == 1
        (key,) = op.keys
        assert key.name.count("{") == key.name.count("}") == 1
        assert op.idempotent


def test_scripts_flushed_in_between_change_nothing(any_kv: Kv) -> None:
    made = any_kv.run(STORE.create("ann", {"a": 1}))
    any_kv.client.script_flush()
    assert any_kv.run(STORE.update(made.id, b=2)).data == {"a": 1, "b": 2}
    any_kv.client.script_flush()
    ended, session = any_kv.run(STORE.destroy(made.id), STORE.create("ann"), atomic=True)
    assert (ended, [s.handle for s in any_kv.run(STORE.list("ann"))]) == (True, [session.handle])


def test_server_down_nobody_is_in(kv: Kv, server: RunningServer) -> None:
    sid = kv.run(STORE.create("ann")).id
    with Proxy(server.url) as proxy:
        client = redis.Redis.from_url(proxy.url)
        with Kv(client, prefix=kv.prefix, timeout=1, deadline=1) as through:
            assert through.run(STORE.read(sid)) is not None
            proxy.refuse()
            proxy.cut()
            assert through.run(STORE.read(sid)) is None
            for op in (
                STORE.read(sid, strict=True),
                STORE.create("ann"),
                STORE.update(sid, a=1),
                STORE.rotate(sid),
                STORE.destroy(sid),
                STORE.destroy_all("ann"),
                STORE.list("ann"),
            ):
                with pytest.raises(ServerUnavailable):
                    through.run(op)
        client.close()


def test_a_key_of_another_type_is_an_error_and_lets_nobody_in(any_kv: Kv) -> None:
    op = STORE.create("ann")
    sid = any_kv.run(op).id
    any_kv.run(Op("SET", op.keys[0], "x"))
    for each in (STORE.read(sid), STORE.create("ann"), STORE.update(sid, a=1), STORE.list("ann")):
        with pytest.raises(ServerRefused) as refused:
            any_kv.run(each)
        assert "WRONGTYPE" in str(refused.value)


@pytest.mark.parametrize("engine", ["valkey", "redis-6.2", "redis"])
def test_a_full_server_still_knows_who_is_in(
    running: Callable[[str], RunningServer], engine: str
) -> None:
    server = running(engine)
    client = server.client()
    with Kv(client, prefix="full") as kv:
        session = kv.run(STORE.create("ann", {"a": 1}))
        kv.run(STORE.update(None), STORE.read(None))
        client.config_set("maxmemory", 1)
        try:
            found = kv.run(STORE.read(session.id))
            with pytest.raises(ServerRefused) as refused:
                kv.run(STORE.update(session.id, b=1))
            with pytest.raises(ServerRefused):
                kv.run(STORE.create("ann"))
            ended = kv.run(STORE.destroy(session.id))
        finally:
            client.config_set("maxmemory", 0)
        assert "OOM" in str(refused.value)
        assert found is not None
        assert (found.data, found.expires) == ({"a": 1}, session.expires)
        assert ended is True
    client.close()


# --- against a model -----------------------------------------------------------------------


SHORT = SessionStore(idle=100.5, absolute=250.25)


class Model(RuleBasedStateMachine):
    """The store beside a dictionary: sid -> what a session is. Times are those of the clock."""

    kv: Kv
    clock: SteppedClock
    steps = 0
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, dict[str, Any]] = {}
        self.dead: set[str] = set()

    @initialize()
    def begin(self) -> None:
        type(self).kv.clear()

    def alive(self, sid: str) -> dict[str, Any] | None:
        found = self.sessions.get(sid)
        return found if found and self.clock.now < found["expires"] else None

    def use(self, sid: str) -> dict[str, Any] | None:
        found = self.alive(sid)
        if found:
            found["seen"] = self.clock.now
            found["expires"] = min(self.clock.now + SHORT.idle, found["deadline"])
        return found

    def same(self, got: Session | None, want: dict[str, Any] | None) -> None:
        type(self).steps += 1
        if want is None or got is None:
            assert got is None
            assert want is None
            return
        assert (got.user, got.data) == (want["user"], want["data"])
        times = (got.created, got.last_seen, got.expires, got.deadline)
        wanted = [want[name] for name in ("created", "seen", "expires", "deadline")]
        assert times == pytest.approx(wanted, abs=0.02)

    fields = st.dictionaries(
        st.sampled_from(["a", "b", "", "1"]),
        st.sampled_from([None, 0, [], {}, "x", {"n": [1.5]}]),
        max_size=3,
    )

    @rule(target=ids, user=st.sampled_from(["ann", "bob", None, 7]), data=fields)
    def create(self, user: Any, data: Any) -> str:
        got = self.kv.run(SHORT.create(user, data))
        now = self.clock.now
        times = {"created": now, "seen": now, "expires": now + SHORT.idle}
        self.sessions[got.id] = {"user": user, "data": data, "was": [], **times}
        self.sessions[got.id]["deadline"] = now + SHORT.absolute
        self.same(got, self.alive(got.id))
        return got.id

    @rule(sid=ids)
    def read(self, sid: str) -> None:
        self.same(self.kv.run(SHORT.read(sid)), self.use(sid))

    @rule(sid=ids, changes=fields, removed=st.sets(st.sampled_from(["a", "b", "1"]), max_size=2))
    def update(self, sid: str, changes: Any, removed: Any) -> None:
        got = self.kv.run(SHORT.update(sid, {**changes, **dict.fromkeys(removed, REMOVE)}))
        want = self.use(sid)
        if want:
            merged = {**want["data"], **changes}
            want["data"] = {k: v for k, v in merged.items() if k not in removed}
        self.same(got, want)

    @rule(target=ids, sid=ids)
    def rotate(self, sid: str) -> Any:
        got = self.kv.run(SHORT.rotate(sid))
        want = self.use(sid)
        self.same(got, want)
        if got is None or want is None:
            return multiple()
        self.sessions[got.id] = self.sessions.pop(sid)
        was = [(old, reach) for old, reach in want["was"] if self.clock.now < reach]
        want["was"] = [*was[-9:], (sid, self.clock.now + 59.5)]  # time passes in whole seconds
        self.dead.add(sid)
        return got.id

    def named(self, sid: str) -> str:
        """The id of the session that a log-out by ``sid`` ends."""
        for now, session in self.sessions.items():
            if any(old == sid and self.clock.now < reach for old, reach in session["was"]):
                return now
        return sid

    @rule(given=consumes(ids))
    def destroy(self, given: str) -> None:
        sid = self.named(given)
        alive = self.alive(sid) is not None
        assert self.kv.run(SHORT.destroy(given)) is alive
        self.sessions.pop(sid, None)
        self.dead.update((given, sid))

    @rule(user=st.sampled_from(["ann", "bob", 7]))
    def destroy_all(self, user: Any) -> None:
        mine = [sid for sid, s in self.sessions.items() if s["user"] == user]
        assert self.kv.run(SHORT.destroy_all(user)) == sum(self.alive(s) is not None for s in mine)
        for sid in mine:
            del self.sessions[sid]
            self.dead.add(sid)

    @rule(user=st.sampled_from(["ann", "bob", 7, "nobody"]))
    def list(self, user: Any) -> None:
        listed = {s.handle: s.last_seen for s in self.kv.run(SHORT.list(user))}
        want = {
            hashlib.sha256(sid.encode()).hexdigest(): s["seen"]
            for sid, s in self.sessions.items()
            if s["user"] == user and self.alive(sid)
        }
        assert listed == pytest.approx(want, abs=0.02)

    # Whole seconds never meet 100.5 or 250.25.
    @rule(seconds=st.sampled_from([1, 20, 50, 70, 101]))
    def time_passes(self, seconds: int) -> None:
        self.clock.step(seconds)

    @invariant()
    def the_dead_stay_dead_and_every_key_expires(self) -> None:
        type(self).steps += 1
        if self.dead:
            assert self.kv.run([SHORT.read(sid) for sid in self.dead]) == [None] * len(self.dead)
        for key in keys(self.kv):
            assert self.kv.client.pttl(key) > 0


def test_the_store_does_what_its_model_does(stepped: tuple[Kv, SteppedClock]) -> None:
    machine = type("Sessions", (Model,), {"kv": stepped[0], "clock": stepped[1], "steps": 0})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert machine.steps > 3000


# --- the cookie ----------------------------------------------------------------------------

COOKIE = SessionCookie()


def test_the_cookie_says_what_keeps_it_safe(kv: Kv) -> None:
    session = kv.run(STORE.create("ann"))
    assert COOKIE.header(session) == (
        f"__Host-session={session.id}; Max-Age=101; Path=/; Secure; HttpOnly; SameSite=Lax"
    )
    old = replace(session, created=0, last_seen=950, expires=1000.25, deadline=1000.25)
    assert "; Max-Age=51;" in COOKIE.header(old)
    assert COOKIE.expired() == (
        "__Host-session=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"
    )
    strict = SessionCookie("__Host-x", "Strict")
    assert strict.header(session).endswith("SameSite=Strict")


@pytest.mark.parametrize(
    ("header", "sid"),
    [
        (None, None),
        ("", None),
        (b"", None),
        ("__Host-session=abc.def", "abc.def"),
        (b"__Host-session=abc.def", "abc.def"),
        ("a=b; __Host-session=abc; c=d", "abc"),
        ("a=b;__Host-session=abc;c=d", "abc"),
        ("__Host-session=a=b==", "a=b=="),
        ("__Host-session=", None),
        ("__Host-session", None),
        ("session=abc", None),
        ("x__Host-session=abc", None),
        ("__host-session=abc", None),
        ("__Host-session=abc; __Host-session=abc", "abc"),
        ("__Host-session=abc; __Host-session=evil", None),
        ("broken; =; ;;; __Host-session=abc", "abc"),
        (b'\xff=\x00; bad="; __Host-session=abc', "abc"),
    ],
)
def test_parsing_a_cookie_header(header: str | bytes | None, sid: str | None) -> None:
    assert COOKIE.parse(header) == sid


def test_the_cookie_there_and_back(kv: Kv) -> None:
    session = kv.run(STORE.create("ann"))
    pair = COOKIE.header(session).split(";")[0]
    assert COOKIE.parse(f"theme=dark; {pair}") == session.id
    assert kv.run(STORE.read(COOKIE.parse(COOKIE.expired()))) is None


@pytest.mark.parametrize("bad", ["session", "__Secure-x", "__Host-", "__Host-a b", "__Host-a;b", 1])
def test_bad_cookie_names_are_refused(bad: Any) -> None:
    with pytest.raises(InvalidArgument):
        SessionCookie(bad)


def test_a_cookie_is_never_made_of_what_is_no_id() -> None:
    with pytest.raises(InvalidArgument):
        SessionCookie(same_site="None")  # type: ignore[arg-type]
    session = Session("x; Domain=evil", None, {}, 0, 0, 1, 1)
    with pytest.raises(InvalidArgument):
        COOKIE.header(session)
