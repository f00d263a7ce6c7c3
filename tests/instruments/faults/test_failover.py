"""A failover between real servers loses what was written between the cut and the promotion."""

from __future__ import annotations

import pytest

import kvlab
from kvlab import Key, Op
from kvlab.errors import KvlabError
from kvlab.instruments.faults import failover
from kvlab.instruments.faults.failover import Failover
from kvlab.server import engines


@pytest.mark.parametrize("engine", ["valkey", "redis-6.2"])
def test_exactly_what_came_between_is_lost_at_each_failover(engine: str) -> None:
    if reason := engines.find(engine).missing:
        pytest.skip(f"{engine}: {reason}")
    with Failover(engine) as pair, kvlab.connect(pair.url) as kv:
        for kept, lost in ("ab", "cd"):
            kv.run(Op("SET", Key(kept), kept))
            pair.part()
            kv.run(Op("SET", Key(lost), lost))
            pair.promote()
            pair.rejoin()
        names = [Op("GET", Key(name), idempotent=True) for name in "abcd"]
        assert kv.run(names) == [b"a", None, b"c", None]


def test_a_replica_that_does_not_get_the_data_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with Failover() as pair:
        pair.part()
        monkeypatch.setattr(failover, "_PATIENCE", 0.05)
        with pytest.raises(KvlabError, match="has not got"):
            pair.part()
