"""Who was inside is counted, not inferred."""

from __future__ import annotations

import threading
from contextlib import nullcontext

from kvlab import Kv, Lock
from kvlab.chapters.distributed_lock.charts import stays_chart
from kvlab.chapters.distributed_lock.stays import (
    Stay,
    most_inside,
    stays_of,
    under_lock,
    without_lock,
)


def test_stays_that_touch_do_not_overlap() -> None:
    assert most_inside([Stay(0, 0, 1), Stay(0, 1, 2), Stay(0, 2, 3)]) == 1
    assert most_inside([Stay(0, 0, 1), Stay(0, 0.5, 2), Stay(0, 0.9, 3)]) == 3
    assert most_inside([]) == 0


def test_the_visit_that_opens_the_connection_is_not_counted() -> None:
    entries: list[None] = []
    stays = stays_of(4, nullcontext, entries.append)
    assert (len(stays), len(entries)) == (4, 4)
    assert min(stay.asked for stay in stays) == 0


def test_a_crowd_without_a_lock_is_inside_together_and_with_one_it_is_not(kv: Kv) -> None:
    free = without_lock(kv, clients=8)
    assert (len(free.stays), free.most_inside, free.number) == (8, 8, 1)
    locked = under_lock(kv, Lock("x", 60), clients=8)
    assert (len(locked.stays), locked.most_inside, locked.number) == (8, 1, 8)
    fences = [stay.held.fence for stay in locked.stays]
    assert fences == sorted(set(fences))
    assert stays_chart(locked.stays, title="x")


def test_a_lock_that_lets_two_in_is_seen() -> None:
    two = threading.Semaphore(2)
    both_inside = threading.Barrier(2)
    stays = stays_of(2, lambda: two, lambda _: both_inside.wait(20))
    assert most_inside(stays) == 2
