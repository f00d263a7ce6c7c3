from __future__ import annotations

import numpy as np
import pytest

from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.workload import (
    ClosedLoop,
    Hotspot,
    OpenLoop,
    Popularity,
    Scan,
    Trace,
    Uniform,
    Zipf,
)

ALL = [Uniform(50), Zipf(50, 0.9), Hotspot(50, 0.1, 0.8, shift_every=100), Scan(50)]


@pytest.mark.parametrize("popularity", ALL, ids=repr)
def test_same_seed_same_keys_and_a_short_draw_is_a_prefix(popularity: Popularity) -> None:
    keys = popularity.keys(1000, 7)
    assert (keys == popularity.keys(1000, 7)).all()
    assert (keys[:333] == popularity.keys(333, 7)).all()
    assert keys.dtype == np.int64
    assert keys.min() >= 0
    assert keys.max() < 50


@pytest.mark.parametrize("popularity", ALL[:3], ids=repr)
def test_another_seed_draws_other_keys(popularity: Popularity) -> None:
    assert (popularity.keys(1000, 7) != popularity.keys(1000, 8)).any()


@pytest.mark.parametrize("popularity", [Uniform(20), Zipf(20, 0), Zipf(20, 1.3), Hotspot(20)])
def test_draws_follow_the_stated_chances(popularity: Zipf | Uniform | Hotspot) -> None:
    count = 200_000
    chance = popularity.probabilities
    assert chance.sum() == pytest.approx(1)
    found = np.bincount(popularity.keys(count, 1), minlength=20) / count
    spread = np.sqrt(chance * (1 - chance) / count)
    assert (np.abs(found - chance) < 5 * spread).all()


def test_zipf_chances_fall_by_the_power_of_the_rank() -> None:
    chance = Zipf(1000, 1.2).probabilities
    assert chance[0] / chance[9] == pytest.approx(10**1.2)


def test_zipf_never_draws_beyond_its_last_key() -> None:
    # without the last cumulative value set to 1, rounding leaves a gap above some of these
    for n in (3, 7, 49, 1000):
        assert Zipf(n, 1.1)._cumulative[-1] == 1.0


def test_the_hot_set_moves() -> None:
    keys = Hotspot(100, 0.1, 1.0, shift_every=10).keys(30, 3)
    assert set(keys[:10]) <= set(range(10))
    assert set(keys[10:20]) <= set(range(10, 20))
    assert set(keys[20:]) <= set(range(20, 30))


def test_a_scan_cycles() -> None:
    assert Scan(3).keys(7, 99).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_open_loop_times() -> None:
    even = OpenLoop(4, poisson=False).times(duration=1.0)
    assert even.tolist() == [0, 0.25, 0.5, 0.75]
    poisson = OpenLoop(1000).times(duration=20, seed=5)
    assert len(poisson) == pytest.approx(20_000, rel=0.03)
    assert poisson[-1] < 20
    gaps = np.diff(poisson)
    assert (gaps >= 0).all()
    assert gaps.std() / gaps.mean() == pytest.approx(1, rel=0.05)  # exponential, not even
    assert (OpenLoop(1000).times(count=100, seed=5) == poisson[:100]).all()


def test_times_and_keys_of_one_seed_are_independent() -> None:
    gaps = np.diff(OpenLoop(1).times(count=5001, seed=3))
    keys = Uniform(1000).keys(5000, 3)
    assert abs(np.corrcoef(gaps, keys)[0, 1]) < 0.06


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform(0),
        lambda: Uniform(True),
        lambda: Zipf(10, -0.1),
        lambda: Zipf(10, float("nan")),
        lambda: Hotspot(10, 0),
        lambda: Hotspot(10, 0.1, 1.1),
        lambda: Hotspot(10, shift_every=0),
        lambda: Scan(2.5),  # type: ignore[arg-type]
        lambda: ClosedLoop(0),
        lambda: OpenLoop(0),
        lambda: Trace(np.array([2.0, 1.0]), np.array([1, 1])),
        lambda: Trace(np.array([1.0]), np.array([1, 1])),
        lambda: OpenLoop(5).times(),
        lambda: OpenLoop(5).times(count=1, duration=1),
        lambda: Uniform(3).keys(-1, 0),
    ],
)
def test_bad_arguments_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidArgument, match=r"must |either duration or count"):
        make()
