"""The bound is the binomial's; a flag grows and another draw does not; figures show the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.colors import to_hex

from kvlab.chapters.feature_flags import rollout as feature_flags_rollout
from kvlab.chapters.feature_flags.charts import evenness, reach, who_is_in
from kvlab.chapters.feature_flags.rollout import (
    binomial_bound,
    independence,
    rollout_by_steps,
    users_in,
)
from kvlab.errors import InvalidArgument
from kvlab.instruments.palette import COLOURS


def test_the_bound_is_the_binomials() -> None:
    expected, bound = binomial_bound(100_000, 0.1)
    assert expected == pytest.approx(10_000)
    assert bound == pytest.approx(4 * math.sqrt(9_000))
    draws = np.random.default_rng(1).binomial(100_000, 0.1, 10_000)
    assert np.std(draws) == pytest.approx(bound / 4, rel=0.05)


def test_a_flag_that_grows_throws_nobody_out_and_another_draw_does() -> None:
    steps = rollout_by_steps("new", range(2_000), (10, 20, 50), seed=8)
    assert list(steps["lost it"]) == [0, 0, 0]
    assert steps["drawn again: lost it"].iloc[1] > 0
    assert list(steps["have it"]) == [len(users_in("new", p, range(2_000))) for p in (10, 20, 50)]


def test_two_flags_are_independent_and_flags_that_share_their_users_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = independence("new", "other", 10, range(10_000))
    assert table["users"].sum() == 10_000
    assert table["expected"].sum() == pytest.approx(10_000)
    assert table["within the bound"].all()
    monkeypatch.setattr(
        feature_flags_rollout, "users_in", lambda _, percent, users: users_in("x", percent, users)
    )
    assert not independence("new", "other", 10, range(10_000))["within the bound"].any()


def test_evenness_draws_the_counts_and_who_is_in() -> None:
    places = np.repeat((np.arange(20) + 0.5) / 20, np.arange(1, 21))
    axes = evenness(places, 10, 3).axes[0]
    bars = axes.containers[0]
    assert [bar.get_height() for bar in bars] == list(range(1, 21))
    blue = [to_hex(bar.get_facecolor()).upper() == COLOURS["hardened"] for bar in bars]
    assert blue == [True] * 2 + [False] * 18
    assert "3 are in, -18; OUTSIDE" in axes.get_title(loc="left")


def test_who_is_in_has_a_colour_for_each_fate() -> None:
    figure = who_is_in([True, True, False, False], [True, False, True, False], "1 % to 2 %")
    squares = figure.axes[0].collections[0]
    shades = [to_hex(shade).upper() for shade in squares.get_facecolors()]
    assert len(set(shades)) == 4
    assert shades[:2] == [COLOURS["hardened"], COLOURS["naive"]]
    assert figure.axes[0].get_title(loc="left").endswith("1 get it, 1 lose it")
    with pytest.raises(InvalidArgument):
        who_is_in([True], [], "1 % to 2 %")


def test_reach_ends_at_the_last_watcher() -> None:
    figure = reach([[0.003, 0.001], [0.002, 0.004]])
    first, second, together, marked = figure.axes[0].lines
    assert list(first.get_xdata()) == [0, 1, 3]
    assert list(second.get_xdata()) == [0, 2, 4]
    assert list(together.get_xdata()) == [0, 1, 2, 3, 4]
    assert list(together.get_ydata()) == [0, 0.25, 0.5, 0.75, 1]
    assert marked.get_xdata()[0] == 3.5
    with pytest.raises(InvalidArgument):
        reach([])
