"""A mutant: the program with one hardening taken out, and the tests that should notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

PATTERNS = (
    "cache_aside",
    "write_through",
    "rate_limiting",
    "sessions",
    "distributed_lock",
    "leaderboard",
    "pipeline",
    "feature_flags",
    "core",
    "cluster",
    "rest",
    "explorer",
)


class Rotten(Exception):
    """A mutant no longer fits the program; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One hardening of one pattern, and how to take it out.

    * ``removed``: the hardening, in plain words; ``promise``: what holds because of it.
    * ``file``: where it is, from the root. ``old`` occurs there once; ``new`` takes its place, and
      leaves a program that runs.
    * ``tests``: the files of the tests that should notice; ``words``: pytest's ``-k``, to be quick,
      or where something general would fail first.
    """

    pattern: str
    removed: str
    promise: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    words: str = ""

    def __str__(self) -> str:
        return f"{self.pattern}: {self.removed}"

    def original(self, tree: Path = ROOT) -> str:
        """The text of its file. Raises :class:`Rotten` unless the old text is there once."""
        text = (tree / self.file).read_text(encoding="utf-8")
        if (found := text.count(self.old)) != 1:
            raise Rotten(f"{self}: its old text occurs {found} times in {self.file}, not once")
        return text

    @contextmanager
    def applied(self, tree: Path) -> Iterator[None]:
        """While inside, a copy of the program is the mutant."""
        text = self.original(tree)
        (tree / self.file).write_text(text.replace(self.old, self.new), encoding="utf-8")
        try:
            yield
        finally:
            (tree / self.file).write_text(text, encoding="utf-8")
