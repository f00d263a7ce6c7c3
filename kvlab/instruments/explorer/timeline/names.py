"""Steps and states as a timeline shows them: long words that differ stay different, and of a long
batch the commands that matter are kept."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kvlab.instruments.explorer.clients.stops import Command
from kvlab.instruments.explorer.run.steps import Step
from kvlab.instruments.explorer.timeline.scripts import SCRIPT_COMMANDS
from kvlab.instruments.explorer.timeline.wording import State, named, printable, word

_MOST = 40
"""Commands shown of one batch."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a run. ``matter``: the keys that several clients use, or that the problem
    names."""

    trace: tuple[Step, ...]
    states: tuple[State, ...]
    matter: frozenset[str]


def shown(trace: Sequence[Step], states: Sequence[State], problem: str) -> Shown:
    """Copies of the steps and states."""
    short = distinct(words_of(trace).union(*states))
    keys = set[str]().union(*states)
    matter = {printable(one) for one in _shared(trace)} | {key for key in keys if key in problem}
    return Shown(
        tuple(in_short(step, short, matter) for step in trace),
        tuple({short.get(key, key): value for key, value in state.items()} for state in states),
        frozenset(short.get(key, key) for key in matter),
    )


def words_of(trace: Iterable[Step]) -> set[str]:
    """The words of all commands and the keys of the steps."""
    words = {printable(one) for step in trace for command in step.commands for one in command}
    return words | {printable(step.key) for step in trace}


def in_short(step: Step, short: Mapping[str, str], matter: Collection[str]) -> Step:
    """The step with the short forms; of a long batch the commands that matter."""
    commands = tuple(
        tuple(
            one if at == 1 and command[0].upper() in SCRIPT_COMMANDS else _renamed(one, short)
            for at, one in enumerate(command)
        )
        for command in _kept(step.commands, step.replies, matter)
    )
    return step._replace(commands=commands, key=_renamed(step.key, short))


def _renamed(one: bytes, short: Mapping[str, str]) -> bytes:
    name = short.get(printable(one)) if short else None
    return one if name is None else name.encode()


def distinct(words: Iterable[str]) -> dict[str, str]:
    """Short forms of the words that would be shortened alike, with what is different in them."""
    alike = defaultdict(set)
    for one in words:
        for form in {named(one), word(one)}:
            alike[form].add(one)
    found: dict[str, str] = {}
    for group in alike.values():
        if len(group) > 1:
            at = max(_difference(min(group), max(group)) - 3, 8)
            forms = {one: f"{one[:8]}…{one[at : at + 12]}…{one[-7:]}" for one in group}
            often = Counter(forms.values())
            for one, form in forms.items():
                tag = hashlib.sha1(one.encode(), usedforsecurity=False).hexdigest()[:8]
                found[one] = form if often[form] == 1 else f"{one[:8]}…{tag}…{one[-7:]}"
    return found


def _difference(one: str, other: str) -> int:
    """Where the words differ first; of the least and the greatest of several, where any two do."""
    both = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in both if a != b), min(len(one), len(other)))


def _shared(trace: Sequence[Step]) -> set[bytes]:
    """The first arguments of commands that several clients send: mostly keys."""
    users = defaultdict(set)
    for step in trace:
        for command in step.commands:
            for one in command[1:2]:
                users[one].add(step.client)
    return {one for one, clients in users.items() if len(clients) > 1}


def _kept(
    commands: Sequence[Command], replies: Sequence[object], matter: Collection[str]
) -> list[Command]:
    """The commands of a batch; of a long one those that failed or whose key matters, then the
    others from the first on, as many as have room."""
    if len(commands) <= _MOST:
        return list(commands)
    answers = replies[-1] if commands[0][0].upper() == b"MULTI" and replies else replies
    answers = answers if isinstance(answers, list | tuple) else ()
    first = 1 if answers is not replies else 0
    failed = {at for at, one in enumerate(answers, first) if isinstance(one, BaseException)}
    ends = {0, len(commands) - 1}
    touching = [
        at for at, command in enumerate(commands) if command[1:] and printable(command[1]) in matter
    ]
    keep = set([*ends, *failed, *touching, *range(len(commands))][: _MOST + len(ends)])
    found: list[Command] = []
    left_out = 0
    for at, command in enumerate([*commands, None]):
        if command is not None and at not in keep:
            left_out += 1
            continue
        if left_out:
            found.append((f"… {left_out} more".encode(),))
            left_out = 0
        if command is not None:
            found.append(command)
    return found
