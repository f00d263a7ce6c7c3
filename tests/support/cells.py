"""Measures the cells of a notebook's source: can a learner read them?

A cell is judged as ruff formats it at 88 columns, so that a remark to the formatter cannot hide
its length, and by its syntax tree, so that no spelling hides a form. ``python
tests/support/cells.py notebooks/source/05_*.py`` lists each offence with the line of the source.

What is banned, and why:

* a cell of more than 12 lines, a chapter of more than 40 cells: too much for one look;
* ``# fmt``, ``# noqa`` and other remarks to a tool: no reader needs them;
* a lambda that is assigned to a name: a ``def`` has a name and a docstring;
* ``:=`` and ``;``: two acts in one line;
* ``and`` / ``or`` as a sequence of acts (see ``_acts``);
* a default argument that captures a loop variable: a trick that must be explained;
* several targets in one assignment: ``a = b = 0`` and ``a, b = 1, 2``. To unpack the one result
  of a call (``left, right = halves(x)``) is allowed;
* a line of more than 88 characters.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_LINES = 12
MAX_CELLS = 40
MAX_COLUMNS = 88

_MARKER = re.compile(r"# %%(?P<markdown> \[markdown\])?(?P<rest>.*)")
_REMARK = re.compile(
    r"\s*# ?(?:fmt:|yapf:|(?:ruff: ?)?noqa\b|isort:|pylint:|mypy:|type: ?ignore)[^#\n]*",
    re.IGNORECASE,
)
_NOT_IN_CHAPTER = ("stub", "solution", "check", "exercise-setup")
_ACTS_OF_BUILTINS = {"print", "exec", "eval", "input", "open", "setattr", "delattr", "next"}
_QUESTIONS = frozenset(dir(builtins)) - _ACTS_OF_BUILTINS
_READS = frozenset({"get", "exists", "ttl", "pttl", "hget", "hgetall", "zscore", "zcard", "scard"})
_READS |= {"llen", "keys", "values", "items", "count", "index", "startswith", "endswith"}
_ASKS = ("is_", "are_", "has_", "every_", "no_", "all_", "any_")


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
    cells = split(text)
    found = [offence for cell in cells if cell.code for offence in _remarks(cell)]
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
    """The text without what it says to its linters."""
    return _REMARK.sub("", text)


def _remarks(cell: Cell) -> Iterator[Offence]:
    """What the formatter would take away or obey: remarks to linters, and semicolons."""
    for token in tokenize.generate_tokens(io.StringIO(cell.text + "\n").readline):
        line = cell.line + token.start[0]
        if token.type == tokenize.COMMENT and _REMARK.match(token.string):
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
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(text, "cell", "exec", flags, dont_inherit=True)
    for node in ast.walk(tree):
        for what in _in_node(node):
            yield f"{what}: {_shown(node)}"
    for default in _captures(tree, frozenset()):
        yield f"a default argument captures a loop variable: {_shown(default)}"


def _in_node(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.NamedExpr):
        yield "a walrus: assign in a line before"
    if isinstance(node, ast.Assign | ast.AnnAssign):
        yield from _in_assignment(node)
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr | ast.Return | ast.Lambda):
        value = node.body if isinstance(node, ast.Lambda) else node.value
        if value is not None and _acts(value):
            yield "and / or as a sequence of acts: write if"


def _in_assignment(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    if node.value is not None and _holds_lambda(node.value):
        yield "an assigned lambda: write def"
    if isinstance(node, ast.Assign):
        unpacks = any(isinstance(target, ast.Tuple | ast.List) for target in node.targets)
        if len(node.targets) > 1 or (unpacks and isinstance(node.value, ast.Tuple | ast.List)):
            yield "several targets in one assignment: one a line"


def _holds_lambda(value: ast.expr) -> bool:
    """Whether the value is a lambda, or a choice or collection of some; not an argument's."""
    if isinstance(value, ast.Lambda):
        return True
    if isinstance(value, ast.Call):
        return False
    parts = (child for child in ast.iter_child_nodes(value) if isinstance(child, ast.expr))
    return any(_holds_lambda(part) for part in parts)


def _acts(value: ast.expr) -> bool:
    """Whether ``and`` / ``or`` decides here if something is *done*.

    It does when an operand after the first is itself a call (``take(kv) and write(kv)``): whether
    that call happens depends on the operand before. A call inside a comparison
    (``a and count() == 1``) is a question, and so are the builtins that only compute
    (``all(…)``, ``isinstance(…)``), a method that only reads (``kv.exists(…)``), and a function
    whose name asks (``is_…``, ``are_…``, ``has_…``, ``every_…``, ``no_…``, ``all_…``, ``any_…``).
    """
    if isinstance(value, ast.UnaryOp):
        return _acts(value.operand)
    if not isinstance(value, ast.BoolOp):
        return False
    first, *later = value.values
    return _acts(first) or any(_acts(one) or _is_act(one) for one in later)


def _is_act(value: ast.expr) -> bool:
    while isinstance(value, ast.Await | ast.UnaryOp):
        value = value.value if isinstance(value, ast.Await) else value.operand
    if not isinstance(value, ast.Call):
        return False
    if isinstance(value.func, ast.Attribute):
        return value.func.attr not in _READS
    name = value.func.id if isinstance(value.func, ast.Name) else ""
    return name not in _QUESTIONS and not name.startswith(_ASKS)


def _captures(node: ast.AST, looping: frozenset[str]) -> Iterator[ast.expr]:
    """The default arguments below ``node`` that name a variable of a loop around them."""
    if isinstance(node, ast.For | ast.AsyncFor):
        looping |= _names(node.target)
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
        looping = looping.union(*(_names(loop.target) for loop in node.generators))
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None and _names(default) & looping:
                yield default
    for child in ast.iter_child_nodes(node):
        yield from _captures(child, looping)


def _names(node: ast.AST) -> frozenset[str]:
    return frozenset(child.id for child in ast.walk(node) if isinstance(child, ast.Name))


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else f"{text[:59]}…"


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
