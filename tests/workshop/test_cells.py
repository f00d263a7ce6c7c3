"""Every cell of the workbook is code that a learner could have written."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest
from support import cells

from kvlab.workshop.notebooks import NOTEBOOKS

SOURCES = sorted((NOTEBOOKS / "source").glob("[0-9][0-9]_*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_chapter_can_be_read_by_a_learner(source: Path) -> None:
    found = cells.offences(source.read_text(encoding="utf-8"))
    assert [f"{source.name}:{one.line}: {one.what}" for one in found] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_the_cells_are_those_of_jupytext(source: Path) -> None:
    """Line numbers cost an own reader of the format: it must see what jupytext sees."""
    read = [cell for cell in jupytext.read(source, fmt="py:percent").cells if cell.source]
    own = [cell for cell in cells.split(source.read_text(encoding="utf-8")) if cell.text]
    assert [cell.cell_type == "code" for cell in read] == [cell.code for cell in own]
    texts = [(a.source, b.text) for a, b in zip(read, own, strict=True) if b.code]
    assert [(a, b) for a, b in texts if a != b] == []


def offences(code: str) -> list[str]:
    """What is wrong in a source of one cell, without that it is not formatted."""
    found = cells.offences(f"# %%\n{code}\n")
    return [one.what for one in found if not one.what.startswith("not formatted")]


LONG = "\n".join(f"row_{number} = {number}" for number in range(13))
HIDDEN = "page = [" + ", ".join(f"read(kv, 'a long key {n}')" for n in range(12)) + "]  # fmt: skip"

BANNED = {
    LONG: ["13 lines when formatted; at most 12"],
    HIDDEN: ["14 lines when formatted; at most 12", "a remark to a linter: # fmt: skip"],
    "f = 1  # noqa: E501": ["a remark to a linter: # noqa: E501"],
    "# fmt: off": ["a remark to a linter: # fmt: off"],
    "f = lambda kv: 1": ["an assigned lambda: write def: f = lambda kv: 1"],
    "f: Client = lambda kv: 1": ["an assigned lambda: write def: f: Client = lambda kv: 1"],
    "f = {'a': lambda kv: 1}": ["an assigned lambda: write def: f = {'a': lambda kv: 1}"],
    "x = 1  # yapf: disable": ["a remark to a linter: # yapf: disable"],
    "x = 1  # NOQA": ["a remark to a linter: # NOQA"],
    "print(n := 1)": ["a walrus: assign in a line before: (n := 1)"],
    "a = 1; b = 2": ["a semicolon: write two lines"],
    "a = 1;": ["a semicolon: write two lines"],
    "a = b = 1": ["several targets in one assignment: one a line: a = b = 1"],
    "a, b = 1, 2": ["several targets in one assignment: one a line: a, b = (1, 2)"],
    "[a, b] = [x, y]": ["several targets in one assignment: one a line: [a, b] = [x, y]"],
    "x = 1  # a reason  # noqa": ["a remark to a linter: # a reason  # noqa"],
    "(a(), b())": ["several acts in one statement: one a line: (a(), b())"],
    "g(lambda kv: [a(), b()])": [
        "several acts in one statement: one a line: lambda kv: [a(), b()]"
    ],
    "a() if ready else b()": ["a choice of acts as a statement: write if: a() if ready else b()"],
    "%timeit f()": ["not Python: %timeit f()"],
    "files = !ls": ["not Python: files = !ls"],
    "kv.run?": ["not Python: kv.run?"],
    f'x = "{"y" * 90}"': [f'a line of 96 characters: x = "{"y" * 45} …'],
}
ACTS = (
    "take(kv) and write(kv)",
    "db.write() or cache.invalidate()",
    "held = take(kv) and write(kv)",
    "x: int = take(kv) and write(kv)",
    "def f(kv):\n    return take(kv) and write(kv)",
    "g(lambda kv: take(kv) and write(kv))",
    "g(lambda kv: held and kv.delete('x'))",
    "held and (names.append(1) or kv.set('x', 1))",
    "async def f(kv):\n    return held and await kv.set('x', 1)",
    "not (held and kv.delete('x'))",
    "print(take(kv) and write(kv))",
    "x += held and take(kv)",
    "x = [held and take(kv)]",
    "x = y == (held and take(kv))",
    "for row in held and take(kv):\n    print(row)",
    "assert held and take(kv)",
    "def f(kv):\n    yield held and take(kv)",
    "if run(held and take(kv)):\n    print(1)",
)
EFFECTS = (
    "[print(x) for x in xs]",
    "_ = [write(kv, x) for x in xs]",
    "any(write(kv, x) for x in xs)",
    "list(map(print, xs))",
    "x = {names.append(n) for n in xs}",
    "sum([write(kv, x) for x in xs])",
)
CAPTURES = (
    "for name in 'AB':\n    run(lambda kv, name=name: write(kv, name))",
    "run([lambda kv, n=name: n for name in 'AB'])",
    "run({name: (lambda kv, n=name: n) for name in 'AB'})",
    "for name, op in pairs:\n\n    def f(kv, *, op=op):\n        return op",
)
ALLOWED = (
    "\n".join(f"row_{number} = {number}" for number in range(12)),
    "left, right = halves(x)",
    "value, version = await read(kv)",
    "for name, op in pairs:\n    print(name, op)",
    "explore([lambda kv: kv.get('x')])",
    "value = kv.get('x') or 0",
    "rows = cached or kv.get('x')",
    "def f(world):\n    return world.a is None or world.kv.get('x') == b'1'",
    "def f(world):\n    return isinstance(world, A) or all(world.results)",
    "def f(world):\n    return is_free(world) and has_end(world) and every_key_ends(world)",
    "def f(kv, limit=10):\n    if take(kv) and left(kv):\n        write(kv)",
    "for name in 'AB':\n\n    def f(kv, limit=10):\n        return limit",
    "print('a; b')  # one; two",
    "while take(kv) and not (done or left(kv)):\n    x = 1 if a() or b() else 2",
    "x = [n for n in xs if a(n) and b(n)]",
    "x = [take(kv, n) for n in xs]",
    "(len(a), len(b))",
    "[len(x) for x in xs]",
    "x = 'no # noqa and no # fmt: off in a string'",
)


@pytest.mark.parametrize(("code", "found"), BANNED.items())
def test_a_banned_form_is_found(code: str, found: list[str]) -> None:
    assert offences(code) == found


@pytest.mark.parametrize("code", ACTS)
def test_and_or_as_a_sequence_of_acts_is_found(code: str) -> None:
    found = offences(code)
    assert len(found) == 1
    assert found[0].startswith("and / or as a sequence of acts: write if: ")


@pytest.mark.parametrize("code", EFFECTS)
def test_a_comprehension_for_its_effect_is_found(code: str) -> None:
    found = offences(code)
    assert len(found) == 1
    assert found[0].startswith("a comprehension made for its effect: write a loop: ")


def test_a_cell_that_is_no_python_hides_no_other_cell() -> None:
    found = cells.offences("# %%\nx = 1\n!ls\n\n# %%\na = b = 1\n")
    assert [(one.line, one.what[:10]) for one in found] == [(3, "not Python"), (5, "several ta")]


@pytest.mark.parametrize("code", CAPTURES)
def test_a_default_that_captures_a_loop_variable_is_found(code: str) -> None:
    found = offences(code)
    assert len(found) == 1
    assert found[0].startswith("a default argument captures a loop variable: ")


@pytest.mark.parametrize("code", ALLOWED)
def test_plain_code_is_allowed(code: str) -> None:
    assert offences(code) == []


def test_an_unformatted_source_is_found() -> None:
    assert cells.offences('# %%\nx = "1"\n') == []
    found = cells.offences("# %%\nx = '1'\n")
    assert [one.what for one in found] == ["not formatted: ruff format --line-length 88 FILE"]


def test_a_chapter_has_at_most_forty_cells() -> None:
    chapter = "\n".join("# %%\nx = 1\n" for _ in range(40))
    exercise = '\n# %% tags=["stub"]\nx = 1\n\n# %% tags=["check"]\nx = 1\n'
    assert cells.offences(chapter + exercise) == []
    found = cells.offences("# %% [markdown]\n# One more\n\n" + chapter)
    assert [one.what for one in found] == ["41 cells in the chapter; at most 40"]


def test_an_offence_names_the_line_of_the_source() -> None:
    text = "# %% [markdown]\n# Text; more text\n\n# %%\nx = 1\ny = 2;\n\n# %%\na = b = 1\n"
    lines = [one.line for one in cells.offences(text)]
    assert lines == [1, 6, 8]
