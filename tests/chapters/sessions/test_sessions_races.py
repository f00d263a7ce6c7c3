"""The races of the chapter break the naive store and hold on the hardened one."""

from __future__ import annotations

from typing import Any

from kvlab import Kv, NaiveSessions, SessionStore
from kvlab.chapters.sessions.races import (
    HardenedSessions,
    log_out_beside_slow_write,
    login_beside_look,
    two_writers,
    write_beside_leave,
)
from kvlab.instruments import Faults

NO_FAULTS = Faults()
STORE = SessionStore()


def test_the_adapter_has_the_calls_of_the_naive_store(kv: Kv) -> None:
    sessions = HardenedSessions(kv.client, kv.prefix)
    sid = sessions.create(7)
    assert sessions.update(sid, a=1) == sessions.read(sid) == {"a": 1}
    sessions.destroy(sid)
    assert sessions.read(sid) is sessions.update(sid, a=2) is None


def test_a_slow_write_undoes_a_log_out_of_the_naive_store_alone() -> None:
    assert log_out_beside_slow_write(NaiveSessions, NO_FAULTS).violations == 2
    assert log_out_beside_slow_write(HardenedSessions, NO_FAULTS)


def test_two_writers_lose_a_field_of_the_naive_store_alone() -> None:
    assert two_writers(NaiveSessions, NO_FAULTS).violations > 0
    assert two_writers(HardenedSessions, NO_FAULTS)


def test_a_login_in_two_steps_shows_both_sessions_or_neither() -> None:
    def in_one_step(kv: Any, old_id: str) -> None:
        kv.run(STORE.destroy(old_id), STORE.create(7), atomic=True)

    def in_two_steps(kv: Any, old_id: str) -> None:
        kv.run(STORE.destroy(old_id))
        kv.run(STORE.create(7))

    assert login_beside_look(STORE, in_one_step, NO_FAULTS)
    assert login_beside_look(STORE, in_two_steps, NO_FAULTS).violations > 0


def test_a_write_after_a_question_revives_the_session() -> None:
    def question_and_write(kv: Any) -> None:
        if kv.exists("s"):
            kv.hset("s", "tea", 1)

    def look(kv: Any) -> None:
        kv.exists("s")

    def leave(kv: Any) -> None:
        kv.delete("s")

    assert write_beside_leave(question_and_write, leave).violations == 1
    assert write_beside_leave(look, leave)
