"""Variants take turns, and the runs of one variant become one result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvlab.errors import InvalidArgument
from kvlab.instruments import Comparison, Result, compare, in_turns, merged, ratio_over_turns
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.turns import turns_within


def recorder(*milliseconds: float) -> Recorder:
    made = Recorder()
    made.record_all(np.array(milliseconds) / 1e3)
    return made


def run(**facts: object) -> Result:
    made = Result(
        name="naive",
        outcomes={"hit": recorder(1, 2)},
        timeline=[{"hit": 2}],
        bucket=1.0,
        seconds=2.0,
        violations=1,
        round_trips=4,
        lateness=recorder(0.5),
        late=1,
        environment={"seed": 7, "repetitions": 1},
    )
    return replace(made, **facts)  # type: ignore[arg-type]


def test_variants_take_turns_and_the_first_turn_is_thrown_away() -> None:
    order: list[str] = []

    def call(name: str) -> int:
        order.append(name)
        return len(order)

    taken = in_turns({"a": lambda: call("a"), "b": lambda: call("b")}, turns=3)
    assert order == ["a", "b"] * 4
    assert taken == {"a": [3, 5, 7], "b": [4, 6, 8]}
    assert in_turns({"a": lambda: call("a")}, turns=1, warmup=0) == {"a": [9]}
    with pytest.raises(InvalidArgument, match="turns"):
        in_turns({"a": lambda: 1}, turns=0)


def test_what_runs_counted_adds_up() -> None:
    other = run(
        outcomes={"miss": recorder(9), "hit": recorder(3)},
        timeline=[{"miss": 1}, {"hit": 1}],
        seconds=0.5,
        violations=2,
        round_trips=3,
        lateness=recorder(2.5, 3.5),
        late=2,
    )
    both = merged([run(), other])
    assert both.counts == {"hit": 3, "miss": 1}
    assert both.count == 4
    assert both.timeline == [{"hit": 2}, {"miss": 1}, {"hit": 1}]
    assert (both.seconds, both.violations, both.round_trips, both.late) == (2.5, 3, 7, 3)
    assert both.throughput == 4 / 2.5
    assert both.environment == {"seed": 7, "repetitions": 2}
    assert both.name == "naive"


def test_latencies_merge_by_outcome_and_the_runs_stay_as_they_were() -> None:
    first, second = run(), run(outcomes={"hit": recorder(30), "miss": recorder(50)})
    both = merged([first, second])
    assert both.outcomes["hit"].max == pytest.approx(0.03)
    assert both.outcomes["hit"].min == pytest.approx(0.001)
    assert both.outcomes["hit"].mean == pytest.approx(0.011)
    assert both.latency.max == pytest.approx(0.05)
    assert both.lateness is not None
    assert both.lateness.count == 2
    assert (first.count, second.count) == (2, 2)


def test_what_one_run_does_not_know_is_unknown_in_the_whole() -> None:
    both = merged([run(), run(violations=None, round_trips=None, lateness=None)])
    assert (both.violations, both.round_trips, both.lateness) == (None, None, None)
    assert merged([run(violations=0), run(violations=0)]).violations == 0


def test_runs_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="at least one"):
        merged([])
    with pytest.raises(InvalidArgument, match="one bucket"):
        merged([run(), run(bucket=0.1)])


def test_a_ratio_is_taken_within_each_turn() -> None:
    drifting = [1.0, 10.0, 100.0]
    found = ratio_over_turns([2 * seconds for seconds in drifting], drifting)
    assert (found.ratio, found.low, found.high) == (2, 2, 2)
    assert (found.a, found.b) == ((2, 20, 200), (1, 10, 100))
    slow = run(outcomes={"hit": recorder(8)})
    assert ratio_over_turns([slow] * 2, [run(outcomes={"hit": recorder(2)})] * 2).ratio == (
        pytest.approx(4, rel=1e-3)
    )


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 0.0], [1.0, 1.0])]
)
def test_turns_that_give_no_ratio_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(InvalidArgument):
        ratio_over_turns(a, b)


def test_compare_takes_turns_and_tells_the_interval() -> None:
    order: list[str] = []

    def side(name: str, value: float) -> float:
        order.append(name)
        return value * (1 + len(order) // 2)  # the machine drifts; the ratio does not

    found = compare(lambda: side("a", 2.0), lambda: side("b", 1.0), turns=5, warmup=1)
    assert order == ["a", "b"] * 6
    assert found.low <= found.ratio <= found.high
    assert found.ratio == pytest.approx(2, rel=0.5)
    again = compare(iter([1.0, 1.0, 2.0, 3.0, 4.0]).__next__, lambda: 2.0, turns=5, warmup=0)
    assert again.ratio == 1.0
    assert (again.low, again.high) == (0.5, 2.0)
    assert again.a == (1.0, 1.0, 2.0, 3.0, 4.0)
    with pytest.raises(InvalidArgument):
        compare(lambda: 0.0, lambda: 1.0)


def test_no_turn_begins_when_the_time_is_up_but_two_are_made() -> None:
    assert list(turns_within(5, seconds=60)) == [False] + [True] * 5
    assert list(turns_within(5, seconds=0)) == [False] + [True] * 2
    assert list(turns_within(1, seconds=0, warmup=0)) == [True]
    taken = in_turns({"a": lambda: 1}, turns=9, seconds=0)
    assert taken == {"a": [1, 1]}


def test_a_comparison_has_every_turn_unless_a_time_limit_is_given() -> None:
    took = iter(range(1, 100))
    assert len(compare(lambda: next(took), lambda: 1.0, turns=5).a) == 5
    assert len(compare(lambda: next(took), lambda: 1.0, turns=5, seconds=0).a) == 2


@pytest.mark.parametrize(
    ("ratio", "low", "high", "says"),
    [
        (0.72, 0.7, 0.75, "0.72 of the time (0.70 to 0.75), 28 % quicker"),
        (0.00898, 0.0085, 0.00931, "0.00898 of the time (0.0085 to 0.00931), 111 times as quick"),
        (1.31, 1.2, 1.4, "1.31 of the time (1.20 to 1.40), 31 % slower"),
        (4.8, 4.1, 12.5, "4.80 of the time (4.10 to 12.5), 4.8 times as slow"),
        (0.95, 0.75, 1.14, "0.95 of the time (0.75 to 1.14), no difference seen"),
    ],
)
def test_a_comparison_says_which_side_is_quicker(
    ratio: float, low: float, high: float, says: str
) -> None:
    assert str(Comparison(ratio, low, high, 0.95, (), ())) == says
