"""A dump shows all that the server stores, and forged ids have every shape."""

from __future__ import annotations

from kvlab import Kv, NaiveSessions, SessionStore
from kvlab.chapters.sessions.forgery import cookies_made_of, dump, forged_ids


def test_a_dump_holds_the_naive_id_and_not_the_hardened_one(kv: Kv) -> None:
    naive_id = NaiveSessions(kv.client, prefix=kv.prefix).create(7)
    session = kv.run(SessionStore().create(7, {"theme": "dark"}))
    texts = dump(kv)
    secret = session.id.split(".")[1]
    assert any(naive_id in text for text in texts)
    assert any("dark" in text for text in texts)
    assert not any(secret in text for text in texts)


def test_cookies_are_every_piece_alone_and_behind_the_tag() -> None:
    cookies = cookies_made_of(["a:b", "x" * 50], "tag")
    assert cookies == {"a", "b", "x" * 50, "tag.a", "tag.b", f"tag.{'x' * 50}", f"tag.{'x' * 43}"}


def test_no_forged_id_is_a_good_one(kv: Kv) -> None:
    store = SessionStore()
    good = [kv.run(store.create(user)).id for user in range(3)]
    forged = forged_ids(good, times=20)
    assert len(forged) == 3 * 20 * 6
    assert not set(forged) & set(good)
