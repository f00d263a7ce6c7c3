"""Labels stand beside what they name, do not cover each other and never leave the page."""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from kvlab.errors import InvalidArgument
from kvlab.instruments import charts
from kvlab.instruments.charts.style import panels

LONG = "a title that says the finding in so many words that one line cannot hold it, so it wraps"
REMARK = "points: measured    dashes: " * 6


def lines_that_end_alike() -> Figure:
    rows = [(f"variant {i}", x, 10 + i / 1000) for i in range(7) for x in (1, 2, 3)]
    frame = pd.DataFrame(rows, columns=["variant", "x", "y"])
    return charts.lines(
        frame, x="x", y="y", by="variant", title=LONG, xlabel="x", ylabel="y", limit=10
    )


def lines_with_a_long_remark() -> Figure:
    rows = [(name, x, y) for name, y in (("naive", 9.0), ("hardened", 9.1)) for x in (1, 100)]
    frame = pd.DataFrame(rows, columns=["variant", "x", "y"])
    labels = {"xlabel": "x", "ylabel": "y", "title": LONG, "remark": REMARK}
    return charts.lines(frame, x="x", y="y", by="variant", logx=True, logy=True, **labels)


def bars_below_their_limit() -> Figure:
    frame = pd.DataFrame({"size": list("aabb"), "variant": ["naive", "hardened"] * 2})
    frame["bytes"] = [146, 150, 149, 200]
    return charts.bars(
        frame, x="size", y="bytes", by="variant", title=LONG, ylabel="bytes", limit=150
    )


def dots_far_apart() -> Figure:
    draw = np.random.default_rng(1)
    rows = [
        (f"{name}\n0 violations in 20 turns", name, value)
        for name, middle in (("naive", 50.0), ("hardened", 0.4), ("a peer", 55.0))
        for value in draw.lognormal(np.log(middle), 0.5, 20)
    ]
    frame = pd.DataFrame(rows, columns=["lock", "variant", "ms"])
    labels = {"xlabel": "time (ms)", "title": LONG, "remark": REMARK, "form": "{:.3g} ms"}
    return charts.dots(frame, x="ms", y="lock", by="variant", logx=True, **labels)


def events_close_together() -> Figure:
    events = {"a first event": 1.0, "a second event, soon after": 1.01, "the last": 1.99}
    return charts.timeline({"naive": [0, 9, 1], "hardened": [0, 1, 1]}, [0, 1, 2], ylabel="loads",
                           events=events, title=LONG)  # fmt: skip


def two_panels() -> Figure:
    with panels(LONG, 2) as (figure, axes):
        for one in axes:
            one.set(xlabel="seconds", title="naive\n3 stale of 8,000 reads")
    return figure


HARD = [
    lines_that_end_alike,
    lines_with_a_long_remark,
    bars_below_their_limit,
    dots_far_apart,
    events_close_together,
    two_panels,
]


@functools.cache
def drawn(draw: Callable[[], Figure]) -> Figure:
    """The figure, laid out once for all tests that look at it."""
    figure = draw()
    FigureCanvasAgg(figure).draw()
    return figure


def shown(figure: Figure) -> list[Text]:
    """Every text that can be seen: of ticks, those within the axis."""
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    texts += [figure._suptitle] if figure._suptitle else []
    for axes in figure.axes:
        texts += [axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [
                tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high
            ]
    return [text for text in texts if text.get_text() and text.get_visible()]


@pytest.mark.parametrize("draw", HARD, ids=lambda draw: draw.__name__)
def test_no_two_texts_overlap_and_none_is_cut(draw: Callable[[], Figure]) -> None:
    figure = drawn(draw)
    boxes = {text: text.get_window_extent() for text in shown(figure)}
    assert len(boxes) > 8
    for one, other in combinations(boxes, 2):
        shared = Bbox.intersection(boxes[one], boxes[other])
        if shared is not None:
            assert min(shared.width, shared.height) < 1, (one, other)
    page = figure.bbox
    for text, box in boxes.items():
        assert box.x0 >= page.x0 - 1, text
        assert box.x1 <= page.x1 + 1, text
        assert box.y0 >= page.y0 - 2, text
        assert box.y1 <= page.y1 + 1, text


@pytest.mark.parametrize("draw", [lines_that_end_alike, dots_far_apart, two_panels])
def test_a_long_title_has_lines_of_about_one_length(draw: Callable[[], Figure]) -> None:
    figure = drawn(draw)
    title = figure.get_suptitle() or figure.axes[0].get_title(loc="left")
    first, second = title.split("\n")
    assert f"{first} {second}" == LONG
    assert len(second) > 0.8 * len(first)


@pytest.mark.parametrize("draw", [lines_that_end_alike, bars_below_their_limit])
def test_no_number_stands_on_the_line_of_the_limit(draw: Callable[[], Figure]) -> None:
    figure = drawn(draw)
    axes = figure.axes[0]
    numbers = [text for text in axes.texts if text.get_text().isdigit()]
    assert len(numbers) == (4 if draw is bars_below_their_limit else 0)
    line = axes.transData.transform((0, 150))[1]
    for number in numbers:
        box = number.get_window_extent()
        assert not box.y0 < line < box.y1, number


def test_a_label_stands_beside_the_end_of_its_line_where_there_is_room() -> None:
    rows = [("naive", 1, 5.0), ("naive", 2, 9.0), ("hardened", 1, 5.0), ("hardened", 2, 3.0)]
    frame = pd.DataFrame(rows, columns=["variant", "x", "y"])
    figure = charts.lines(frame, x="x", y="y", by="variant", title="t", xlabel="x", ylabel="y")
    axes = figure.axes[0]
    axes.set_ylim(0, 20)  # also when the axis changes afterwards
    FigureCanvasAgg(figure).draw()
    for text, value in zip(axes.texts, (9.0, 3.0), strict=True):
        box = text.get_window_extent()
        assert (box.y0 + box.y1) / 2 == pytest.approx(
            axes.transData.transform((0, value))[1], abs=2
        )


def test_bars_refuse_a_log_axis_and_name_what_to_use() -> None:
    frame = pd.DataFrame({"variant": ["naive", "hardened"], "ms": [50, 0.4]})
    with pytest.raises(InvalidArgument, match=r"charts\.dots\(…, logx=True\).*charts\.lines"):
        charts.bars(frame, x="variant", y="ms", title="t", ylabel="ms", logy=True)
    assert charts.dots(frame, x="ms", y="variant", title="t", xlabel="ms", logx=True)
    with pytest.raises(InvalidArgument, match="log axis has no place for 0"):
        charts.dots(frame.assign(ms=[1, 0]), x="ms", y="variant", title="t", xlabel="ms", logx=True)


def test_dots_name_the_median_in_the_colour_of_the_variant() -> None:
    frame = pd.DataFrame({"lock": "one", "variant": "naive", "ms": [1.0, 2.0, 30.0]})
    figure = charts.dots(frame, x="ms", y="lock", by="variant", title="t", xlabel="time (ms)")
    (label,) = figure.axes[0].texts
    assert label.get_text() == "2"
    assert label.get_color() == charts.COLOURS["naive"]
    assert label.xy == (30.0, 0.0)


@pytest.mark.parametrize("draw", ["lines", "bars"])
def test_an_axis_can_be_held_while_the_data_change(draw: str) -> None:
    frame = pd.DataFrame({"x": [1, 2], "y": [3, 4], "by": ["naive", "naive"]})
    more = {"xlabel": "x"} if draw == "lines" else {}
    figure = getattr(charts, draw)(
        frame, x="x", y="y", by="by", title="t", ylabel="y", top=200, **more
    )
    assert figure.axes[0].get_ylim() == (0, 200)


def test_a_number_and_its_unit_stay_on_one_line() -> None:
    title = "HOLDS: p99 3.32 ms over the run, 4.11 ms in the worst interval, at 0.24 s"
    frame = pd.DataFrame({"variant": ["naive"] * 2, "x": [1, 2], "y": [1, 2]})
    figure = charts.lines(frame, x="x", y="y", by="variant", title=title, xlabel="x", ylabel="y")
    FigureCanvasAgg(figure).draw()
    lines = figure.axes[0].get_title(loc="left").splitlines()
    assert len(lines) == 2
    assert not lines[1].startswith("ms")
