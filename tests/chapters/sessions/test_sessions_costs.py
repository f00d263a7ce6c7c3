"""The commands of each call are seen at the wire; log-outs that are undone are found."""

from __future__ import annotations

import pytest

from kvlab import Kv
from kvlab.chapters.sessions import costs
from kvlab.chapters.sessions.races import HardenedSessions
from kvlab.server.engines import RunningServer


def test_every_command_of_a_warm_call_is_listed(kv: Kv, server: RunningServer) -> None:
    commands = costs.commands(server.url, kv.prefix).set_index(["variant", "op"])
    assert commands["commands"]["naive"].to_dict() == {
        "create": "SETEX",
        "read": "GET → EXPIRE",
        "update": "GET → EXPIRE → SETEX",
        "destroy": "DEL",
    }
    assert commands["commands"]["hardened"].to_dict() == dict.fromkeys(costs.CALLS, "EVALSHA")
    assert commands["round_trips"]["naive"].to_dict() == {
        "create": 1,
        "read": 2,
        "update": 3,
        "destroy": 1,
    }


def test_the_memory_of_a_session_grows_with_its_data(kv: Kv) -> None:
    memory = costs.memory(kv, sizes=(0, 2_000)).set_index(["variant", "size"])["bytes"]
    for variant in costs.VARIANTS:
        assert memory[variant, "2,000"] - memory[variant, "0"] >= 2_000


class Shop:
    def __init__(self, forgetful: bool) -> None:
        self.alive: set[str] = set()
        self.made = 0
        self.forgetful = forgetful

    def create(self, user: int) -> str:
        self.made += 1
        self.alive.add(f"{user}.{self.made}")
        return f"{user}.{self.made}"

    def read(self, sid: str) -> None:
        assert sid in self.alive

    update = read

    def destroy(self, sid: str) -> None:
        if not self.forgetful:
            self.alive.remove(sid)


@pytest.mark.parametrize("forgetful", [False, True])
def test_every_id_that_was_logged_out_is_collected(forgetful: bool) -> None:
    shop = Shop(forgetful)
    request, ended = costs.requests(shop, users=3, seed=1)
    kinds = [request(i % 3) for i in range(1000)]
    assert len(ended) == kinds.count("destroy") == shop.made - 3 > 10
    assert len(ended & shop.alive) == (len(ended) if forgetful else 0)
    assert len(shop.alive - ended) == 3


class NeverEnds(HardenedSessions):
    """Forgets to log out."""

    def destroy(self, sid: str) -> None:
        self.read(sid)


def test_an_undone_log_out_is_a_violation(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "VARIANTS", {"ends": HardenedSessions, "never ends": NeverEnds})
    runs = costs.latency_with_log_outs(kv, users=4, turns=2, count=100, seed=4)
    assert runs["ends"].reads.violations == 0
    assert runs["never ends"].reads.violations == runs["never ends"].logged_out > 0
    assert list(runs["ends"].reads.outcomes) == ["read"]


def test_reads_are_compared_in_turns(kv: Kv) -> None:
    assert len(costs.compare_reads(kv, turns=2).a) == 2
