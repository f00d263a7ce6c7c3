"""The model of a frozen holder agrees with itself."""

from __future__ import annotations

import pytest

from kvlab.chapters.distributed_lock.charts import FREEZE_SECONDS, freeze_chart
from kvlab.chapters.distributed_lock.freeze import Freeze
from kvlab.errors import InvalidArgument


@pytest.mark.parametrize(
    ("ttl", "pause", "both", "overwrites", "stopped"),
    [
        (10, 1, 0, False, False),  # A is back in time
        (5, 7, 2, True, True),  # B came and went while A was frozen
        (5, 4, 1, False, True),  # A writes while B is inside
        (5, 3, 0, False, True),  # to the moment
    ],
)
def test_a_holder_that_freezes(
    ttl: float, pause: float, both: float, overwrites: bool, stopped: bool
) -> None:
    freeze = Freeze(ttl, pause)
    assert (freeze.both_inside, freeze.a_overwrites_b, freeze.check_stops_a) == (
        both,
        overwrites,
        stopped,
    )


def test_a_ttl_that_ends_before_the_freeze_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        Freeze(1.0, 5)


@pytest.mark.parametrize(("ttl", "pause"), [(1.5, 0), (5, 7), (15, 15)])
def test_the_axes_are_the_same_at_every_position_of_the_knobs(ttl: float, pause: float) -> None:
    (axes,) = freeze_chart(ttl, pause).axes
    assert axes.get_xlim() == (0, FREEZE_SECONDS)
    assert Freeze(ttl, pause).a_writes < FREEZE_SECONDS
