"""How many times as long a takes as b: the ratio, its interval, and how often the interval errs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import numpy as np
import pytest

from kvlab.errors import InvalidArgument
from kvlab.instruments import Comparison, Recorder, Result, compare, ratio_over_turns
from kvlab.instruments.measure.theory import student_t

DRIFT = 1.01
"""How much longer everything takes in each turn."""


def sides(noise: Callable[[], float], slower: float) -> dict[str, Callable[[], float]]:
    """Two sides on a machine whose times rise by ``DRIFT`` in a turn."""

    def side(mean: float, made: Iterator[int]) -> float:
        return mean * math.exp(noise()) * DRIFT ** (next(made) / 2)

    made = count()
    return {"a": partial(side, slower, made), "b": partial(side, 1.0, made)}


def share_that_differs(
    turns: int, noise: float, *, slower: float = 1.0, runs: int = 1_000
) -> float:
    draws = iter(np.random.default_rng(turns).normal(0, noise, 2 * turns * runs).tolist())
    seen = [
        compare(**sides(lambda: next(draws), slower), turns=turns, warmup=0, seed=seed).differs
        for seed in range(runs)
    ]
    return sum(seen) / runs


@pytest.mark.parametrize(("turns", "noise"), [(5, 0.05), (7, 0.001), (15, 0.02)])
def test_a_thing_beside_itself_differs_in_one_run_of_twenty(turns: int, noise: float) -> None:
    assert 0.02 <= share_that_differs(turns, noise) <= 0.08


def test_what_is_slower_is_seen() -> None:
    assert share_that_differs(9, 0.02, slower=1.05, runs=200) > 0.95


def test_the_visible_difference_is_seen_by_four_runs_of_five() -> None:
    noise, turns = 0.02, 9
    # Of the mean of nine log ratios, each the difference of two times.
    error = noise * math.sqrt(2 / turns)
    reach = student_t(0.975, turns - 2) + student_t(0.8, turns - 2)
    share = share_that_differs(turns, noise, slower=math.exp(reach * error), runs=500)
    assert 0.75 <= share <= 0.88


def test_a_drift_within_the_turns_is_no_difference() -> None:
    found = compare(**sides(lambda: 0.0, 1.25), turns=6, seed=4)
    ends = (found.ratio, found.low, found.high)
    assert ends == pytest.approx((1.25, 1.25, 1.25))
    # The control: a is always first, and the order is not known.
    always = [DRIFT ** (place / 2) for place in range(12)]
    assert ratio_over_turns(always[::2], always[1::2]).differs


def test_a_ratio_is_taken_within_each_turn() -> None:
    drifting = [1.0, 10.0, 100.0]
    found = ratio_over_turns([2 * seconds for seconds in drifting], drifting)
    assert (found.ratio, found.low, found.high) == pytest.approx((2, 2, 2))
    assert (found.a, found.b) == ((2, 20, 200), (1, 10, 100))

    def run(milliseconds: float) -> Result:
        made = Recorder()
        made.record(milliseconds / 1e3)
        return Result("", {"done": made}, [], 1.0, 1.0)

    assert ratio_over_turns([run(8)] * 3, [run(2)] * 3).ratio == pytest.approx(4, rel=1e-3)


def test_the_interval_is_that_of_student() -> None:
    logs = [0.1, 0.3, -0.1, 0.2]
    found = ratio_over_turns([math.exp(log) for log in logs], [1.0] * 4)
    assert math.log(found.ratio) == pytest.approx(0.125)
    assert math.log(found.high) == pytest.approx(0.125 + 3.182446 * 0.0853913)  # tables, 3 free
    assert math.log(found.high / found.ratio) == pytest.approx(math.log(found.ratio / found.low))


def test_two_turns_tell_nothing() -> None:
    found = ratio_over_turns([3.0, 3.1], [1.0, 1.0])
    assert (found.low, found.high, found.differs) == (0, math.inf, False)
    assert str(found).endswith("no difference seen; too few turns to tell any")


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 0.0], [1.0, 1.0])]
)
def test_turns_that_give_no_ratio_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(InvalidArgument):
        ratio_over_turns(a, b)


def test_a_comparison_has_every_turn_unless_a_time_limit_is_given() -> None:
    took = count(1)
    assert len(compare(lambda: next(took), lambda: 1.0, turns=5).a) == 5
    assert len(compare(lambda: next(took), lambda: 1.0, turns=5, seconds=0).a) == 2
    with pytest.raises(InvalidArgument):
        compare(lambda: 0.0, lambda: 1.0)


@pytest.mark.parametrize(
    ("ratio", "low", "high", "visible", "says"),
    [
        (0.72, 0.7, 0.75, 1.1, "0.72 of the time (0.70 to 0.75), 28 % quicker"),
        (0.00898, 0.0085, 0.00931, 1.1,
         "0.00898 of the time (0.0085 to 0.00931), 111 times as quick"),
        (1.31, 1.2, 1.4, 1.1, "1.31 of the time (1.20 to 1.40), 31 % slower"),
        (4.8, 4.1, 12.5, 1.1, "4.80 of the time (4.10 to 12.5), 4.8 times as slow"),
        (0.95, 0.75, 1.14, 1.3,
         "0.95 of the time (0.75 to 1.14), no difference seen; too noisy to tell less than 30 %"),
        (1.01, 0.99, 1.03, 1.03,
         "1.01 of the time (0.99 to 1.03), no difference seen; four of five such runs see 3 %"),
        (1.01, 0.99, 1.03, math.nan, "1.01 of the time (0.99 to 1.03), no difference seen"),
    ],
)  # fmt: skip
def test_a_comparison_says_which_side_is_quicker(
    ratio: float, low: float, high: float, visible: float, says: str
) -> None:
    assert str(Comparison(ratio, low, high, 0.95, (), (), visible)) == says
