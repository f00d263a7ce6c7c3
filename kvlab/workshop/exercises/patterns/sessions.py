"""Chapter 4: a login, and a change of password."""

from __future__ import annotations

from typing import Any

from kvlab import SessionStore
from kvlab.instruments.explorer.run.steps import World
from kvlab.instruments.explorer.story import Story
from kvlab.instruments.faults.client_gate import ClientCrashed
from kvlab.workshop.exercises.exercise import Exercise, Explore, promise

STORE = SessionStore("exercise", idle=600, absolute=3600)


class Browser:
    """The sessions that a trial begins with; ``begin`` makes them anew for each run."""

    def __init__(self, user: str | None, others: int = 0) -> None:
        self._user, self._others = user, others
        self.mine: Any = None
        self.others: list[str] = []

    def begin(self, kv: Any) -> None:
        made = [kv.run(STORE.create(self._user)).id for _ in range(self._others)]
        self.others = made
        self.mine = kv.run(STORE.create(self._user, {"cart": ["tea"]}))


def _alive(world: World, sid: str) -> Any:
    return world.kv.run(STORE.read(sid))


def _live_sessions(world: World, user: str) -> int:
    return len(world.kv.run(STORE.list(user)))


# --- the short one: login(kv, store, cookie_id, user) ---


@promise("a new id", "login returns a new session of the user")
def new_id(login: Any, explore: Explore) -> Story:
    browser = Browser(None)

    def new(world: World) -> bool:
        session = world.results[0]
        assert session, f"login must return the new session, not {session!r}"
        assert session.user == "ann", f"the session is of {session.user!r}, not of ann"
        assert session.id != browser.mine.id, "the id from before the login is the id after it"
        assert _alive(world, session.id), "the session that login returned does not work"
        return True

    return explore(
        {"browser": lambda kv: login(kv.kv, STORE, browser.mine.id, "ann")},
        setup=browser.begin,
        invariant=new,
    )


@promise("the old id is dead", "the id from before the login does not work after the login")
def old_is_dead(login: Any, explore: Explore) -> Story:
    browser = Browser(None)

    def dead(world: World) -> bool:
        assert not _alive(world, browser.mine.id), "the id from before the login still works"
        return True

    return explore(
        {"browser": lambda kv: login(kv.kv, STORE, browser.mine.id, "ann")},
        setup=browser.begin,
        invariant=dead,
    )


@promise("no known id", "with an unknown id, and without a cookie, the login succeeds")
def no_known_id(login: Any, explore: Explore) -> Story:
    def logs_in(kv: Any) -> list[Any]:
        return [login(kv.kv, STORE, cookie, "bob") for cookie in ("no such id", None)]

    def both(world: World) -> bool:
        for cookie, session in zip(("an unknown id", "no cookie"), world.results[0], strict=True):
            assert session, f"with {cookie}, login returned {session!r}"
            assert session.user == "bob", f"with {cookie}, the session is of {session.user!r}"
        return True

    return explore({"browser": logs_in}, invariant=both)


@promise("one instant", "wherever the web app crashes: the old id works, or the new one does")
def one_instant(login: Any, explore: Explore) -> Story:
    browser = Browser(None)

    def one_of_two(world: World) -> bool:
        old, new = _alive(world, browser.mine.id), _live_sessions(world, "ann")
        assert old or new, "a crash in the middle: the old id is dead and there is no new session"
        assert not (old and new), "a crash in the middle: the old id and a new session are alive"
        return True

    return explore(
        {"browser": lambda kv: login(kv.kv, STORE, browser.mine.id, "ann")},
        setup=browser.begin,
        invariant=one_of_two,
        crashes=True,
    )


# --- the long one: change_password(kv, store, session) ---


def _changes(change_password: Any, browser: Browser) -> dict[str, Any]:
    return {"browser": lambda kv: change_password(kv.kv, STORE, browser.mine)}


@promise("this browser stays in", "under a new id, with its user and its data")
def stays_in(change_password: Any, explore: Explore) -> Story:
    browser = Browser("ann", others=2)

    def renewed(world: World) -> bool:
        session = world.results[0]
        assert session, f"change_password must return the new session, not {session!r}"
        assert session.id != browser.mine.id, "this browser must get a new id"
        now = _alive(world, session.id)
        assert now, "the session that change_password returned does not work"
        assert now.user == "ann", f"the new session is of {now.user!r}, not of ann"
        assert now.data == {"cart": ["tea"]}, f"the browser's data were the cart; now {now.data}"
        return True

    return explore(_changes(change_password, browser), setup=browser.begin, invariant=renewed)


@promise("all others are out", "no id from before the change works, this browser's old one neither")
def others_are_out(change_password: Any, explore: Explore) -> Story:
    browser = Browser("ann", others=2)

    def out(world: World) -> bool:
        still_in = [sid for sid in browser.others if _alive(world, sid)]
        assert not still_in, f"{len(still_in)} of 2 other devices are still in"
        assert not _alive(world, browser.mine.id), "this browser's old id still works"
        return True

    return explore(_changes(change_password, browser), setup=browser.begin, invariant=out)


@promise("other users stay in", "a session of somebody else is alive after the change")
def other_users(change_password: Any, explore: Explore) -> Story:
    browser, bob = Browser("ann"), Browser("bob")

    def begin(kv: Any) -> None:
        browser.begin(kv)
        bob.begin(kv)

    def bob_is_in(world: World) -> bool:
        assert _alive(world, bob.mine.id), "ann changed her password, and bob is out"
        return True

    return explore(_changes(change_password, browser), setup=begin, invariant=bob_is_in)


@promise("one instant", "wherever the web app crashes: all as before or all done, no data lost")
def all_or_nothing(change_password: Any, explore: Explore) -> Story:
    browser = Browser("ann", others=2)

    def before_or_after(world: World) -> bool:
        before = [sid for sid in (*browser.others, browser.mine.id) if _alive(world, sid)]
        live = _live_sessions(world, "ann")
        where = "a crash in the middle" if isinstance(world.results[0], ClientCrashed) else "at end"
        assert live, f"{where}: no session of ann is alive, and her cart is lost"
        assert len(before) in (0, 3), f"{where}: {len(before)} of 3 sessions from before are alive"
        assert not before or live == 3, f"{where}: the old sessions and a new one are alive"
        return True

    return explore(
        _changes(change_password, browser),
        setup=browser.begin,
        invariant=before_or_after,
        crashes=True,
    )


EXERCISES = (
    Exercise(
        number="04-short",
        function="login",
        title="an id that ends with the login",
        minutes=10,
        hints=(
            "Who else may know the id that the browser comes with?",
            "Two ops: end the old session, create a new one. What is alive if you crash between "
            "them?",
            "kv.run(store.destroy(cookie_id), store.create(user), atomic=True) is one instant; it "
            "answers a tuple.",
        ),
        promises=(new_id, old_is_dead, no_known_id, one_instant),
    ),
    Exercise(
        number="04",
        function="change_password",
        title="a change of password",
        minutes=15,
        hints=(
            "Which sessions must end? Which one must begin, and with which data?",
            "store.destroy_all(user) ends them all, and store.create(user, data) begins one. In "
            "which order, and what if you crash between the two?",
            "kv.run(store.destroy_all(session.user), store.create(session.user, session.data), "
            "atomic=True), in this order.",
        ),
        promises=(stays_in, others_are_out, other_users, all_or_nothing),
    ),
)
