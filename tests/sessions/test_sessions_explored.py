"""Sessions in every order: each naive flaw is found, and the hardened store has none there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab import NaiveSessions, Script, Session, SessionStore
from kvlab.errors import KvlabError
from kvlab.instruments import ClientCrashed, Story, World, explore, replay

STORE = SessionStore(idle=600, absolute=3600)
DESTROY = Script.load("sessions/destroy")
LOSSES: dict[str, Any] = {
    "lost_replies": True,
    "lost_requests": True,
    "script_flushes": True,
}
ONE_SENDING = {"lost_replies": False}  # a second one is told what the first has done
Program = Callable[[Any], Any]


# --- read, then write -------------------------------------------------------------------------


def logged_in(kv: Any) -> None:
    kv.setex("session:s", 600, json.dumps({"userId": 7}))


def naive_update(**fields: Any) -> Program:
    return lambda kv: NaiveSessions(kv).update("s", **fields)


def naive_log_out(kv: Any) -> None:
    NaiveSessions(kv).destroy("s")


def logged_out(world: World) -> bool:
    """the session that has ended stays ended"""
    return NaiveSessions(world.kv).read("s") is None


def test_naive_a_slow_write_revives_a_logged_out_session() -> None:
    clients = [naive_update(theme="dark"), naive_log_out]
    story = explore(clients, setup=logged_in, invariant=logged_out)
    assert (story.violations, story.schedules) == (2, 4)
    assert story.schedule is not None
    again = replay(story.schedule, clients, setup=logged_in, invariant=logged_out)
    assert again.shortest is not None
    assert again.shortest.results == ({"userId": 7, "theme": "dark"}, None)
    assert not again.holds


def test_naive_a_write_revives_a_session_whose_time_was_up() -> None:
    def gone(world: World) -> bool:
        return not its_time_was_up(world) or logged_out(world)

    story = explore(
        [naive_update(theme="dark")],
        setup=logged_in,
        invariant=gone,
        expiries=True,
    )
    assert story.violations == 2  # after GET, after EXPIRE


def test_naive_a_write_sent_again_revives_what_was_logged_out_after_it() -> None:
    def out_if_logged_out_last(world: World) -> bool:
        names = [step.commands[0][0] for step in world.trace]
        written_first = b"SETEX" in names and names.index(b"SETEX") < names.index(b"DEL")
        return logged_out(world) or not written_first

    scene: dict[str, Any] = {"setup": logged_in, "invariant": out_if_logged_out_last}
    clients = [naive_update(theme="dark"), naive_log_out]
    assert explore(clients, **scene)
    assert not explore(clients, lost_replies=True, **scene).holds


def test_naive_of_two_writers_one_loses_its_field() -> None:
    def both_there(world: World) -> bool:
        found = NaiveSessions(world.kv).read("s")
        return found is not None and {"a", "b"} <= found.keys()

    story = explore([naive_update(a=1), naive_update(b=2)], setup=logged_in, invariant=both_there)
    assert not story.holds
    assert 0 < story.violations < story.schedules == 20


def test_naive_a_lost_reply_to_create_leaves_a_session_that_is_nobodys() -> None:
    def log_in(kv: Any) -> str:
        try:
            return NaiveSessions(kv).create(7)
        except redis.ConnectionError:
            return NaiveSessions(kv).create(7)

    def one_session(world: World) -> bool:
        return world.kv.dbsize() == 1

    unretried = {"retry": Retry(NoBackoff(), 0)}
    losses = {"lost_requests": True, "client_options": unretried}
    assert explore([log_in], invariant=one_session, **losses)
    assert not explore([log_in], invariant=one_session, lost_replies=True, **losses).holds


# --- the hardened store -----------------------------------------------------------------------


class Ann:
    """A user with one session, new in each run: what she does, and who is in afterwards."""

    def __init__(self, store: SessionStore = STORE) -> None:
        self.store = store
        self.sid = ""

    def logs_in(self, kv: Any) -> None:
        self.sid = kv.run(self.store.create("ann", {"cart": 1})).id

    def update(self, kv: Any) -> Session | None:
        return kv.run(self.store.update(self.sid, theme="dark"))

    def read(self, kv: Any) -> Session | None:
        return kv.run(self.store.read(self.sid))

    def rotate(self, kv: Any) -> Session | None:
        return kv.run(self.store.rotate(self.sid))

    def log_out(self, kv: Any) -> bool:
        return kv.run(self.store.destroy(self.sid))

    def log_out_everywhere(self, kv: Any) -> int:
        return kv.run(self.store.destroy_all("ann"))

    def log_in_again(self, kv: Any) -> Session:
        return kv.run(self.store.create("ann"))

    def count(self, kv: Any) -> int:
        return len(kv.run(self.store.list("ann")))

    def alive(self, world: World) -> list[Session]:
        """Which of her id and the ids answered let somebody in; the list must say the same."""
        for result in world.results:
            assert not isinstance(result, KvlabError), "nobody sent it again"
        answered = {result.id for result in world.results if isinstance(result, Session)}
        ids = sorted({self.sid} | answered)
        found = [session for session in world.kv.run(list(map(self.store.read, ids))) if session]
        listed = {session.handle for session in world.kv.run(self.store.list("ann"))}
        assert listed >= {session.handle for session in found}, "in, and not in the list"
        if not any(isinstance(result, ClientCrashed) for result in world.results):
            assert len(listed) == len(found), "in the list, and not in"
        return found


def always(ann: Ann, *clients: Program, so: Callable[[World], object], **more: Any) -> Story:
    """The story of these clients, each beside the others, with all that can be lost."""
    return explore(clients, setup=ann.logs_in, invariant=so, **{**LOSSES, **more})


def its_time_was_up(world: World) -> bool:
    return any(step.kind == "expire" for step in world.trace)


@pytest.mark.parametrize("beside", ["update", "read", "rotate"])
@pytest.mark.parametrize("end", ["log_out", "log_out_everywhere"])
def test_who_logs_out_stays_out(beside: str, end: str) -> None:
    ann = Ann()
    clients = getattr(ann, beside), getattr(ann, end)
    assert always(ann, *clients, so=lambda world: not ann.alive(world), expiries=True)


@pytest.mark.parametrize("rotations", [1, 2])
def test_a_log_out_wins_over_rotations_beside_it(
    rotations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = Ann()

    def rotate(kv: Any) -> Session | None:
        session = kv.run(STORE.rotate(ann.sid))
        for _ in range(rotations - 1):
            session = kv.run(STORE.rotate(session.id)) if session else None
        return session

    def out(world: World) -> bool:
        return not ann.alive(world)

    assert always(ann, rotate, ann.log_out, so=out, expiries=True)
    # The control: a log-out that looks for its own id only.
    deaf = Script("destroy", DESTROY.source.replace("reach and ", "false and "))
    monkeypatch.setattr("kvlab.sessions.store._DESTROY", deaf)
    assert not explore([rotate, ann.log_out], setup=ann.logs_in, invariant=out).holds


@pytest.mark.parametrize("use", ["update", "read", "rotate"])
def test_a_session_whose_time_was_up_stays_gone(use: str) -> None:
    ann = Ann()

    def gone(world: World) -> bool:
        return not (its_time_was_up(world) and ann.alive(world))

    assert always(ann, getattr(ann, use), so=gone, expiries=True, crashes=True, max_faults=2)


def test_both_of_two_updates_stay() -> None:
    ann = Ann()

    def both_there(world: World) -> bool:
        (found,) = ann.alive(world)
        return found.data == {"cart": 1, "theme": "dark", "size": 2}

    def resize(kv: Any) -> Session | None:
        return kv.run(STORE.update(ann.sid, size=2))

    assert always(ann, ann.update, resize, so=both_there)


def test_a_login_beside_a_log_out_everywhere_is_before_it_or_after() -> None:
    ann = Ann()

    def either(world: World) -> bool:
        ended, alive = world.results[0], ann.alive(world)
        return ended + len(alive) == 2

    def old_one_ended(world: World) -> bool:
        return ann.sid not in [session.id for session in ann.alive(world)]

    clients = [ann.log_out_everywhere, ann.log_in_again]
    assert always(ann, *clients, so=either, **ONE_SENDING)
    assert always(ann, *clients, so=old_one_ended, expiries=True)


def test_a_rotation_beside_an_update_loses_nothing() -> None:
    ann = Ann()

    def as_if_one_came_first(world: World) -> bool:
        rotated, updated = world.results
        (found,) = ann.alive(world)
        written = {"theme": "dark"} if updated else {}
        return found.id == rotated.id and found.data == {"cart": 1, **written}

    def one_session(world: World) -> bool:
        return [session.id for session in ann.alive(world)] == [world.results[0].id]

    assert always(ann, ann.rotate, ann.update, so=as_if_one_came_first, **ONE_SENDING)
    assert always(ann, ann.rotate, ann.update, so=one_session)


def test_at_every_moment_of_a_rotation_there_is_one_session() -> None:
    ann = Ann()
    assert always(ann, ann.rotate, ann.count, so=lambda world: world.results[1] == 1)


def test_of_two_rotations_one_wins() -> None:
    ann = Ann()

    def one_wins(world: World) -> bool:
        won = [result.id for result in world.results if isinstance(result, Session)]
        return len(won) == 1 and [session.id for session in ann.alive(world)] == won

    assert always(ann, ann.rotate, ann.rotate, so=one_wins)


def test_a_create_whose_replies_are_lost_makes_one_session() -> None:
    ann = Ann()
    assert always(ann, ann.log_in_again, so=lambda world: len(ann.alive(world)) == 2, max_faults=2)


def test_two_logins_at_once_keep_to_the_most_of_a_user() -> None:
    ann = Ann(SessionStore(idle=600, absolute=3600, per_user=1))

    def one_of_them(world: World) -> bool:
        (found,) = ann.alive(world)
        return found.id != ann.sid

    assert always(ann, ann.log_in_again, ann.log_in_again, so=one_of_them)


def test_before_and_after_a_login_are_never_both_alive() -> None:
    ids: list[str] = []

    def arrives(kv: Any) -> None:
        ids[:] = [kv.run(STORE.create(None)).id]

    def login(kv: Any) -> None:
        kv.run(STORE.destroy(ids[0]), STORE.create("ann"), atomic=True)

    def login_in_two_steps(kv: Any) -> None:
        kv.run(STORE.create("ann"))
        kv.run(STORE.destroy(ids[0]))

    def count(kv: Any) -> int:
        anonymous, of_ann = kv.run(STORE.read(ids[0]), STORE.list("ann"), atomic=True)
        return (anonymous is not None) + len(of_ann)

    def one(world: World) -> bool:
        return world.results[1] == 1

    assert explore([login, count], setup=arrives, invariant=one, **LOSSES)
    assert not explore([login_in_two_steps, count], setup=arrives, invariant=one).holds
