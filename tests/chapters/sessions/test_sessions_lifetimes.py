"""The formula against a simulation, and the measurement in virtual time."""

from __future__ import annotations

import numpy as np
import pytest

from kvlab import Kv
from kvlab.chapters.sessions.charts import KNOB_MINUTES, alive_chart, logged_in_chart
from kvlab.chapters.sessions.lifetimes import Habit, Users, still_in, watch, watch_both
from kvlab.errors import InvalidArgument


class VirtualClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait_until(self, moment: float) -> None:
        self.time = max(self.time, moment)


def store(clock: VirtualClock, users: int, idle: float, absolute: float) -> Users:
    seen = dict.fromkeys(range(users), 0.0)

    def lives(user: int) -> bool:
        return clock.time < min(seen[user] + idle, absolute)

    def read(user: int) -> bool:
        if lives(user):
            seen[user] = clock.time
        return lives(user)

    return Users(read, lambda: sum(lives(user) for user in seen))


@pytest.mark.parametrize(("mean_gap", "idle"), [(1.0, 0.5), (1.0, 3.0), (0.2, 1.0), (5.0, 1.0)])
def test_what_is_watched_lies_on_the_formula(mean_gap: float, idle: float) -> None:
    clock, users = VirtualClock(), 4000
    stores = {
        "sliding": store(clock, users, idle, np.inf),
        "both": store(clock, users, idle, 5 * idle),
    }
    frame = watch(
        stores,
        users=users,
        mean_gap=mean_gap,
        seconds=8 * idle,
        every=idle / 5,
        seed=3,
        clock=clock,  # type: ignore[arg-type]
    )
    assert frame.attrs["late"] < 1e-9  # nothing takes time here
    for name, absolute in (("sliding", np.inf), ("both", 5 * idle)):
        rows = frame[frame["store"] == name]
        expected = still_in(rows["age"], mean_gap=mean_gap, idle=idle, absolute=absolute)
        assert np.abs(rows["alive"] - expected).max() < 0.03
        assert 0 < len(rows) == 40


def test_the_steps_of_the_formula_are_where_the_timeouts_are() -> None:
    ages = np.array([0.0, 0.999, 1.0, 2.999, 3.0])
    found = still_in(ages, mean_gap=1.0, idle=1.0, absolute=3.0)
    assert found[:2].tolist() == [1.0, 1.0]
    assert found[2] == pytest.approx(1 - np.exp(-1))
    assert found[3] > 0 == found[4]
    assert still_in([100.0], mean_gap=10.0, idle=0.1) == pytest.approx([0.0], abs=1e-9)
    assert still_in([], mean_gap=1.0, idle=1.0).size == 0


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        still_in([1.0], mean_gap=0, idle=1)


def test_the_figure_holds_each_formula_and_its_points() -> None:
    clock = VirtualClock()
    frame = watch(
        {"hardened": store(clock, 5, 1, 3)},
        users=5,
        mean_gap=0.5,
        seconds=4,
        every=0.5,
        seed=1,
        clock=clock,  # type: ignore[arg-type]
    )
    (axes,) = alive_chart(frame, Habit(mean_gap=0.5, idle=1, absolute=3), title="t").axes
    points, formula = axes.lines
    assert len(points.get_xdata()) == 8
    assert formula.get_ydata()[0] == 1
    assert formula.get_ydata()[-1] == 0  # after the absolute timeout


@pytest.mark.parametrize(("idle", "absolute", "gap"), [(5, 30, 60), (30, 480, 10), (120, 720, 1)])
def test_the_axes_are_the_same_at_every_position_of_the_knobs(
    idle: int, absolute: int, gap: int
) -> None:
    (axes,) = logged_in_chart(idle, absolute, gap).axes
    assert axes.get_xlim() == (0, KNOB_MINUTES)
    assert axes.get_ylim() == (-0.03, 1.08)


def test_who_is_out_reads_no_more() -> None:
    asked: list[int] = []
    users = Users(lambda user: bool(asked.append(user)), lambda: 0)  # lets nobody in
    clock: object = VirtualClock()
    watch({"x": users}, users=9, mean_gap=0.1, seconds=5, every=1, seed=1, clock=clock)  # type: ignore[arg-type]
    assert sorted(asked) == list(range(9))


def test_both_stores_are_watched_from_new_sessions_on(kv: Kv) -> None:
    habit = Habit(mean_gap=0.05, idle=60, absolute=3600)
    alive = watch_both(kv, habit, users=4, seconds=0.3, every=0.2, seed=1)
    assert alive["store"].to_list() == ["naive", "hardened"]
    assert alive["alive"].to_list() == [1, 1]
