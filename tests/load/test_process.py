"""The phases of a run on a clock that the test sets: what counts, and what is left out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from support.load_samples import limiter_settings

from kvlab.errors import InvalidArgument
from kvlab.load.evidence import Evidence
from kvlab.load.leaderboard.settings import BoardSettings
from kvlab.load.process import Phases, Process
from kvlab.load.pulse import Pulse
from kvlab.load.rate_limiter.decisions import Decisions
from kvlab.load.rate_limiter.settings import LimiterSettings


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def made(clock: Clock, **more: Any) -> Process[Any, Any]:
    settings = limiter_settings(**({"seconds": 10} | more))
    return Process(settings, Evidence(Decisions(), settings.interval), clock)


def rows(process: Process[Any, Any]) -> Any:
    began, ends = process.unix(process.began), process.unix(process.ends)
    return process.evidence.timeline(began, ends - began, {}, open_loop=True)


def test_a_run_lasts_from_the_last_warm_user_on() -> None:
    clock = Clock()
    process = made(clock)
    assert not process.gate.is_set()
    assert not process.is_over
    clock.now = 53.0
    process.start()
    assert (process.began, process.ends) == (53.0, 63.0)
    clock.now = 62.999
    assert not process.is_over
    clock.now = 63.0
    assert process.is_over


def test_a_call_under_way_at_the_end_counts_whole_and_in_the_last_interval() -> None:
    clock = Clock()
    process = made(clock)
    process.start()
    clock.now = 51.0
    process.record("hit", 50.5)
    clock.now = 61.0
    process.finish()
    clock.now = 64.0
    process.record("hit", 59.0)
    assert process.ends == 60.0
    assert process.evidence.drained == 1
    assert process.evidence.latency["hit"].max == pytest.approx(5.0, rel=1e-3)
    timeline = rows(process)
    assert timeline["calls"].sum() == 2
    assert timeline["calls"].iloc[-1] == 1
    assert timeline["second"].max() <= 10


def test_a_run_that_is_stopped_early_is_as_long_as_it_was() -> None:
    clock = Clock()
    process = made(clock)
    process.start()
    clock.now = 54.0
    process.finish()
    process.finish()
    assert (process.ends, process.is_over) == (54.0, True)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stopped", [None, 57.5])
def test_due_is_sent_and_never_sent_exactly(workers: int, stopped: float | None) -> None:
    """One user who is busy for 0.3 s a call: most arrivals of a second are never sent."""
    clock = Clock()
    process = made(clock, rate=1000.0, workers=workers)
    process.start()
    assert process.arrivals is not None
    due = process.arrivals.next()
    sent, ends = 0, stopped or 60.0
    while clock.now < ends:
        clock.now = max(clock.now, due)
        if clock.now >= ends:
            break
        clock.now += 0.3
        process.count_due(due)
        process.record("hit", due)
        sent += 1
        due = process.arrivals.next()
    clock.now = ends
    process.finish()
    process.count_due(due)  # taken by the user, and never sent
    again = made(Clock(), rate=1000.0, workers=workers)
    again.start()
    assert again.arrivals is not None
    expected = len(again.arrivals.never_sent(ends))
    evidence = process.evidence
    assert rows(process)["due"].sum() == expected
    assert (evidence.calls, evidence.never_sent) == (sent, expected - sent)
    assert expected == pytest.approx((ends - 50) * 1000 / workers, rel=0.1)


def test_the_rate_does_not_depend_on_how_many_users_are_there() -> None:
    few, many = (made(Clock(), rate=100.0, users=users) for users in (1, 500))
    for process in (few, many):
        process.start()
    assert few.arrivals is not None
    assert many.arrivals is not None
    assert few.arrivals.never_sent(60.0) == many.arrivals.never_sent(60.0)


def test_counts_at_the_edges_are_merged() -> None:
    one, other = made(Clock()), made(Clock())
    one.evidence.warm_up, one.evidence.drained = 3, 1
    other.evidence.warm_up = 4
    one.evidence.add(other.evidence.to_dict())
    assert (one.evidence.warm_up, one.evidence.drained) == (7, 1)


@pytest.mark.parametrize(
    ("shape", "workers", "rests"),
    [
        ("constant", 1, {0: [0, 0, 0, 0], 5.5: [0, 0, 0, 0]}),
        ("step", 1, {0: [0, 2.5, 2.5, 2.5], 2.5: [0, 0, 2.5, 2.5], 6: [0, 0, 0, 1.5], 8: [0] * 4}),
        ("step", 2, {0: [0, 2.5], 6: [0, 0]}),  # at least one user calls in each process
        ("spike", 1, {0: [0, 4, 4, 4], 4: [0, 0, 0, 0], 6: [0, 4, 4, 4]}),
    ],
)
def test_a_shape_lets_users_rest_who_stay_connected(
    shape: str, workers: int, rests: dict[float, list[float]]
) -> None:
    clock = Clock()
    process = made(clock, shape=shape, workers=workers, users=4)
    process.start()
    for second, expected in rests.items():
        clock.now = 50.0 + second
        found = [process.rest(number) for number in range(len(expected))]
        assert found == pytest.approx(expected)


class Runs:
    """A process whose users the test warms up and keeps busy; what its phases did, in order."""

    def __init__(self, **more: Any) -> None:
        listeners = SimpleNamespace(add_listener=lambda listener: None)
        events = SimpleNamespace(spawning_complete=listeners, test_stopping=listeners)
        environment: Any = SimpleNamespace(events=events, runner=SimpleNamespace(user_count=3))
        self.clock = Clock()
        self.process = made(self.clock, **more)
        self.done: list[str] = []
        self.phases = Phases(
            environment,
            on_begun=lambda moment: self.done.append("begun"),
            stop=lambda: self.done.append("stopped"),
        )
        self.phases.begin(self.process)

    def warm(self) -> None:
        self.process.warmed = 3
        self.phases.on_spawning_complete()
        while not self.done:
            gevent.sleep(0.001)


def test_a_run_begins_when_all_users_are_there_and_warm() -> None:
    runs = Runs()
    for change in (
        lambda: None,
        lambda: setattr(runs.process, "warmed", 3),  # of the users so far
        lambda: (setattr(runs.process, "warmed", 2), runs.phases.on_spawning_complete()),
    ):
        change()
        gevent.sleep(0.02)
        assert runs.done == []
    runs.warm()
    assert runs.done == ["begun"]
    assert runs.process.gate.is_set()
    runs.phases.on_test_stopping()


def test_calls_under_way_end_before_locust_stops() -> None:
    runs = Runs()
    runs.warm()
    runs.process.under_way = 1
    stopping = gevent.spawn(runs.phases.on_test_stopping)
    gevent.sleep(0.02)
    assert runs.process.is_over  # no call begins
    assert not stopping.ready()
    runs.process.under_way = 0
    stopping.join(5)
    assert stopping.successful()


def test_a_drain_has_an_end() -> None:
    runs = Runs(stop_timeout=0)
    runs.warm()
    runs.process.under_way = 1
    runs.phases.on_test_stopping()
    assert runs.process.is_over


def test_a_run_stops_by_itself() -> None:
    runs = Runs(seconds=0.01)
    runs.warm()
    while len(runs.done) < 2:
        gevent.sleep(0.001)
    assert runs.done == ["begun", "stopped"]
    assert runs.process.is_over


def test_a_pulse_tells_how_late_timers_are_and_how_busy_the_core_is() -> None:
    """An interval without a delay, then one whose timers are late and whose core is busy."""
    clock, lates, cpu = Clock(), [], iter([0.0, 0.02, 0.02, 0.065])

    def sleep(seconds: float) -> None:
        clock.now += seconds + late

    pulse, late = Pulse(0.035, clock, lambda: next(cpu), sleep), 0.0
    pulse.measure(lates.append)
    assert (pulse.busiest, pulse.latest) == pytest.approx((0.5, 0.0), abs=1e-6)
    late = 0.015
    pulse.measure(lates.append)
    assert (pulse.busiest, pulse.latest) == pytest.approx((0.9, 0.015))
    assert lates == pytest.approx([0.0] * 4 + [0.015] * 2)


def test_settings_of_another_load_test_are_refused_by_name() -> None:
    sent = limiter_settings().to_dict()
    assert LimiterSettings.from_dict(sent) == limiter_settings()
    with pytest.raises(InvalidArgument, match="another load test, or another kvlab"):
        BoardSettings.from_dict(sent)
