"""Measures the cells of a notebook's source: can a learner read them?

A cell is judged as ruff formats it at 88 columns, so that a remark to the formatter cannot hide
its length, and by its syntax tree (``cell_forms``), so that no spelling hides a form.
``PYTHONPATH=tests python -m support.cells notebooks/source/05_*.py`` lists each offence with the
line of the source.

What is banned, and why:

* a cell of more than 12 lines, a chapter of more than 40 cells: too much for one look (a cell that
  asks or answers a prediction is not counted: it is a line of prose that takes an answer);
* ``# fmt``, ``# noqa`` and other remarks to a tool: no reader needs them;
* a lambda that is assigned to a name: a ``def`` has a name and a docstring;
* ``:=`` and ``;``: two acts in one line;
* ``and`` / ``or`` as a sequence of acts (see ``cell_forms``), but for the condition of an ``if``;
* several acts in one statement: ``(a(), b())`` and ``a() if ready else b()``;
* a comprehension that is made for its effect: ``[print(row) for row in rows]``;
* what is not Python: a magic (``%timeit``), a shell command (``!ls``), a question (``x?``);
* a default argument that captures a loop variable: a trick that must be explained;
* several targets in one assignment: ``a = b = 0`` and ``a, b = 1, 2``. To unpack the one result
  of a call (``left, right = halves(x)``) is allowed;
* a line of more than 88 characters.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import cell_forms

MAX_LINES = 12
MAX_CELLS = 40
MAX_COLUMNS = 88

_MARKER = re.compile(r"# %%(?P<markdown> \[markdown\])?(?P<rest>.*)")
_REMARK = re.compile(
    r"\s*# ?(?:fmt:|yapf:|(?:ruff: ?)?noqa\b|isort:|pylint:|mypy:|type: ?ignore)[^#\n]*",
    re.IGNORECASE,
)
_NOT_IN_CHAPTER = ("stub", "solution", "check", "exercise-setup", "predict")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a source: the line of its marker, and the text between the markers."""

    line: int
    code: bool
    tags: str
    text: str

    @property
    def in_chapter(self) -> bool:
        return not any(f'"{tag}"' in self.tags for tag in _NOT_IN_CHAPTER)


@dataclass(frozen=True, slots=True)
class Offence:
    """A banned form: the line of the source where its cell begins, and what is wrong."""

    line: int
    what: str


def split(text: str) -> list[Cell]:
    """The cells of a source in jupytext's percent format."""
    cells: list[Cell] = []
    start, marker, body = 0, None, list[str]()
    for number, line in enumerate([*text.splitlines(), "# %%"], start=1):
        found = _MARKER.fullmatch(line)
        if not found:
            body.append(line)
            continue
        if marker:
            text_of_cell = "\n".join(body).strip("\n")
            cells.append(Cell(start, not marker["markdown"], marker["rest"], text_of_cell))
        start, marker, body = number, found, []
    return cells


def offences(text: str) -> list[Offence]:
    """Everything that is banned in one source, by line."""
    text, found = _python_alone(text)
    cells = split(text)
    found += [offence for cell in cells if cell.code for offence in _remarks(cell)]
    formatted = formatted_text(without_remarks(text))
    for cell, shown in zip(cells, split(formatted), strict=True):
        if cell.code:
            found += [Offence(cell.line, what) for what in _in_cell(shown.text)]
    if formatted != text:
        found.append(Offence(1, f"not formatted: ruff format --line-length {MAX_COLUMNS} FILE"))
    in_chapter = sum(cell.in_chapter for cell in cells)
    if in_chapter > MAX_CELLS:
        found.append(Offence(1, f"{in_chapter} cells in the chapter; at most {MAX_CELLS}"))
    return sorted(found, key=lambda offence: offence.line)


def formatted_text(text: str) -> str:
    """The text as ruff formats it at 88 columns."""
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--quiet"]
    command += ["--line-length", str(MAX_COLUMNS), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def without_remarks(text: str) -> str:
    """The text without what its comments say to linters; a string keeps such words."""
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            line = lines[row - 1]
            kept = _REMARK.sub("", token.string)
            code = line[:column] if kept else line[:column].rstrip()
            lines[row - 1] = code + kept + line[column + len(token.string) :]
    return "".join(lines)


def _python_alone(text: str) -> tuple[str, list[Offence]]:
    """The text with ``pass`` for each code cell that is not Python, and these cells."""
    lines = text.splitlines()
    found = list[Offence]()
    for cell in split(text):
        try:
            if cell.code:
                cell_forms.parsed(cell.text)
        except SyntaxError as error:
            at = cell.line + (error.lineno or 1)
            found.append(Offence(at, f"not Python: {(error.text or '').strip()[:50]}"))
            size = len(cell.text.splitlines())
            lines[cell.line : cell.line + size] = ["pass"] + ["# …"] * (size - 1)
    return ("\n".join(lines) + "\n" if found else text), found


def _remarks(cell: Cell) -> Iterator[Offence]:
    """What the formatter would take away or obey: remarks to linters, and semicolons."""
    for token in tokenize.generate_tokens(io.StringIO(cell.text + "\n").readline):
        line = cell.line + token.start[0]
        if token.type == tokenize.COMMENT and _REMARK.search(token.string):
            yield Offence(line, f"a remark to a linter: {token.string}")
        elif token.type == tokenize.OP and token.string == ";":
            yield Offence(line, "a semicolon: write two lines")


def _in_cell(text: str) -> Iterator[str]:
    """What is banned in one formatted cell."""
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        yield f"{len(lines)} lines when formatted; at most {MAX_LINES}"
    for line in lines:
        if len(line) > MAX_COLUMNS:
            yield f"a line of {len(line)} characters: {line.strip()[:50]} …"
    yield from cell_forms.banned(cell_forms.parsed(text))


def main(names: list[str]) -> int:
    """List the offences of each source; 1 when there are some."""
    total = 0
    for name in names:
        try:
            found = offences(Path(name).read_text(encoding="utf-8"))
        except (SyntaxError, subprocess.CalledProcessError, tokenize.TokenError) as problem:
            found = [Offence(1, f"cannot be parsed: {getattr(problem, 'stderr', None) or problem}")]
        total += len(found)
        for offence in found:
            print(f"{name}:{offence.line}: {offence.what}")
    print(f"{total} offences in {len(names)} sources")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
