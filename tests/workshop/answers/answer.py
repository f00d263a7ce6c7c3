"""Answers to the exercises, as people write them: right ones, and wrong ones with what is seen.

The docstring of a wrong answer is the sentence that the trainer's guide prints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Answer:
    """``seen``: part of what a failing check must say; None for a right answer."""

    exercise: str
    function: Callable[..., Any]
    seen: str | None

    @property
    def name(self) -> str:
        return f"{self.exercise}-{getattr(self.function, '__name__', 'answer')}"

    @property
    def words(self) -> str:
        return " ".join((self.function.__doc__ or "").split())


class Answers(list[Answer]):
    """The answers of one module."""

    def right(self, exercise: str) -> Callable[[F], F]:
        return self._noting(exercise, None)

    def wrong(self, exercise: str, seen: str) -> Callable[[F], F]:
        return self._noting(exercise, seen)

    def _noting(self, exercise: str, seen: str | None) -> Callable[[F], F]:
        def note(function: F) -> F:
            self.append(Answer(exercise, function, seen))
            return function

        return note
