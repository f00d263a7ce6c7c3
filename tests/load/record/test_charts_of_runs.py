"""What a figure of a load run says comes from the run; how it looks was judged by eye."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from support.load_samples import flat, sample

from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.recorder import Recorder
from kvlab.load.record import charts as charts
from kvlab.load.record.drawing import title_of
from kvlab.load.record.parts import WINDOWS, Fault, Finding, Generator
from kvlab.load.record.run import LoadRun

USUAL = [1000] * 10
HARD = Finding("admissions", True, "none too many")
BROKEN = Finding("admissions", False, "too many")


def recorder(milliseconds: float, count: int = 1000) -> Recorder:
    made = Recorder()
    made.record_all(np.full(count, milliseconds / 1e3))
    return made


def dipped(**more: object) -> LoadRun:
    return flat([*USUAL, 0, 0, 400, 1000], [Fault("pause", 10, 2)], **more)


def windows(admitted: list[int], bound: float | list[float]) -> LoadRun:
    frame = pd.DataFrame(
        {"key": "a", "second": np.arange(len(admitted)), "admitted": admitted, "bound": bound}
    ).assign(busiest=admitted, busiest_bound=bound)
    return flat([10] * len(admitted), windows=frame, findings=(HARD, BROKEN))


def across() -> LoadRun:
    run = windows([10, 8], 10)
    assert run.windows is not None
    return replace(run, windows=run.windows.assign(busiest=[10, 12]))


def bucket_beside_control() -> LoadRun:
    run = beside()
    assert run.windows is not None
    bounds = [19.0, 19.0, 10.0, 10.0]
    return replace(run, windows=run.windows.assign(bound=bounds, busiest_bound=bounds))


def beside() -> LoadRun:
    """A run whose control was caught."""
    run = windows([10, 10, 17, 9], 10)
    assert run.windows is not None
    keys = ["client-0", "client-0", "naive-0", "naive-0"]
    return replace(run, windows=run.windows.assign(key=keys), findings=(HARD,))


def with_latency(run: LoadRun, **milliseconds: float) -> LoadRun:
    latency = {name: recorder(ms) for name, ms in milliseconds.items()}
    timeline = run.timeline.assign(p99_us=1e3 * max(milliseconds.values()))
    return replace(run, latency=latency, timeline=timeline)


def few_calls(milliseconds: float) -> LoadRun:
    """Ten of its calls do not lie beyond the 99th percentile: one is missing."""
    run = with_latency(flat(USUAL), hit=milliseconds)
    timeline = run.timeline.assign(p50_us=1e3 * milliseconds)
    return replace(run, latency={"hit": recorder(milliseconds, count=999)}, timeline=timeline)


def asked() -> LoadRun:
    run = flat([900, 800], settings={"rate": 1000}, errors={"lost": 3})
    return replace(run, timeline=run.timeline.assign(due=1000.0, errors=[1, 2], users=[5, 9]))


def slow() -> LoadRun:
    run = dipped(findings=(HARD, BROKEN))
    p99 = run.timeline["p99_us"].copy()
    p99.iloc[12] = 2_010_000
    return replace(with_latency(run, hit=2), timeline=run.timeline.assign(p99_us=p99))


def closed() -> LoadRun:
    return with_latency(flat(USUAL, settings={"users": 20}), hit=0.5)


def open_loop() -> LoadRun:
    return with_latency(asked(), hit=1500)


SAYS: dict[str, tuple[Callable[[], Figure], list[str]]] = {
    "throughput": (
        lambda: charts.throughput(dipped()),
        [
            "HOLDS: 814 calls/s, 0 errors; back 3 s after the pause began",
            "grey: fault · dots: back at 90 %",
            "pause",
            "calls",
        ],
    ),
    "one error, never back": (
        lambda: charts.throughput(flat([1000, 0, 0], [Fault("cut", 1, 1)], errors={"lost": 1})),
        ["HOLDS: 333 calls/s, 1 error; not back after the cut"],
    ),
    "asked for": (
        lambda: charts.throughput(asked()),
        ["HOLDS: 850 calls/s of 1,000 due, 3 errors", "due", "calls"],
    ),
    "latency over time": (
        lambda: charts.latency_over_time(slow()),
        [
            "BROKEN: p99 2 ms over the run, 2.01 s in the worst interval, at 12 s",
            "invariants: 1 of 2 broken · ring: worst interval · grey: fault · dots: back at 90 %",
            "p99.9",
        ],
    ),
    "none over": (
        lambda: charts.admissions(windows([10, 9, 0], 10)),
        ["BROKEN: none of 3 windows over the bound, the fullest holds 10", "bound 10"],
    ),
    "some over": (
        lambda: charts.admissions(windows([10, 13, 19], 10)),
        [
            "BROKEN: 2 of 3 windows over the bound, the worst holds 19 where 10 are allowed",
            "a dot: one key in one window · orange: over the bound",
        ],
    ),
    "worst over its own bound": (
        lambda: charts.admissions(windows([15, 30], [10, 29])),
        [
            "BROKEN: 2 of 2 windows over the bound, the worst holds 15 where 10 are allowed",
            "bound",
        ],
    ),
    "no bound": (
        lambda: charts.admissions(windows([10, 13], float("nan"))),
        ["BROKEN: up to 13 admitted in a window, no bound is stated"],
    ),
    "latency curve": (
        lambda: charts.latency_curve(with_latency(flat(USUAL), submit=1, rank=0.25)),
        ["HOLDS: p99 submit 1 ms, rank 250 µs", "1,000 calls", "invariants: 0 of 1 broken"],
    ),
    "compare latency": (
        lambda: charts.compare_latency(
            {
                "naive": with_latency(flat(USUAL, findings=(HARD, BROKEN)), hit=1),
                "hardened": with_latency(flat(USUAL), hit=3),
                "idle": with_latency(flat(USUAL, untested="no denial"), hit=400),
            }
        ),
        [
            "naive is broken, hardened holds, idle shows nothing; "
            "p99: naive 1 ms, hardened 3 ms, idle 400 ms (one run each)",
            "1 of 2 broken",
            "0 of 1 broken",
            "shows nothing",
        ],
    ),
    "too few calls for a p99": (
        lambda: charts.compare_latency({"one": few_calls(3), "two": few_calls(5)}),
        ["Both hold; median: one 3 ms, two 5 ms (one run each)"],
    ),
    "too few calls for a p99 by name": (
        lambda: charts.latency_curve(few_calls(3)),
        ["HOLDS: median hit 3 ms"],
    ),
    "compare throughput": (
        lambda: charts.compare_throughput(
            {"one": flat([100, 300, 900]), "two": flat([510, 510, 510])}
        ),
        ["Both hold; calls/s: one 300, two 510 (one run each)", "300", "510"],
    ),
    "two that are far apart": (
        lambda: charts.compare_throughput({"one": flat([100, 200]), "two": flat([300, 900])}),
        ["Both hold; calls/s: one 150, two 600 (one run each)"],
    ),
    "over in an interval, and not in a window": (
        lambda: charts.admissions(across()),
        [
            "BROKEN: 1 of 2 windows over the bound, the busiest interval of a window's length "
            "holds 12 where 10 are allowed"
        ],
    ),
    "a control with a bound of its own": (
        lambda: charts.admissions(bucket_beside_control()),
        ["bound 19", "control's 10"],
    ),
    "many are not ranked": (
        lambda: charts.compare_latency(
            {
                name: with_latency(flat(USUAL), hit=ms)
                for name, ms in zip("abcd", (3, 1, 4, 2), strict=True)
            }
        ),
        ["All 4 hold; p99 from 1 ms to 4 ms (one run each)"],
    ),
    "naive beside hardened": (
        lambda: charts.admissions(beside()),
        [
            "HOLDS: over the bound of their limiter are 0 of 2 hardened windows and 1 of 2 windows "
            "of the naive control",
            "bound 10",
            "a dot: one key in one window · crosses: the naive control · orange: over the bound",
        ],
    ),
    "coordinated omission": (
        lambda: charts.coordinated_omission(closed(), open_loop()),
        [
            "Both hold; p99: closed loop 500 µs, open loop 1.5 s (one run each)",
            "closed loop, 20 users",
            "open loop, 1,000/s",
            "0 of 1 broken",
        ],
    ),
}


@pytest.mark.parametrize("name", SAYS)
def test_a_figure_says_what_its_run_says_and_clips_nothing(name: str) -> None:
    draw, wanted = SAYS[name]
    figure = draw()
    axes = figure.axes[0]
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    written = [axes.get_title(loc="left"), *(text.get_text() for text in axes.texts), *ticks]
    for words in wanted:
        assert any(words in text.split("\n") for text in written), (words, written)
    assert all(one.get_ylabel() for one in figure.axes)
    FigureCanvasAgg(figure).draw()
    page = figure.bbox
    for artist in [axes._left_title, *axes.texts]:
        box = artist.get_window_extent()
        assert box.x0 >= page.x0 - 1, artist
        assert box.x1 <= page.x1 + 1, artist
        assert box.y0 >= page.y0 - 1, artist
        assert box.y1 <= page.y1 + 1, artist


def test_no_latency_stands_without_what_broke() -> None:
    broken = with_latency(flat(USUAL, findings=(HARD, BROKEN)), hit=1)
    for figure in (
        charts.latency_over_time(broken),
        charts.latency_curve(broken),
        charts.compare_latency([broken]),
        charts.coordinated_omission(broken, with_latency(asked(), hit=2)),
    ):
        written = "\n".join(text.get_text() for text in figure.axes[0].texts)
        assert "1 of 2 broken" in written
    ticks = charts.compare_throughput([broken]).axes[0].get_xticklabels()
    assert "1 of 2 broken" in ticks[0].get_text()


@pytest.mark.parametrize("generator", [Generator(1, 0.5, latest=0.01), Generator(1, 0.5), None])
def test_a_latency_says_that_the_generator_was_overloaded(generator: Generator | None) -> None:
    run = replace(with_latency(flat(USUAL), hit=1), generator=generator)
    for draw in (charts.latency_over_time, charts.latency_curve, charts.compare_latency):
        figure = draw([run] if draw is charts.compare_latency else run)  # type: ignore[operator]
        written = "\n".join(text.get_text() for text in figure.axes[0].texts)
        says = "with the wait for an overloaded generator" in written
        assert says == (generator is not None and generator.is_overloaded)


@pytest.mark.parametrize("worst", [0, 6, 9])
def test_the_worst_interval_has_a_ring(worst: int) -> None:
    """Also the first and the last: users are warm at the begin, and end their calls in peace."""
    run = with_latency(flat(USUAL), hit=2)
    p99 = np.full(10, 1000.0)
    p99[worst] = 7000.0
    run = replace(run, timeline=run.timeline.assign(p99_us=p99))
    figure = charts.latency_over_time(run)
    expected = f"HOLDS: p99 2 ms over the run, 7 ms in the worst interval, at {worst} s"
    assert title_of(figure) == expected
    (ring,) = figure.axes[0].lines
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (worst + 0.5, 7.0)


def test_panels_stand_only_for_what_there_is() -> None:
    assert len(charts.throughput(flat(USUAL)).axes) == 1
    labels = [axes.get_ylabel() for axes in charts.throughput(asked()).axes]
    assert labels == ["calls/s", "errors/s", "users"]


def test_each_fault_is_marked_in_every_panel_of_time() -> None:
    faults = [Fault("pause", 2, 1), Fault("cut", 5, 0.5)]
    run = replace(asked(), faults=tuple(faults), seconds=10)
    for axes in charts.throughput(run).axes:
        assert [patch.get_x() for patch in axes.patches if hasattr(patch, "get_x")] == [2, 5]
    many = flat(USUAL, [Fault("cut", i / 4, 0.1) for i in range(30)])
    figure = charts.throughput(many)
    assert "grey: 30 faults" in [text.get_text() for text in figure.axes[0].texts]
    assert len(figure.axes[0].collections[0].get_segments()) == 30


def test_a_long_run_keeps_its_worst_moments() -> None:
    n = 3 * charts.POINTS
    run = flat([100] * n)
    p99 = np.full(n, 1000.0)
    p99[700] = 9_000_000
    admitted = np.full(n, 10)
    admitted[1000] = 12
    frame = pd.DataFrame({"key": "a", "second": np.arange(n), "admitted": admitted, "bound": 10})
    frame["busiest"], frame["busiest_bound"] = admitted, frame["bound"]
    run = replace(run, timeline=run.timeline.assign(p99_us=p99), windows=frame)
    latency = charts.latency_over_time(run).axes[0]
    values = latency.patches[1].get_data().values
    assert len(values) == charts.POINTS
    assert values.max() == 9000
    assert any("steps: worst of 3 intervals" in text.get_text() for text in latency.texts)
    dots = charts.admissions(run).axes[0]
    over = dots.lines[2].get_ydata()  # after the windows within the bound, and the control's
    assert list(over) == [12]
    assert len(dots.lines[0].get_ydata()) == charts.POINTS - 1
    rates = charts.throughput(run).axes[0].patches[0].get_data().values
    assert rates == pytest.approx(np.full(charts.POINTS, 100))


@pytest.mark.parametrize("rates", [[], [7]])
def test_a_run_of_next_to_nothing_is_drawn(rates: list[int]) -> None:
    run = flat(rates, [Fault("pause", 0.5, 1)], seconds=2.0, untested="too short")
    run = replace(run, windows=pd.DataFrame(columns=list(WINDOWS)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for draw in (
            charts.throughput, charts.latency_over_time, charts.admissions, charts.latency_curve
        ):  # fmt: skip
            draw(run).savefig(io.BytesIO())


def test_names_that_look_like_formulas_are_drawn_as_they_are() -> None:
    run = with_latency(flat(USUAL), **{"$\\frac{$": 1, "<b>": 2})
    figure = charts.latency_curve(run)
    figure.savefig(io.BytesIO())
    assert title_of(figure) == "HOLDS: p99 $\\frac{$ 1 ms, <b> 2 ms"


def test_wrong_runs_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="has no windows"):
        charts.admissions(sample("leaderboard", seconds=3))
    with pytest.raises(InvalidArgument, match="closed must be a run of a closed loop"):
        charts.coordinated_omission(asked(), asked())
    with pytest.raises(InvalidArgument, match="open must be a run of an open loop"):
        charts.coordinated_omission(closed(), closed())
    for runs in ([], [closed(), closed()]):
        with pytest.raises(InvalidArgument, match="a name of its own"):
            charts.compare_latency(runs)
    with pytest.raises(InvalidArgument, match="nothing was called"):
        charts.compare_throughput({"idle": flat([], seconds=1.0)})
