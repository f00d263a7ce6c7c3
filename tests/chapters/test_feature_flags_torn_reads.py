"""The writer ends with its block, and halves are counted."""

from __future__ import annotations

import threading

import pytest

from kvlab.chapters.feature_flags_torn_reads import Pairs, turning


def test_a_writer_turns_and_ends_with_its_block() -> None:
    written: list[bool] = []
    enough, before = threading.Event(), threading.active_count()

    def write(on: bool) -> None:
        written.append(on)
        if len(written) == 4:
            enough.set()

    with turning(write, pause=0):
        assert enough.wait(10)
    assert written[:4] == [True, False, True, False]
    assert threading.active_count() == before


def test_a_writer_that_fails_is_heard() -> None:
    def write(on: bool) -> None:
        failed.set()
        raise RuntimeError("no")

    failed = threading.Event()
    with pytest.raises(RuntimeError, match="no"), turning(write, pause=0):
        assert failed.wait(10)


def test_halves_are_counted_by_variant() -> None:
    pairs, answers = Pairs(), iter([(True, False), (True, True), (False, True), (False, False)])
    assert pairs.turn("naive", lambda: next(answers), 4) > 0
    pairs.turn("hardened", lambda: (True, True), 3)
    assert dict(pairs.asked) == {"naive": 4, "hardened": 3}
    assert (pairs.halves["naive"], pairs.halves["hardened"]) == (2, 0)
