"""What is saved comes back to the last bit, or is refused by the name of the file at fault."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.load_samples import flat, sample

from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.recorder import Recorder
from kvlab.load.record import report as load_report
from kvlab.load.record.files import reserved_folder
from kvlab.load.record.parts import TIMELINE, Fault, Finding, Generator
from kvlab.load.record.report import save_with_page
from kvlab.load.record.run import LoadRun

PLAIN = (
    "pattern", "title", "settings", "machine", "began", "seconds", "errors", "faults", "findings",
    "untested", "generator",
)  # fmt: skip
FAULTS = (Fault("pause", 3.3, 1.7), Fault("flush", 6.0, 0))


@pytest.fixture(autouse=True)
def _page_of_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is slow, and tested elsewhere."""
    monkeypatch.setattr(load_report, "page", lambda run: f"page of {run.title}")


def same(one: LoadRun, other: LoadRun) -> None:
    for name in PLAIN:
        assert getattr(one, name) == getattr(other, name), name
    for kind in ("latency", "stages"):
        mine, others = getattr(one, kind), getattr(other, kind)
        assert list(mine) == list(others)
        assert [r.to_dict() for r in mine.values()] == [r.to_dict() for r in others.values()]
    pd.testing.assert_frame_equal(one.timeline, other.timeline, check_exact=True)
    assert (one.windows is None) == (other.windows is None)
    if one.windows is not None:
        pd.testing.assert_frame_equal(one.windows, other.windows, check_exact=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sample(seconds=8, naive=True, faults=FAULTS),
        lambda: sample(seconds=8, rate=300.0, faults=FAULTS, untested="nobody was denied"),
        lambda: sample("leaderboard", seconds=8),
        lambda: flat([], seconds=3.0),
    ],
    ids=["naive", "open loop", "leaderboard", "nothing called"],
)
def test_a_run_comes_back_to_the_last_bit(make: Callable[[], LoadRun], tmp_path: Path) -> None:
    run = make()
    folder = save_with_page(run, tmp_path / "runs" / "one")
    files = {file.name for file in folder.iterdir()}
    windows = {"windows.csv"} if run.windows is not None else set()
    assert files == windows | {
        "run.json", "timeline.csv", "latency.json", "stages.json", "latency.csv", "report.html"
    }  # fmt: skip
    again = LoadRun.read(folder)
    same(run, again)
    second = save_with_page(again, tmp_path / "two")
    for name in files:
        assert (folder / name).read_bytes() == (second / name).read_bytes(), name


def test_texts_that_look_like_something_else_come_back(tmp_path: Path) -> None:
    keys = ["NA", "", "null", "1", 'a,"b"', "two\nlines", "é😀", "=1+1", " padded "]
    windows = pd.DataFrame(
        {"key": keys, "second": 0.1 + 0.2, "admitted": 3, "bound": [math.nan] * 8 + [1 / 3]}
    ).assign(busiest=4, busiest_bound=5.0)
    recorder = Recorder()
    run = flat(
        [5, 5],
        title='"<b>&\x00\x1b[31m',
        errors={"bad \ud800 byte\n": 2},
        latency={"hit": recorder, "<rank>": recorder},
        windows=windows,
        settings={"shape": ("step", 3), "rate": None, "limit": np.int64(7)},
    )
    assert run.settings == {"shape": ["step", 3], "rate": None, "limit": 7}
    again = LoadRun.read(run.save(tmp_path / "run"))
    same(run, again)
    assert again.windows is not None
    assert list(again.windows["key"]) == keys


def test_run_json_is_for_people_and_programs(tmp_path: Path) -> None:
    text = (sample(seconds=4, naive=True).save(tmp_path / "run") / "run.json").read_text()
    data = json.loads(text)
    assert data["verdict"] == "BROKEN"
    assert list(data) == sorted(data)
    assert text.startswith('{\n "began"')
    rows = pd.read_csv(tmp_path / "run" / "latency.csv")
    assert list(rows.columns) == [
        "name", "count", "mean_us", "p50_us", "p90_us", "p99_us", "p99.9_us", "max_us"
    ]  # fmt: skip


def test_addresses_are_not_kept() -> None:
    run = flat(
        [5],
        settings={"host": "redis://:pa@ss@cache.example:6379/0", "more": ["http://a:1/api/work"]},
        errors={"at http://u:p@a:1/x y": 1, "at http://b:2/x y": 2},
    )
    assert run.settings == {"host": "redis://…/0", "more": ["http://…/api/work"]}
    assert run.errors == {"at http://…/x y": 3}


def test_all_latencies_merged_are_those_of_the_samples() -> None:
    draw = np.random.default_rng(3)
    parts = {"hit": draw.lognormal(-7, 1, 4000), "rank": draw.lognormal(-5, 0.3, 900)}
    latency: dict[str, Recorder] = {}
    for name, samples in parts.items():
        latency[name] = Recorder()
        latency[name].record_all(samples)
    run = flat([5], latency=latency)
    everything = np.sort(np.concatenate(list(parts.values())))
    assert run.calls == run.latency_all.count == len(everything) == 4900
    for percent in (50, 90, 99, 99.9):
        exact = everything[math.ceil(round(percent / 100 * len(everything), 6)) - 1]
        assert run.latency_all.percentile(percent) == pytest.approx(exact, rel=1e-3)
    assert latency["hit"].count == 4000
    frame = run.latency_frame(total=True)
    assert list(frame["name"]) == ["hit", "rank", "all calls"]
    assert frame["p99_us"].iloc[2] == run.latency_all.percentile(99) * 1e6


@pytest.mark.parametrize(
    ("holds", "untested", "verdict"),
    [
        ((True, True), None, "HOLDS"),
        ((True, False), None, "BROKEN"),
        ((True, True), "no denial", "SHOWS NOTHING"),
        ((False, True), "no denial", "BROKEN"),
        ((), "nothing was called", "SHOWS NOTHING"),
    ],
)
def test_the_verdict(holds: tuple[bool, ...], untested: str | None, verdict: str) -> None:
    findings = tuple(Finding(str(i), one, "says") for i, one in enumerate(holds))
    run = flat([5], findings=findings, untested=untested)
    assert run.verdict == verdict
    assert run.holds is (verdict == "HOLDS")
    assert run.broken == holds.count(False)


def damage_cut(folder: Path) -> None:
    file = folder / "timeline.csv"
    file.write_bytes(b"\n".join(file.read_bytes().split(b"\n")[:-2]) + b"\n")


def damage_number(folder: Path) -> None:
    file = folder / "windows.csv"
    file.write_text(file.read_text().replace("client-0,0.0,1", "client-0,0.0,9", 1))


def damage_gone(folder: Path) -> None:
    (folder / "latency.json").unlink()


def damage_json(folder: Path) -> None:
    file = folder / "run.json"
    file.write_text(file.read_text()[:-40])


def edit(**facts: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "run.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | facts))

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_cut, r"timeline\.csv cannot be read: it is damaged, or was changed"),
        (damage_number, r"windows\.csv cannot be read: it is damaged, or was changed"),
        (damage_gone, r"latency\.json cannot be read: FileNotFoundError"),
        (damage_json, r"run\.json cannot be read: JSONDecodeError"),
        (edit(format="kvlab-load-run-2"), r"run\.json .*kvlab-load-run-2 is newer than kvlab-load"),
        (edit(format="kvlab-result-1"), r"run\.json .*its format is 'kvlab-result-1', not"),
        (edit(format=None), r"run\.json .*its format is None, not"),
        (edit(faults=[{"kind": "quake", "at": 1, "seconds": 1}]), r"run\.json .*quake"),
        (edit(findings=3), r"run\.json .*TypeError"),
        (edit(mood="good"), r"run\.json .*mood"),
        (edit(seconds=-1), r"run\.json .*seconds must be"),
        (edit(files={}), r"timeline\.csv .*KeyError"),
    ],
)
def test_a_damaged_folder_is_refused_by_the_file(
    damage: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    folder = sample(seconds=4).save(tmp_path / "run")
    damage(folder)
    with pytest.raises(InvalidArgument, match=says):
        LoadRun.read(folder)


def test_a_folder_that_holds_no_run_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(InvalidArgument, match=r"holds no load run: there is no run\.json"):
            LoadRun.read(folder)


def test_no_run_is_written_over_another(tmp_path: Path) -> None:
    flat([5]).save(tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(InvalidArgument, match="is there already"):
        flat([6]).save(tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    (tmp_path / "empty").mkdir()
    assert LoadRun.read(flat([5]).save(tmp_path / "empty")).calls == 5


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = Path.write_bytes

    def full(file: Path, data: bytes) -> int:
        # The record itself is written last: what has no run.json is no run.
        assert not (tmp_path / "run").exists()
        if file.name == "run.json":
            raise OSError("no space left on device")
        written.append(file.name)
        return write(file, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        save_with_page(flat([5]), tmp_path / "run")
    assert sorted(written) == [
        "latency.csv",
        "latency.json",
        "report.html",
        "stages.json",
        "timeline.csv",
    ]
    assert list(tmp_path.iterdir()) == []


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path) -> None:
    folders = [reserved_folder(tmp_path / "loads", "noon") for _ in range(3)]
    assert [folder.name for folder in folders] == ["noon", "noon-2", "noon-3"]
    for folder in folders:
        assert LoadRun.read(flat([5]).save(folder)).calls == 5


def timeline(**columns: Any) -> pd.DataFrame:
    rows = {name: [0.0, 1.0] if name == "second" else [1, 1] for name in TIMELINE}
    return pd.DataFrame(rows | columns)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Fault("quake", 1, 1), "kind must be one of pause, cut, flush, restart"),
        (lambda: Fault("pause", -1, 1), "at must be"),
        (lambda: Fault("pause", 1, math.inf), "seconds must be"),
        (lambda: Generator(0, 1), "processes must be"),
        (lambda: Generator(1, 1, latest=math.nan), "latest must be"),
        (lambda: flat([5], findings=()), "a run needs a finding"),
        (lambda: flat([5], seconds=0), "seconds must be"),
        (lambda: flat([5], errors={"x": 0}), "errors of 'x' must be a whole number of at least 1"),
        (lambda: flat([5], settings={"x": {1}}), "settings must be JSON data: set"),
        (lambda: flat([5], settings={"rate": 0}), "settings' rate must be"),
        (lambda: flat([5], machine={"x": math.nan}), "machine must be JSON data"),
        (lambda: flat([5], timeline=timeline().drop(columns="due")), "timeline has columns"),
        (lambda: flat([5], timeline=timeline(mood=1)), "timeline has columns"),
        (
            lambda: flat([5], timeline=timeline(calls=["a", "b"])),
            "timeline holds a value",
        ),
        (
            lambda: flat([5], timeline=timeline(calls=[1.0, math.nan])),
            "holds a value that is no number",
        ),
        (lambda: flat([5], timeline=timeline(second=[1, 1])), "seconds must rise"),
        (lambda: flat([5], windows=timeline()), "windows has columns"),
    ],
)
def test_what_could_not_be_read_back_is_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        make()


def test_rates_are_per_second_whatever_the_interval() -> None:
    frame = timeline(second=[0.0, 0.5], calls=[100, 50], errors=[5, 0], due=[200.0, 100.0])
    rates = flat([5], timeline=frame, seconds=0.9).intervals()
    assert rates["rate"].tolist() == pytest.approx([200, 125])
    assert rates["error_rate"].tolist() == pytest.approx([10, 0])
    assert rates["due_rate"].tolist() == pytest.approx([400, 250])
    # A last sliver of 0.1 s says nothing; a run that stops later than its last row is no wider.
    assert len(flat([5], timeline=frame, seconds=0.6).intervals()) == 1
    assert flat([5], timeline=frame, seconds=9).intervals()["width"].tolist() == [0.5, 0.5]


def test_a_run_is_not_changed_by_what_it_was_made_from() -> None:
    frame, errors = timeline(), {"x": 1}
    run = flat([5], timeline=frame, errors=errors)
    frame["calls"] = 99
    errors["y"] = 2
    assert run.timeline["calls"].tolist() == [1, 1]
    assert run.errors == {"x": 1}
    assert replace(run, title="other").timeline.equals(run.timeline)
