"""The writer ends with its block, and torn reads are counted."""

from __future__ import annotations

import threading
from itertools import cycle

import pytest

from kvlab.chapters.feature_flags.charts import time_of_a_check
from kvlab.chapters.feature_flags.torn_reads import torn_reads, turned_meanwhile


def test_a_writer_turns_and_ends_with_its_block() -> None:
    written: list[bool] = []
    enough, before = threading.Event(), threading.active_count()

    def write(on: bool) -> None:
        written.append(on)
        if len(written) == 4:
            enough.set()

    with turned_meanwhile(write, pause=0):
        assert enough.wait(10)
    assert written[:4] == [True, False, True, False]
    assert threading.active_count() == before


def test_an_error_of_the_writer_reaches_the_caller() -> None:
    failed = threading.Event()

    def write(on: bool) -> None:
        failed.set()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"), turned_meanwhile(write, pause=0):
        assert failed.wait(10)


def test_torn_reads_are_counted_by_variant() -> None:
    answers = cycle([(True, False), (True, True), (False, True), (False, False)])
    reads = torn_reads(
        {"naive": lambda: next(answers), "hardened": lambda: (True, True)},
        lambda on: None,
        requests={"naive": 4, "hardened": 3},
        turns=2,
    )
    assert reads.asked == {"naive": 3 * 4, "hardened": 3 * 3}  # the warm-up turn counts too
    assert reads.torn == {"naive": 3 * 2, "hardened": 0}
    assert all(seconds > 0 for seconds in reads.seconds.values())
    title = time_of_a_check(reads).axes[0].get_title(loc="left")
    assert title.startswith("Half a change seen: naive 6, hardened 0; too few turns")
