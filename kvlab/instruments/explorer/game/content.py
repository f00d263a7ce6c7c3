"""A tree of runs in words, as small as it can be.

A part of the tree that occurs again is written once: two points of two runs are one node where
everything that can come after them is the same. Texts and states are written once too, and named
by their numbers. What a number means, ``game.js`` says where it reads the content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kvlab.instruments.explorer.game.tree import Node, Tree
from kvlab.instruments.explorer.run.choices import Choice
from kvlab.instruments.explorer.run.settings import Settings
from kvlab.instruments.explorer.run.steps import Step
from kvlab.instruments.explorer.timeline.names import distinct, in_short, words_of
from kvlab.instruments.explorer.timeline.wording import (
    changed_keys,
    ending,
    held,
    line_of,
    named,
    printable,
    reply_of,
    request_of,
    word,
)

_TIME = re.compile(r"(\w?)…(\d{6})(?!\d)")


class _Numbers(dict[Any, int]):
    """A number from 0 for each thing, in the order in which they come."""

    def of(self, thing: Any) -> int:
        return self.setdefault(thing, len(self))


class _Writer:
    """Writes each text, state and node once."""

    def __init__(self, tree: Tree) -> None:
        self.texts, self.states, self.nodes = _Numbers(), _Numbers(), _Numbers()
        steps, names = [], set[str]()
        for node in tree.nodes():
            steps += [node.step] if node.step else []
            names.update(node.state)
        self._short = distinct(words_of(steps) | names)
        self._written = dict[int, int]()
        for node in tree.nodes():
            self._written[id(node)] = self.nodes.of(self._node(node))
        assert tree.root is not None
        self.root = self._written[id(tree.root)]
        self.first = self._state(tree.root)

    def _node(self, node: Node) -> tuple[Any, ...]:
        if node.end is not None:
            words = [_clear(one, node) for one in (node.end.why, *node.end.endings)]
            return (node.end.verdict, *map(self.texts.of, words))
        moves = tuple(self._move(choice, at) for choice, at in _in_order(node))
        return len(node.options) - len(moves), moves

    def _move(self, choice: Choice, node: Node) -> tuple[Any, ...]:
        request, reply = self._both(choice, node.step)
        step = node.step
        last = ending(step.result) if step is not None and step.ended else ""
        changed = changed_keys(node.before, node.state)
        gone = [name for name in node.before if name not in node.state]
        return (
            str(choice),
            -1 if choice.client is None else choice.client,
            choice.kind,
            self.texts.of(_clear(request, node)),
            self.texts.of(_clear(reply, node)),
            self._state(node),
            tuple(self.texts.of(self._name(name)) for name in changed),
            tuple(self.texts.of(self._name(name)) for name in gone),
            self.texts.of(_clear(last, node)),
            self._written[id(node)],
        )

    def _both(self, choice: Choice, step: Step | None) -> tuple[str, str]:
        """What is done, and the answer."""
        if step is None:
            return "reads its clock, which is right", ""
        step = in_short(step, self._short, ())
        if choice.kind == "expire":
            return f"the TTL of {word(step.key, 40)} ends", ""
        if choice.kind in ("flush", "jump", "fail over") or not step.commands:
            return line_of(step), ""
        return request_of(step), reply_of(step) if step.replies else ""

    def _state(self, node: Node) -> int:
        rows = []
        for name in node.state:
            value, ttl = held(name, node.before, node.state)
            rows.append(tuple(map(self.texts.of, (self._name(name), _clear(value, node), ttl))))
        return self.states.of(tuple(rows))

    def _name(self, key: str) -> str:
        return named(self._short.get(key, key))


def content_of(tree: Tree, settings: Settings, promise: str) -> dict[str, Any]:
    """All that the page needs, to be written as JSON."""
    written = _Writer(tree)
    return {
        "names": [printable(name) for name in settings.names],
        "promise": printable(promise),
        "ends": tree.ends,
        "broken": tree.ended("broken"),
        "undecided": tree.ended("undecided"),
        "more": tree.unexplored,
        "root": written.root,
        "first": written.first,
        "texts": list(written.texts),
        "states": list(written.states),
        "nodes": list(written.nodes),
    }


def par_of(content: Mapping[str, Any]) -> int | None:
    """The fewest steps in which a run breaks; None where none does."""
    least: list[int | None] = []
    for node in content["nodes"]:
        if isinstance(node[0], str):
            least.append(0 if node[0] == "broken" else None)
            continue
        steps = [
            below + (kind != "look")
            for _, _, kind, *_, to in node[1]
            if (below := least[to]) is not None
        ]
        least.append(min(steps, default=None))
    par: int | None = least[content["root"]]
    return par


def _in_order(node: Node) -> Sequence[tuple[Choice, Node]]:
    """The moves in the order in which the explorer names them."""
    return [(choice, node.moves[choice]) for choice in node.options if choice in node.moves]


def _clear(text: str, node: Node) -> str:
    """The text with a name for each point in time: the server's clock differs from run to run."""

    def name(found: re.Match[str]) -> str:
        before, digits = found.groups()
        if digits not in node.times:
            return found[0]
        return f"{before}{'…' * bool(before)}time-{node.times[digits]}"  # a cut word stays one

    return _TIME.sub(name, text)
