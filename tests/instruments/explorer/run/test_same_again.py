"""The same call says the same again, and every way of searching says the same."""

from __future__ import annotations

import uuid
from time import time_ns
from typing import Any

import pytest
from support.random_programs import differences, program

from kvlab.instruments import Faults, explore
from kvlab.instruments.explorer.run.footprints import Footprint


def timed_lock(kv: Any) -> bool:
    token = f"{uuid.uuid4()} {time_ns()}"
    if not kv.set("lock", token, nx=True, ex=30):
        return False
    if kv.get("lock") == token.encode():
        kv.delete("lock")
    return True


def test_twenty_calls_give_one_verdict_the_same_schedules_and_one_picture() -> None:
    found = set()
    for _ in range(20):
        story = explore(
            [timed_lock] * 2,
            invariant=lambda world: all(world.results),
            faults=Faults(clock_jumps=[1]),
        )
        assert story.shortest is not None
        verdict, replay, _ = str(story.shortest).split("\n", 2)
        steps = [(step.client, len(step.commands), step.label) for step in story.shortest.trace]
        found.add((story.verdict, story.schedules, str(story.broken), verdict, replay, str(steps)))
    assert len(found) == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_way_of_searching_finds_the_same(seed: int) -> None:
    """``python -m support.random_programs 200`` tries more of them."""
    assert differences(program(seed)) == []


def test_a_search_that_leaves_out_too_much_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Footprint, "meets", lambda *_: False)
    assert any("reduced" in said for seed in range(1, 5) for said in differences(program(seed)))
