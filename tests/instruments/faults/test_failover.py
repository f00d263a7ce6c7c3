"""A failover between real servers loses what was written between the cut and the promotion."""

from __future__ import annotations

import pytest

import kvlab
from kvlab import Key, Op
from kvlab.errors import KvlabError
from kvlab.instruments.faults import failover
from kvlab.instruments.faults.failover import Failover


def test_exactly_what_came_between_is_lost() -> None:
    with Failover() as pair, kvlab.connect(pair.url) as kv:
        for name in "ab":
            kv.run(Op("SET", Key(name), name))
        pair.part()
        for name in "cd":
            kv.run(Op("SET", Key(name), name))
        pair.promote()
        kept = kv.run([Op("GET", Key(name), idempotent=True) for name in "abcd"])
        assert kept == [b"a", b"b", None, None]
        kv.run(Op("SET", Key("e"), "e"))
        assert kv.run(Op("GET", Key("e"))) == b"e"


def test_a_replica_that_does_not_get_the_data_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with Failover() as pair:
        pair.part()
        monkeypatch.setattr(failover, "_PATIENCE", 0.05)
        with pytest.raises(KvlabError, match="has not got"):
            pair.part()
