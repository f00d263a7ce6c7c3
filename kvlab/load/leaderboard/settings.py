"""The options of the leaderboard's load test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.leaderboard.board import MAX_ENTRIES
from kvlab.load.settings import LoadSettings


@dataclass(frozen=True, kw_only=True)
class BoardSettings(LoadSettings):
    """``skew``: the Zipf exponent of who plays."""

    members: int
    skew: float
    mode: Literal["add", "best"]
    ties: Literal["first", "shared", "dense"]

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("members", self.members, 1, MAX_ENTRIES if self.app else 10_000_000)
        real("skew", self.skew, 0, 10)
        if self.naive and (self.app or self.mode != "add"):
            raise InvalidArgument("the naive board only adds, and has no app in front of it")

    def recorded(self) -> dict[str, Any]:
        """The options that a reader of the record needs; the naive board has no rule for ties."""
        return super().recorded() | ({"ties": "by name"} if self.naive else {})


def add_options(add: Callable[..., Any]) -> None:
    """Add the options of this load test."""
    add("--members", type=int, default=1000, help="players on the board")
    add(
        "--skew",
        type=float,
        default=1.0,
        help="Zipf exponent of who plays; 0: all players play equally often",
    )
    add("--mode", choices=("add", "best"), default="add", help="what a submission does")
    add(
        "--ties",
        choices=("first", "shared", "dense"),
        default="first",
        help="how equal scores are ranked",
    )
