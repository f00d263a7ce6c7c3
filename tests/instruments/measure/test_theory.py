"""Formulas against simulations in virtual time."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.theory import (
    che_characteristic_time,
    che_lru_hit_ratio,
    closed_loop_pause,
    fixed_window_worst,
    open_loop_pause,
    sliding_counter_worst,
    sliding_log_worst,
    student_t,
    token_bucket_worst,
    ttl_hit_ratio,
)
from kvlab.instruments.measure.workload import OpenLoop, Uniform, Zipf


@pytest.mark.parametrize("skew", [0.0, 0.8, 1.2])
def test_ttl_formula_against_a_simulated_cache(skew: float) -> None:
    ttl, rate = 2.0, 2000
    popularity = Zipf(2000, skew)
    times = OpenLoop(rate).times(duration=32, seed=11)
    keys = popularity.keys(len(times), 11)
    expires = np.zeros(2000)
    hits = seen = 0
    for time, key in zip(times, keys, strict=True):
        hit = expires[key] > time
        if not hit:
            expires[key] = time + ttl
        if time > ttl:
            hits, seen = hits + bool(hit), seen + 1
    assert hits / seen == pytest.approx(
        ttl_hit_ratio(popularity.probabilities, rate, ttl), abs=0.01
    )


@pytest.mark.parametrize("skew", [0.0, 0.8, 1.2])
def test_ches_approximation_against_a_simulated_lru(skew: float) -> None:
    popularity, capacity = Zipf(1000, skew), 100
    cache: OrderedDict[int, None] = OrderedDict()
    hits, keys = 0, popularity.keys(60_000, 3).tolist()
    for i, key in enumerate(keys):
        if key in cache:
            cache.move_to_end(key)
            hits += i >= 10_000
        else:
            cache[key] = None
            if len(cache) > capacity:
                cache.popitem(last=False)
    found = hits / (len(keys) - 10_000)
    assert found == pytest.approx(che_lru_hit_ratio(popularity.probabilities, capacity), abs=0.01)


def test_limits_of_the_formulas() -> None:
    even = Uniform(10).probabilities
    assert ttl_hit_ratio(even, 5, 0) == 0
    assert ttl_hit_ratio([1.0], 1, 3) == pytest.approx(0.75)
    assert che_lru_hit_ratio(even, 10) == 1
    assert che_lru_hit_ratio(even, 3) == pytest.approx(0.3)
    held = 1 - np.exp(-even * che_characteristic_time(even, 3))
    assert held.sum() == pytest.approx(3)


def test_worst_cases() -> None:
    assert fixed_window_worst(10) == 20
    assert sliding_log_worst(10) == 10
    assert sliding_counter_worst(10) == 19
    assert token_bucket_worst(10, 10 / 60, 60) == 19
    assert token_bucket_worst(4, 1, 0) == 4


@pytest.mark.parametrize("users", [1, 5, 50])
@pytest.mark.parametrize("pause", [0.05, 0.5, 2.0])
def test_a_pause_as_both_loops_see_it(users: int, pause: float) -> None:
    seconds, begins, service = 10.0, 4.0003, 0.01
    closed = []
    for _ in range(users):
        now = 0.0
        while now < seconds:
            done = now + service
            if now <= begins < done:
                done += pause
            closed.append(done - now - service)
            now = done
    due = np.arange(0, seconds, 0.001)
    waited = np.where((due >= begins) & (due < begins + pause), begins + pause - due, 0)
    for percent in (50, 90, 99):
        formula = closed_loop_pause(percent, pause, seconds, users, users / service)
        assert formula == pytest.approx(np.percentile(closed, percent), abs=0.002)
        formula = open_loop_pause(percent, pause, seconds)
        assert formula == pytest.approx(np.percentile(waited, percent), abs=0.002)
    many = closed_loop_pause(99, pause, seconds, 2 * users, users)  # a slow call for each
    assert many == pause


@pytest.mark.parametrize("chances", [[], [0.5, 0.4], [1.5, -0.5], [[1.0]]])
def test_chances_must_be_chances(chances: list[float]) -> None:
    with pytest.raises(InvalidArgument):
        ttl_hit_ratio(chances, 1, 1)


@pytest.mark.parametrize(
    ("chance", "freedom", "quantile"),
    [
        (0.975, 1, 12.7062),
        (0.975, 2, 4.30265),
        (0.975, 5, 2.57058),
        (0.8, 3, 0.97847),
        (0.995, 30, 2.75),
    ],
)
def test_quantiles_of_student(chance: float, freedom: int, quantile: float) -> None:
    assert student_t(chance, freedom) == pytest.approx(quantile, rel=1e-5)
