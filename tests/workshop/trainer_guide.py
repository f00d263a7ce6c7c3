"""Writes the part of ``notebooks/TRAINER.md`` that comes from the wrong answers of the tests.

``PYTHONPATH=tests python -m workshop.trainer_guide`` writes them; a test compares each line.
"""

from __future__ import annotations

import re
from collections import defaultdict

from workshop.answers import ANSWERS
from workshop.answers.answer import Answer

from kvlab.workshop import exercises
from kvlab.workshop.learner.check import examine, private_server
from kvlab.workshop.learner.report import Check, Report
from kvlab.workshop.notebooks import NOTEBOOKS

GUIDE = NOTEBOOKS / "TRAINER.md"
SECONDS = 60.0
_STEP = re.compile(r"^ *\d+ (?P<who>\S.*?) {2,}(?P<what>.+)$")
_MOST = 8


def line_of(answer: Answer, report: Report) -> str:
    """One wrong answer: what was written, what ``check`` says, and the run that shows it."""
    said = failed_check(answer, report)
    run = f" Run: {steps}." if (steps := _steps(said)) else ""
    seen = re.sub(r" \(in [\w<>]+, line \d+\)", "", said.seen)  # lines of the tests
    seen = re.sub(r"[\d,]+ of 4,000", "many of 4,000", seen)  # differs from process to process
    return f"- {answer.words} *{seen}*{run}"


def failed_check(answer: Answer, report: Report) -> Check:
    """The check that says what the answer must be told."""
    assert answer.seen is not None
    failed = [check for check in report.checks if not check.passed and answer.seen in check.seen]
    return failed[0]


def _steps(check: Check) -> str:
    """The run in one line: who sends which command. Keys and values differ from run to run."""
    if check.schedule is None:
        return ""
    found = []
    for line in check.schedule.text.splitlines():
        if step := _STEP.match(line):
            who, what = step["who"], step["what"]
            found.append(_event(what) if who == "server" else f"{who} {_command(what)}")
    if len(found) > _MOST:
        found[_MOST:] = [f"and {len(found) - _MOST} more steps"]
    return " · ".join(found)


def _event(what: str) -> str:
    """What happens to the server."""
    what = re.sub(r"^the TTL of .* ends$", "a TTL ends", what)
    return re.sub(r"^is replaced by a replica without", "a failover loses", what)


def _command(what: str) -> str:
    """The words of a step that are the same in each run."""
    lost = re.search(r"(reply|request) is lost$", what)
    vain = " (WAIT in vain)" * what.endswith("no replica has got it")
    words = re.sub(r" before .*", "", what).split(" ")
    shown = words[: 2 if words[0] in ("sleeps", "UPDATE") or words[1:2] == ["raises"] else 1]
    return " ".join(shown) + (f" ({lost[1]} lost)" if lost else vain)


def generated() -> str:
    """Each exercise with its wrong answers."""
    lines = defaultdict(list)
    with private_server() as server:
        for answer in ANSWERS:
            if answer.seen is not None:
                exercise = exercises.find(answer.exercise)
                report = examine(exercise, answer.function, server, SECONDS)
                lines[answer.exercise].append(line_of(answer, report))
    sections = []
    for exercise in exercises.every():
        head = f"### {exercise.number}: {exercise.title} (`{exercise.function}`)"
        sections.append("\n".join([head, "", minutes_of(exercise.number), ""]))
        sections[-1] += "\n" + "\n".join(lines[exercise.number]) + "\n"
    return "\n".join(sections)


def minutes_of(number: str) -> str:
    exercise = exercises.find(number)
    promises = "; ".join(promise.name for promise in exercise.promises)
    return f"About {exercise.minutes} minutes (estimated). It tries: {promises}."


BEGIN, END = "<!-- wrong answers: begin -->", "<!-- wrong answers: end -->"


def main() -> None:
    before, _, rest = GUIDE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = f"{before}{BEGIN}\n\n{generated()}\n{END}{after}"
    GUIDE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
