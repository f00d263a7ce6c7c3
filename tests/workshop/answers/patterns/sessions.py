from __future__ import annotations

from workshop.answers.answer import Answers

from kvlab.core.flow import flow

ANSWERS = Answers()


@ANSWERS.right("04-short")
def login_in_one_instant(kv, store, cookie_id, user):
    _, session = kv.run(store.destroy(cookie_id), store.create(user), atomic=True)
    return session


@ANSWERS.right("04-short")
def login_the_other_way_round(kv, store, cookie_id, user):
    ops = [store.create(user), store.destroy(cookie_id)]
    return kv.run(ops, atomic=True)[0]


@ANSWERS.right("04-short")
def login_only_ends_what_there_is(kv, store, cookie_id, user):
    if cookie_id is None:
        return kv.run(store.create(user))
    session, _ended = kv.run(store.create(user), store.destroy(cookie_id), atomic=True)
    return session


@ANSWERS.wrong("04-short", "the id from before the login still works")
def login_marks_the_session(kv, store, cookie_id, user):
    """Writes the user into the session that came: who planted the id is logged in too."""
    kv.run(store.update(cookie_id, user=user))
    return kv.run(store.read(cookie_id))


@ANSWERS.wrong("04-short", "with an unknown id, login returned None")
def login_rotates(kv, store, cookie_id, user):
    """Rotates the session that came: with an unknown id there is none."""
    session = kv.run(store.read(cookie_id))
    if session is None:
        return None
    _, new = kv.run(store.destroy(cookie_id), store.create(user), atomic=True)
    return new


@ANSWERS.wrong("04-short", "the id from before the login still works")
def login_forgets_the_old_one(kv, store, cookie_id, user):
    """Creates a session, and leaves the planted one alive."""
    return kv.run(store.create(user))


@ANSWERS.wrong("04-short", "the old id is dead and there is no new session")
def login_in_two_steps(kv, store, cookie_id, user):
    """Destroys, then creates: a crash between the two."""
    kv.run(store.destroy(cookie_id))
    return kv.run(store.create(user))


@ANSWERS.wrong("04-short", "the old id and a new session are alive")
def login_creates_then_destroys(kv, store, cookie_id, user):
    """Creates, then destroys: for a moment both are alive."""
    session = kv.run(store.create(user))
    kv.run(store.destroy(cookie_id))
    return session


@ANSWERS.wrong("04-short", "the session is of None, not of ann")
def login_of_nobody(kv, store, cookie_id, user):
    """rotate keeps the data and the user, and the user was nobody."""
    return kv.run(store.rotate(cookie_id))


# --- 04 ---


@ANSWERS.right("04")
def change_in_one_instant(kv, store, session):
    again = store.create(session.user, session.data)
    _, session = kv.run(store.destroy_all(session.user), again, atomic=True)
    return session


@ANSWERS.right("04")
def change_with_fresh_data(kv, store, session):
    now = kv.run(store.read(session.id)) or session
    ops = [store.destroy_all(now.user), store.create(now.user, dict(now.data))]
    return kv.run(ops, atomic=True)[-1]


@ANSWERS.right("04")
def change_in_a_flow(kv, store, session):
    @flow
    def reading(sid):
        return (yield from store.read(sid))

    data = kv.run(reading(session.id)).data
    ended, renewed = kv.run(
        store.destroy_all(session.user), store.create(session.user, data), atomic=True
    )
    return renewed if ended >= 0 else None


@ANSWERS.wrong("04", "this browser must get a new id")
def change_nothing(kv, store, session):
    """Changes nothing."""
    kv.run(store.read(session.id))
    return session


@ANSWERS.wrong("04", "2 of 2 other devices are still in")
def change_rotates_only(kv, store, session):
    """Rotates this browser, and leaves the other devices in."""
    return kv.run(store.rotate(session.id))


@ANSWERS.wrong("04", "the session that change_password returned does not work")
def change_in_the_wrong_order(kv, store, session):
    """Creates, then destroys all: the new one too."""
    again = store.create(session.user, session.data)
    renewed, _ = kv.run(again, store.destroy_all(session.user), atomic=True)
    return renewed


@ANSWERS.wrong("04", "no session of ann is alive, and her cart is lost")
def change_in_two_steps(kv, store, session):
    """Destroys all, then creates: a crash between the two loses the cart."""
    kv.run(store.destroy_all(session.user))
    return kv.run(store.create(session.user, session.data))


@ANSWERS.wrong("04", "the browser's data were the cart; now {}")
def change_without_the_data(kv, store, session):
    """Forgets the data."""
    _, new = kv.run(store.destroy_all(session.user), store.create(session.user), atomic=True)
    return new


@ANSWERS.wrong("04", "of 3 sessions from before are alive")
def change_one_by_one(kv, store, session):
    """Ends the sessions one by one: a crash leaves some of them."""
    for listed in kv.run(store.list(session.user)):
        kv.run(store.destroy_listed(session.user, listed.handle))
    return kv.run(store.create(session.user, session.data))
