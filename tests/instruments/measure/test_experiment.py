"""Experiments in virtual time: the clock moves only when told, so counts and times are exact."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import redis

from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.experiment import Clock, experiment
from kvlab.instruments.measure.machine import environment
from kvlab.instruments.measure.workload import ClosedLoop, OpenLoop, Scan, Trace, Uniform


class Virtual(Clock):
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wait_until(self, moment: float) -> None:
        self.time = max(self.time, moment)


def test_every_key_once_in_order_and_outcomes_counted() -> None:
    seen: list[int] = []

    def subject(key: int) -> str | None:
        seen.append(key)
        return "even" if key % 2 == 0 else None

    result = experiment(subject, Scan(10), 0, count=15, warmup=5)
    assert seen == [*range(10), *range(10)]
    assert result.counts == {"done": 8, "even": 7}
    assert result.count == 15
    assert result.share("even") == 7 / 15
    assert result.share("never") == 0
    assert result.violations is None
    assert result.environment["loop"] == "closed, ClosedLoop(workers=1)"
    assert result.environment["warmup"] == "5 calls"


def test_a_slow_answer_makes_the_ones_behind_it_late() -> None:
    """One stall of 1 s at 10 requests a second: a closed loop would see one slow call, not ten."""
    clock = Virtual()

    def subject(key: int) -> None:
        clock.time += 1.0 if key == 5 else 0.001

    result = experiment(
        subject, Scan(100), 0, arrivals=OpenLoop(10, poisson=False), count=30, clock=clock
    )
    assert result.latency.percentile(100) == pytest.approx(1.0, rel=1e-3)
    seconds, share = result.latency.curve()
    assert share[seconds < 0.09][-1] == pytest.approx(20 / 30)  # ten of thirty had to wait
    assert result.late == 10
    assert result.lateness is not None
    assert result.lateness.max == pytest.approx(0.9, rel=1e-3)

    closed = experiment(subject, Scan(100), 0, count=30, clock=clock)
    assert closed.latency.percentile(90) < 0.01
    assert closed.lateness is None


def test_warm_up_seconds_and_duration_follow_the_schedule() -> None:
    clock = Virtual()
    calls: list[float] = []
    result = experiment(
        lambda key: calls.append(clock.time),
        Scan(10),
        0,
        arrivals=OpenLoop(10, poisson=False),
        warmup_seconds=1.0,
        duration=2.0,
        bucket=0.5,
        clock=clock,
    )
    assert len(calls) == 30
    assert result.count == 20
    assert result.timeline == [{"done": 5}] * 4
    assert result.timeline_frame()["seconds"].tolist() == [0, 0.5, 1.0, 1.5]


def test_a_closed_loop_ends_by_the_clock() -> None:
    clock = Virtual()

    def subject(key: int) -> None:
        clock.time += 0.25

    result = experiment(subject, Uniform(3), 0, warmup_seconds=1, duration=2, clock=clock)
    assert result.count == 8
    assert result.seconds == 2
    assert result.throughput == 4


def test_workers_share_the_requests_exactly() -> None:
    seen: list[int] = []
    together = threading.Barrier(4)

    def subject(key: int) -> str:
        together.wait()  # passes only when four workers are inside at once
        seen.append(key)
        return "ok"

    result = experiment(subject, Scan(400), 0, arrivals=ClosedLoop(4), count=400)
    assert sorted(seen) == list(range(400))
    assert result.counts == {"ok": 400}


def test_an_exception_ends_the_run_unless_expected() -> None:
    def subject(key: int) -> None:
        if key == 3:
            raise KeyError(key)

    for workers in (1, 3):
        with pytest.raises(KeyError):
            experiment(subject, Scan(10), 0, arrivals=ClosedLoop(workers), count=10)
    result = experiment(subject, Scan(10), 0, count=10, expected=(KeyError,))
    assert result.counts == {"KeyError": 1, "done": 9}


def test_violations_are_what_the_caller_found() -> None:
    assert experiment(lambda key: None, Scan(2), 0, count=2, check=lambda: 3).violations == 3


def test_a_trace_drives_its_own_times() -> None:
    clock = Virtual()
    trace = Trace(np.arange(20) / 5, np.arange(20) % 9)
    seen: list[tuple[float, int]] = []
    experiment(lambda key: seen.append((clock.time, key)), trace, 0, clock=clock)
    assert [key for _, key in seen] == trace.asked.tolist()
    assert [t - 100 for t, _ in seen] == pytest.approx(trace.times.tolist())


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"count": 5, "duration": 1.0},
        {"count": 0},
        {"duration": 0.0},
        {"count": 5, "warmup": -1},
        {"count": 5, "warmup": 1, "warmup_seconds": 1.0},
        {"count": 5, "bucket": 0.0},
        {"duration": 0.1, "arrivals": OpenLoop(0.1), "warmup_seconds": 0.001},
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        experiment(lambda key: None, Scan(3), 0, **arguments)  # type: ignore[arg-type]


def test_a_trace_shorter_than_its_warm_up_is_refused() -> None:
    trace = Trace(np.arange(20) / 5, np.arange(20) % 9)
    with pytest.raises(InvalidArgument, match="warm-up of 20"):
        experiment(lambda key: None, trace, 0, warmup=20)


class FakeKv:
    """Has what an experiment uses of a Kv."""

    def __init__(self, client: redis.Redis) -> None:
        self.client, self.round_trips = client, 0


def test_round_trips_and_engine_come_from_the_kv(direct: redis.Redis) -> None:
    kv = FakeKv(direct)

    def subject(key: int) -> None:
        kv.round_trips += 2

    result = experiment(subject, Scan(3), 0, count=10, warmup=7, kv=kv)
    assert result.round_trips == 20
    assert result.environment["engine"] == "Valkey"
    assert result.environment["engine_version"][0].isdigit()


def test_the_environment_names_no_one() -> None:
    import getpass
    import json
    import platform

    text = json.dumps(environment())
    for private in (getpass.getuser(), platform.node(), str(Path.home()), str(Path.cwd())):
        assert f'"{private}"' not in text
        assert len(private) < 4 or private not in text
