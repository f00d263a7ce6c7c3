"""The number of runs is the number of orders."""

from __future__ import annotations

from kvlab.chapters.explore_your_own_code.sizes import runs_by_size, runs_chart


def test_every_order_is_run_once_and_reduced_to_the_two_that_differ() -> None:
    frame = runs_by_size((2, 3))
    assert list(frame["runs"]) == [6, 2, 20, 2]
    assert list(frame["theory"]) == list(frame["runs"])
    assert runs_chart(frame, title="t").axes[0].get_title(loc="left") == "t"
