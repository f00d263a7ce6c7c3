"""Two requests at one session, in every order: a log-out, writes, a login, and a look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvlab import Kv, SessionStore
from kvlab.instruments.explorer.explore import Story, World, explore
from kvlab.instruments.explorer.run.settings import Faults

OnClient = Callable[[Any], Any]
"""Sessions on a client: ``NaiveSessions`` or ``HardenedSessions``."""


class HardenedSessions:
    """``SessionStore`` behind the calls of ``NaiveSessions``, so that one request fits both.

    ``client``: a redis-py client, or the client of an exploration, which also runs ops.
    """

    def __init__(self, client: Any, prefix: str = "") -> None:
        self._store = SessionStore()
        self._run = client.run if hasattr(client, "run") else Kv(client, prefix=prefix).run

    def create(self, user: int) -> str:
        return str(self._run(self._store.create(user)).id)

    def read(self, sid: str) -> Any:
        session = self._run(self._store.read(sid))
        return None if session is None else session.data

    def update(self, sid: str, **fields: Any) -> Any:
        session = self._run(self._store.update(sid, **fields))
        return None if session is None else session.data

    def destroy(self, sid: str) -> None:
        self._run(self._store.destroy(sid))


def log_out_beside_slow_write(sessions: OnClient, faults: Faults) -> Story:
    """A log-out beside a write of the same session: the user must be out at the end."""
    race = _Race(sessions)
    return explore(
        {"write": race.write_a, "log out": race.log_out},
        setup=race.log_in,
        invariant=race.user_is_out,
        faults=faults,
        progress=False,
    )


def two_writers(sessions: OnClient, faults: Faults) -> Story:
    """Two requests write one field each: both fields must be there at the end."""
    race = _Race(sessions)
    return explore(
        {"write a": race.write_a, "write b": race.write_b},
        setup=race.log_in,
        invariant=race.both_fields_are_there,
        faults=faults,
        progress=False,
    )


def login_beside_look(
    store: SessionStore, log_in: Callable[[Any, str], object], faults: Faults
) -> Story:
    """A login of user 7 beside a look at all sessions of the browser and of user 7.

    ``log_in(kv, old_id)`` must end the anonymous session that the browser came with and begin
    another: the look must find exactly one of the two alive.
    """
    login = _Login(store, log_in)
    return explore(
        {"login": login.log_in, "look": login.look},
        setup=login.arrive,
        invariant=login.one_is_alive,
        faults=faults,
        progress=False,
    )


def write_beside_leave(write: Callable[[Any], object], leave: Callable[[Any], object]) -> Story:
    """The two functions beside each other, at a session that is the hash ``s``.

    The session must be gone at the end, also when one of the two crashes.
    """
    return explore(
        {write.__name__: write, leave.__name__: leave},
        setup=_begin,
        invariant=_is_gone,
        crashes=True,
        progress=False,
    )


class _Race:
    """The requests of one race. ``sid`` is the session of the present run."""

    def __init__(self, sessions: OnClient) -> None:
        self._sessions = sessions
        self.sid = ""

    def log_in(self, kv: Any) -> None:
        self.sid = self._sessions(kv).create(user=7)

    def write_a(self, kv: Any) -> object:
        """reads the session, works, and writes field a"""
        return self._sessions(kv).update(self.sid, a=1)

    def write_b(self, kv: Any) -> object:
        """reads the session, works, and writes field b"""
        return self._sessions(kv).update(self.sid, b=2)

    def log_out(self, kv: Any) -> None:
        """the user logs out"""
        self._sessions(kv).destroy(self.sid)

    def user_is_out(self, world: World) -> bool:
        """the user is out"""
        return self._sessions(world.kv).read(self.sid) is None

    def both_fields_are_there(self, world: World) -> bool:
        """both fields are there"""
        fields: dict[str, Any] = self._sessions(world.kv).read(self.sid)
        return {"a", "b"} <= fields.keys()


class _Login:
    """A login and a look. ``old_id`` is the anonymous session of the present run."""

    def __init__(self, store: SessionStore, log_in: Callable[[Any, str], object]) -> None:
        self._store = store
        self._log_in = log_in
        self._anonymous = store.create(None)  # one op, so every run has the same key
        self.old_id = ""

    def arrive(self, kv: Any) -> None:
        self.old_id = kv.run(self._anonymous).id

    def log_in(self, kv: Any) -> object:
        """ends the anonymous session and begins one of user 7"""
        return self._log_in(kv, self.old_id)

    def look(self, kv: Any) -> object:
        """looks at the anonymous session and at the sessions of user 7"""
        return kv.run(self._store.read(self.old_id), self._store.list(7), atomic=True)

    def one_is_alive(self, world: World) -> bool:
        """exactly one of the two sessions is alive"""
        anonymous, of_the_user = world.results[1]
        return (anonymous is not None) != (len(of_the_user) == 1)


def _begin(kv: Any) -> None:
    kv.hset("s", "user", 7)


def _is_gone(world: World) -> bool:
    """the session is gone"""
    return not world.kv.exists("s")
