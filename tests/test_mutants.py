"""The mutation check cannot rot: its mutants fit the program, and its table lists just these."""

from __future__ import annotations

from collections import Counter

import pytest
from mutants import MUTANTS, PATTERNS, ROOT, Mutant, Rotten, table
from mutants.trial import Run, judged

FAILED = "FAILED tests/test_x.py::test_y[a - b] - assert 1 == 2\n"


def test_the_mutants_fit_the_program() -> None:
    for mutant in MUTANTS:
        assert mutant.old in mutant.original()  # which says whose old text is not there once
        assert mutant.new != mutant.old, mutant
        assert mutant.file.startswith("kvlab/"), mutant
        assert [name for name in mutant.tests if not (ROOT / name).is_file()] == [], mutant


def test_every_pattern_has_some() -> None:
    assert len(MUTANTS) >= 24
    assert len({(m.pattern, m.removed) for m in MUTANTS}) == len(MUTANTS)
    counts = Counter(mutant.pattern for mutant in MUTANTS)
    assert list(counts) == list(PATTERNS)
    assert min(counts.values()) >= 3


def test_the_table_lists_these_and_each_was_caught_by_a_test_that_exists() -> None:
    text = table.TABLE.read_text(encoding="utf-8")
    caught_by = table.read(MUTANTS, text)
    assert text == table.render(MUTANTS, caught_by), "out of date: make mutants"
    gone = [f"{mutant}: {test}" for mutant, test in caught_by.items() if not exists(test)]
    assert gone == [], "out of date: make mutants"


def exists(test: str | None) -> bool:
    file, _, name = (test or "").partition("::")
    path = ROOT / file
    name = name.partition("[")[0].rpartition("::")[2]
    places = [path, *(ROOT / "tests" / "contracts").glob("*.py")]  # a class may inherit its tests
    return path.is_file() and any(f"def {name}(" in p.read_text("utf-8") for p in places)


def test_only_a_test_that_fails_is_a_catch() -> None:
    assert judged(Run(1, FAILED)).caught_by == "tests/test_x.py::test_y[a - b]"
    assert judged(Run(0, "3 passed")).caught_by is None
    assert judged(Run(None, "")).caught_by is None
    for code in (2, 3, 4, 5):
        assert judged(Run(code, FAILED)).caught_by is None
    assert judged(Run(1, "ERROR tests/test_x.py::test_y - OSError\n")).caught_by is None
    assert judged(Run(1, FAILED.replace("assert 1", "NameError: x"))).caught_by is None


@pytest.mark.parametrize("old", ["no such text", "return"])
def test_a_mutant_that_no_longer_fits_is_told(old: str) -> None:
    mutant = Mutant("sessions", "x", "y", "kvlab/sessions/store.py", old, "", ())
    with pytest.raises(Rotten, match=r"times in kvlab/sessions/store.py, not once"):
        mutant.original()
