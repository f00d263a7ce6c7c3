"""What a learner gets from ``check``: a report that leaves nothing behind."""

from __future__ import annotations

import contextlib
import functools
import html
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from workshop.answers.patterns.distributed_lock import release_get_then_del, release_in_a_script

from kvlab.errors import InvalidArgument
from kvlab.server.running_server import RunningServer
from kvlab.workshop import check, exercises, hint, progress
from kvlab.workshop.learner.check import examine, private_server
from kvlab.workshop.learner.isolated import Stopped, isolated
from kvlab.workshop.learner.report import Check, Report
from kvlab.workshop.workbook import WorkingCopy

SHORT = exercises.find("05-short")


@pytest.fixture(scope="module")
def server():
    with private_server() as running:
        yield running


def report_of(function: object, server: RunningServer, seconds: float = 60.0) -> Report:
    return examine(SHORT, function, server, seconds)  # type: ignore[arg-type]


def test_wrong_then_right_then_wrong_in_one_kernel(server: RunningServer) -> None:
    wrong = report_of(release_get_then_del, server)
    assert not wrong.passed
    assert report_of(release_in_a_script, server).passed
    assert str(report_of(release_get_then_del, server)) == str(wrong)


def test_a_function_with_a_memory_gets_the_same_report_each_time(server: RunningServer) -> None:
    seen: list[str] = []

    def release(kv: object, token: str) -> bool:
        seen.append(token)
        return release_in_a_script(kv, token) if len(seen) == 1 else False

    reports = {str(report_of(release, server)) for _ in range(3)}
    assert len(reports) == 1
    assert seen == []


def test_a_function_that_answers_from_a_cache_of_its_own_is_told(server: RunningServer) -> None:
    cached = functools.lru_cache(release_in_a_script)
    seen = [one.seen for one in report_of(cached, server).checks if not one.passed]
    assert any("does it keep something from call to call" in words for words in seen)


def test_an_exception_is_shown_with_its_message_and_line(server: RunningServer) -> None:
    def release(kv: object, token: str) -> bool:
        return kv.no_such_method(token)  # type: ignore[attr-defined]

    line = release.__code__.co_firstlineno + 1
    (seen,) = {one.seen for one in report_of(release, server).checks}
    assert seen.endswith(f"has no attribute 'no_such_method' (in release, line {line})")


def test_the_line_of_an_error_is_the_learners_and_not_the_librarys(server: RunningServer) -> None:
    def release(kv: object, token: str) -> bool:
        return json.loads(None)  # type: ignore[arg-type, no-any-return]

    line = release.__code__.co_firstlineno + 1
    (seen,) = {one.seen for one in report_of(release, server).checks}
    assert "TypeError: the JSON object must be" in seen
    assert seen.endswith(f" (in release, line {line})")


def test_a_loop_without_an_end_is_stopped_and_its_line_is_shown(server: RunningServer) -> None:
    def release(kv: object, token: str) -> bool:
        while True:
            pass

    first, *others = report_of(release, server, seconds=1).checks
    assert "(in release, line" in first.seen
    assert "is there a loop without an end?" in first.seen
    assert not any(other.tried for other in others)


def test_a_loop_of_commands_is_stopped(server: RunningServer) -> None:
    def release(kv, token: str) -> bool:
        while kv.get("lock"):
            pass
        return False

    assert "no end after 60 steps" in report_of(release, server, 2).checks[0].seen


@pytest.mark.parametrize("how", ["raise SystemExit", "import os; os._exit(3)"])
def test_code_that_ends_its_process_ends_no_kernel(how: str, server: RunningServer) -> None:
    names: dict[str, object] = {}
    exec(f"def release(kv, token):\n    {how}", names)
    assert not report_of(names["release"], server).passed


def test_the_report_shows_the_shortest_failing_schedule(server: RunningServer) -> None:
    report = report_of(release_get_then_del, server)
    assert "  !!  a TTL that ends in the middle" in str(report)
    assert "  4 A       DEL lock → 1" in str(report)
    page = report._repr_html_()
    assert page.count('src="data:image/png;base64,') == 1
    assert page.count("✓") == 3
    assert "<img" not in report_of(release_in_a_script, server)._repr_html_()


def test_the_report_says_which_of_two_broken_promises_is_drawn(server: RunningServer) -> None:
    (one,) = (check for check in report_of(release_get_then_del, server).checks if check.schedule)
    assert one.schedule is not None
    longer = replace(one.schedule, text=one.schedule.text + "\nmore")
    two = Report("05", "t", (replace(one, name="first", schedule=longer), one))
    which = f'Of the 2 broken promises, "{one.name}" is shown'
    for shown in (str(two), html.unescape(two._repr_html_())):
        assert which in shown
        assert 'replay("0 1 …"' in shown


def test_a_run_shows_what_its_loader_raised(server: RunningServer) -> None:
    def remember(kv, key, load):
        with contextlib.suppress(LookupError):
            return load()

    seen = {
        check.name: check for check in examine(exercises.find("01-short"), remember, server).checks
    }
    schedule = seen["a failed load"].schedule
    assert schedule is not None
    assert "reader  load raises LookupError" in schedule.text


def test_markup_of_a_learner_is_text() -> None:
    page = Report("05", "t", (Check("c", False, "p", "<script>alert(1)</script>"),))._repr_html_()
    assert "<script>" not in page


def test_prints_and_changes_stay_in_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    kept: list[int] = []

    def work() -> int:
        print("noise")
        kept.append(1)
        return len(kept)

    assert isolated(work, 60) == 1
    assert kept == []
    assert capfd.readouterr().out == ""


def test_what_cannot_be_pickled_is_an_answer_too() -> None:
    with pytest.raises(Stopped):
        isolated(lambda: lambda: 1, 60)


async def a_coroutine_function(kv: object) -> None:
    """What an exercise does not take."""


@pytest.mark.parametrize(
    ("number", "function", "message"),
    [
        ("5", print, "no exercise '5'"),
        (print, "05", 'exercise must be a text such as "05-short"'),
        ("77", print, "no exercises for chapter '77'"),
        ("05", "job", r'give the function itself: check\("05", job\)'),
        ("05", a_coroutine_function, "write job as a plain def"),
    ],
)
def test_misuse_is_told(number: str, function: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check(number, function)  # type: ignore[arg-type]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkingCopy:
    (tmp_path / ".kvlab-workbook.json").write_text("{}")
    (tmp_path / "exercises").mkdir()
    monkeypatch.chdir(tmp_path / "exercises")
    return WorkingCopy(tmp_path)


def test_checks_and_hints_are_kept_in_the_working_copy(copy: WorkingCopy) -> None:
    assert [hint("05-short").rung for _ in range(5)] == [1, 2, 3, 4, 4]
    assert not check("05-short", release_get_then_del).passed
    assert check("05-short", release_in_a_script).passed
    done = progress()
    assert done.solved == {"05-short"}
    assert done.attempts == {"05-short": 2}
    assert "(2 checks, solution opened)" in str(done)
    assert f"exercises solved: 1 of {len(exercises.every())}" in str(done)


def test_a_script_prints_its_hint(
    copy: WorkingCopy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    found = hint("05-short")
    assert capsys.readouterr().out == f"{found}\n"
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)  # a prompt shows the value itself
    hint("05-short")
    monkeypatch.delattr(sys, "ps1")
    shell = SimpleNamespace(get_ipython=object)
    monkeypatch.setitem(sys.modules, "IPython", shell)  # type: ignore[arg-type]
    hint("05-short")
    assert capsys.readouterr().out == ""


def test_a_torn_or_foreign_line_costs_that_line_alone(copy: WorkingCopy) -> None:
    good = json.dumps({"kind": "check", "exercise": "05", "passed": True})
    (copy.folder / ".kvlab-progress.jsonl").write_text(f'{good}\n[1]\n{good}\n{{"kind": "ch')
    assert progress().attempts == {"05": 2}


def test_without_a_working_copy_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [hint("05").rung for _ in range(2)] == [1, 1]
    assert hint("05", 4).text.startswith("def job(")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidArgument, match="rung must be from 1 to 4"):
        hint("05", 5)
