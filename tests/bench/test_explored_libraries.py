"""The matrix of libraries, on rows that need no peer: what it finds, and that it finds it again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.libraries.explored import explored, round_trips
from benchmarks.libraries.others import rpush_job
from benchmarks.libraries.promises import QUEUE, Library
from benchmarks.libraries.replayed import reproduced
from benchmarks.studies.explored_libraries import LIBRARIES, kept, line_of, main
from kvlab.chapters.libraries.race_matrix import kept_matrix

BY_NAME = {(library.family.name, library.name): library for library in LIBRARIES}


@pytest.mark.parametrize(
    ("family", "name", "fault", "verdict"),
    [
        ("rate limiter", "tutorial, fixed window", "none", "holds"),
        ("rate limiter", "tutorial, fixed window", "crash", "breaks"),
        ("rate limiter", "tutorial, sliding window", "clock", "breaks"),
        ("rate limiter", "kvlab FixedWindow", "expiry", "not applicable"),
        ("lock", "kvlab Lock", "expiry", "inherent"),
        ("lock", "kvlab Lock", "lost reply", "holds"),
        ("cache, invalidation", "tutorial, cache-aside", "none", "breaks"),
        ("scores", "tutorial, leaderboard", "lost reply", "breaks"),
    ],
)
def test_a_cell_and_its_replay_on_a_real_server(
    family: str, name: str, fault: str, verdict: str
) -> None:
    library = BY_NAME[family, name]
    cell, story = explored(library, fault)
    assert cell.verdict == verdict
    assert (cell.family, cell.library, cell.fault) == (family, name, fault)
    if verdict in ("breaks", "inherent"):
        assert story is not None
        assert story.shortest is not None
        assert cell.replay == story.schedule
        assert reproduced(library, story.shortest)


def test_a_loss_that_is_not_searched_is_no_proof_that_the_promise_holds() -> None:
    def works(kv: Any, url: str) -> Any:
        return kv.blpop("jobs", timeout=1)

    waits = Library(QUEUE, "a list and BLPOP", "", (works, works), setup=rpush_job)
    assert explored(waits, "none")[0].verdict == "holds"
    for fault in ("lost reply", "lost request"):
        cell, _ = explored(waits, fault)
        assert cell.verdict == "undecided"
        assert "no loss at BLPOP" in cell.says


def test_a_name_that_no_library_has_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["explored_libraries", "slowapi", "nosuch"])
    with pytest.raises(SystemExit):
        main()
    assert "no library's name has 'nosuch' in it" in capsys.readouterr().err


def test_a_schedule_that_holds_is_not_reproduced_as_broken() -> None:
    library = BY_NAME["cache, invalidation", "tutorial, cache-aside"]
    _, story = explored(library, "none")
    assert story is not None
    assert story.shortest is not None
    in_order = sorted(story.shortest.trace, key=lambda step: step.client or 0)
    assert not reproduced(library, replace(story.shortest, trace=tuple(in_order)))


def test_a_row_in_words() -> None:
    library = BY_NAME["rate limiter", "kvlab FixedWindow"]
    assert round_trips(library) == 1
    cell, _ = explored(library, "none")
    assert line_of([cell]).split() == ["kvlab", "FixedWindow", "?", "holds"]


def test_a_row_that_is_run_again_takes_the_place_of_its_old_one() -> None:
    old = kept_matrix()
    row = [replace(cell, verdict="undecided") for cell in old.families["lock"][1]]
    new = kept(old, [row], 0.4)
    assert new.families["lock"][1] == tuple(row)
    others = [cell for cell in new.cells if cell not in row]
    assert others == [cell for cell in old.cells if cell not in old.families["lock"][1]]
    assert new.seconds == old.seconds
