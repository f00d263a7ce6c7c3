"""The page and the summary say what the run says, and nothing that a message holds acts."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from support.load_samples import flat, sample

from kvlab.instruments.measure.recorder import Recorder
from kvlab.load.record import report
from kvlab.load.record.parts import LATE, Fault, Finding, Generator
from kvlab.load.record.report import page
from kvlab.load.record.run import LoadRun
from kvlab.load.record.summary import WIDTH, summary

HOSTILE = '</style></svg><script>alert(1)</script><img src=x onerror="x"> \' & {{ 7*7 }} \x1b[2J\n'
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Which elements a page has, with their attributes, and its text; every end must fit."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self.text += " "

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture
def words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The charts are made, and not drawn: that takes half a second a page."""
    monkeypatch.setattr(report, "svg", lambda *_: "")


def hostile() -> LoadRun:
    run = flat([1000] * 4, [Fault("pause", 2, 1)])
    return replace(
        run,
        title=HOSTILE,
        pattern=HOSTILE,
        settings={HOSTILE: HOSTILE, "users": HOSTILE, "list": [HOSTILE]},
        machine={"engine": HOSTILE, HOSTILE: 1},
        latency={HOSTILE: run.latency["hit"], "hit": run.latency["hit"]},
        errors={HOSTILE: 3},
        findings=(Finding(HOSTILE, False, HOSTILE, (HOSTILE,)),),
        untested=HOSTILE,
        generator=Generator(1, 1, HOSTILE),
    )


def test_hostile_texts_are_shown_and_do_nothing() -> None:
    shown = Page(page(hostile()))
    tags = {tag for tag, _ in shown.elements}
    assert not tags & {"script", "img", "iframe", "link", "a", "form", "object", "image"}
    for tag, attributes in shown.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
    # title, heading, untested, finding (name, says, evidence), engine, settings …
    assert shown.text.count("<script>alert(1)</script>") >= 12
    assert "49" not in re.findall(r"\{\{.*?\}\}|\b49\b", shown.text)
    assert "\x1b" not in shown.text


def test_the_page_stands_alone() -> None:
    text = page(sample(seconds=12, rate=400, faults=[Fault("pause", 5, 2)]))
    shown = Page(text)
    for tag, attributes in shown.elements:
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not re.findall(r"url\((?!#)|@import", text)
    ids = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for used in re.findall(r'(?:url\(|href=")#([^)"]+)', text):
        assert used in ids
    policy = next(a for t, a in shown.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_every_ink_of_the_charts_is_the_pages_own() -> None:
    # A colour that dark mode does not know would be ink on ink.
    run = sample(seconds=12, rate=400, naive=True, faults=[Fault("cut", 5, 2)])
    text = page(replace(run, latency=dict.fromkeys("abcd", run.latency["hit"])))
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 4
    used = {ink for chart in charts for ink in re.findall(r"var\(--(\w+)\)", chart)}
    assert used >= {"ink", "faint", "blue", "orange", "green", "violet"}
    for chart in charts:
        styles = " ".join(re.findall(r'style="([^"]*)"', chart))
        assert not re.findall(r"#[0-9a-fA-F]{3,6}\b", styles)
        assert "<style" not in chart
    for ink in used:
        assert len(re.findall(rf"--{ink}: #", text)) == 3, ink


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, ["HOLDS HOLDS scores", "invariants broken 0 of 2"]),
        (
            {"findings": (Finding("scores", False, "one is off", ("ada: 5, not 7",)),)},
            ["BROKEN BROKEN scores one is off ada: 5, not 7", "invariants broken 1 of 1"],
        ),
        (
            {"untested": "no reply was lost"},
            ["SHOWS NOTHING This run shows nothing: no reply was lost NOT TESTED scores"],
        ),
        (
            {"findings": (Finding("scores", True, "all right", least="one lost"),)},
            ["all right Would have shown: one lost; 0 calls at once on average."],
        ),
        ({"generator": None}, ["What the load generator itself can do was not measured."]),
        (
            {"generator": Generator(2, 0.93, "the generator set the pace", 0.98, 0.004)},
            ["2 processes, 93 % of a core in each process; in the worst interval 98 %, and timers "
             "late by 4 ms; ", "the generator set the pace"],
        ),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("words_alone")
def test_the_page_says_what_the_run_says(more: dict[str, Any], says: list[str]) -> None:
    words = Page(page(replace(sample("leaderboard", seconds=4), **more))).words
    for expected in says:
        assert expected in words


@pytest.mark.usefixtures("words_alone")
def test_the_numbers_of_the_page_are_those_of_the_run() -> None:
    run = sample(seconds=12, rate=400, faults=[Fault("pause", 5, 2)])
    words = Page(page(run)).words
    latency = run.latency["hit"]
    ends = " ".join(f"{latency.percentile(p) * 1e6:,.0f}" for p in (50, 90, 99, 99.9))
    head = f"hit {run.calls:,} {latency.mean * 1e6:,.0f} {ends} {latency.max * 1e6:,.0f}"
    assert head in words
    assert f"calls {run.calls:,} calls a second {run.rate:,.0f}" in words
    assert "Open loop: 400 calls a second were due" in words
    assert "2027-01-15 08:00:00 UTC" in words
    assert re.search(r"pause 5\.0 2 \d+ 0 2 ", words)
    assert "Closed loop: each of 20 users calls again" in Page(page(sample(seconds=3))).words


def test_the_page_stays_below_a_megabyte() -> None:
    run = sample(seconds=1500, per_second=10, naive=True, keys=6)
    text = page(
        replace(
            run,
            faults=tuple(Fault("cut", float(i), 0.5) for i in range(1400)),
            errors={f"{i} {'x' * 5000}": 1 for i in range(500)},
            findings=(Finding("f", False, "y" * 9000, ("z" * 3000,) * 5000),),
        )
    )
    assert len(text.encode()) < 1_000_000
    words = Page(text).words
    assert "and 480 other messages in run.json" in words
    assert "and 4,960 more in run.json" in words
    assert "and 1,360 more" in words


def test_the_summary_of_a_run_that_holds() -> None:
    bound = "at most the limit in any interval of the window's length"
    seen = "the most seen is 10, the bound 10, admissions too many: 0"
    late = Recorder()
    late.record_all([2e-6])
    run = flat(
        [1000] * 10 + [0, 500, 1000],
        [Fault("pause", 10, 1)],
        settings={"users": 20},
        errors={"lost": 2},
        findings=(Finding("admissions", True, f"{bound}; {seen}", least="one too many"),),
        stages={LATE: late},
        generator=Generator(2, 0.5, "it set the pace", 0.9, 2e-3, 700.0, under_way=0.8),
    )
    assert summary(run).splitlines() == [
        "Rate limiter: flat, Valkey 9.1.2",
        "  11,500 calls in 13.0 s, 885/s, 2 errors; closed loop, 20 users",
        "    2 x lost",
        "  latency from the intended start, µs             p50        p90        p99      p99.9"
        "        max",
        "    hit, 11,500 calls                           1,000      1,000      1,000      1,000"
        "      1,000",
        "    generator late by                               2          2          2          2"
        "          2",
        "  pause at 10 s for 1 s: from 1,000/s down to 0/s, back at 90 % after 2 s",
        "  generator: 2 processes, 50 % of a core in each process;",
        "    in the worst interval 90 %, and timers late by 2 ms; 0.8 calls at once on average;",
        "    by its CPU time of a call at most 885 calls/s in each process;",
        "    one user alone, one call after the other (a bare loop, after the run): 700/s"
        " in each process",
        "  WARNING: it set the pace",
        f"  HOLDS: {bound};",
        f"    {seen}",
        "    would have shown: one too many; 0.8 calls at once on average",
    ]


@pytest.mark.parametrize(
    ("holds", "untested", "last"),
    [
        (True, None, ["  HOLDS: says"]),
        (False, None, ["  BROKEN: says", "    a", "    b"]),
        (True, "nobody was denied", ["  SHOWS NOTHING: nobody was denied"]),
        (
            False,
            "nobody was denied",
            [
                "  BROKEN: says",
                "    a",
                "    b",
                "  Beyond what broke, this run shows nothing: nobody was denied",
            ],
        ),
    ],
)
def test_the_verdict_ends_the_summary(holds: bool, untested: str | None, last: list[str]) -> None:
    finding = Finding("f", holds, "says", () if holds else ("a", "b"))
    lines = summary(flat([5], findings=(finding,), untested=untested)).splitlines()
    assert lines[-len(last) :] == last
    assert not [line for line in lines[: -len(last)] if line.strip().startswith(("HOLDS", "BRO"))]


def test_the_summary_of_many_faults_tells_the_first() -> None:
    faults = tuple(Fault("flush", float(at), 0.0) for at in range(1, 13))
    lines = summary(flat([5.0] * 15, faults=faults)).splitlines()
    assert sum("flush at" in line for line in lines) == 8
    assert "  and 4 more faults, which the report lists" in lines


def test_the_summary_keeps_to_its_width_and_moves_no_cursor() -> None:
    lines = summary(hostile()).split("\n")
    assert max(map(len, lines)) <= WIDTH
    assert all(line.isprintable() for line in lines)
    assert "\\x1b[2J\\n" in summary(hostile())
    long = flat([5], errors={"word " * 100: 1, "y" * 300: 2, **{f"e{i}": 3 for i in range(9)}})
    text = summary(long)
    assert max(map(len, text.split("\n"))) <= WIDTH
    assert "and 6 other messages" in text


def test_a_run_without_calls_has_a_page_and_a_summary() -> None:
    run = flat([], seconds=3.0, findings=(), untested="nothing was called")
    assert "SHOWS NOTHING" in Page(page(run)).words
    assert summary(run).splitlines()[-1] == "  SHOWS NOTHING: nothing was called"
