"""Whether a client does the same again after the same answers, and how it differs, in words.

A run that repeats the choices of another run repeats its steps, unless a client or setup keeps
something from one run to the next. What was computed from a time says nothing: neither a step
after an answer that differs, nor one after a look at the clock, nor the words of a step that look
like a time, a token or binary data.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

from kvlab.instruments.explorer.clients.stops import Command, Local, Sending, Stop
from kvlab.instruments.explorer.run.steps import Step
from kvlab.instruments.explorer.shortening import essence

ADVICE = (
    "clients, setup and invariant must do the same in each run when they get the same answers: "
    "keep nothing from one run to the next (a list, a global, a cache): make a library's object "
    "inside the client, empty the rest in setup; seed random numbers, start no threads"
)

_NEAR = 7 * 86400  # seconds


def unlike(before: Step, now: Step) -> str | None:
    """How the step differs; None when it does not."""
    same = before.label == now.label and _alike(before.commands, now.commands)
    if not same:
        return _both(before.label or _words(before.commands), now.label or _words(now.commands))
    if before.ended != now.ended:
        what = before.label or _words(before.commands)
        was, is_now = ("", " not") if before.ended else (" not", "")
        return f"({what}) was{was} its last in one run and is{is_now} now"
    return None


def unlike_at_first(before: Stop, now: Stop) -> str | None:
    """How the place differs where a client has stopped first; None when it does not."""
    match before, now:
        case Sending(was), Sending(is_now):
            return None if _alike(was, is_now) else _both(_words(was), _words(is_now))
        case Local(was_label), Local(label):
            return None if was_label == label else _both(was_label, label)
    return None if type(before) is type(now) else _both(_place(before), _place(now))


def same_answers(before: Step, now: Step) -> bool:
    """Whether the client has read the same replies."""
    return before.replies == now.replies or repr(before.replies) == repr(now.replies)


@lru_cache(maxsize=500)  # every run sends about the same commands
def has_time(commands: Sequence[Command], now: float) -> bool:
    """Whether an argument is a time of about now, in s, ms, µs or ns since 1970."""
    for word in (word for command in commands for word in command[1:]):
        with suppress(ValueError):
            number = float(word)
            if any(abs(number / unit - now) < _NEAR for unit in (1, 1e3, 1e6, 1e9)):
                return True
    return False


def _alike(before: Sequence[Command], now: Sequence[Command]) -> bool:
    return before == now or _essence(before) == _essence(now)


def _essence(commands: Sequence[Command]) -> list[list[str | int]]:
    return [[_essence_of(word) for word in command] for command in commands]


def _essence_of(word: bytes) -> str | int:
    text = word.decode("latin-1")
    return essence(text) if text.isascii() and text.isprintable() else len(word)


def _both(before: str, now: str) -> str:
    return f"was {before} in one run and is {now} now"


def _place(stop: Stop) -> str:
    match stop:
        case Sending(commands):
            return _words(commands)
        case Local(label):
            return label
    return {"Asleep": "a sleep", "Ended": "its end"}.get(type(stop).__name__, "a look at the clock")


def _words(commands: Sequence[Command]) -> str:
    said = b"; ".join(map(b" ".join, commands)).decode("utf-8", "backslashreplace")
    return repr(said if len(said) <= 80 else said[:79] + "…")
