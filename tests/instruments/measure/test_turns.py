"""Variants take turns, and the runs of one variant become one result."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from kvlab.errors import InvalidArgument
from kvlab.instruments import Result, in_turns, merged
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.turns import orders, turns_within


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


def test_variants_take_turns_in_random_order_and_the_first_turn_is_thrown_away() -> None:
    asked: list[str] = []

    def call(name: str) -> int:
        asked.append(name)
        return len(asked)

    taken = in_turns({"a": lambda: call("a"), "b": lambda: call("b")}, turns=3)
    assert asked[:2] == ["a", "b"]  # the warm-up
    assert [sorted(asked[at : at + 2]) for at in range(0, 8, 2)] == [["a", "b"]] * 4
    assert taken == {name: [n for n in range(3, 9) if asked[n - 1] == name] for name in "ab"}
    assert [taken["a"].places, taken["b"].places] == [
        [(at - 1) % 2 for at in taken[name]] for name in "ab"
    ]
    assert in_turns({"a": lambda: call("a")}, turns=1, warmup=0) == {"a": [9]}
    with pytest.raises(InvalidArgument, match="turns"):
        in_turns({"a": lambda: 1}, turns=0)


def test_each_order_comes_with_its_opposite_and_the_seed_draws_them() -> None:
    drawn = [tuple(order) for order in islice(orders("abc", 3), 400)]
    assert all(after == order[::-1] for order, after in zip(drawn[::2], drawn[1::2], strict=True))
    assert len({*drawn[::2]}) == 6
    assert drawn == [tuple(order) for order in islice(orders("abc", 3), 400)]
    assert drawn != [tuple(order) for order in islice(orders("abc", 4), 400)]


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


def test_no_turn_begins_when_the_time_is_up_but_two_are_made() -> None:
    assert list(turns_within(5, seconds=60)) == [False] + [True] * 5
    assert list(turns_within(5, seconds=0)) == [False] + [True] * 2
    assert list(turns_within(1, seconds=0, warmup=0)) == [True]
    taken = in_turns({"a": lambda: 1}, turns=9, seconds=0)
    assert taken == {"a": [1, 1]}
