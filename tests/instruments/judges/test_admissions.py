"""The oracle is tested on admissions whose verdict is known by arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from kvlab.errors import InvalidArgument
from kvlab.instruments.judges.admissions import BOUNDS, certain_overlap, judge
from kvlab.instruments.judges.denials import judge_denials

EDGE = [59.9] * 10 + [60.1] * 10


@pytest.mark.parametrize(
    ("algorithm", "times", "over", "worst"),
    [
        ("fixed-window", EDGE, 0, 10),  # twice the limit within 0.2 s, and its promise is kept
        ("fixed-window", [*EDGE, 60.2], 1, 11),
        ("sliding-log", EDGE, 10, 20),
        ("sliding-log", [0.0] * 10 + [60.0] * 10, 0, 10),  # the oldest have just left
        ("sliding-log", [0.0] * 10 + [59.999999], 1, 11),
        ("sliding-counter", [0.0] * 10 + [90.0] * 5, 0, 10),  # half of ten, and five
        ("sliding-counter", [0.0] * 10 + [90.0] * 6, 1, 11),
        ("token-bucket", [0.0] * 10 + [6.0], 0, 10),  # one token every six seconds
        ("token-bucket", [0.0] * 10 + [5.9], 1, pytest.approx(10 + 0.1 / 6)),
        ("token-bucket", [0.0] * 10 + [60.0] * 10, 0, 10),
    ],
)
def test_known_verdicts(algorithm: str, times: list[float], over: int, worst: float) -> None:
    verdict = judge(algorithm, times, limit=10, window=60)
    assert (verdict.over, verdict.worst, verdict.holds) == (over, worst, over == 0)
    assert verdict.admitted == len(times)


def test_a_burst_of_its_own() -> None:
    assert judge("token-bucket", [0.0] * 3, limit=10, window=60, burst=3).holds
    assert not judge("token-bucket", [0.0] * 4, limit=10, window=60, burst=3).holds


def test_order_does_not_matter_and_nothing_is_fine() -> None:
    for algorithm in BOUNDS:
        assert judge(algorithm, [], limit=1, window=1).holds
    assert judge("sliding-log", EDGE[::-1], limit=10, window=60).over == 10


def test_verdicts_add_up_over_keys() -> None:
    both = judge("sliding-log", EDGE, limit=10, window=60) + judge(
        "sliding-log", [0.0], limit=10, window=60
    )
    assert (both.over, both.worst, both.admitted) == (10, 20, 21)


def test_an_unknown_algorithm_is_named() -> None:
    with pytest.raises(InvalidArgument, match="leaky"):
        judge("leaky", [], limit=1, window=1)


def test_only_what_is_beyond_doubt_is_counted() -> None:
    spans = [(i / 100, i / 100 + 0.005) for i in range(15)]
    assert certain_overlap(spans, limit=10, window=60).over == 5
    assert certain_overlap(spans, limit=15, window=60).holds
    # Each may have been decided outside the window: nothing is beyond doubt.
    assert certain_overlap([(0, 100)] * 15, limit=10, window=60).holds
    # Two windows, each over by five.
    later = [(a + 100, b + 100) for a, b in spans]
    assert certain_overlap(spans + later, limit=10, window=60).over == 10


@pytest.mark.parametrize("window", [1, 86_400, 366 * 86_400])
@pytest.mark.parametrize("limit", [3, 1_000])
def test_a_counter_one_microsecond_early_is_seen_in_every_window(window: int, limit: int) -> None:
    # One unit less fits in the new window than in the old one, so one unit of those must fade.
    width = window * 1_000_000
    right = 3 * width + -(-width // limit)
    for moment, over in ((right, 0), (right - 1, 1)):
        times = np.array([*[2 * width] * limit, moment]) / 1e6
        verdict = judge("sliding-counter", times, limit=limit, window=window)
        assert verdict.over == over
        denied = judge_denials(
            "sliding-counter", times[:-1], times[-1:], limit=limit, window=window
        )
        assert denied.unjustified == 1 - over


def test_a_counter_of_any_size_is_judged() -> None:
    day = 86_400.0
    times = [day] * 200_000 + [day * 2] * 2
    assert judge("sliding-counter", times, limit=2**53, window=day).holds
    assert judge("sliding-counter", times, limit=200_000, window=366 * day).over == 2
    assert judge("sliding-counter", times, limit=200_000, window=day).over == 2


@pytest.mark.parametrize("algorithm", BOUNDS)
def test_the_first_admission_too_many_is_shown(algorithm: str) -> None:
    verdict = judge(algorithm, [7.0, 0.25] * 11, limit=10, window=60)
    assert (verdict.holds, verdict.moment) == (False, 0.25)
    fine = judge(algorithm, [0.25], limit=10, window=60)
    assert fine.moment is None
    assert (fine + verdict + judge(algorithm, [9.0] * 11, limit=10, window=60)).moment == 0.25


def test_one_token_too_many_is_not_lost_in_a_long_run() -> None:
    steady = [0.0] * 1000 + [0.001 * n for n in range(1, 5001)]  # full all the time
    assert judge("token-bucket", steady, limit=1000, window=1).holds
    verdict = judge("token-bucket", [*steady, 4.9995], limit=1000, window=1)
    assert (verdict.over, verdict.worst, verdict.moment) == (2, 1001, 4.9995)
