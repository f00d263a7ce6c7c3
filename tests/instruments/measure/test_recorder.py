from __future__ import annotations

import json
import math
import threading

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.recorder import BUFFER, LONGEST, Recorder

POINTS = (0, 1, 25, 50, 75, 90, 95, 99, 99.9, 99.99, 100)


def exact(samples: np.ndarray, percent: float) -> float:
    """Nearest rank, by sorting."""
    rank = max(math.ceil(round(percent / 100 * len(samples), 6)), 1)
    return float(np.sort(samples)[rank - 1])


SHAPES = {
    "lognormal": lambda rng: rng.lognormal(-8, 1.5, 50_000),
    "uniform": lambda rng: rng.uniform(1e-6, 60, 20_000),
    "two humps": lambda rng: np.where(rng.random(30_000) < 0.99, 2e-4, 1.7) * rng.uniform(1, 2),
    "smallest": lambda rng: rng.integers(1_000, 5_000, 10_000) / 1e9,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_percentiles_lie_within_a_thousandth_of_exact(shape: str) -> None:
    samples = np.clip(SHAPES[shape](np.random.default_rng(2)), 1e-6, 60)
    recorder = Recorder()
    for value in samples.tolist():
        recorder.record(value)
    for percent in POINTS:
        assert recorder.percentile(percent) == pytest.approx(exact(samples, percent), rel=1e-3)
    assert recorder.mean == pytest.approx(samples.mean(), rel=1e-4)
    assert recorder.max == pytest.approx(samples.max(), abs=1e-9)
    assert recorder.min == pytest.approx(samples.min(), abs=1e-9)
    assert recorder.count == len(samples)


def test_bulk_slots_are_those_of_the_library() -> None:
    histogram = HdrHistogram(1, LONGEST, 3)
    values = np.unique(np.geomspace(1_000, LONGEST, 3_000).astype(np.int64))
    expected = [histogram._counts_index_for(int(v)) for v in values]
    assert Recorder()._index(values).tolist() == expected


def test_outside_the_range_samples_are_clamped_and_counted_never_lost() -> None:
    recorder = Recorder()
    for seconds in (-1.0, 0.0, 0.5e-6, 1e-6, 0.001, 60.0, 61.0, 1e12, math.inf):
        recorder.record(seconds)
    assert recorder.count == 9
    assert recorder.clamped_low == 3
    assert recorder.clamped_high == 3
    assert recorder.min == 1e-6
    assert recorder.max == 60
    with pytest.raises(InvalidArgument, match="nan"):
        recorder.record(math.nan)


def test_latency_counts_from_the_intended_start() -> None:
    recorder = Recorder()
    recorder.record(0.010, started=5.0, intended=4.0)
    assert recorder.max == pytest.approx(1.010)
    with pytest.raises(InvalidArgument, match="started"):
        recorder.record(0.010, intended=4.0)


def test_merge_is_as_if_recorded_in_one() -> None:
    rng = np.random.default_rng(5)
    one, two, both = Recorder(), Recorder(), Recorder()
    for recorder, samples in ((one, rng.lognormal(-7, 1, 900)), (two, rng.lognormal(-3, 1, 300))):
        recorder.record_all(samples)
        both.record_all(samples)
    assert one.merge(two).to_dict() == both.to_dict()
    assert two.count == 300
    assert Recorder().merge(both).to_dict() == both.to_dict()
    assert both.merge(Recorder()).count == 1200


def test_merge_with_itself_doubles() -> None:
    recorder = Recorder()
    recorder.record_all([0.001, 0.002])
    assert recorder.merge(recorder).count == 4


@pytest.mark.parametrize("samples", [[], [0.003], [1e-9, 0.02, 99.0]])
def test_a_recorder_survives_json(samples: list[float]) -> None:
    recorder = Recorder()
    recorder.record_all(samples)
    loaded = Recorder.from_dict(json.loads(json.dumps(recorder.to_dict())))
    assert loaded.to_dict() == recorder.to_dict()
    recorder.record(0.5)
    loaded.record(0.5)
    assert loaded.to_dict() == recorder.to_dict()


def test_something_else_is_not_a_recorder() -> None:
    with pytest.raises(InvalidArgument, match="format"):
        Recorder.from_dict({"format": "other"})


def test_an_empty_recorder_says_nan_and_zero() -> None:
    recorder = Recorder()
    assert recorder.count == 0
    assert math.isnan(recorder.percentile(50))
    assert math.isnan(recorder.mean)
    assert repr(recorder) == "Recorder(empty)"


def test_no_sample_is_lost_between_threads() -> None:
    recorder = Recorder()
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(3 * BUFFER + 1):
            recorder.record(0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.count == 4 * (3 * BUFFER + 1)


def test_curve() -> None:
    recorder = Recorder()
    recorder.record_all([0.001, 0.002, 0.003, 0.004])
    seconds, share = recorder.curve()
    assert share.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert seconds == pytest.approx([0.001, 0.002, 0.003, 0.004], rel=1e-3)
