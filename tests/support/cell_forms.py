"""Finds the banned forms in the syntax tree of a cell; ``support.cells`` says which, and why."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

_ACTS_OF_BUILTINS = {"print", "exec", "eval", "input", "open", "setattr", "delattr", "next"}
_QUESTIONS = frozenset(dir(builtins)) - _ACTS_OF_BUILTINS
_READS = frozenset({"get", "exists", "ttl", "pttl", "hget", "hgetall", "zscore", "zcard", "scard"})
_READS |= {"llen", "keys", "values", "items", "count", "index", "startswith", "endswith"}
_EFFECTS = frozenset({"print", "append", "extend", "insert", "sort", "reverse", "setattr"})
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp)
_COLLECTORS = frozenset({"list", "tuple", "set", "any", "all", "sum", "deque"})
_ASKS = ("is_", "are_", "has_", "every_", "no_", "all_", "any_")


def parsed(text: str) -> ast.AST:
    """The tree of a cell, which may await at its top level; SyntaxError when it is no Python."""
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree: ast.AST = compile(text, "cell", "exec", flags, dont_inherit=True)
    return tree


def banned(tree: ast.AST) -> Iterator[str]:
    """What is banned in one cell, each with its code."""
    for node in ast.walk(tree):
        for what in _in_node(node):
            yield f"{what}: {_shown(node)}"
    for sequence in _sequences(tree):
        yield f"and / or as a sequence of acts: write if: {_shown(sequence)}"
    for default in _captures(tree, frozenset()):
        yield f"a default argument captures a loop variable: {_shown(default)}"


def _in_node(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.NamedExpr):
        yield "a walrus: assign in a line before"
    if isinstance(node, ast.Assign | ast.AnnAssign):
        yield from _in_assignment(node)
    if isinstance(node, ast.Expr | ast.Lambda):
        value = node.body if isinstance(node, ast.Lambda) else node.value
        if isinstance(value, ast.Tuple | ast.List | ast.Set):
            several = sum(map(_is_act, value.elts)) > 1
            if several:
                yield "several acts in one statement: one a line"
        elif isinstance(node, ast.Expr) and isinstance(value, ast.IfExp):
            yield "a choice of acts as a statement: write if"
    if _is_for_effect(node):
        yield "a comprehension made for its effect: write a loop"


def _is_for_effect(node: ast.AST) -> bool:
    """Whether a comprehension makes only None, or makes what no name and no call gets."""
    if isinstance(node, _COMPREHENSIONS):
        return _is_always_none(node.elt)
    unused = isinstance(node, ast.Expr)
    if isinstance(node, ast.Assign):
        unused = [ast.unparse(target) for target in node.targets] == ["_"]
    value = node.value if unused and isinstance(node, ast.Expr | ast.Assign) else None
    while isinstance(value, ast.Call) and _called(value) in _COLLECTORS and value.args:
        value = value.args[0]
    if isinstance(value, ast.Call):
        return _called(value) == "map"
    if isinstance(value, _COMPREHENSIONS):
        return _is_act(value.elt) and not _is_always_none(value.elt)
    return False


def _is_always_none(element: ast.expr) -> bool:
    return isinstance(element, ast.Call) and _called(element) in _EFFECTS


def _called(call: ast.Call) -> str:
    """The last word of what is called: ``append`` in ``names.append(1)``."""
    return ast.unparse(call.func).rpartition(".")[2]


def _sequences(node: ast.AST) -> Iterator[ast.expr]:
    """The ``and`` / ``or`` below ``node`` that are acts, but for conditions."""
    if isinstance(node, ast.BoolOp) and _acts(node):
        yield node
        return
    tests = list[ast.expr]()
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        tests = [node.test]
    elif isinstance(node, ast.comprehension):
        tests = node.ifs
    for child in ast.iter_child_nodes(node):
        for part in _operands(child) if child in tests else [child]:
            yield from _sequences(part)


def _operands(test: ast.AST) -> list[ast.AST]:
    """The parts of a condition that ``and``, ``or`` and ``not`` put together."""
    if isinstance(test, ast.UnaryOp):
        return _operands(test.operand)
    if isinstance(test, ast.BoolOp):
        return [part for value in test.values for part in _operands(value)]
    return [test]


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
