"""What a figure says must come from its data; how it looks was judged by eye."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kvlab.errors import InvalidArgument
from kvlab.instruments import charts
from kvlab.instruments.measure.recorder import Recorder
from kvlab.instruments.measure.result import Result


def result(name: str, milliseconds: float, violations: int | None) -> Result:
    recorder = Recorder()
    recorder.record_all(np.full(1000, milliseconds / 1e3))
    return Result(name, {"hit": recorder}, [], 1.0, 2.0, violations, round_trips=3000)


def latency() -> Figure:
    results = [result("naive", 1, 14), result("hardened", 2, 0), result("peer", 9, None)]
    return charts.latency_percentiles(results)


def window() -> Figure:
    return charts.admissions_per_window([50, 51, 52, 60, 61, 62], 3, 60)


def over() -> Figure:
    rows = [("burst", "naive", 47, 10), ("burst", "hardened", 10, 10)]
    return charts.over_admission(
        pd.DataFrame(rows, columns=["case", "variant", "admitted", "limit"])
    )


def trips() -> Figure:
    rows = [("hit", "naive", 2), ("hit", "hardened", 1), ("set", "hardened", 1)]
    return charts.round_trips(pd.DataFrame(rows, columns=["op", "variant", "round_trips"]))


def timeline() -> Figure:
    return charts.timeline(
        {"naive": [0, 64, 1], "hardened": [0, 1, 0]}, [0, 1, 2], ylabel="loads", events={"cut": 1}
    )


SAYS = {
    latency: [
        "p99: naive 1 ms, hardened 2 ms, peer 9 ms",
        "14 violations",
        "0 violations",
        "not checked",
    ],
    window: ["Up to 6 admitted in 60 s, the limit is 3", "limit 3"],
    over: ["Limit 10: naive admits up to 47, hardened admits up to 10", "47", "10", "limit 10"],
    trips: ["Round trips in all: naive 2, hardened 2", "2", "1"],
    timeline: ["naive peaks at 64 after 1 s", "cut", "hardened"],
}


@pytest.mark.parametrize("draw", SAYS, ids=lambda draw: draw.__name__)
def test_a_figure_says_what_its_data_say_and_clips_nothing(draw: Callable[[], Figure]) -> None:
    before = dict(mpl.rcParams)
    figure = draw()
    assert dict(mpl.rcParams) == before
    axes = figure.axes[0]
    written = [axes.get_title(loc="left"), *(text.get_text() for text in axes.texts)]
    for wanted in SAYS[draw]:
        assert any(wanted in text.split("\n") for text in written), (wanted, written)
    assert axes.get_ylabel()
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file)  # which lays it out
    assert len(file.getvalue()) < 120_000
    page = figure.bbox
    legend = axes.get_legend()
    for artist in [axes.title, axes._left_title, *axes.texts, *([legend] if legend else [])]:
        box = artist.get_window_extent()
        assert box.x0 >= page.x0 - 1, artist
        assert box.x1 <= page.x1 + 1, artist
        assert box.y0 >= page.y0 - 1, artist
        assert box.y1 <= page.y1 + 1, artist


def test_labels_do_not_cover_each_other() -> None:
    results = [result(f"variant {i}", ms, 0) for i, ms in enumerate((1, 1.001, 1.002, 900))]
    figure = charts.latency_percentiles(results)
    FigureCanvasAgg(figure).draw()
    boxes = sorted((t.get_window_extent() for t in figure.axes[0].texts), key=lambda b: b.y0)
    assert len(boxes) == 4
    for below, above in pairwise(boxes):
        assert below.y1 <= above.y0 + 1


def test_wrong_data_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="lacks"):
        charts.round_trips(pd.DataFrame({"op": []}))
    with pytest.raises(InvalidArgument):
        charts.admissions_per_window([], 1, 1)
    with pytest.raises(InvalidArgument, match="name"):
        charts.latency_percentiles([result("same", 1, 0), result("same", 1, 0)])


def test_a_group_that_lacks_a_variant_closes_up_around_its_middle() -> None:
    rows = [("a", "naive", 50, 10), ("b", "hardened", 10, 10), ("c", "naive", 9, 10)]
    rows += [("c", "hardened", 8, 10)]
    frame = pd.DataFrame(rows, columns=["case", "variant", "admitted", "limit"])
    bars = charts.over_admission(frame).axes[0].patches
    middles = {bar.get_height(): bar.get_x() + bar.get_width() / 2 for bar in bars}
    assert middles == pytest.approx({50: 0, 10: 1, 9: 1.8, 8: 2.2})
