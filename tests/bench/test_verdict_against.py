"""The verdicts against an older run: none on the same tree, the slower row and no other else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from support.bench_samples import sample

from benchmarks.studies.verdicts import wrong
from kvlab.bench.verdict import EQUAL, QUICKER, SLOWER, UNKNOWN, against, drift
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.comparison import change, ratio_over_turns

PAIRS = 6


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_the_same_tree_twice_has_no_verdict_but_the_same_or_cannot_tell(noise: float) -> None:
    for seed in range(PAIRS):
        old, new = sample(2 * seed, noise=noise), sample(2 * seed + 1, noise=noise)
        assert {one.word for one in against(new, old).each} <= {EQUAL, UNKNOWN}


@pytest.mark.parametrize(("factor", "word"), [(1.2, SLOWER), (1 / 1.2, QUICKER)])
def test_a_row_that_changed_by_a_fifth_is_found_and_no_other(factor: float, word: str) -> None:
    for seed in range(PAIRS):
        old, new = sample(2 * seed), sample(2 * seed + 1, slower={7: factor})
        verdicts = against(new, old)
        found = [v.row.case for v in verdicts.each if v.word in (SLOWER, QUICKER)]
        assert found == ["case 7"]
        assert [v.row.case for v in verdicts.having(word)] == ["case 7"]


def test_the_proof_of_the_verdicts_fails_for_each_wrong_one() -> None:
    old, changed = sample(1), ("cases", "case 7")
    assert not [*wrong(sample(2), old, None)]
    slow = sample(2, slower={7: 1.3})
    assert not [*wrong(slow, old, changed)]
    (said,) = wrong(slow, old, None)
    assert said.startswith("cases: case 7 / a peer 1.0: slower")
    assert [*wrong(sample(2), old, changed)] == ["cases case 7 is not called slower"]
    assert len([*wrong(sample(2, slower={7: 1.3, 8: 0.7}), old, changed)]) == 1


def test_much_noise_is_cannot_tell_and_little_is_the_same() -> None:
    loud = against(sample(1, noise=0.3), sample(2, noise=0.3, slower={7: 1.2}))
    assert {one.word for one in loud.each} == {UNKNOWN}
    wild = sample(1, noise=9.0, cases=1)
    (unknown,) = against(wild, wild).each
    assert str(unknown) == "can't tell: 1.00 of the older time (under 0.1 to over 10)"
    quiet = against(sample(1, noise=0.002, drift=0.001), sample(2, noise=0.002, drift=0.001))
    assert {one.word for one in quiet.each} == {EQUAL}
    assert str(quiet.each[0]).startswith("the same: 1.00 of the older time (")


def test_what_rounds_differ_by_is_estimated_by_all_rows_together() -> None:
    assert drift(sample(1, drift=0.0)) < 0.01
    assert 0.03 < drift(sample(1, drift=0.05)) < 0.07


def test_rows_and_versions_that_differ_are_named() -> None:
    old, new = sample(1, cases=3), sample(2, cases=3)
    newer = [replace(row, version="2.0") for row in new.rows[:-1]]
    verdicts = against(replace(new, rows=tuple(newer)), old)
    assert verdicts.lost == ("case 2 / a peer 1.0",)
    assert verdicts.versions == ("a peer 2.0, before 1.0",)
    with pytest.raises(InvalidArgument, match="no row in common"):
        against(replace(new, rows=new.rows[:2]), replace(old, rows=old.rows[2:]))


@pytest.mark.parametrize(("pace", "called"), [(1.2, ["case 7"]), (1 / 1.2, ["case 7"]), (3.0, [])])
def test_on_a_machine_of_another_pace_no_row_is_called_slower(
    pace: float, called: list[str]
) -> None:
    old, new = sample(1), sample(2, slower={7: 1.3})
    turns = {
        row.key: tuple(replace(t, ours=t.ours * pace, peer=t.peer * pace) for t in row.turns)
        for row in new.rows
    }
    new = replace(new, rows=tuple(replace(row, turns=turns[row.key]) for row in new.rows))
    verdicts = against(new, old)
    assert [one.row.case for one in verdicts.having(SLOWER)] == called
    said = [line for line in verdicts.versions if "the machine's pace" in line]
    assert len(said) == (not called)


def test_few_and_wild_turns_have_an_interval_without_end() -> None:
    wild = ratio_over_turns([1e-12, 1e6, 1.0], [1.0, 1.0, 1.0])
    assert change(wild, wild, confidence=1 - 1e-6).high == math.inf
